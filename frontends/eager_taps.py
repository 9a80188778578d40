"""Events and dense output of eager libraries: what their frontends share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from janode.core.events import Event, Watch, read_events
from janode.core.interpolation import ContinuousSolution
from janode.core.protocols import Array, State
from janode.core.solution import Report
from janode.core.taps import KeepDense, Tap

from .trees import Tree


class EagerTaps:
    """What one solve reads from inside its steps."""

    def __init__(self, where: str, event: Any, dense: bool, state: Tree) -> None:
        self.where, self.state, self.is_dense = where, state, dense
        self.events: tuple[Event, ...] = read_events(where, event)

    def all(self) -> Sequence[Tap]:
        """The taps, those that may end the solve first."""
        events = self.events
        watch = Watch(self._values, tuple(e.direction for e in events), max((e.samples for e in events), default=1))
        return [*([watch] if events else []), *([KeepDense()] if self.is_dense else [])]

    def _values(self, t: Array, y: State, theta: State) -> tuple[Any, ...]:
        """The values of all events."""
        raise NotImplementedError

    def interpolant(self, sweep: Any, report: Report) -> ContinuousSolution | None:
        """The solution as a function of time."""
        if report.dense is None:
            return None
        end = report.time if report.event is None or report.event.index < 0 else report.event.time
        return ContinuousSolution(sweep.backend, sweep.pair, report.dense, end, self.state.build)
