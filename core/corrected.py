"""Corrections by name: which gradient the controls of a solve get, and what it takes from the backward pass.

Every correction returns w_k g(t_k): g the corrected gradient (the formulas are in ``corrections`` and ``stencils``),
w_k the trapezoid weights of the nodes, so that sum_k w_k g_k . dtheta_k ~ dL as for the exact gradient. Times are
counted in steps here: w_k is proportional to h and a map from raw gradients to g to 1 / h, so h falls out of w_k g_k.

All assume that the loss depends on the last state alone, and equal steps to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .adjoint import Backward, Correction
from .corrections import (
    adams_bashforth_costate,
    adams_bashforth_filter,
    divide,
    leapfrog_adjoint_average,
    leapfrog_filter,
    leapfrog_filter_descent,
    trapezoid_weights,
)
from .errors import InputError, unknown_name
from .multistep import WEIGHTS, AdamsBashforth, Leapfrog
from .protocols import Array, Carry, Moment, State
from .records import Carries, Nothing
from .recovery import Restart
from .runge_kutta import RungeKutta
from .stencils import Stencil, apply_stencil, hermite, interpolate, reconstruct
from .sweep import Sweep


def _stacked(sweep: Sweep, sent: Any) -> list[State]:
    """For each phase the arrays (steps, ...) of what its steps sent."""
    return [sweep.backend.stack(rows) for rows in sent]


def _num_leaves(sweep: Sweep) -> int:
    assert sweep.controls is not None
    return len(sweep.backend.take(sweep.controls.nodes, 0))


def _stage_gradients(sweep: Sweep, sent: Any, leaf: int) -> list[Sequence[Array]]:
    """For each phase and stage what its steps sent to one leaf of their controls."""
    count = _num_leaves(sweep)
    phases = zip(sweep.method.phases(sweep.num_steps), _stacked(sweep, sent), strict=True)
    return [arrays[leaf : len(phase.stepper.c) * count : count] for phase, arrays in phases]


def _raw(sweep: Sweep, sent: Any) -> State:
    """The exact gradient: what all stages that read a node send to it, summed."""
    assert sweep.controls is not None
    layout, xp = sweep.controls.layout, sweep.backend.xp
    return tuple(layout.gather(xp, _stage_gradients(sweep, sent, leaf)) for leaf in range(_num_leaves(sweep)))


def _unit_times(sweep: Sweep) -> list[float]:
    """The times of the nodes, counted in steps."""
    assert sweep.controls is not None
    return sweep.controls.layout.times(sweep.grid, [0.0, float(sweep.num_steps)])


def _weighted(sweep: Sweep, stencil: Stencil, rows: State) -> State:
    """w_k g_k for the map to g."""
    return apply_stencil(sweep.backend.xp, stencil.scaled(trapezoid_weights(_unit_times(sweep))), rows)


@dataclass(frozen=True)
class NoCorrection:
    """The exact gradient of the discrete solution."""

    needs_costates = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The sum of what all stages that read a node send to it."""
        return () if backward.sweep.controls is None else _raw(backward.sweep, sent)


@dataclass(frozen=True)
class NodeMap:
    """A linear map of the exact gradient."""

    make: Callable[[Sweep], Stencil]
    needs_costates = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The map, applied to the exact gradient at the nodes."""
        return _weighted(backward.sweep, self.make(backward.sweep), _raw(backward.sweep, sent))


@dataclass(frozen=True)
class StepMap:
    """A linear map of what each step sends to its controls in all."""

    make: Callable[[Sweep], Stencil]
    needs_costates = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The map, applied to the sums over each step's stages."""
        sweep = backward.sweep
        sums = tuple(_sum(_stage_gradients(sweep, sent, leaf)[0]) for leaf in range(_num_leaves(sweep)))
        return _weighted(sweep, self.make(sweep), sums)


