"""Corrections by name: which gradient the controls of a solve get, and what it takes from the backward pass.

Every correction returns w_k g(t_k): g the corrected gradient (the formulas are in ``corrections``,
``adams_corrections`` and ``stencils``), w_k the trapezoid weights of the nodes, so that sum_k w_k g_k . dtheta_k ~ dL
as for the exact gradient. The loss may read the states at all ts; ``pieces`` says how. Leapfrog's are in
``corrected_leapfrog``.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from .adams_corrections import adams_bashforth_costate, adams_bashforth_filter
from .adjoint import Backward, Correction
from .control_gradients import as_row, joined, mapped, raw_gradient, stage_gradients, summed, weighted
from .controls import NodeLayout, node_layout
from .corrected_leapfrog import AdjointAverage, LeapfrogMap, StraightThrough
from .corrections import divide
from .costates import Costates, Spot, pull, pull_all
from .errors import InputError, unknown_name
from .multistep import WEIGHTS, AdamsBashforth, Leapfrog
from .pieces import Piece, at_nodes, node_map, picked, pieces_of, remembered
from .protocols import Method, State
from .records import Nothing
from .runge_kutta import RungeKutta
from .stencils import Stencil, hermite, interpolate, joined_stencils, reconstruct
from .sweep import Sweep


@dataclass(frozen=True)
class NoCorrection:
    """The exact gradient of the discrete solution."""

    needs_costates = False
    reads_outputs = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The sum of what all stages that read a node send to it."""
        return () if backward.sweep.controls is None else raw_gradient(backward.sweep, sent)


@dataclass(frozen=True)
class Divide:
    """The exact gradient of a Runge-Kutta method over its weights."""

    least_steps: int
    needs_costates = False
    reads_outputs = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_k raw_k / (the weights of the stages that read node k), on each side of a time at which the loss reads."""
        sweep = backward.sweep
        pieces = pieces_of(sweep.method, sweep.grid.counts)
        leaves = []
        for (stages,) in stage_gradients(sweep, sent):
            rows = []
            for piece in pieces:
                steps = slice(piece.first, piece.first + piece.num_steps)
                own = [[array[steps, ...] for array in stages]]
                rows.append(_piece_layout(sweep.method, piece).gather(sweep.backend.xp, own))
            leaves.append(sweep.backend.xp.concat(rows))
        return weighted(sweep, _divide, tuple(leaves))


def _piece_layout(method: Method, piece: Piece) -> NodeLayout:
    """The nodes that the steps of the piece read themselves."""
    return node_layout("", method, piece.num_steps, "nodes")


def _divide(method: Any, piece: Piece) -> Stencil:
    """From the rows of the nodes that each piece reads itself."""
    layout = _piece_layout(method, piece)
    places = layout.places(layout.phases[0])
    nodes = [
        [following if place is None else base + place for place in places]
        for base, following in itertools.pairwise(layout.bases)
    ]
    found = divide([1.0] * piece.num_steps, method.tableau.floats.b[: len(method.c)], nodes)
    own = layout.num_nodes
    if own < len(piece.times):  # no stage reads the end of the piece
        found = interpolate(piece.times[:own], piece.times, 2).of(found)
    first = piece.nodes.start + (piece.index if None in places else 0)
    return found.reading(range(first, first + own))


@dataclass(frozen=True)
class StepFilter:
    """Point values of g from its averages over the steps of a Runge-Kutta method: what each sends to its controls."""

    least_steps: int
    needs_costates = False
    reads_outputs = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The map, applied to the sums over each step's stages."""
        sweep = backward.sweep
        sums = tuple(summed(stages) for (stages,) in stage_gradients(sweep, sent))
        return weighted(sweep, _filter, sums)


def _filter(method: Method, piece: Piece) -> Stencil:
    edges = [float(n) for n in range(piece.num_steps + 1)]
    return reconstruct(edges, piece.times, method.order).reading(range(piece.first, piece.first + piece.num_steps))


