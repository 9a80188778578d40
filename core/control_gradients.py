"""What a backward pass sent to the controls, as arrays; rows of arrays, and maps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .pieces import Make, node_map
from .protocols import Array, State
from .stencils import Stencil, apply_stencil
from .sweep import Sweep


def phase_arrays(sweep: Sweep, sent: Any) -> list[State]:
    """For each phase the arrays (steps, ...) of what its steps sent."""
    return [sweep.backend.stack(rows) for rows in sent]


def num_leaves(sweep: Sweep) -> int:
    """The number of arrays in the controls."""
    assert sweep.controls is not None
    return len(sweep.backend.take(sweep.controls.nodes, 0))


def stage_gradients(sweep: Sweep, sent: Any) -> list[list[Sequence[Array]]]:
    """For each leaf of the controls, each phase and each stage: what its steps sent to it."""
    count = num_leaves(sweep)
    phases = sweep.method.phases(sweep.num_steps)
    arrays = phase_arrays(sweep, sent)
    return [
        [rows[leaf : len(phase.stepper.c) * count : count] for phase, rows in zip(phases, arrays, strict=True)]
        for leaf in range(count)
    ]


def raw_gradient(sweep: Sweep, sent: Any) -> State:
    """The exact gradient: what all stages that read a node send to it, summed."""
    assert sweep.controls is not None
    layout, xp = sweep.controls.layout, sweep.backend.xp
    return tuple(layout.gather(xp, stages) for stages in stage_gradients(sweep, sent))


def weighted(sweep: Sweep, make: Make, rows: State) -> State:
    """w_k g_k at all nodes, from the map to g for each piece between neighbouring ts."""
    apart, added = node_map(make, sweep.method, sweep.grid.counts)
    found = apply_stencil(sweep.backend.xp, apart, rows)
    return found if added is None else apply_stencil(sweep.backend.xp, added, found)


def mapped(sweep: Sweep, stencil: Stencil, rows: State) -> State:
    """The map, applied to arrays of the sweep's library."""
    return apply_stencil(sweep.backend.xp, stencil, rows)


def summed(arrays: Sequence[Array]) -> Array:
    """The sum of arrays of one shape."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def as_row(state: State) -> State:
    """The state as a stack of one."""
    return tuple(leaf[None, ...] for leaf in state)


def joined(sweep: Sweep, parts: Sequence[State]) -> State:
    """One stack after the other."""
    return tuple(sweep.backend.xp.concat(list(leaves)) for leaves in zip(*parts, strict=True))
