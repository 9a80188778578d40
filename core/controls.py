"""Controls: time-dependent parameters, one value per node, and which stage of which step reads which node.

The nodes of a solve are the distinct times at which its method samples the field; a node at the end of one step and
the start of the next is one node. With one control per step instead (the layers of a residual network), all stages of a
step read the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import arguments
from .errors import InputError
from .grids import FixedGrid
from .methods import find_method
from .protocols import Array, Method, Phase, State
from .tableaus import Tableau

SAMPLINGS = ("nodes", "steps")


@dataclass(frozen=True)
class NodeLayout:
    """Which node each stage of each step reads.

    Stage i of step n reads node ``bases[n] + places[i]``, or ``bases[n + 1]`` where ``places[i]`` is None: the node
    that is the start of the next step.
    """

    phases: tuple[Phase, ...]
    sampling: str = "nodes"
    has_end_node: bool = False

    @property
    def num_steps(self) -> int:
        """The number of steps N."""
        return sum(phase.num_steps for phase in self.phases)

    def places(self, phase: Phase, c: Sequence[float] | None = None) -> tuple[int | None, ...]:
        """For each stage its node, counted from the first node of its step; None for the start of the next step.

        Or for each of the abscissae c, all of which must have a node.
        """
        own = tuple(phase.stepper.c)
        key = own, own if c is None else tuple(c)
        if key not in self._found:  # asked for at every step
            ranks = {node: rank for rank, node in enumerate(self._own(phase))}
            self._found[key] = tuple(0 if self.sampling == "steps" else ranks.get(node) for node in key[1])
        return self._found[key]

    @cached_property
    def _found(self) -> dict[Any, tuple[int | None, ...]]:
        return {}

    def has_nodes(self, phase: Phase, c: Sequence[float]) -> bool:
        """Whether every step of a phase has a node at each of the abscissae c."""
        ends = [1.0] if self._reads_ends or self.has_end_node else []
        return self.sampling == "steps" or set(c) <= {*self._own(phase), *ends}

    @cached_property
    def bases(self) -> list[int]:
        """The first node of every step, and the end node."""
        bases: list[int] = []
        base = 0
        for phase in self.phases:
            width = self.width(phase)
            bases += range(base, base + width * phase.num_steps, width)
            base += width * phase.num_steps
        return [*bases, base]

    def width(self, phase: Phase) -> int:
        """The number of nodes that belong to one step of a phase."""
        return 1 if self.sampling == "steps" else len(self._own(phase))

    @cached_property
    def _reads_ends(self) -> bool:
        return any(1.0 in phase.stepper.c for phase in self.phases)

    def _own(self, phase: Phase) -> list[float]:
        """Where in a step its own nodes lie: its start too if a step before may read it as its end."""
        own = {c for c in phase.stepper.c if c != 1.0}
        return sorted(own | {0.0} if self._reads_ends else own)

    @property
    def num_nodes(self) -> int:
        """The number of nodes M: the leading axis of controls."""
        reads_end = None in self.places(self.phases[-1])
        return self.bases[-1] + int(self.sampling == "nodes" and (reads_end or self.has_end_node))

    def times(self, grid: FixedGrid, ts: Sequence[float]) -> list[float]:
        """The time of every node; of the middle of every step with one control per step."""
        intervals, starts, shares, _ = grid.steps
        times: list[float] = []
        n = 0
        for phase in self.phases:
            inner = (0.5,) if self.sampling == "steps" else self._own(phase)
            for _ in range(phase.num_steps):
                t, h = grid.place(ts, intervals[n], starts[n], shares[n])
                times += [t + c * h for c in inner]
                n += 1
        return [*times, ts[-1]][: self.num_nodes]

    def gather(self, xp: Any, stages: Sequence[Sequence[Array]]) -> Array:
        """Node gradients, shape (M, ...), from those of each stage: for each phase and stage an array (steps, ...)."""
        rows: list[Array] = []
        carried: Array | None = None
        for phase, arrays in zip(self.phases, stages, strict=True):
            columns: list[Array | None] = [None] * self.width(phase)
            end = None
            for place, array in zip(self.places(phase), arrays, strict=True):
                if place is None:
                    end = array if end is None else end + array
                else:
                    found = columns[place]
                    columns[place] = array if found is None else found + array
            zero = xp.zeros_like(arrays[0])
            incoming = zero[:1, ...] if carried is None else carried
            if end is not None or carried is not None:
                shifted = zero if end is None else end
                first = xp.concat([incoming, shifted[:-1, ...]])
                columns[0] = first if columns[0] is None else columns[0] + first
            carried = None if end is None else end[-1:, ...]
            stacked = xp.stack([zero if column is None else column for column in columns], axis=1)
            rows.append(xp.reshape(stacked, (-1, *arrays[0].shape[1:])))
        if self.num_nodes > self.bases[-1]:
            rows.append(xp.zeros_like(rows[0][:1, ...]) if carried is None else carried)
        return xp.concat(rows)


@dataclass(frozen=True)
class Controls:
    """The controls of one solve: a buffer of nodes, and who reads which."""

    layout: NodeLayout
    nodes: Any


def node_layout(where: str, method: Method, num_steps: int, sampling: str) -> NodeLayout:
    """The layout of a solve's nodes."""
    if sampling not in SAMPLINGS:
        raise InputError(
            f'{where}: sampling must be "nodes" or "steps"; got {sampling!r}. With "nodes" there is one control per '
            'time at which the method samples the field, with "steps" one per step.'
        )
    if sampling == "steps" and getattr(method, "is_smoothed", False):
        raise InputError(
            f'{where}: sampling must be "nodes" for a smoothed leapfrog, whose steps read the control at their '
            'end; got "steps". Give controls at nodes, or use ending="plain".'
        )
    return NodeLayout(tuple(method.phases(num_steps)), sampling, method.has_end_node)


