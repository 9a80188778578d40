"""Several recoveries in one solve: each brings back the steps of its own part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .protocols import State
from .recovery import Kept
from .revolve import Revolve
from .sweep import Bars, Sweep


@dataclass(frozen=True)
class Mixed:
    """Checkpoints for the start, states for the middle, graphs for the end, or any other sequence.

    ``parts`` are (number of steps, recovery), in the order of the steps. Fixed grids without controls only.
    """

    parts: tuple[tuple[int, Kept | Revolve], ...]

    def forward(self, sweep: Sweep, y0: State) -> tuple[Any, Any]:
        """(outputs, the tapes of the parts)."""
        state, tapes = sweep.begin(y0), []
        for part, recovery in self._divided(sweep):
            state, tape = recovery.run(part, state, y0)
            tapes.append(tape)
        return state[1], tuple(tapes)

    def backward(self, sweep: Sweep, tape: Any, bars: Bars) -> tuple[Bars, Any]:
        """The cotangents pulled back through every part, last part first."""
        for (part, recovery), own in reversed(list(zip(self._divided(sweep), tape, strict=True))):
            bars, _ = recovery.backward(part, own, bars)
        return bars, ()

    def _divided(self, sweep: Sweep) -> list[tuple[Sweep, Kept | Revolve]]:
        found, first = [], 0
        for num_steps, recovery in self.parts:
            found.append((sweep.part(first, first + num_steps), recovery))
            first += num_steps
        return found
