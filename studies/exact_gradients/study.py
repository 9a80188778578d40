"""The study put together: its parts at two scales, its claims and its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from studies.claims import Claim
from studies.parts import Part, Tick
from studies.tables import Table, claims_table

from . import cells, comparisons
from .problems import Problem, density, digits, waves
from .solvers import EXACT, PRESETS, MakeRuns

Results = Mapping[str, Any]
LESS = 0.999
METHODS = ("dopri5", "dopri8", "rk4")
DENSITY, DIGITS, WAVES = "density", "digits", "waves"
MAKERS: dict[str, Callable[[int, int], Problem]] = {DENSITY: density, DIGITS: digits, WAVES: waves}
TITLES = {
    DENSITY: "Flow of a density in the plane",
    DIGITS: "Flow of 16 components of digits",
    WAVES: "KdV with a learned energy",
}


_KINDS = ("errors", "distances")
_PRECISION = (("errors", 1.0, "error"), ("distances", 1.0, "of the continuous"), ("seconds", 1e3, "time [ms]"))
"""Columns of a table: key, unit, name."""


class Library(StrEnum):
    """The array library whose gradients are measured."""

    TORCH = "torch"
    JAX = "jax"


@dataclass(frozen=True)
class Setting:
    """One problem: its size, and how its gradients are measured."""

    batch: int
    width: int
    """Of the hidden layers; of the energy, its channels."""
    steps: dict[str, int]
    """For each method, between neighbouring times."""
    tols: tuple[float, ...]
    single_steps: tuple[int, ...]
    """The numbers of steps of the comparison in float32."""


@dataclass(frozen=True)
class Scale:
    """How much is computed; problems that are left out are not in ``settings``."""

    settings: dict[str, Setting]
    growth: tuple[int, int]
    """Batch and width of the flow whose memory is measured against the number of steps."""
    growth_steps: tuple[int, ...]
    rounds: int
    """How often each gradient is timed."""


_FLOW = {"dopri5": 6, "dopri8": 3, "rk4": 10}
_WAVE = {"dopri5": 1, "dopri8": 1, "rk4": 1}
_TOLS = (1e-3, 1e-4, 1e-5, 1e-6)
QUICK = Scale(
    {
        DENSITY: Setting(64, 32, _FLOW, _TOLS, (8, 24)),
        DIGITS: Setting(64, 32, _FLOW, _TOLS, (8, 24)),
        WAVES: Setting(4, 32, _WAVE, _TOLS, (1, 2)),
    },
    (128, 32),
    (10, 40),
    2,
)
_FLOW_FULL = {"dopri5": 20, "dopri8": 10, "rk4": 40}
_TOLS_FULL = tuple(10.0 ** (-k / 2) for k in range(6, 17))
FULL = Scale(
    {
        DENSITY: Setting(256, 64, _FLOW_FULL, _TOLS_FULL, (8, 16, 32, 64, 128)),
        DIGITS: Setting(256, 64, _FLOW_FULL, _TOLS_FULL, (8, 16, 32, 64, 128)),
        WAVES: Setting(32, 32, {"dopri5": 3, "dopri8": 2, "rk4": 4}, _TOLS_FULL, (1, 2, 4, 8)),
    },
    (128, 32),
    (10, 20, 40, 80, 160),
    3,
)


def installed(scale: Scale) -> Scale:
    """The scale without the digits where scikit-learn, which has them, is not installed."""
    if find_spec("sklearn"):
        return scale
    return replace(scale, settings={name: one for name, one in scale.settings.items() if name != DIGITS})


def settings(scale: Scale, library: Library, device: str) -> dict[str, Any]:
    """What the results depend on, as plain data."""
    return {"library": str(library), "device": device, **asdict(scale)}


def maker(library: Library) -> MakeRuns:
    """What takes gradients with that library."""
    module = import_module(f"studies.exact_gradients.{library}_runs")
    return module.TorchRuns if library == Library.TORCH else module.JaxRuns


def parts(scale: Scale, library: Library, device: str) -> list[Part]:
    """All parts."""
    make = maker(library)
    found = []
    for name, setting in scale.settings.items():
        problem = MAKERS[name](setting.batch, setting.width)
        found += [_cells(make, name, problem, method, setting, scale.rounds, device) for method in METHODS]
        found += [_precision(make, name, problem, setting, scale.rounds, device)]
        found += [_rounding(make, name, problem, setting, device)]
    return [*found, _growth(make, scale, device)]


def _cells(
    make: MakeRuns, name: str, problem: Problem, method: str, setting: Setting, rounds: int, device: str
) -> Part:
    def compute(_: Results, tick: Tick) -> Any:
        return cells.measured(make, problem, method, setting.steps[method], rounds, device, tick)

    return Part(f"{name}/{method}", cells.NUM_TICKS, compute)


def _precision(make: MakeRuns, name: str, problem: Problem, setting: Setting, rounds: int, device: str) -> Part:
    def compute(_: Results, tick: Tick) -> Any:
        return comparisons.precision(make, problem, setting.tols, rounds, device, tick)

    return Part(f"{name}/precision", len(setting.tols) + 1, compute)


def _rounding(make: MakeRuns, name: str, problem: Problem, setting: Setting, device: str) -> Part:
    def compute(_: Results, tick: Tick) -> Any:
        return comparisons.rounding(make, problem, setting.single_steps, device, tick)

    return Part(f"{name}/float32", len(setting.single_steps), compute)


def _growth(make: MakeRuns, scale: Scale, device: str) -> Part:
    def compute(_: Results, tick: Tick) -> Any:
        return comparisons.growth(make, *scale.growth, scale.growth_steps, device, tick)

    ticks = len(comparisons.SIZES) * len(comparisons.GROWN) * len(scale.growth_steps)
    return Part("growth", ticks, compute)


def claims(results: Results, scale: Scale, library: Library) -> list[Claim]:
    """All claims. JAX's compiler makes the same program of ``aca`` and of ``symplectic``."""
    found, most = [], LESS if library == Library.TORCH else 1.0
    for name in scale.settings:
        presets = [results[f"{name}/{method}"] for method in METHODS]
        exact = max(table[preset]["error"] for table in presets for preset in EXACT)
        ours, theirs = (results[f"{name}/float32"][one][0] for one in comparisons.RIVALS)
        time = comparisons.time_at_equal_error(results[f"{name}/precision"], "errors")
        found += [
            Claim(f"{name}: error of exact presets in float64, largest", exact, high=1e-10),
            Claim(f"{name}: peak memory, symplectic over aca, largest", _most(presets, "symplectic", "aca"), high=most),
            Claim(f"{name}: peak memory, aca over backprop, largest", _most(presets, "aca", "backprop"), high=LESS),
            Claim(f"{name}: time for a gradient error of {comparisons.ACCURACY:g}, symplectic over backsolve", time,
                  high=LESS),
            Claim(f"{name}: error in float32, fewest steps, symplectic over backsolve", ours / theirs, high=LESS),
        ]  # fmt: skip
    plain, batch, width = comparisons.SIZES
    grown = {
        (size, name): comparisons.per_step(results["growth"][size][name], scale.growth_steps)
        for size in comparisons.SIZES
        for name in comparisons.GROWN
    }
    of_state, of_network, of_graphs = (
        grown[size, name] / grown[plain, name]
        for size, name in ((batch, "symplectic"), (width, "symplectic"), (width, "backprop"))
    )
    return [
        *found,
        Claim("symplectic: memory of a further step, twice the state, of that before", of_state, 1.99, 2.01),
        Claim("symplectic: memory of a further step, four times the network's width, of that before", of_network,
              0.99, 1.01),
        Claim("backprop: memory of a further step, four times the network's width, of that before", of_graphs, low=2.0),
    ]  # fmt: skip