def check_controls(where: str, layout: NodeLayout, leaves: State, paths: Sequence[str]) -> None:
    """Refuse controls whose leading axis is not the nodes."""
    if not leaves:
        raise InputError(f"{where}: controls must have at least one array; got none. Leave them out.")
    for leaf, path in zip(leaves, paths, strict=True):
        length = leaf.shape[0] if leaf.shape else None
        if length != layout.num_nodes:
            raise InputError(
                f"{where}: {path} must have a leading axis of {layout.num_nodes} {layout.sampling}; got shape "
                f"{tuple(leaf.shape)}. control_times(method, ts, ...) gives the time of each."
            )


def control_times(
    method: str | Tableau | Method,
    ts: Sequence[float] | Array,
    *,
    steps: int | None = None,
    step_size: float | None = None,
    sampling: str = "nodes",
) -> list[float]:
    """The times t_k, k = 0 .. M - 1, that the controls of a solve belong to: sample a function of time there.

    Args:
        method, ts, steps, step_size: as for the solve.
        sampling: ``"nodes"``, the distinct times at which the method samples the field, and the last time for a
            multistep method; or ``"steps"``, the middle of every step.

    Returns:
        M Python floats in the unit and the direction of ts, whatever the library; M is the length that the leading
        axis of every array of controls must have.

    Raises:
        InputError: an argument breaks a rule of the solve.

    Example:
        >>> control_times("heun2", [0.0, 1.0], steps=2)
        [0.0, 0.5, 1.0]
        >>> control_times("midpoint", [0.0, 1.0], steps=2)
        [0.0, 0.25, 0.5, 0.75]
        >>> control_times("midpoint", [0.0, 1.0], steps=2, sampling="steps")
        [0.25, 0.75]
    """
    times, chosen = arguments.read_times("control_times", ts), find_method(method)
    grid = arguments.fixed_grid("control_times", times, steps, step_size, chosen)
    return node_layout("control_times", chosen, grid.num_steps, sampling).times(grid, times)


def refine(
    xp: Any, leaves: State, paths: Sequence[str], times: Sequence[float], new_times: Sequence[float], order: int
) -> State:
    """The values at new times of the polynomials through values at times; what ``refine_controls`` is on leaves."""
    from .stencils import apply_stencil, interpolate  # here, for an import to take less time

    check_length("refine_controls", leaves, paths, times)
    return apply_stencil(xp, interpolate(times, new_times, order), leaves)


def check_length(where: str, leaves: State, paths: Sequence[str], times: Sequence[float]) -> None:
    """Refuse controls whose leading axis is not that of the times."""
    for leaf, path in zip(leaves, paths, strict=True):
        length = leaf.shape[0] if leaf.shape else None
        if length != len(times):
            raise InputError(
                f"{where}: {path} must have a leading axis of {len(times)}, the number of times; got shape "
                f"{tuple(leaf.shape)}. Give the times that the controls belong to."
            )