@dataclass(frozen=True)
class Consistent:
    """The gradient at the nodes of a Runge-Kutta method from its own adjoints: one more VJP per node.

    At the ends of steps the adjoint is lam_n, of the method's order; between them state and adjoint are interpolated
    from their values and slopes. A node at which the loss reads the state takes two VJPs, one for each of its sides.
    """

    least_steps: int
    needs_costates = True
    reads_outputs = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_k (df/dtheta)_k^T lam(t_k)."""
        seen = Costates.of(backward, sent)
        sweep, backend = seen.sweep, seen.sweep.backend
        spots = seen.spots()
        ends = range(len(spots))
        states, costates = seen.rows(ends)
        inner, between, order = _inner_nodes(sweep.method, sweep.grid.counts)
        slopes, z_bars, g_ends = pull_all(sweep, spots, states, costates, has_slopes=between is not None)
        if between is None:
            return weighted(sweep, _as_they_are, g_ends)
        minus = backend.linear_combination(None, -1.0, (1.0,), (z_bars,))
        states, costates = (
            mapped(sweep, between, joined(sweep, [rows, bars])) for rows, bars in ((states, slopes), (costates, minus))
        )
        g_inner = pull_all(sweep, inner, states, costates)[2]
        return weighted(sweep, _as_they_are, mapped(sweep, order, joined(sweep, [g_ends, g_inner])))


def _as_they_are(method: Method, piece: Piece) -> Stencil:
    """From the rows of all nodes of each piece."""
    return picked(piece.node_rows)


@remembered
def _inner_nodes(method: Method, counts: tuple[int, ...]) -> tuple[list[Spot], Stencil | None, Stencil]:
    """The nodes inside of steps, the map to them from values and slopes at t_n, and the order of all nodes.

    The first map reads all values and then all slopes; the second all t_n and then all inner nodes.
    """
    pieces = pieces_of(method, counts)
    num_ends = sum(len(piece.ends) for piece in pieces)
    spots: list[Spot] = []
    maps: list[Stencil] = []
    order: list[int] = []
    for piece in pieces:
        first, rows = piece.end_rows.start, range(len(piece.ends))
        targets = []
        for node, time in zip(piece.nodes, piece.times, strict=True):
            if node in piece.ends:
                order.append(first + piece.ends.index(node))
            else:
                order.append(num_ends + len(spots))
                spots.append(Spot(piece.index, time / piece.num_steps, 1.0 / piece.num_steps, node))
                targets.append(time)
        if targets:
            found = hermite([float(n) for n in rows], targets, method.order)
            maps.append(found.reading([first + n for n in rows] + [num_ends + first + n for n in rows]))
    return spots, joined_stencils(maps) if maps else None, picked(order)


@dataclass(frozen=True)
class AdamsFilter:
    """What an Adams-Bashforth solve sends to its controls away from the ends of pieces, and g at these ends.

    One more VJP at each of ts.
    """

    least_steps: int
    needs_costates = False
    reads_outputs = True

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_k g_k, interpolated from the nodes where the exact gradient is right and from both ends."""
        sweep, backend = backward.sweep, backward.sweep.backend
        pieces = pieces_of(sweep.method, sweep.grid.counts)
        outputs = backward.outputs
        if outputs is None:
            outputs = sweep.advance(backward.y0, Nothing())[0]
        # Those that enter at ts; at the first time the one that every step has added to.
        entering = tuple(leaf[1:, ...] for leaf in backward.ys_bar)
        costates = joined(sweep, [as_row(backward.start_bar), entering])
        spots = [Spot(0, 0.0, 1.0 / pieces[0].num_steps, pieces[0].ends[0])]
        spots += [Spot(piece.index, 1.0, 1.0 / piece.num_steps, piece.ends[-1]) for piece in pieces]
        g = pull_all(sweep, spots, backend.stack(outputs), costates)[2]
        at_steps = picked([node for piece in pieces for node in piece.ends[:-1]] + [pieces[-1].ends[-1]])
        raw = mapped(sweep, at_steps, raw_gradient(sweep, sent))
        return weighted(sweep, _adams_filter, joined(sweep, [g, raw]))


def _adams_filter(method: Method, piece: Piece) -> Stencil:
    """From g_0, what enters at the end of each piece, and the exact gradient at t_0 .. t_N."""
    found = adams_bashforth_filter(piece.num_steps, method.order, 1.0, piece.times, piece.index > 0)
    first = 1 + piece.num_pieces + piece.first
    return found.reading([0, *range(first, first + piece.num_steps + 1), 1 + piece.index])


