"""The suite `fixed`: the classical Runge-Kutta method with N equal steps on [0, 1], in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from janode.core.adjoint import RECOVERIES

from ..fields import SMALL, TINY, WIDE, Problem
from ..imports import import_race
from ..measure import Case, Effort, Race, Spread, Thunk, race, ratio, spread
from ..report import Verdict, race_tables

TITLE = "Fixed steps"
ABOUT = """The classical Runge-Kutta method with N equal steps on [0, 1]: 4 N evaluations of the field. The fields are
networks of tanh layers. A gradient is that of the sum of the last state, with respect to the initial state and all
weights. The targets were set for the field 2-64-64-2; the others are held against the same limits.

- `field alone`: 4 N evaluations without gradients, the floor of every solve. `field and its VJP alone`: 4 N
  evaluations, each with its vector-Jacobian product, the floor of every gradient.
- How often a gradient evaluates the field without and with its VJP: `backprop` 0 and 4 N times; `aca` and `stages`,
  like the continuous adjoints `odeint_adjoint` of torchdiffeq and `BacksolveAdjoint` of diffrax, 4 N and 4 N;
  `symplectic` 7 N and 4 N; `restart` 11 N and 4 N. The rows without a target say what share of the peer's
  time these evaluations alone take, measured in the same rounds: no solver with that many of them can be faster.
- torchdiffeq's `rk4` is the 3/8 rule, which has as many stages. torchdiffeq is asked in two ways: for the solution at
  both ends, with `step_size` 1/N, and for the solution at all N + 1 times, which fixes its steps as well.
- torchode and diffrax ship no explicit method of order four with four stages; each gets the classical tableau as a
  record of its own class (`benchmarks/torchode_rk4.py`, `benchmarks/diffrax_rk4.py`). In torchode every state of a
  batch has steps of its own.
- diffrax's `RecursiveCheckpointAdjoint` runs with its default number of checkpoints and with N.
- `compile` is the time to trace, lower and compile a gradient, with JAX's caches emptied before. A compiled program's
  memory is that of its temporaries and outputs, as XLA reports it.
- `memory` in PyTorch is the peak of the bytes of live tensors during a gradient, without weights and initial state.
- `import` runs each statement in a fresh process, without what Python itself takes to start.
- With the largest field and N = 1000 a gradient takes ten seconds: there only the contestants of targets are measured,
  three times without a round for warm-up, and NumPy not at all.
