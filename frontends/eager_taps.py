"""Events and dense output of eager libraries: what their frontends share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from janode.core.protocols import Array, State
from janode.core.solution import Report
from janode.core.taps import KeepDense, Tap

from .trees import Tree

if TYPE_CHECKING:  # a solve that reads nothing does without these
    from janode.core.events import Event
    from janode.core.interpolation import ContinuousSolution


class EagerTaps:
    """What one solve reads from inside its steps."""

    def __init__(self, where: str, event: Any, dense: bool, state: Tree) -> None:
        self.where, self.state, self.is_dense = where, state, dense
        self.events: tuple[Event, ...] = ()
        if event is not None:
            from janode.core.events import read_events

            self.events = read_events(where, event)

    def all(self) -> Sequence[Tap]:
        """The taps, those that may end the solve first."""
        taps: list[Tap] = [KeepDense()] if self.is_dense else []
        if not self.events:
            return taps
        from janode.core.events import Watch

        directions, samples = zip(*((event.direction, event.samples) for event in self.events), strict=True)
        return [Watch(self._values, directions, max(samples)), *taps]

    def _values(self, t: Array, y: State, theta: State) -> tuple[Any, ...]:
        """The values of all events."""
        raise NotImplementedError

    def interpolant(self, sweep: Any, report: Report) -> ContinuousSolution | None:
        """The solution as a function of time."""
        if report.dense is None:
            return None
        from janode.core.interpolation import ContinuousSolution

        end = report.time if report.event is None or report.event.index < 0 else report.event.time
        return ContinuousSolution(sweep.backend, sweep.pair, report.dense, end, self.state.build)
