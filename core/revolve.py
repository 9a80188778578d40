"""Checkpointing with a binomial schedule: c states are kept, and what lies between them is computed again.

The schedule is made before the solve, by ``checkpoint_schedules``, and laid out as tables: which steps of the way
forward leave their carry in which slot, from which slot each step of the way back starts, and which steps it takes
again. One body then serves eager and traced libraries, with a loop over the steps and one over those taken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from .errors import InputError
from .grids import FixedGrid
from .protocols import Backend, Carry, Phase, Record, State
from .records import Carries, Nothing
from .recovery import Kept, check_accumulate
from .sweep import Bars, Sweep
from .thinning import Thinning

STORAGES = ("memory", "disk")


def _disk() -> Any:
    """Imported when it is used: temporary files are a tenth of janode's import time."""
    from .disk import Disk

    return Disk()


def _is_disk(slots: Any) -> bool:
    return hasattr(slots, "tape")


class Again(NamedTuple):
    """Steps to take again, each with the slot its carry goes to before it, if ``saves`` says so."""

    steps: tuple[int, ...]
    slots: tuple[int, ...]
    saves: tuple[bool, ...]


class Schedule(NamedTuple):
    """Tables, with one entry for each step n."""

    num_slots: int
    slots: tuple[int, ...]
    """On the way forward: the slot of the carry before step n,"""
    saves: tuple[bool, ...]
    """if it is kept."""
    sources: tuple[int, ...]
    """On the way back: the slot that holds the carry to start from,"""
    again: tuple[Again, ...]
    """and the steps from there to step n."""


@lru_cache(maxsize=64)
def make_schedule(num_steps: int, checkpoints: int) -> Schedule:
    """The binomial schedule (``MultistageCheckpointSchedule``) for N steps and c checkpoints, the start being one.

    The carry before the last step is kept besides, in the slot behind those of the checkpoints.
    """
    from checkpoint_schedules import (
        Copy,
        EndForward,
        Forward,
        Move,
        MultistageCheckpointSchedule,
        Reverse,
    )

    stack: list[int] = []
    kept: dict[int, int] = {}
    sources, again = [0] * num_steps, [Again((), (), ())] * num_steps
    source, entries, is_forward = 0, [], True
    for action in MultistageCheckpointSchedule(num_steps, checkpoints, 0):
        if isinstance(action, Forward):
            place = len(stack)
            if action.write_ics:
                stack.append(action.n0)
            if is_forward:
                if action.write_ics or action.write_adj_deps:
                    kept[action.n0] = source = place
            elif not action.write_adj_deps:
                saves = [action.write_ics and n == action.n0 for n in action]
                entries += [(n, place if save else 0, save) for n, save in zip(action, saves, strict=True)]
        elif isinstance(action, Copy | Move):
            source = len(stack) - 1
            if isinstance(action, Move):
                stack.pop()
        elif isinstance(action, Reverse):
            sources[action.n0] = source
            steps, slots, saves_ = zip(*entries, strict=True) if entries else ((), (), ())
            again[action.n0] = Again(steps, slots, saves_)
            entries = []
        elif isinstance(action, EndForward):
            is_forward = False
    slots = tuple(kept.get(n, 0) for n in range(num_steps))
    used = [*kept.values(), *(slot for entry in again for slot in entry.slots)]
    return Schedule(1 + max(used), slots, tuple(n in kept for n in range(num_steps)), tuple(sources), tuple(again))


