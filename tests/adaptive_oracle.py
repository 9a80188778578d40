"""The map of a solve with its accepted steps frozen, written out in NumPy for complex steps: an independent oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import janode.numpy as jo
from janode.core.adaptive import Accepted, AdaptiveSweep
from janode.core.interpolants import interpolant
from janode.core.tableaus import TABLEAUS


@dataclass
class Frozen:
    """The accepted steps of one solve, and which of ts lies in which of them."""

    method: str
    stops: Any
    steps: list[Any]
    found_in: list[int] | None

    def __call__(self, field: Callable[..., Any], y0: Any, ts: Sequence[Any], *args: Any) -> Any:
        """The states at all ts; anything may be complex."""
        extended = interpolant(TABLEAUS[self.method]).floats
        tableau = TABLEAUS[self.method].floats
        stops = [ts[row] if row >= 0 else t for row, t in zip(self.stops.rows, self.stops.known, strict=True)]
        ys = [y0] + [np.full_like(y0, np.nan)] * (len(ts) - 1)
        y = y0
        for n, (segment, offset, h, is_end, *_) in enumerate(self.steps):
            t = stops[segment] + offset
            if is_end:
                h = stops[segment + 1] - t
            k: list[Any] = []
            for c, row in zip(extended.c, extended.a, strict=True):
                k.append(field(t + c * h, y + h * sum(a * kj for a, kj in zip(row, k, strict=True)), *args))
            for j, found in enumerate(self.found_in or []):
                if found == n:
                    x = (ts[j] - t) / h
                    b = [sum(w * x ** (d + 1) for d, w in enumerate(row)) for row in extended.weights]
                    ys[j] = y + h * sum(bi * ki for bi, ki in zip(b, k, strict=True))
            y = y + h * sum(b * ki for b, ki in zip(tableau.b, k, strict=False))
            if is_end and self.stops.rows[segment + 1] >= 0:
                ys[self.stops.rows[segment + 1]] = y
        return np.stack(ys)


def freeze(monkeypatch: Any, *args: Any, **options: Any) -> tuple[Any, Any, Frozen]:
    """(solution, pullback, accepted steps) of a ``solve_vjp``."""
    seen: list[tuple[AdaptiveSweep, Accepted]] = []
    advance = AdaptiveSweep.advance

    def noted(self: AdaptiveSweep, y0: Any, record: Any) -> Any:
        outputs, tape, carry = advance(self, y0, record)
        seen.append((self, tape))
        return outputs, tape, carry

    with monkeypatch.context() as patch:
        patch.setattr(AdaptiveSweep, "advance", noted)
        solution, pullback = jo.solve_vjp(*args, **options)
    ((sweep, tape),) = seen
    found_in = [found for (found,) in tape.taps[0].found_in] if sweep.grid.saves_between else None
    return solution, pullback, Frozen(sweep.method.name, sweep.grid, list(tape.steps), found_in)
