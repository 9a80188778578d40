"""Corrections by name: which gradient the controls of a solve get, and what it takes from the backward pass.

Every correction returns w_k g(t_k): g the corrected gradient (the formulas are in ``corrections`` and ``stencils``),
w_k the trapezoid weights of the nodes, so that sum_k w_k g_k . dtheta_k ~ dL as for the exact gradient. Times are
counted in steps here: w_k is proportional to h and a map from raw gradients to g to 1 / h, so h falls out of w_k g_k.

All assume that the loss depends on the last state alone, and equal steps to it.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .adjoint import Backward, Correction
from .control_gradients import (
    as_row,
    first_rows,
    joined,
    num_leaves,
    picked,
    raw_gradient,
    stage_gradients,
    summed,
    unit_times,
    weighted,
)
from .corrections import (
    adams_bashforth_costate,
    adams_bashforth_filter,
    divide,
    leapfrog_adjoint_average,
    leapfrog_filter,
    leapfrog_filter_descent,
    sawtooth_ends,
    sawtooth_growth,
)
from .costates import Costates
from .errors import InputError, unknown_name
from .multistep import WEIGHTS, AdamsBashforth, Leapfrog
from .protocols import Method, State
from .records import Carries
from .recovery import Restart
from .runge_kutta import RungeKutta
from .stencils import Stencil, apply_stencil, hermite, interpolate, reconstruct
from .sweep import Sweep


@dataclass(frozen=True)
class NoCorrection:
    """The exact gradient of the discrete solution."""

    needs_costates = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The sum of what all stages that read a node send to it."""
        return () if backward.sweep.controls is None else raw_gradient(backward.sweep, sent)


STRONG_PARASITE = 50.0
"""A sawtooth that grows more than this from the end to the start is worth a warning."""


@dataclass(frozen=True)
class OfLeapfrog:
    """A correction of leapfrog, with a warning where the parasite is strong; traced libraries cannot warn."""

    correction: Any

    @property
    def needs_costates(self) -> bool:
        """Whether the correction itself does."""
        return self.correction.needs_costates

    @property
    def least_steps(self) -> int:
        """Those of the correction itself."""
        return self.correction.least_steps

    def controls(self, backward: Backward, sent: Any) -> State:
        """What the correction gives."""
        backend = backward.sweep.backend
        raw = tuple(leaf[1:-1, ...] for leaf in raw_gradient(backward.sweep, sent))
        ends = sawtooth_ends(backend.xp, raw) if raw[0].shape[0] > 2 else []
        known = [(backend.scalar(first), backend.scalar(last)) for first, last in ends]
        is_known = all(isinstance(number, float) for pair in known for number in pair)
        growth = sawtooth_growth(known) if is_known else 0.0
        if growth > STRONG_PARASITE:
            warnings.warn(
                f"solve: leapfrog's sawtooth grows {growth:.2g}-fold from the end to the start, and the error of every "
                "correction with it: the problem is dissipative. Compare with a Runge-Kutta method.",
                RuntimeWarning,
                stacklevel=2,
            )
        return self.correction.controls(backward, sent)


@dataclass(frozen=True)
class NodeMap:
    """A linear map of the exact gradient."""

    make: Callable[[Sweep], Stencil]
    least_steps: int = 1
    needs_costates = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The map, applied to the exact gradient at the nodes."""
        return weighted(backward.sweep, self.make(backward.sweep), raw_gradient(backward.sweep, sent))


@dataclass(frozen=True)
class StepMap:
    """A linear map of what each step sends to its controls in all."""

    make: Callable[[Sweep], Stencil]
    least_steps: int
    needs_costates = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The map, applied to the sums over each step's stages."""
        sweep = backward.sweep
        sums = tuple(summed(stage_gradients(sweep, sent, leaf)[0]) for leaf in range(num_leaves(sweep)))
        return weighted(sweep, self.make(sweep), sums)


@dataclass(frozen=True)
class StraightThrough:
    """The exact gradient of the solve whose last value is Gragg's smoothed one. One more solve and one VJP per node."""

    needs_costates = False
    least_steps = 2

    def controls(self, backward: Backward, sent: Any) -> State:
        """The backward pass once more, from the smoothed end; its raw gradient has the trapezoid weights in it."""
        sweep = backward.sweep
        assert sweep.controls is not None
        method: Any = replace(sweep.method, ending="straight_through")  # type: ignore[type-var]
        layout = replace(sweep.controls.layout, phases=method.phases(sweep.num_steps))
        sweep = replace(sweep, method=method, controls=replace(sweep.controls, layout=layout))
        # Its last step has one stage more than the one that was recorded, so the record is made anew.
        again = replace(backward, sweep=sweep, recovery=Restart(Carries()), tape=(backward.y0, ()))
        return raw_gradient(again.sweep, again.run()[1])


