"""The suite `adjoints`: what every preset's gradient costs in time, memory and evaluations, and how exact it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from .. import adjoints_auto
from ..adjoints_theory import EXACT, PRESETS, counts
from ..fields import BROAD, SMALL, TINY, WIDE, Problem
from ..measure import Effort, Race, Spread, ratio
from ..report import Table, Verdict, race_tables

TITLE = "Adjoints"
ABOUT = """Every preset of `adjoint=` with N equal steps on [0, 1]. The fields are networks of tanh layers, in float32;
a gradient is that of the sum of the last state, with respect to the initial state and all weights.
`revolve` has 20 checkpoints; `reversible` has the coupling of the method named, which has twice its stages:
its gradient is that of another method. The targets of time were set for the field 2-64-64-2, as in the
suite of fixed steps, and those of memory for 16-256-256-16; the others are held against the same limits.

- `gradient`: CPU time. torchdiffeq's and TorchDiffEqPack's methods of order four stand beside `rk4` (torchdiffeq's is
  the 3/8 rule), diffrax's solvers beside each, with constant steps, and `rk4` as a record of its own class.
- `memory` in PyTorch is the peak of the bytes of live tensors during a gradient, without weights and initial state. In
  JAX it is that of a compiled program's temporaries and outputs, in NumPy the peak of what is allocated, Python's own
  objects included.
- `evaluations` and `VJPs` are counted by a field that notes both; that they are those of theory is a target. `passes`
  is their sum in units of one pass through the network, beside what Matsubara, Miyatake and Yaguchi 2021 (arXiv
  2102.09750, table 1) count for their implementations.
- `error` is ||g - g64|| / ||g64||, g64 from backpropagation in float64 through the same method, all on the smallest
  network: in float64 that of the method of gradient, in float32 with that of rounding. `reversible` over 1000 steps
  is held to autograd's gradient of the same steps.
- `hessian`: the Hessian of a loss of Lotka and Volterra's equations with respect to their four parameters, beside
  central differences of the exact gradient; presets that refuse second derivatives by name are left out.
- `auto` is `adjoint="auto"` with a memory budget, for five problems and six budgets from what `backprop` takes down to
  the least there is: the peak it predicts beside the measured one, and its time beside that of the fastest preset that
  fits.
- `benchmarks/results/adjoints-*.png`: time against memory with the Pareto front, memory against N, and the errors of
  `reconstruct` and `backsolve` against N.