@dataclass(frozen=True)
class StraightThrough:
    """The exact gradient of the solve whose last value is Gragg's smoothed one. One more solve and one VJP per node."""

    needs_costates = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The backward pass once more, from the smoothed end; its raw gradient has the trapezoid weights in it."""
        sweep = backward.sweep
        assert sweep.controls is not None
        method: Any = replace(sweep.method, ending="straight_through")  # type: ignore[type-var]
        layout = replace(sweep.controls.layout, phases=method.phases(sweep.num_steps))
        sweep = replace(sweep, method=method, controls=replace(sweep.controls, layout=layout))
        # Its last step has one stage more than the one that was recorded, so the record is made anew.
        again = replace(backward, sweep=sweep, recovery=Restart(Carries()), tape=backward.y0)
        return _raw(again.sweep, again.run()[1])


class _States(Nothing):
    """Keeps the state each step starts from."""

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        return super().advance(sweep, carry, moment)[0], sweep.method.output(carry)


@dataclass(frozen=True)
class Costates:
    """States and cotangents at t_0 .. t_N, and the VJPs of the field there."""

    sweep: Sweep
    states: Any
    """Buffer of z_0 .. z_N."""
    costates: Any
    """Buffer of lam_0 .. lam_N."""

    @classmethod
    def of(cls, backward: Backward, sent: Any) -> Costates:
        """Runs the solve once more for its states; the cotangents were sent by the backward pass."""
        sweep, backend = backward.sweep, backward.sweep.backend
        outputs, records, _ = sweep.advance(backward.y0, _States())
        states = [backend.stack(rows) for rows in records] + [_row(backend.take(outputs, 1))]
        sizes = [len(phase.stepper.c) * _num_leaves(sweep) for phase in sweep.method.phases(sweep.num_steps)]
        costates = [arrays[size:] for arrays, size in zip(_stacked(sweep, sent), sizes, strict=True)]
        costates.append(_row(backend.take(backend.unstack(backward.ys_bar), 1)))
        return cls(sweep, backend.unstack(_joined(sweep, states)), backend.unstack(_joined(sweep, costates)))

    def pull(self, place: Any, z: State, node: Any, lam: State) -> tuple[State, State, State]:
        """(h f, h J^T lam, h (df/dtheta)^T lam) at one node, ``place`` being its part of the whole interval."""
        sweep, backend = self.sweep, self.sweep.backend
        assert sweep.controls is not None
        t, h = sweep.grid.place(sweep.ts, 0, place, 1 / sweep.num_steps)
        theta = sweep.theta + backend.take(sweep.controls.nodes, node)
        stage = sweep.field.linearize(backend.time(t, z[sweep.clock]), z, theta)
        f = stage.f
        _, z_bar, theta_bar = stage.pull(lam)
        control_bar = sweep.filled(theta_bar[-_num_leaves(sweep) :], theta)
        slope, minus_costate_slope, g = (
            backend.linear_combination(None, h, (1.0,), (part,)) for part in (f, z_bar, control_bar)
        )
        return slope, minus_costate_slope, g

    @property
    def end_nodes(self) -> list[int]:
        """The nodes at t_0, t_1, ...: at t_N too if there is one."""
        assert self.sweep.controls is not None
        layout = self.sweep.controls.layout
        return [node for node in layout.bases if node < layout.num_nodes]

    def at(self, steps: list[int]) -> Any:
        """Buffer of h g at t_n for these n."""
        backend, ends = self.sweep.backend, self.end_nodes
        states, costates = (
            backend.unstack(apply_stencil(backend.xp, _picked(steps), backend.stack(rows)))
            for rows in (self.states, self.costates)
        )
        return backend.unstack(self.pull_all([float(n) for n in steps], [ends[n] for n in steps], states, costates)[2])

    def pull_all(self, times: list[float], nodes: list[int], states: Any, costates: Any) -> tuple[State, State, State]:
        """``pull`` at the nodes at these times, counted in steps; stacked."""
        backend, count = self.sweep.backend, len(self.sweep.backend.take(states, 0))
        places = [t / self.sweep.num_steps for t in times]

        def body(carry: Any, row: Any) -> tuple[Any, State]:
            place, node, i = row
            parts = self.pull(place, backend.take(states, i), node, backend.take(costates, i))
            return carry, parts[0] + parts[1] + parts[2]

        _, rows = backend.scan(body, (), (places, nodes, list(range(len(times)))))
        arrays = backend.stack(rows)
        return arrays[:count], arrays[count : 2 * count], arrays[2 * count :]


@dataclass(frozen=True)
class AdjointAverage:
    """Leapfrog's adjoints averaged over neighbours, before the VJP: N + 1 more VJPs; any start that shares no node."""

    needs_costates = True

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_n (df/dtheta)_n^T (lam_n + 2 lam_{n+1} + lam_{n+2}) / 2."""
        seen = Costates.of(backward, sent)
        sweep, backend = seen.sweep, seen.sweep.backend
        stencil = leapfrog_adjoint_average(sweep.num_steps)
        means = apply_stencil(backend.xp, stencil, backend.stack(seen.costates))
        times = _unit_times(sweep)
        g = seen.pull_all(times, list(range(len(times))), seen.states, backend.unstack(means))[2]
        return _weighted(sweep, _picked(range(len(times))), g)


@dataclass(frozen=True)
class Consistent:
    """The gradient at the nodes of a Runge-Kutta method from its own adjoints: one more VJP per node.

    At the ends of steps the adjoint is lam_n, of the method's order; between them state and adjoint are interpolated
    from their values and slopes.
    """

    needs_costates = True

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_k (df/dtheta)_k^T lam(t_k)."""
        seen = Costates.of(backward, sent)
        sweep, backend = seen.sweep, seen.sweep.backend
        assert sweep.controls is not None
        layout, node_times = sweep.controls.layout, _unit_times(sweep)
        ends = seen.end_nodes
        times = [node_times[node] for node in ends]
        slopes, z_bars, g_ends = seen.pull_all(times, ends, seen.states, seen.costates)
        inner = [node for node in range(layout.num_nodes) if node not in set(ends)]
        if not inner:
            return _weighted(sweep, _picked(range(len(ends))), g_ends)
        targets = [node_times[node] for node in inner]
        stencil = hermite(times, targets, sweep.method.order)
        first = len(ends)
        minus = backend.linear_combination(None, -1.0, (1.0,), (z_bars,))
        states, costates = (
            apply_stencil(backend.xp, stencil, _joined(sweep, [_cut(backend.stack(rows), first), bars]))
            for rows, bars in ((seen.states, slopes), (seen.costates, minus))
        )
        g_inner = seen.pull_all(targets, inner, backend.unstack(states), backend.unstack(costates))[2]
        order = sorted(range(layout.num_nodes), key=[*ends, *inner].__getitem__)
        return _weighted(sweep, _picked(order), _joined(sweep, [g_ends, g_inner]))