@dataclass(frozen=True)
class AdamsConsistent:
    """The adjoint equation solved down the nodes of an Adams-Bashforth solve at its own order, piece by piece.

    For each piece of n steps n + 1 more VJPs at order 2, n + 4 at orders 3 and 4.
    """

    least_steps: int
    needs_costates = True
    reads_outputs = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_n (df/dtheta)_n^T p_n, interpolated to the nodes inside the start steps."""
        seen = Costates.of(backward, sent)
        sweep, backend = seen.sweep, seen.sweep.backend
        # Rows of Python numbers, or of arrays on a traced library, where n is one.
        columns = tuple(list(column) for column in zip(*seen.spots(), strict=True))
        _, spots = backend.scan(lambda carry, row: (carry, row), (), columns)
        states, entering = backend.unstack(seen.states), backend.unstack(backward.ys_bar)
        found: list[State] = []
        # lam_n is p there only where the solve ends or begins: p goes on from piece to piece instead.
        p = backend.zeros(backend.take(entering, 0))
        for piece in reversed(pieces_of(sweep.method, sweep.grid.counts)):
            first = piece.end_rows.start

            def pull_at(n: Any, p: State, first: int = first) -> tuple[State, State]:
                return pull(sweep, Spot(*backend.take(spots, first + n)), backend.take(states, first + n), p)[1:]

            p = backend.linear_combination(p, 1.0, (1.0,), (backend.take(entering, piece.index + 1),))
            rows, p = adams_bashforth_costate(backend, pull_at, piece.num_steps, WEIGHTS[sweep.method.order], 1.0, p)
            found.insert(0, rows)
        return weighted(sweep, _from_ends, joined(sweep, found))


def _from_ends(method: Method, piece: Piece) -> Stencil:
    return at_nodes(piece, picked(range(piece.num_steps + 1)), method.order).reading(piece.end_rows)


def _of_runge_kutta(method: RungeKutta) -> dict[str, Any]:
    two_nodes = 2 if set(method.c) == {0.0} else 1  # without two there are no weights
    has_inner_nodes = any(c not in (0.0, 1.0) for c in method.c)
    end_nodes = max(2, math.ceil(method.order / 2)) if has_inner_nodes else 1
    return {
        "consistent": Consistent(max(two_nodes, end_nodes - int(1.0 in method.c))),
        "filter": StepFilter(max(two_nodes, method.order)),
        "divide": Divide(two_nodes),
    }


def _of_leapfrog(method: Leapfrog) -> dict[str, Any]:
    by_euler = method.start_method == "euler"
    consistent = StraightThrough(1 if by_euler else 3)
    if method.is_smoothed:  # its exact gradient does not oscillate but at the nodes of a start step with other weights
        return {"none": NoCorrection()} if by_euler else {"consistent": consistent}
    found = {"consistent": consistent, "filter": LeapfrogMap("filter", 4 if by_euler else 5)}
    if by_euler:
        found["filter_descent"] = LeapfrogMap("filter_descent", 2)
    return {**found, "adjoint_average": AdjointAverage(2)}


def _corrections(method: Method) -> dict[str, Any]:
    """The corrections a method has, by name; the first is what ``"auto"`` picks."""
    if isinstance(method, RungeKutta):
        return _of_runge_kutta(method)
    if isinstance(method, Leapfrog):
        return _of_leapfrog(method)
    if isinstance(method, AdamsBashforth):
        order = method.order
        return {"consistent": AdamsConsistent(order - 1), "filter": AdamsFilter(order * order + order - 1)}
    return {}


def find_correction(where: str, correction: str, sweep: Sweep) -> Correction:
    """The correction of that name, if the solve has it."""
    method, controls = sweep.method, sweep.controls
    legal: dict[str, Any] = {"none": NoCorrection()} if correction == "none" else _corrections(method)
    name = next(iter(legal), "none") if correction == "auto" else correction
    if name not in legal:
        is_named = legal and not (isinstance(method, Leapfrog) and method != Leapfrog())
        kind, names = repr(method.name) if is_named else method, {"none", "auto", *legal} if legal else {"none"}
        raise unknown_name(where, f"correction for method {kind}", correction, names)
    if name == "none":
        return NoCorrection()
    if controls is None or controls.layout.sampling != "nodes":
        got = "no controls there" if controls is None else 'sampling="steps"'
        raise InputError(
            f"{where}: correction {name!r} must have controls at nodes; got {got}. Give controls with "
            'sampling="nodes", or use correction="none": those on Knots need no other.'
        )
    found, counts = legal[name], sweep.grid.counts
    if min(counts) < found.least_steps:
        between = " between neighbouring ts" if len(counts) > 1 else ""
        others = [key for key, other in legal.items() if key != "none" and other.least_steps <= min(counts)]
        instead = f', or correction="{others[0]}"' if others else ""
        raise InputError(
            f"{where}: correction {name!r} for method {method.name!r} must have at least {found.least_steps} "
            f"steps{between}; got {min(counts)}. Take more steps{instead}."
        )
    if isinstance(found, Divide):
        node_map(_divide, method, counts)  # refuses weights that are zero now, not in the backward pass
    return found
