"""How a solve takes its steps: what the user asked for, checked, as the sweep that does it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

from . import arguments
from .controllers import PIController, PIDController, Tolerances
from .controls import Controls, check_controls, node_layout
from .errors import InputError
from .grids import Stops
from .protocols import Method, State
from .runge_kutta import RungeKutta
from .sweep import Sweep
from .tableaus import TABLEAUS
from .taps import Tap, taps_of
from .thinning import Thinning

UNLIMITED = 2**62
SAVES = ("interpolate", "clip")
DEFAULTS = {64: (1e-6, 1e-9), 32: (1e-4, 1e-6)}
"""rtol and atol for each width of a real number; narrower ones take those of the narrowest."""


@dataclass(frozen=True)
class Stepping:
    """What the user says about steps.

    Fixed ones: ``steps`` or ``step_size``. Adaptive ones: the rest, with defaults for all.
    """

    steps: int | None = None
    step_size: float | None = None
    rtol: Any = None
    atol: Any = None
    controller: PIDController | None = None
    save: str = "interpolate"
    max_steps: int | None = None
    checkpoints: int | None = None
    event: Any = None
    dense: bool = False
    batch_axis: int | None = None
    """The axis whose entries take steps of their own, or None for steps shared by all."""
    progress: bool = False
    before: Callable[[Any, Any, State], None] | None = None
    """Called with (t, h, state) before every step that is tried; not on traced libraries."""
    observe: Callable[[Any, Any, State, Any], None] | None = None
    """Called with (t, h, state at its end, whether accepted) after every adaptive step that was tried."""
    is_perturbed: bool = False
    """Whether fixed steps see the field just inside of their ends: all grid points may be discontinuities."""

    @property
    def is_fixed(self) -> bool:
        """Whether the number of steps is given."""
        return self.steps is not None or self.step_size is not None

    def is_adaptive(self, where: str, method: Method) -> bool:
        """Whether the steps follow from the error; refuses what contradicts itself."""
        given = [
            name
            for name in ("rtol", "atol", "controller", "max_steps", "checkpoints")
            if getattr(self, name) is not None
        ]
        if self.is_fixed:
            if given:
                raise InputError(
                    f"{where}: steps or step_size must not come with {' and '.join(given)}, for these belong to "
                    "adaptive steps; got both. Leave out one or the other."
                )
            return False
        if has_error_estimate(method):
            return True
        if given:
            pairs = ", ".join(name for name, tableau in TABLEAUS.items() if tableau.b_error is not None)
            raise InputError(
                f"{where}: adaptive steps must have a method with an error estimate, one of: {pairs}; got "
                f"{method.name!r}. Choose one of them, or give steps or step_size."
            )
        return False


def has_error_estimate(method: Method) -> bool:
    """Whether the method is a Runge-Kutta pair."""
    return isinstance(method, RungeKutta) and method.tableau.b_error is not None


def check_adaptive(where: str, stepping: Stepping) -> PIDController:
    """The controller, after refusing what breaks a rule."""
    if stepping.save not in SAVES:
        raise InputError(
            f'{where}: save must be "interpolate" or "clip"; got {stepping.save!r}. With "clip" a step ends at each '
            "of ts."
        )
    limit = stepping.max_steps
    if limit is not None and not (isinstance(limit, numbers.Integral) and not isinstance(limit, bool) and limit >= 1):
        raise InputError(f"{where}: max_steps must be an integer >= 1; got {limit!r}. Give the most tries of a solve.")
    Thinning(stepping.checkpoints)  # refuses what is no budget
    controller = PIController() if stepping.controller is None else stepping.controller
    if not isinstance(controller, PIDController):
        raise InputError(
            f"{where}: controller must be a PIController or a PIDController; got {type(controller).__name__}. Make one "
            "with the options that you want."
        )
    return controller


def read_tolerances(
    where: str,
    stepping: Stepping,
    leaves: State,
    xp: Any,
    match: Callable[[Any, str], Sequence[Any]],
    known: Callable[[Any], bool] = lambda entry: True,
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(rtol, atol), one entry per leaf: Python floats, or arrays as they were given.

    ``match(tree, name)`` gives the entries of a pytree at the leaves; ``known`` says whether an array can be read.
    """
    bits = min(xp.finfo(leaf.dtype).bits for leaf in leaves)
    found = []
    for name, default in zip(("rtol", "atol"), DEFAULTS[64 if bits >= 64 else 32], strict=True):
        given = getattr(stepping, name)
        if given is None or (isinstance(given, numbers.Real) and not isinstance(given, bool)):
            entries: Sequence[Any] = (default if given is None else float(given),) * len(leaves)
        elif hasattr(given, "dtype"):
            entries = (given,) * len(leaves)
        else:
            entries = [float(part) if isinstance(part, numbers.Real) else part for part in match(given, name)]
        for entry, leaf in zip(entries, leaves, strict=True):
            _check_tolerance(where, name, entry, leaf, xp, known)
        found.append(tuple(entries))
    return found[0], found[1]