def _most(presets: list[Any], over: str, under: str) -> float:
    return max(table[over]["bytes"] / table[under]["bytes"] for table in presets)


def tables(results: Results, scale: Scale, library: Library) -> list[Table]:
    """What was measured, and the claims."""
    made = []
    for name in scale.settings:
        rows = []
        for method in METHODS:
            for preset in PRESETS:
                entry = results[f"{name}/{method}"][preset]
                counts = ["-" if entry[key] is None else str(entry[key]) for key in ("evals", "vjps")]
                cost = f"{entry['bytes'] / 1e6:.3f}", f"{1e3 * entry['seconds']:.1f}", f"{entry['times']:.2f}"
                rows.append([method, preset, f"{entry['error']:.1e}", *cost, *counts])
        columns = ["method", "adjoint", "error", "peak [MB]", "time [ms]", "of backprop's", "evaluations", "VJPs"]
        made.append(Table(f"{TITLES[name]}: gradients in float64", columns, rows))
    rows = []
    for name, setting in scale.settings.items():
        for k, tol in enumerate(setting.tols):
            pairs = [results[f"{name}/precision"][rival] for rival in comparisons.RIVALS]
            numbers = [[f"{pair[key][k] * unit:.3g}" for key, unit, _ in _PRECISION] for pair in pairs]
            rows.append([name, f"{tol:.1e}", *(text for row in numbers for text in row)])
    columns = ["problem", "tolerance", *(f"{rival}: {what}" for rival in comparisons.RIVALS for *_, what in _PRECISION)]
    made.append(Table("Adaptive steps of dopri5: error of the gradient", columns, rows))
    rows = [
        [name, *(f"{comparisons.time_at_equal_error(results[f'{name}/precision'], key):.2f}" for key in _KINDS)]
        for name in scale.settings
    ]
    title = f"Time of symplectic over that of backsolve, each for an error of {comparisons.ACCURACY:g}"
    made.append(Table(title, ["problem", "against backprop", "against the continuous problem"], rows))
    rows = [
        [name, str(count), *(f"{results[f'{name}/float32'][one][k]:.1e}" for one in comparisons.SINGLE)]
        for name, setting in scale.settings.items()
        for k, count in enumerate(setting.single_steps)
    ]
    made.append(Table("Error in float32, dopri5", ["problem", "steps", *comparisons.SINGLE], rows))
    rows = []
    for size, found in results["growth"].items():
        slopes = [comparisons.per_step(found[name], scale.growth_steps) / found["state"] for name in comparisons.GROWN]
        rows.append([size, *(f"{slope:.3g}" for slope in slopes)])
    made.append(Table("Memory of a further step, in states", ["flow of a density", *comparisons.GROWN], rows))
    return [*made, claims_table(claims(results, scale, library))]