"""
LIBRARIES = ("torch", "jax", "numpy")
PEERS = {"torch": ("torchdiffeq", "TorchDiffEqPack"), "jax": ("diffrax",), "numpy": ()}

MAIN = SMALL
HEADLINES = (SMALL.name, WIDE.name, BROAD.name, TINY.name, "any", "Lotka-Volterra")

Timed = tuple[Problem, str, int, Sequence[str]]
REACHED = ("backprop", "stages", "symplectic", "revolve")
KEPT = ("backprop", "aca", "symplectic", "revolve", "reversible", "reconstruct")


class Scale(NamedTuple):
    """How much is measured."""

    timed: dict[str, tuple[Timed, ...]]
    memory: tuple[Timed, ...]
    counted: tuple[tuple[str, int], ...]
    errors: tuple[tuple[str, int], ...]
    jax_errors: tuple[tuple[str, int], ...]
    long_steps: int
    effort: Effort

    def effort_of(self, problem: Problem, steps: int) -> Effort:
        """Two rounds of what takes longest."""
        if problem == WIDE and steps >= 1000:
            return Effort(2, 2, 0.0)
        return self.effort


def _all(problem: Problem, *cases: tuple[str, int]) -> tuple[Timed, ...]:
    return tuple((problem, method, steps, PRESETS) for method, steps in cases)


METHODS = ("rk4", "dopri5", "dopri8")
_ERRORS = tuple((method, steps) for method in METHODS for steps in (4, 8, 16, 32, 64))
_GRID = tuple((method, steps) for method in METHODS for steps in (10, 100))
_REACH: tuple[Timed, ...] = ((SMALL, "rk4", 1000, REACHED),)
_LONG: Timed = (WIDE, "rk4", 1000, ("backprop", "revolve"))
_MEMORY: tuple[Timed, ...] = ((WIDE, "rk4", 100, KEPT), (WIDE, "rk4", 1000, KEPT))
SCALES = {
    "full": Scale(
        timed={
            "torch": (
                *_all(SMALL, *_GRID, ("rk4", 50)),
                *_all(WIDE, ("rk4", 50), ("dopri5", 10), ("dopri8", 10)),
                *_all(BROAD, ("rk4", 100), ("dopri5", 50), ("dopri8", 20)),
                *_REACH,
                _LONG,
            ),
            "jax": (*_all(SMALL, ("rk4", 100), ("dopri5", 50), ("dopri8", 20)), *_all(WIDE, ("rk4", 20))),
            "numpy": (*_all(SMALL, ("rk4", 100), ("dopri5", 50), ("dopri8", 20)), *_all(BROAD, ("rk4", 100))),
        },
        memory=(
            *_all(WIDE, ("rk4", 10), ("rk4", 50)),
            *_MEMORY,
            *(entry for problem in (SMALL, BROAD) for entry in (*_all(problem, *_GRID), (problem, "rk4", 1000, KEPT))),
            *_all(WIDE, ("dopri5", 10), ("dopri8", 10)),
        ),
        counted=(*_GRID, ("rk4", 1000)),
        errors=_ERRORS,
        jax_errors=(("rk4", 32), ("dopri5", 16), ("dopri8", 8)),
        long_steps=1000,
        effort=Effort(3, 9, 6.0),
    ),
    "main": Scale(
        timed={
            "torch": (*_all(SMALL, ("rk4", 50)), (WIDE, "rk4", 20, REACHED), *_REACH, _LONG),
            "jax": _all(SMALL, ("rk4", 50)),
            "numpy": _all(SMALL, ("rk4", 50)),
        },
        memory=(*_all(SMALL, ("rk4", 50)), *_MEMORY),
        counted=(("rk4", 1000), ("dopri5", 50), ("dopri8", 20)),
        errors=_ERRORS,
        jax_errors=(("rk4", 32),),
        long_steps=1000,
        effort=Effort(3, 7, 5.0),
    ),
    "quick": Scale(
        timed={library: _all(SMALL, ("rk4", 10)) for library in LIBRARIES},
        memory=_all(SMALL, ("rk4", 10), ("rk4", 100)),
        counted=(("rk4", 30),),
        errors=(("rk4", 8), ("rk4", 16)),
        jax_errors=(),
        long_steps=100,
        effort=Effort(2, 3, 0.5),
    ),
    "smoke": Scale(
        timed={library: _all(TINY, ("rk4", 2)) for library in LIBRARIES},
        memory=_all(TINY, ("rk4", 2), ("rk4", 3)),
        counted=(("rk4", 3),),
        errors=(("rk4", 2), ("rk4", 4)),
        jax_errors=(),
        long_steps=3,
        effort=Effort(1, 1, 0.0),
    ),
}


def races(library: str, device: str, scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    """Every race of one library; `absent` peers do not take part."""
    yield from import_module(f"benchmarks.adjoints_{library}").races(device, scale, absent)
    if library == "torch":
        yield from adjoints_auto.races(device, scale)


TIMES = {"stages": 1.5, "symplectic": 1.75, "revolve": 2.6}
PEAKS = {"aca": 1 / 100, "symplectic": 1 / 120, "revolve": 1 / 800}
CONSTANT = ("reversible", "reconstruct", "backsolve")
GROWTH = 1.1
EXACTNESS = {"error": 1e-12, "reversible": 1e-9, "hessian": 1e-7}
"""The largest relative errors, in float64."""


def verdicts(found: Sequence[Race], measure: str) -> list[Verdict]:
    """Every target against every race that it can be read from, also those the target does not speak of."""
    rows = []
    for read in (_times, _peaks, _growths, _counts, _errors):
        rows += read(found, measure)
    return [*rows, *adjoints_auto.verdicts(found, measure)]


def tables(found: Sequence[Race], measure: str) -> Iterator[Table]:
    """A table of all plans, behind those of the presets."""
    yield from race_tables([one for one in found if one.case.task not in adjoints_auto.TASKS], measure)
    yield from adjoints_auto.tables(found, measure)


def _of(found: Sequence[Race], task: str) -> list[Race]:
    return [one for one in found if (one.case.library, one.case.task) == ("torch", task)]


def _times(found: Sequence[Race], measure: str) -> Iterator[Verdict]:
    for preset, limit in TIMES.items():
        for one in _of(found, "gradient"):
            is_read = one.case.times == "rk4" and one.case.steps >= (1000 if preset == "revolve" else 20)
            if is_read and f"janode {preset}" in one.samples:
                value = ratio(one, f"janode {preset}", "janode backprop", measure)
                yield Verdict(f"rk4, janode {preset} / backprop", one.case, value, limit)


def _peaks(found: Sequence[Race], measure: str) -> Iterator[Verdict]:
    for preset, limit in PEAKS.items():
        for one in _of(found, "memory"):
            if one.case.times == "rk4" and one.case.steps >= 1000:
                value = ratio(one, f"janode {preset}", "janode backprop", "bytes")
                aimed = limit if one.case.problem == WIDE.name else None
                yield Verdict(f"rk4, janode {preset} / backprop", one.case, value, aimed)


def _growths(found: Sequence[Race], measure: str) -> Iterator[Verdict]:
    """How much memory ten times as many steps take."""
    peaks = {one.case: one for one in _of(found, "memory")}
    for case, one in peaks.items():
        fewer = peaks.get(case._replace(steps=case.steps // 10))
        if fewer is not None and case.steps >= 1000:
            for name in [f"janode {preset}" for preset in CONSTANT if f"janode {preset}" in one.samples]:
                grown = one.samples[name]["bytes"][0] / fewer.samples[name]["bytes"][0]
                text = f"{case.times}, {name}, N = {case.steps} / N = {case.steps // 10}"
                yield Verdict(text, case, Spread(grown, grown, grown), GROWTH)


def _counts(found: Sequence[Race], measure: str) -> Iterator[Verdict]:
    """The farthest of all presets from theory, by a factor: 1 if every count is the one of theory."""
    for kind in ("evaluations", "VJPs"):
        for one in _of(found, kind):
            worst = 1.0
            for preset in PRESETS:
                expected = counts(preset, one.case.times, one.case.steps)._asdict()[kind.lower()]
                share = one.samples[f"janode {preset}"][kind][0] / expected
                worst = max(worst, share, 1.0 / share)
            text = f"{one.case.times}, all presets, {kind} counted / by theory"
            yield Verdict(text, one.case, Spread(worst, worst, worst), 1.0)


def _errors(found: Sequence[Race], measure: str) -> Iterator[Verdict]:
    """The largest error for each library and method, over all N and all that are to be exact."""
    worst: dict[tuple[str, str], tuple[float, Race]] = {}
    for one in found:
        if one.case.task == "hessian" or (one.case.task == "error" and one.case.times.endswith("float64")):
            is_listed = one.case.task == "error" and not one.case.times.startswith("reversible")
            names = [f"janode {preset}" for preset in EXACT] if is_listed else list(one.samples)
            key = one.case.library, f"{one.case.task} {one.case.times}"
            errors = [
                math.inf if math.isnan(error) else error for name in names for error in one.samples[name]["error"]
            ]
            worst[key] = max([(error, one) for error in errors] + [worst.get(key, (-1.0, one))], key=lambda it: it[0])
    for error, one in worst.values():
        kind = "reversible" if one.case.times.startswith("reversible") else one.case.task
        text = f"{one.case.times}, worst of all exact adjoints"
        yield Verdict(text, one.case, Spread(error, error, error), EXACTNESS[kind])


def figures() -> dict[str, Callable[[Sequence[Race], Path], bool]]:
    """The figures of this suite, by the end of their file's name."""
    from .. import adjoints_figures

    return {
        "time-memory": adjoints_figures.time_against_memory,
        "memory": adjoints_figures.memory_against_steps,
        "error": adjoints_figures.error_against_steps,
    }