@dataclass(frozen=True)
class AdamsFilter:
    """What an Adams-Bashforth solve sends to its controls away from the ends, and g at the ends: two more VJPs."""

    needs_costates = True

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_k g_k, interpolated from the nodes where the exact gradient is right and from both ends."""
        seen = Costates.of(backward, sent)
        sweep, backend = seen.sweep, seen.sweep.backend
        ends = seen.end_nodes
        (first, last) = (backend.take(rows, 0) for rows in (seen.at([0]), seen.at([sweep.num_steps])))
        raw = apply_stencil(backend.xp, _picked(ends), _raw(sweep, sent))
        return _weighted(sweep, _adams_filter(sweep), _joined(sweep, [_row(first), raw, _row(last)]))


@dataclass(frozen=True)
class AdamsConsistent:
    """The adjoint equation solved down the nodes of an Adams-Bashforth solve at its own order: N + 10 more VJPs."""

    needs_costates = True

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
        stencil = interpolate([float(n) for n in range(num_steps + 1)], _unit_times(sweep), order)
        return _weighted(sweep, stencil, g)


def _sum(arrays: Sequence[Array]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def _row(state: State) -> State:
    return tuple(leaf[None, ...] for leaf in state)


def _cut(rows: State, length: int) -> State:
    return tuple(leaf[:length, ...] for leaf in rows)


def _joined(sweep: Sweep, parts: Sequence[State]) -> State:
    return tuple(sweep.backend.xp.concat(list(leaves)) for leaves in zip(*parts, strict=True))


def _picked(places: Sequence[int]) -> Stencil:
    """The map that picks rows."""
    return Stencil(tuple((place,) for place in places), ((1.0,),) * len(places))


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
    return reconstruct(edges, _unit_times(sweep), sweep.method.order)


def _adams_filter(sweep: Sweep) -> Stencil:
    return adams_bashforth_filter(sweep.num_steps, sweep.method.order, 1.0, _unit_times(sweep))


def _corrections(sweep: Sweep) -> dict[str, Correction]:
    """The corrections a method has, by name; the first is what ``"auto"`` picks."""
    method = sweep.method
    if isinstance(method, RungeKutta):
        return {"consistent": Consistent(), "filter": StepMap(_filter), "divide": NodeMap(_divide)}
    if isinstance(method, Leapfrog) and method.ending == "plain" and method.start_method == "euler":
        return {
            "consistent": StraightThrough(),
            "filter": NodeMap(lambda sweep: leapfrog_filter(sweep.num_steps, 1.0)),
            "filter_descent": NodeMap(lambda sweep: leapfrog_filter_descent(sweep.num_steps, 1.0)),
            "adjoint_average": AdjointAverage(),
        }
    if isinstance(method, AdamsBashforth):
        return {"consistent": AdamsConsistent(), "filter": AdamsFilter()}
    return {}


def find_correction(where: str, correction: str, sweep: Sweep) -> Correction:
    """The correction of that name, if the solve has it."""
    if correction == "none":
        return NoCorrection()
    legal = _corrections(sweep)
    name = next(iter(legal), "none") if correction == "auto" else correction
    if name not in legal:
        raise unknown_name(where, f"correction for method {sweep.method.name!r}", correction, ["none", "auto", *legal])
    if sweep.controls is None or sweep.controls.layout.sampling != "nodes":
        got = "no controls" if sweep.controls is None else 'sampling="steps"'
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
    if isinstance(found, NodeMap | StepMap):
        found.make(sweep)  # refuses too few steps now, not in the backward pass
    return found
