"""What a backward pass sent to the controls, as arrays; rows of arrays, and maps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .corrections import trapezoid_weights
from .protocols import Array, State
from .stencils import Stencil, apply_stencil
from .sweep import Sweep


def stacked(sweep: Sweep, sent: Any) -> list[State]:
    """For each phase the arrays (steps, ...) of what its steps sent."""
    return [sweep.backend.stack(rows) for rows in sent]


def num_leaves(sweep: Sweep) -> int:
    """The number of arrays in the controls."""
    assert sweep.controls is not None
    return len(sweep.backend.take(sweep.controls.nodes, 0))


def stage_gradients(sweep: Sweep, sent: Any, leaf: int) -> list[Sequence[Array]]:
    """For each phase and stage what its steps sent to one leaf of their controls."""
    count = num_leaves(sweep)
    phases = zip(sweep.method.phases(sweep.num_steps), stacked(sweep, sent), strict=True)
    return [arrays[leaf : len(phase.stepper.c) * count : count] for phase, arrays in phases]


def raw_gradient(sweep: Sweep, sent: Any) -> State:
    """The exact gradient: what all stages that read a node send to it, summed."""
    assert sweep.controls is not None
    layout, xp = sweep.controls.layout, sweep.backend.xp
    return tuple(layout.gather(xp, stage_gradients(sweep, sent, leaf)) for leaf in range(num_leaves(sweep)))


def unit_times(sweep: Sweep) -> list[float]:
    """The times of the nodes, counted in steps."""
    assert sweep.controls is not None
    return sweep.controls.layout.times(sweep.grid, [0.0, float(sweep.num_steps)])


def weighted(sweep: Sweep, stencil: Stencil, rows: State) -> State:
    """w_k g_k for the map to g."""
    return apply_stencil(sweep.backend.xp, stencil.scaled(trapezoid_weights(unit_times(sweep))), rows)


def summed(arrays: Sequence[Array]) -> Array:
    """The sum of arrays of one shape."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def as_row(state: State) -> State:
    """The state as a stack of one."""
    return tuple(leaf[None, ...] for leaf in state)


def first_rows(rows: State, length: int) -> State:
    """The stack of the first rows."""
    return tuple(leaf[:length, ...] for leaf in rows)


def joined(sweep: Sweep, parts: Sequence[State]) -> State:
    """One stack after the other."""
    return tuple(sweep.backend.xp.concat(list(leaves)) for leaves in zip(*parts, strict=True))


def picked(places: Sequence[int]) -> Stencil:
    """The map that picks rows."""
    return Stencil(tuple((place,) for place in places), ((1.0,),) * len(places))
