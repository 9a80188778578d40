"""Leapfrog's corrections: what they take from the backward pass, and the warning where its parasite is strong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from .adjoint import Backward
from .control_gradients import mapped, stage_gradients, weighted
from .controls import node_layout
from .corrections import (
    leapfrog_adjoint_average,
    leapfrog_filter,
    leapfrog_filter_any_start,
    leapfrog_filter_descent,
    sawtooth_ends,
    sawtooth_growth,
    trapezoid_weights,
)
from .costates import Costates, pull_all
from .grids import FixedGrid
from .multistep import Leapfrog
from .pieces import Piece, at_nodes, picked, remembered
from .protocols import Array, State
from .records import Carries
from .recovery import Restart
from .stencils import Stencil, make_stencil
from .sweep import Sweep

STRONG_PARASITE = 50.0
"""A sawtooth that grows more than this from the end to the start is worth a warning."""


@dataclass(frozen=True)
class LeapfrogMap:
    """A linear map of what the steps of leapfrog send to their controls."""

    kind: str
    least_steps: int
    needs_costates = False
    reads_outputs = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_n g_n."""
        rows = _raw(backward.sweep, sent)
        _warn_of_parasite(backward.sweep, rows)
        return weighted(backward.sweep, {"filter": _filter, "filter_descent": _filter_descent}[self.kind], rows)


@dataclass(frozen=True)
class StraightThrough:
    """The exact gradient of the solve whose values at ts are Gragg's smoothed ones. One more solve and its VJPs.

    That is one VJP per node, wherever the loss reads the states.
    """

    least_steps: int
    needs_costates = False
    reads_outputs = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """The backward pass once more, of the smoothed solve; its raw gradient has the trapezoid weights in it."""
        sweep = backward.sweep
        assert sweep.controls is not None
        if not sweep.method.is_smoothed:  # type: ignore[attr-defined]
            _warn_of_parasite(sweep, _raw(sweep, sent))
        method: Any = replace(sweep.method, ending="smoothed")  # type: ignore[type-var]
        layout = replace(sweep.controls.layout, phases=method.phases(sweep.num_steps))
        sweep = replace(sweep, method=method, controls=replace(sweep.controls, layout=layout))
        # Its steps look one ahead of those that were recorded, so the record is made anew.
        again = replace(backward, sweep=sweep, recovery=Restart(Carries()), tape=(backward.y0, ()))
        rows = _raw(sweep, again.run()[1])
        stencil = _smoothed(method, sweep.grid.counts)
        return rows if stencil is None else mapped(sweep, stencil, rows)


@dataclass(frozen=True)
class AdjointAverage:
    """Leapfrog's adjoints averaged over neighbours, before the VJP: one more per node, two where the loss reads."""

    least_steps: int
    needs_costates = True
    reads_outputs = False

    def controls(self, backward: Backward, sent: Any) -> State:
        """w_n (df/dtheta)_n^T (lam_n + 2 lam_{n+1} + lam_{n+2}) / 2."""
        sweep = backward.sweep
        _warn_of_parasite(sweep, _raw(sweep, sent))
        seen = Costates.of(backward, sent)
        means = mapped(sweep, _average(sweep.grid.counts), seen.costates)
        return weighted(sweep, _from_ends, pull_all(sweep, seen.spots(), seen.states, means)[2])


def _raw(sweep: Sweep, sent: Any) -> State:
    """raw_0 .. raw_N: what the first stage of the start step sends, and then what the field at each t_n does."""
    xp = sweep.backend.xp
    leaves: list[Array] = []
    for start, *rest in stage_gradients(sweep, sent):
        following = [steps[0] for steps in rest]
        if sweep.method.is_smoothed:  # type: ignore[attr-defined]
            leaves.append(xp.concat([start[0], start[-1], *following]))
        else:
            leaves.append(xp.concat([start[0], *following, xp.zeros_like(start[0])]))
    return tuple(leaves)


def _warn_of_parasite(sweep: Sweep, raw: State) -> None:
    """Warn where the sawtooth grows much, on the longest piece; traced libraries cannot."""
    counts, backend = sweep.grid.counts, sweep.backend
    longest = max(counts)
    first = sum(counts[: counts.index(longest)])
    inner = tuple(leaf[first + 1 : first + longest, ...] for leaf in raw)
    if longest < 4:
        return
    ends = [(backend.scalar(start), backend.scalar(end)) for start, end in sawtooth_ends(backend.xp, inner)]
    if not all(isinstance(number, float) for pair in ends for number in pair):
        return
    growth = sawtooth_growth(ends)
    if growth > STRONG_PARASITE:
        where = "the end to the start" if len(counts) == 1 else "the end to the start of an interval between ts"
        warnings.warn(
            f"solve: leapfrog's sawtooth grows {growth:.2g}-fold from {where}, and the error of every correction with "
            "it: the problem is dissipative. Compare with a Runge-Kutta method.",
            RuntimeWarning,
            stacklevel=2,
        )


def _filter(method: Leapfrog, piece: Piece) -> Stencil:
    if piece.index == 0 and method.start_method != "euler":
        return _from_raw(piece, leapfrog_filter_any_start(piece.num_steps, 1.0))
    return _from_raw(piece, leapfrog_filter(piece.num_steps, 1.0, 1.0 if piece.index else 0.5))


def _filter_descent(method: Leapfrog, piece: Piece) -> Stencil:
    return _from_raw(piece, leapfrog_filter_descent(piece.num_steps, 1.0, 1.0 if piece.index else 0.5))


def _from_raw(piece: Piece, found: Stencil) -> Stencil:
    return at_nodes(piece, found, 2).reading(range(piece.first, piece.first + piece.num_steps + 1))


def _from_ends(method: Leapfrog, piece: Piece) -> Stencil:
    return at_nodes(piece, picked(range(piece.num_steps + 1)), 2).reading(piece.end_rows)


@remembered
def _average(counts: tuple[int, ...]) -> Stencil:
    return leapfrog_adjoint_average(*counts)


@remembered
def _smoothed(method: Leapfrog, counts: Sequence[int]) -> Stencil | None:
    """The map from the smoothed solve's raw_0 .. raw_N to w_k g_k; None for an Euler start, where it is the identity.

    The sum over the stages of another start is no multiple of g_0 to second order. So its nodes are on the line through
    g_1 = raw_1 and g_2 = raw_2; from t_2 on raw_n is w_n g_n.
    """
    if method.start_method == "euler":
        return None
    num_steps = sum(counts)
    edges = [0.0, *map(float, accumulate(counts))]
    times = node_layout("", method, num_steps, "nodes").times(FixedGrid(tuple(counts)), edges)
    rows: list[dict[int, float]] = []
    for time, weight in zip(times, trapezoid_weights(times), strict=True):
        rows.append({round(time): 1.0} if time >= 2.0 else {1: weight * (2.0 - time), 2: weight * (time - 1.0)})
    return make_stencil(rows)