@dataclass(frozen=True)
class Revolve:
    """Binomial checkpointing: as few steps taken again as ``checkpoints`` states allow.

    The solve keeps c + 1 carries. A backward pass leaves them, for another one, and makes at most c more.

    With adaptive steps, which no schedule knows beforehand, the records of every 2^k-th step are kept, k as small as
    ``checkpoints`` allows, and each other step is taken again once, from the record before it.

    Args:
        checkpoints: c >= 1, the start among them; >= 2 with adaptive steps.
        storage: ``"memory"``, or ``"disk"``: a temporary directory, removed when the gradient can be asked for no more.
            Not on JAX, nor with adaptive steps.
        accumulate: as for ``Symplectic``.

    Cost: N (3 s - 1) + A s field evaluations and N s VJPs for N steps of s stages, A being the steps taken again: 0 for
    N <= c + 1, else r N - C(c + r, r - 1) - (N - 1) with the least r for which C(c + r, r) >= N.
    Source: Griewank, Walther 2000, doi 10.1145/347837.347846.
    """

    checkpoints: int = 20
    storage: str = "memory"
    accumulate: str | None = None
    record: Record = field(default_factory=Carries)

    def __post_init__(self) -> None:
        c = self.checkpoints
        if not isinstance(c, int) or isinstance(c, bool) or c < 1:
            raise InputError(
                f"Revolve: checkpoints must be an integer >= 1; got {c!r}. Each takes the memory of one state."
            )
        check_accumulate("Revolve", self.accumulate)
        if self.storage not in STORAGES:
            raise InputError(f'Revolve: storage must be "memory" or "disk"; got {self.storage!r}. Choose one of them.')

    def forward(self, sweep: Sweep, y0: State) -> tuple[Any, Any]:
        """(outputs, slots)."""
        if not isinstance(sweep.grid, FixedGrid):
            return Kept(self.record).forward(self._thinned(sweep), y0)
        (_, outputs), tape = self.run(sweep, sweep.begin(y0), y0)
        return outputs, tape

    def run(self, sweep: Sweep, state: Any, y0: State) -> tuple[Any, Any]:
        """((carry, outputs) behind the steps of a part, its slots), from those before it."""
        backend, method = sweep.backend, sweep.method
        schedule = make_schedule(sweep.num_taken, self.checkpoints)
        carry, outputs = state
        slots = _disk() if self.storage == "disk" else backend.recorder(schedule.num_slots, carry)
        state = carry, outputs, slots
        for first, last, phase, steps in _ranges(sweep):

            def body(state: Any, row: Any, phase: Phase = phase) -> Any:
                carry, outputs, slots = state
                step, slot, saves = row
                slots = _put(backend, slots, slot, carry, saves)
                carry, _ = Nothing().advance(sweep, carry, sweep.moment(phase, step, y0))
                return (carry, backend.put(outputs, step[0] + 1, method.output(carry)), slots), ()

            rows = (steps, list(schedule.slots[first:last]), list(schedule.saves[first:last]))
            state, _ = backend.scan(body, state, rows)
        return state[:2], (state[2].tape(y0) if self.storage == "disk" else state[2])

    def backward(self, sweep: Sweep, tape: Any, bars: Bars) -> tuple[Bars, Any]:
        """The cotangents pulled back through every step, and what each step sends to its controls."""
        if not isinstance(sweep.grid, FixedGrid):
            return Kept(self.record).backward(self._thinned(sweep), tape, bars)
        if self.storage == "disk":
            y0, (kept,) = tape
            with kept.overlaid(sweep.method.start(y0)) as slots:
                return self._back(sweep, slots, bars)
        # A copy, for the slots are used again, and the tape may be.
        _, slots = sweep.backend.scan(lambda nothing, row: (nothing, row), (), tape)
        return self._back(sweep, slots, bars)

    def _thinned(self, sweep: Any) -> Any:
        """An adaptive sweep that keeps at most so many records: its steps cannot be scheduled before they are found."""
        if self.storage == "disk":
            raise InputError(
                'solve: Revolve(storage="disk") must have a fixed grid; got adaptive steps. Give steps or step_size, '
                'or use storage="memory".'
            )
        return replace(sweep, thinning=Thinning(self.checkpoints))

    def _back(self, sweep: Sweep, slots: Any, bars: Bars) -> tuple[Bars, Any]:
        backend = sweep.backend
        schedule = make_schedule(sweep.num_taken, self.checkpoints)
        ranges = list(_ranges(sweep))
        sent = []
        for place in reversed(range(len(ranges))):
            first, last, phase, steps = ranges[place]
            before = [_again(backend, schedule, range(first, last), *ranges[q]) for q in range(place + 1)]
            loops = [loop for loop in before if loop is not None]

            def body(state: Any, row: Any, phase: Phase = phase, loops: Sequence[_Loop] = loops) -> Any:
                slots, bars = state
                step, source, *bounds = row
                carry = _take(backend, slots, source)
                for loop, begin, end in zip(loops, bounds[::2], bounds[1::2], strict=True):
                    carry, slots = _redo(sweep, loop, begin, end, carry, slots)
                bars, to_controls = sweep.pull_step(phase, step, self.record, carry, bars)
                return (slots, bars), to_controls

            bounds = [column for loop in loops for column in (loop.begins, loop.ends)]
            rows = (steps, list(schedule.sources[first:last]), *bounds)
            (slots, bars), from_phase = backend.scan(body, (slots, bars), rows, reverse=True)
            sent.append(from_phase)
        return bars, tuple(reversed(sent))


class _Loop(NamedTuple):
    """The steps of one phase that are taken again for the steps of another: a buffer, and each one's part of it."""

    phase: Phase
    rows: Any
    begins: list[int]
    ends: list[int]


def _ranges(sweep: Sweep) -> Any:
    """Each phase with its rows and the numbers of its first step and of the one behind its last."""
    first = 0
    for phase, steps in sweep.phases():
        yield first, first + phase.num_steps, phase, steps
        first += phase.num_steps


def _again(
    backend: Backend, schedule: Schedule, numbers: range, first: int, last: int, phase: Phase, steps: Any
) -> _Loop | None:
    """The steps from ``first`` to ``last`` taken again for those with these numbers, or None if there are none."""
    places: list[int] = []
    slots: list[int] = []
    saves: list[bool] = []
    begins, ends = [], []
    for n in numbers:
        begins.append(len(places))
        for step, slot, is_saved in zip(*schedule.again[n], strict=True):
            if first <= step < last:
                places.append(step - first)
                slots.append(slot)
                saves.append(is_saved)
        ends.append(len(places))
    if not places:
        return None
    columns = tuple([column[place] for place in places] for column in steps)
    # Rows of Python numbers, or arrays of them on a traced library.
    _, rows = backend.scan(lambda nothing, row: (nothing, row), (), (columns, slots, saves))
    return _Loop(phase, rows, begins, ends)


def _redo(sweep: Sweep, loop: _Loop, begin: Any, end: Any, carry: Carry, slots: Any) -> tuple[Carry, Any]:
    """(carry, slots) after steps taken again. A disk is no pytree, and so no part of the state of a loop."""
    backend = sweep.backend
    disk = slots if _is_disk(slots) else None

    def body(state: Any) -> Any:
        j, carry, slots = state
        step, slot, saves = backend.take(loop.rows, j)
        slots = _put(backend, disk or slots, slot, carry, saves)
        like = sweep.method.output(carry)
        carry, _ = Nothing().advance(sweep, carry, sweep.moment(loop.phase, step, like))
        return j + 1, carry, slots

    _, carry, slots = backend.while_loop(lambda state: state[0] < end, body, (begin, carry, slots))
    return carry, slots


def _put(backend: Backend, slots: Any, index: Any, carry: Carry, where: Any) -> Any:
    return slots.put(index, carry, where) if _is_disk(slots) else backend.put(slots, index, carry, where)


def _take(backend: Backend, slots: Any, index: Any) -> Carry:
    return slots.take(index) if _is_disk(slots) else backend.take(slots, index)