def _check_tolerance(where: str, name: str, entry: Any, leaf: Any, xp: Any, known: Callable[[Any], bool]) -> None:
    if isinstance(entry, float):
        is_good = 0.0 < entry < math.inf
    elif hasattr(entry, "dtype") and xp.isdtype(entry.dtype, "real floating"):
        wider = len(entry.shape) > len(leaf.shape)
        fits = all(a in (1, b) for a, b in zip(entry.shape[::-1], leaf.shape[::-1], strict=False))
        if wider or not fits:
            raise InputError(
                f"{where}: {name} must broadcast to the shape {tuple(leaf.shape)} of its leaf; got shape "
                f"{tuple(entry.shape)}. Give a number, or an array like the leaf."
            )
        is_good = not known(entry) or bool(xp.all((entry > 0.0) & xp.isfinite(entry)))
    else:
        raise InputError(
            f"{where}: {name} must be a number, an array of real numbers, or a pytree of them like y0; got "
            f"{type(entry).__name__}. Give for example 1e-6."
        )
    if not is_good:
        raise InputError(f"{where}: {name} must be > 0 and finite; got {entry}. Give for example 1e-6.")


def find_stops(where: str, ts: Sequence[float], save: str, controller: PIDController) -> Stops:
    """The stops for times that are known."""
    low, high = min(ts[0], ts[-1]), max(ts[0], ts[-1])
    for name in ("step_ts", "jump_ts"):
        for t in getattr(controller, name):
            if not low <= t <= high:
                raise InputError(
                    f"{where}: {name} must lie between the first and the last of ts, {ts[0]} and {ts[-1]}; got {t}. "
                    "Leave it out."
                )
    own = {ts[0]: 0, ts[-1]: len(ts) - 1}
    if save == "clip":
        own.update((t, row) for row, t in enumerate(ts))
    times = sorted({*own, *controller.step_ts, *controller.jump_ts}, reverse=ts[-1] < ts[0])
    rows = [own.get(t, -1) for t in times]
    jumps = [t in controller.jump_ts for t in times]
    return Stops(times, times, rows, jumps, len(times), any(jumps), sum(row >= 0 for row in rows) < len(ts))


class Structure(Protocol):
    """The pytree of the state."""

    leaves: State

    def match(self, where: str, tree: Any, argument: str, fix: str = ...) -> Sequence[Any]:
        """The entries of a tree of the same structure at the leaves."""

    def build(self, leaves: Sequence[Any]) -> Any:
        """The pytree of these leaves."""


def make_sweep(
    where: str,
    stepping: Stepping,
    backend: Any,
    method: Method,
    field: Any,
    times: list[float],
    theta: State,
    clock: int,
    state: Structure,
    xp: Any,
    taps: Sequence[Tap] = (),
) -> Sweep:
    """The sweep of an eager library: of fixed steps or of adaptive ones."""
    if not stepping.is_adaptive(where, method):
        if taps:
            refuse_taps(where)
        grid = arguments.fixed_grid(where, times, stepping.steps, stepping.step_size, method)
        return Sweep(
            backend,
            method,
            field,
            grid,
            times,
            theta,
            clock,
            before=stepping.before,
            is_perturbed=stepping.is_perturbed,
        )
    from .adaptive import AdaptiveSweep  # here, for an import to take less time

    controller = check_adaptive(where, stepping)
    stops = find_stops(where, times, stepping.save, controller)

    def match(tree: Any, name: str) -> Sequence[Any]:
        return state.match(where, tree, name, "Or give one number.")

    rtol, atol = read_tolerances(where, stepping, state.leaves, xp, match)
    return AdaptiveSweep(
        backend=backend,
        method=method,
        field=field,
        grid=stops,
        taps=taps_of(stops.saves_between, taps),
        ts=times,
        theta=theta,
        clock=clock,
        control=controller,
        tolerances=Tolerances(rtol, atol, _on_trees(controller.norm, state)),
        max_steps=UNLIMITED if stepping.max_steps is None else int(stepping.max_steps),
        thinning=Thinning(stepping.checkpoints),
        known_ts=times,
        before=stepping.before,
        observe=stepping.observe,
    )


def refuse_taps(where: str) -> NoReturn:
    """Refuse to read from inside of fixed steps."""
    raise InputError(
        f"{where}: event and dense must come with adaptive steps; got fixed ones. Give rtol and atol in place of steps "
        "or step_size, and a method with an error estimate."
    )


def refuse_controls(where: str) -> NoReturn:
    """Refuse controls at the nodes of steps that nobody knows yet."""
    raise InputError(
        f"{where}: controls must come with fixed steps, for they belong to the times that the steps sample; got "
        "adaptive ones. Give steps or step_size, or controls on Knots."
    )


def with_controls(where: str, sweep: Sweep, sampling: str, leaves: State, paths: Sequence[str]) -> Sweep:
    """The sweep with controls at its nodes; refuses those that are not."""
    if isinstance(sweep.grid, Stops):
        refuse_controls(where)
    layout = node_layout(where, sweep.method, sweep.num_steps, sampling)
    check_controls(where, layout, leaves, paths)
    return replace(sweep, controls=Controls(layout, sweep.backend.unstack(leaves)))


def _on_trees(norm: Callable[[Any], Any] | None, state: Structure) -> Callable[[State], Any] | None:
    return None if norm is None else lambda ratios: norm(state.build(ratios))
