"""The pieces of a solve between neighbouring ts, and maps to the nodes that are put together from one for each piece.

The loss may read the state at every one of ts, and there the gradient of controls jumps as a function of time. So no
map reaches across them: each piece has one of its own. The node at such a time belongs to both pieces, and gets the sum
of what they give it: w_left g(t-) + w_right g(t+), w the trapezoid weights of the nodes of each.

Times are counted in steps here: weights are proportional to h and a map from raw gradients to g to 1 / h, so h falls
out of w_k g_k, even where it differs from piece to piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeVar, cast

from .controls import node_layout
from .corrections import trapezoid_weights
from .grids import FixedGrid
from .protocols import Method
from .stencils import Stencil, interpolate, joined_stencils, make_stencil

Made = TypeVar("Made", bound=Callable[..., Any])


def remembered(make: Made) -> Made:
    """Maps are made from Python numbers, which takes longer than to apply them: kept for the next solve like this."""
    return cast(Made, lru_cache(maxsize=64)(make))


@dataclass(frozen=True)
class Piece:
    """The steps between two neighbouring ts."""

    index: int
    num_pieces: int
    first: int
    """Its first step."""
    num_steps: int
    nodes: range
    """Its nodes; the one at its end among them, if there is one."""
    times: tuple[float, ...]
    """The times of its nodes, in steps from its start."""
    ends: tuple[int, ...]
    """The nodes at t_n, n = 0 .. num_steps or, where its end is none, one less."""

    @property
    def weights(self) -> tuple[float, ...]:
        """The trapezoid weights of its nodes."""
        return trapezoid_weights(self.times)

    @property
    def end_rows(self) -> range:
        """Its rows where every piece has one for each t_n, both ends included."""
        first = self.first + self.index
        return range(first, first + self.num_steps + 1)

    @property
    def node_rows(self) -> range:
        """Its rows where every piece has one for each of its nodes."""
        first = self.nodes.start + self.index
        return range(first, first + len(self.nodes))


@remembered
def pieces_of(method: Method, counts: tuple[int, ...]) -> tuple[Piece, ...]:
    """The pieces of a solve with ``counts[k]`` steps between the times k and k + 1, controls being at nodes."""
    layout = node_layout("", method, sum(counts), "nodes")
    edges = [0, *accumulate(counts)]
    times = layout.times(FixedGrid(counts), [float(edge) for edge in edges])
    found = []
    for k, count in enumerate(counts):
        first, last = layout.bases[edges[k]], layout.bases[edges[k + 1]]
        nodes = range(first, min(last + 1, layout.num_nodes))
        ends = tuple(node for node in layout.bases[edges[k] : edges[k + 1] + 1] if node < layout.num_nodes)
        unit_times = tuple(times[m] - edges[k] for m in nodes)
        found.append(Piece(k, len(counts), edges[k], count, nodes, unit_times, ends))
    return tuple(found)


Make = Callable[[Any, Piece], Stencil]
"""(method, piece) -> the map to g at the nodes of the piece, from rows that all pieces share."""


@remembered
def node_map(make: Make, method: Method, counts: tuple[int, ...]) -> tuple[Stencil, Stencil | None]:
    """The map to w_k g_k at the nodes of every piece, and the one that adds the two of a shared node, if any is."""
    pieces = pieces_of(method, counts)
    apart = joined_stencils([make(method, piece).scaled(piece.weights) for piece in pieces])
    if len(pieces) == 1:
        return apart, None
    rows: dict[int, dict[int, float]] = {}
    for piece in pieces:
        for node, row in zip(piece.nodes, piece.node_rows, strict=True):
            rows.setdefault(node, {})[row] = 1.0
    return apart, make_stencil(rows[node] for node in sorted(rows))


@remembered
def end_rows(counts: tuple[int, ...]) -> tuple[Stencil, Stencil] | None:
    """What makes rows for both ends of every piece, from arrays with one row for each step and one for each piece.

    (The map of z_0 .. z_N, the map of lam_0 .. lam_{N-1} followed by the cotangents that enter at the ends.) Behind the
    end of a piece the costate is lam_n, before it that with the cotangent added. None for one piece, whose rows these
    are already.
    """
    if len(counts) == 1:
        return None
    edges = [0, *accumulate(counts)]
    states: list[int] = []
    costates: list[dict[int, float]] = []
    for k, count in enumerate(counts):
        steps = range(edges[k], edges[k] + count)
        states += [*steps, edges[k + 1]]
        entering = {edges[-1] + k: 1.0}
        costates += [{n: 1.0} for n in steps]
        costates.append(entering if k == len(counts) - 1 else {**entering, edges[k + 1]: 1.0})
    return picked(states), make_stencil(costates)


def at_nodes(piece: Piece, ends: Stencil, order: int) -> Stencil:
    """The map to the nodes of a piece, from one to its t_0, t_1, ...: nodes between these are interpolated."""
    if len(piece.nodes) == len(ends.indices):
        return ends
    return interpolate([float(n) for n in range(len(ends.indices))], piece.times, order).of(ends)


def picked(places: Sequence[int]) -> Stencil:
    """The map that picks rows."""
    return Stencil(tuple((place,) for place in places), ((1.0,),) * len(places))