@dataclass(frozen=True)
class AdjointAverage:
    """Leapfrog's adjoints averaged over neighbours, before the VJP: N + 1 more VJPs; any start that shares no node."""

    needs_costates = True
    least_steps = 2

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_n (df/dtheta)_n^T (lam_n + 2 lam_{n+1} + lam_{n+2}) / 2."""
        seen = Costates.of(backward, sent)
        sweep, backend = seen.sweep, seen.sweep.backend
        stencil = leapfrog_adjoint_average(sweep.num_steps)
        means = apply_stencil(backend.xp, stencil, backend.stack(seen.costates))
        times = unit_times(sweep)
        g = seen.pull_all(times, list(range(len(times))), seen.states, backend.unstack(means))[2]
        return weighted(sweep, picked(range(len(times))), g)


@dataclass(frozen=True)
class Consistent:
    """The gradient at the nodes of a Runge-Kutta method from its own adjoints: one more VJP per node.

    At the ends of steps the adjoint is lam_n, of the method's order; between them state and adjoint are interpolated
    from their values and slopes.
    """

    least_steps: int
    needs_costates = True

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_k (df/dtheta)_k^T lam(t_k)."""
        seen = Costates.of(backward, sent)
        sweep, backend = seen.sweep, seen.sweep.backend
        assert sweep.controls is not None
        layout, node_times = sweep.controls.layout, unit_times(sweep)
        ends = seen.end_nodes
        times = [node_times[node] for node in ends]
        slopes, z_bars, g_ends = seen.pull_all(times, ends, seen.states, seen.costates)
        inner = [node for node in range(layout.num_nodes) if node not in set(ends)]
        if not inner:
            return weighted(sweep, picked(range(len(ends))), g_ends)
        targets = [node_times[node] for node in inner]
        stencil = hermite(times, targets, sweep.method.order)
        first = len(ends)
        minus = backend.linear_combination(None, -1.0, (1.0,), (z_bars,))
        states, costates = (
            apply_stencil(backend.xp, stencil, joined(sweep, [first_rows(backend.stack(rows), first), bars]))
            for rows, bars in ((seen.states, slopes), (seen.costates, minus))
        )
        g_inner = seen.pull_all(targets, inner, backend.unstack(states), backend.unstack(costates))[2]
        order = sorted(range(layout.num_nodes), key=[*ends, *inner].__getitem__)
        return weighted(sweep, picked(order), joined(sweep, [g_ends, g_inner]))


@dataclass(frozen=True)
class AdamsFilter:
    """What an Adams-Bashforth solve sends to its controls away from the ends, and g at the ends: two more VJPs."""

    least_steps: int
    needs_costates = True

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_k g_k, interpolated from the nodes where the exact gradient is right and from both ends."""
        seen = Costates.of(backward, sent)
        sweep, backend = seen.sweep, seen.sweep.backend
        ends = seen.end_nodes
        (first, last) = (backend.take(rows, 0) for rows in (seen.at([0]), seen.at([sweep.num_steps])))
        raw = apply_stencil(backend.xp, picked(ends), raw_gradient(sweep, sent))
        return weighted(sweep, _adams_filter(sweep), joined(sweep, [as_row(first), raw, as_row(last)]))


@dataclass(frozen=True)
class AdamsConsistent:
    """The adjoint equation solved down the nodes of an Adams-Bashforth solve at its own order: N + 10 more VJPs."""

    needs_costates = True
    least_steps = 7

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_n (df/dtheta)_n^T p_n, interpolated to the nodes inside the start steps."""
        seen = Costates.of(backward, sent)
        sweep, backend, ends = seen.sweep, seen.sweep.backend, seen.end_nodes
        num_steps, order = sweep.num_steps, sweep.method.order
        # Rows of Python numbers, or of arrays on a traced library, where n is one.
        places = [n / num_steps for n in range(num_steps + 1)]
        _, nodes = backend.scan(lambda carry, row: (carry, row), (), (places, ends))

        def pull(n: Any, p: State) -> tuple[State, State]:
            place, node = backend.take(nodes, n)
            return seen.pull(place, backend.take(seen.states, n), node, p)[1:]

        p_end = backend.take(seen.costates, num_steps)
        g = adams_bashforth_costate(backend, pull, num_steps, WEIGHTS[order], 1.0, p_end)
        stencil = interpolate([float(n) for n in range(num_steps + 1)], unit_times(sweep), order)
        return weighted(sweep, stencil, g)