"""
LIBRARIES = ("torch", "jax", "numpy")
PEERS = {"torch": ("torchdiffeq", "torchode"), "jax": ("diffrax",), "numpy": ()}

ENDS, EVERY = "solution at both ends", "solution at every step"
FIELD, PULLBACK = "field alone", "field and its VJP alone"
JANODE = tuple(f"janode {preset}" for preset in RECOVERIES)


MAIN = SMALL
"""The field that the targets speak of."""
HEADLINES = ("", MAIN.name)
"""The problems that the README shows."""


class Scale(NamedTuple):
    """How much is measured."""

    problems: tuple[Problem, ...]
    steps: tuple[int, ...]
    memory_steps: tuple[int, ...]
    effort: Effort
    heavy_work: float
    """Solves of more multiplications than this take three rounds, and only of the contestants of targets."""


SCALES = {
    "full": Scale((SMALL, WIDE, TINY), (50, 1000), (10, 100, 1000), Effort(3, 15, 10.0), 1e10),
    "main": Scale((MAIN,), (50, 1000), (10, 100, 1000), Effort(3, 7, 5.0), 1e10),
    "quick": Scale((SMALL,), (10,), (10, 20), Effort(2, 3, 0.5), 1e10),
    "smoke": Scale((TINY,), (2,), (2, 3), Effort(1, 1, 0.0), 1e10),
}


def races(library: str, device: str, scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    """Every race of one library; `absent` peers do not take part."""
    for problem in scale.problems:
        yield from _RACES[library](problem, device, scale, absent)
    if library == "numpy":
        yield import_race(scale.effort)


def _run(case: Case, contestants: dict[str, Thunk], problem: Problem, scale: Scale, **options: Any) -> Race:
    if not _is_heavy(problem, case.steps, scale):
        return race(case, contestants, scale.effort, **options)
    kept = {name: thunk for name, thunk in contestants.items() if name in _in_targets(case.library)}
    return race(case, kept, Effort(3, 3, 0.0), is_warm=True, **options)


def _is_heavy(problem: Problem, steps: int, scale: Scale) -> bool:
    products = sum(a * b for a, b in zip(problem.sizes, problem.sizes[1:], strict=False))
    return 4 * steps * problem.batch * products > scale.heavy_work


def _torch_races(problem: Problem, device: str, scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    from ..torch_problem import TorchProblem

    bench = TorchProblem(problem, device)
    for steps in scale.steps:
        for times in (ENDS, EVERY):
            if times == EVERY and (steps != scale.steps[0] or problem == WIDE):
                continue
            solves = _torch_solves(bench, steps, times, absent)
            forward = {name: solves[old] for old, name in _FORWARD.items() if old in solves}
            run = partial(_run, problem=problem, scale=scale, synchronise=bench.synchronise)
            yield run(
                Case("torch", problem.name, steps, times, "forward"),
                {FIELD: bench.evaluations(4 * steps), **{name: bench.forward(s) for name, s in forward.items()}},
            )
            yield run(
                Case("torch", problem.name, steps, times, "gradient"),
                {FIELD: bench.evaluations(4 * steps), PULLBACK: bench.pullbacks(4 * steps)}
                | {name: bench.gradient(solve) for name, solve in solves.items()},
            )
    for steps in scale.memory_steps:
        if not _is_heavy(problem, steps, scale):
            solves = _torch_solves(bench, steps, ENDS, [*absent, "torchode"])
            peaks = {name: bench.peak_bytes(bench.gradient(solve)) for name, solve in solves.items()}
            yield _bytes(Case("torch", problem.name, steps, ENDS, "memory"), peaks)


def _torch_solves(bench: Any, steps: int, times: str, absent: Sequence[str]) -> dict[str, Callable[..., Any]]:
    import torch

    from janode.torch import solve

    field = bench.field
    ts = torch.linspace(0.0, 1.0, 2 if times == ENDS else steps + 1, device=bench.device)
    each = steps if times == ENDS else 1

    def janode(adjoint: str) -> Callable[..., Any]:
        return lambda y0: solve(field, y0, ts, method="rk4", steps=each, adjoint=adjoint).ys[-1]

    solves = {name: janode(name.split()[1]) for name in JANODE}
    if "torchdiffeq" not in absent:
        import torchdiffeq

        options = {"step_size": 1.0 / steps} if times == ENDS else None
        for name in ("odeint", "odeint_adjoint"):
            peer = partial(getattr(torchdiffeq, name), field, t=ts, method="rk4", options=options)
            solves[f"torchdiffeq {name}"] = lambda y0, peer=peer: peer(y0)[-1]
    if "torchode" not in absent and times == ENDS:
        from ..torchode_rk4 import solve as torchode_solve

        for name in ("AutoDiffAdjoint", "JointBacksolveAdjoint"):
            solves[f"torchode {name}"] = torchode_solve(field, steps, name)
    return solves


def _jax_races(problem: Problem, device: str, scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    import jax

    from ..jax_problem import JaxProblem, program_bytes

    bench = JaxProblem(problem)
    for steps in scale.steps:
        solves = _jax_solves(steps, absent)
        forward = {name: solves[old] for old, name in _FORWARD.items() if old in solves}
        floors = {FIELD: bench.run(bench.evaluations(steps), is_solve=False)}
        programs = {name: bench.compile(solve, "forward") for name, solve in forward.items()}
        case = Case("jax", problem.name, steps, ENDS, "forward")
        thunks = floors | {name: bench.run(program) for name, program in programs.items()}
        yield _run(case, thunks, problem, scale)

        floors[PULLBACK] = bench.run(bench.pullbacks(steps), is_solve=False)
        programs = {name: bench.compile(solve, "gradient") for name, solve in solves.items()}
        thunks = floors | {name: bench.run(program) for name, program in programs.items()}
        yield _run(case._replace(task="gradient"), thunks, problem, scale)
        yield _bytes(case._replace(task="memory"), {name: program_bytes(p) for name, p in programs.items()})
    if problem == scale.problems[0]:
        solves = _jax_solves(scale.steps[0], absent)
        if scale is not SCALES["full"]:
            solves = {name: solve for name, solve in solves.items() if name in _in_targets("jax")}
        thunks = {name: partial(bench.compile, solve, "gradient") for name, solve in solves.items()}
        # Every sample as in a fresh process, where somebody waits for it.
        effort = Effort(scale.effort.least, scale.effort.least, 0.0)
        case = Case("jax", problem.name, scale.steps[0], ENDS, "compile")
        yield race(case, thunks, effort, prepare=jax.clear_caches, is_warm=True, is_compared=False)


def _jax_solves(steps: int, absent: Sequence[str]) -> dict[str, Callable[..., Any]]:
    from janode.jax import solve

    from ..jax_problem import field

    def janode(adjoint: str) -> Callable[..., Any]:
        options = {"method": "rk4", "steps": steps, "adjoint": adjoint}
        return lambda weights, y0: solve(field, y0, [0.0, 1.0], weights, **options).ys[-1]

    solves = {name: janode(name.split()[1]) for name in JANODE}
    if "diffrax" not in absent:
        import diffrax

        from ..diffrax_rk4 import solve as diffrax_solve

        adjoints = {
            "RecursiveCheckpointAdjoint": diffrax.RecursiveCheckpointAdjoint(),
            "RecursiveCheckpointAdjoint(N)": diffrax.RecursiveCheckpointAdjoint(steps),
            "DirectAdjoint": diffrax.DirectAdjoint(),
            "BacksolveAdjoint": diffrax.BacksolveAdjoint(),
        }
        for name, adjoint in adjoints.items():
            solves[f"diffrax {name}"] = diffrax_solve(steps, adjoint)
    return solves


def _numpy_races(problem: Problem, device: str, scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    from janode.numpy import solve, solve_vjp

    from ..numpy_problem import NumpyProblem

    bench = NumpyProblem(problem)
    given = (bench.field, bench.y0, [0.0, 1.0], bench.params)
    for steps in scale.steps:
        if _is_heavy(problem, steps, scale):
            continue
        options: dict[str, Any] = {"method": "rk4", "steps": steps}
        case = Case("numpy", problem.name, steps, ENDS, "forward")
        forward = {
            FIELD: bench.evaluations(4 * steps),
            "janode": lambda options=options: [solve(*given, **options).ys[-1]],
        }
        yield _run(case, forward, problem, scale)
        gradient = {FIELD: bench.evaluations(4 * steps), PULLBACK: bench.pullbacks(4 * steps)}
        for name in JANODE:
            gradient[name] = bench.gradient(partial(solve_vjp, *given, **options, adjoint=name.split()[1]))
        yield _run(case._replace(task="gradient"), gradient, problem, scale)


_RACES = {"torch": _torch_races, "jax": _jax_races, "numpy": _numpy_races}
# The presets of janode and the adjoints of diffrax differ in nothing but the gradient.
_FORWARD = {
    "janode symplectic": "janode",
    "torchdiffeq odeint": "torchdiffeq odeint",
    "torchode AutoDiffAdjoint": "torchode",
    "diffrax RecursiveCheckpointAdjoint": "diffrax",
}


def _bytes(case: Case, found: dict[str, int]) -> Race:
    return Race(case, {name: {"bytes": [float(count)]} for name, count in found.items()})


class Target(NamedTuple):
    """A ratio that janode is to stay below; without a limit it stands for comparison."""

    library: str
    task: str
    over: str
    under: str
    limit: float | None
    least_steps: int = 0


TARGETS = (
    Target("torch", "forward", "janode", FIELD, 1.2),
    Target("torch", "gradient", "janode backprop", "torchdiffeq odeint", 0.95),
    Target("torch", "gradient", "janode symplectic", "torchdiffeq odeint_adjoint", 0.75),
    Target("torch", "memory", "janode symplectic", "torchdiffeq odeint", 0.02, 1000),
    Target("jax", "forward", "janode", "diffrax", 1.05),
    Target("jax", "gradient", "janode symplectic", "diffrax RecursiveCheckpointAdjoint", 0.6),
    Target("jax", "compile", "janode symplectic", "diffrax RecursiveCheckpointAdjoint", 0.35),
    Target("numpy", "import", "import numpy, janode.numpy", "import numpy, array_api_compat", 1.5),
    Target("torch", "gradient", "janode aca", "torchdiffeq odeint_adjoint", None),
)


def _in_targets(library: str) -> set[str]:
    mine = [target for target in TARGETS if target.library == library and target.limit is not None]
    return {FIELD, *(name for target in mine for name in (target.over, target.under))}


# How often a preset evaluates the field: (shares of `field alone`, shares of `field and its VJP alone`), a share 4 N.
# XLA finds that symplectic's recomputed values are those of the VJPs, and computes them once.
_SHARES = {
    ("torch", "janode symplectic"): (1.75, 1.0),
    ("jax", "janode symplectic"): (1.0, 1.0),
    ("torch", "janode backprop"): (0.0, 1.0),
}


def verdicts(found: Sequence[Race], measure: str) -> list[Verdict]:
    """Every target against every race that it can be read from, also those the target does not speak of."""
    rows = []
    for target in TARGETS:
        for one in found:
            case, names = one.case, {target.over, target.under}
            is_read = (case.library, case.task) == target[:2] and names <= one.samples.keys()
            if is_read and case.steps >= target.least_steps:
                kind = "bytes" if case.task == "memory" else measure
                value = ratio(one, target.over, target.under, kind)
                rows.append(Verdict(f"{target.over} / {target.under}", case, value, target.limit))
    return rows + _growth(found) + _floors(found, measure)


def _growth(found: Sequence[Race]) -> list[Verdict]:
    """States that `symplectic` keeps per step: the growth of its peak from the smallest N to the largest."""
    rows = []
    for problem in (SMALL, WIDE, TINY):
        peaks = {
            one.case: one.samples["janode symplectic"]["bytes"][0]
            for one in found
            if (one.case.library, one.case.task, one.case.problem) == ("torch", "memory", problem.name)
        }
        if len(peaks) > 1:
            few, many = min(peaks, key=lambda case: case.steps), max(peaks, key=lambda case: case.steps)
            states = (peaks[many] - peaks[few]) / (many.steps - few.steps) / problem.state_bytes
            rows.append(Verdict("janode symplectic, states per step", many, Spread(states, states, states), 1.0))
    return rows


def _floors(found: Sequence[Race], measure: str) -> list[Verdict]:
    """The evaluations that a preset makes, without any solver, beside the peer of its target."""
    rows = []
    for library, task, over, under, _, _ in TARGETS:
        plain, pulled = _SHARES.get((library, over), (0.0, 0.0))
        for one in found:
            is_read = (one.case.library, one.case.task) == (library, task) and {PULLBACK, under} <= one.samples.keys()
            if pulled and is_read and task == "gradient":
                rounds = zip(*(one.samples[name][measure] for name in (FIELD, PULLBACK, under)), strict=True)
                value = spread([(plain * field + pulled * both) / peer for field, both, peer in rounds])
                rows.append(Verdict(f"evaluations alone of {over} / {under}", one.case, value, None))
    return rows


tables = race_tables
"""Every race stands in the tables of all suites."""


def figures() -> dict[str, Callable[[Sequence[Race], Path], bool]]:
    """The figures of this suite, by the end of their file's name."""
    return {}
