"""How the backward pass gets the records of the steps back. A recovery knows no method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .protocols import Record, State
from .records import Nothing
from .sweep import Bars, Sweep


@dataclass(frozen=True)
class Kept:
    """Every step's record is kept from the forward pass on."""

    record: Record

    def forward(self, sweep: Sweep, y0: State) -> tuple[Any, Any]:
        """(outputs, records of all steps)."""
        outputs, records, _ = sweep.advance(y0, self.record)
        return outputs, records

    def backward(self, sweep: Sweep, tape: Any, bars: Bars) -> tuple[Bars, Any]:
        """The cotangents pulled back through every step, and what each step sends to its controls."""
        return sweep.retreat(tape, self.record, bars)


@dataclass(frozen=True)
class Restart:
    """Only the start is kept; the backward pass runs the whole solve once more, recording it."""

    record: Record

    def forward(self, sweep: Sweep, y0: State) -> tuple[Any, Any]:
        """(outputs, (initial state, the way))."""
        outputs, records, _ = sweep.advance(y0, Nothing())
        return outputs, (y0, sweep.way(records))

    def backward(self, sweep: Sweep, tape: Any, bars: Bars) -> tuple[Bars, Any]:
        """The cotangents pulled back through every step, and what each step sends to its controls."""
        y0, way = tape
        return sweep.retreat(sweep.again(y0, way, self.record), self.record, bars)