def _divide(sweep: Sweep) -> Stencil:
    method: Any = sweep.method
    assert sweep.controls is not None
    layout = sweep.controls.layout
    (phase,) = layout.phases
    places = layout.places(phase)
    nodes = [
        [following if place is None else base + place for place in places]
        for base, following in itertools.pairwise(layout.bases)
    ]
    return divide([1.0] * sweep.num_steps, method.tableau.floats.b[: len(method.c)], nodes)


def _filter(sweep: Sweep) -> Stencil:
    edges = [float(n) for n in range(sweep.num_steps + 1)]
    return reconstruct(edges, unit_times(sweep), sweep.method.order)


def _adams_filter(sweep: Sweep) -> Stencil:
    return adams_bashforth_filter(sweep.num_steps, sweep.method.order, 1.0, unit_times(sweep))


def _corrections(method: Method) -> dict[str, Any]:
    """The corrections a method has, by name; the first is what ``"auto"`` picks."""
    order = method.order
    if isinstance(method, RungeKutta):
        two_nodes = 2 if set(method.c) == {0.0} else 1  # without two there are no weights
        has_inner_nodes = any(c not in (0.0, 1.0) for c in method.c)
        end_nodes = max(2, math.ceil(order / 2)) if has_inner_nodes else 1
        return {
            "consistent": Consistent(max(two_nodes, end_nodes - int(1.0 in method.c))),
            "filter": StepMap(_filter, max(two_nodes, order)),
            "divide": NodeMap(_divide, two_nodes),
        }
    if isinstance(method, Leapfrog) and method.start_method == "euler":
        if method.ending != "plain":
            return {"none": NoCorrection()}  # its exact gradient does not oscillate
        return {
            "consistent": OfLeapfrog(StraightThrough()),
            "filter": OfLeapfrog(NodeMap(lambda sweep: leapfrog_filter(sweep.num_steps, 1.0), 4)),
            "filter_descent": OfLeapfrog(NodeMap(lambda sweep: leapfrog_filter_descent(sweep.num_steps, 1.0), 2)),
            "adjoint_average": OfLeapfrog(AdjointAverage()),
        }
    if isinstance(method, AdamsBashforth):
        return {"consistent": AdamsConsistent(), "filter": AdamsFilter(order * order + order - 1)}
    return {}


def find_correction(where: str, correction: str, sweep: Sweep) -> Correction:
    """The correction of that name, if the solve has it."""
    method, controls = sweep.method, sweep.controls
    legal: dict[str, Any] = {"none": NoCorrection()} if correction == "none" else _corrections(method)
    name = next(iter(legal), "none") if correction == "auto" else correction
    if name not in legal:
        kind, names = (repr(method.name), {"none", "auto", *legal}) if legal else (method, {"none"})
        raise unknown_name(where, f"correction for method {kind}", correction, names)
    if name == "none":
        return NoCorrection()
    if controls is None or controls.layout.sampling != "nodes":
        got = "no controls" if controls is None else 'sampling="steps"'
        raise InputError(
            f"{where}: correction {name!r} must have controls at nodes; got {got}. Give controls with "
            'sampling="nodes", or use correction="none".'
        )
    if len(sweep.grid.counts) != 1:
        raise InputError(
            f"{where}: correction {name!r} must have a loss of the last state alone, and so two ts; got "
            f'{len(sweep.grid.counts) + 1}. Leave out the ts between, or use correction="none".'
        )
    found = legal[name]
    if sweep.num_steps < found.least_steps:
        raise InputError(
            f"{where}: correction {name!r} for method {method.name!r} must have at least {found.least_steps} steps; "
            f"got {sweep.num_steps}. Take more steps."
        )
    if isinstance(found, NodeMap):
        found.make(sweep)  # refuses weights that are zero now, not in the backward pass
    return found
