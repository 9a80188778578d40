"""How the backward pass gets the records of the steps back. A recovery knows no method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .errors import InputError
from .protocols import Backend, Record, State
from .records import Carries, Nothing
from .sweep import Bars, Sweep


@dataclass(frozen=True)
class Kept:
    """Every step's record is kept from the forward pass on."""

    record: Record

    def forward(self, sweep: Sweep, y0: State) -> tuple[Any, Any]:
        """(outputs, records of all steps)."""
        outputs, records, _ = sweep.advance(y0, self.record)
        return outputs, records

    def run(self, sweep: Sweep, state: Any, y0: State) -> tuple[Any, Any]:
        """((carry, outputs) behind the steps of a part, their records), from those before it."""
        return sweep.run(state, y0, self.record)

    def backward(self, sweep: Sweep, tape: Any, bars: Bars) -> tuple[Bars, Any]:
        """The cotangents pulled back through every step, and what each step sends to its controls."""
        return sweep.retreat(tape, self.record, bars)


@dataclass(frozen=True)
class Symplectic(Kept):
    """The adjoint ``"symplectic"``, with a dtype for the sums of its parameter cotangents.

    Args:
        accumulate: ``"float64"`` (complex128 for complex leaves), or None: the dtype of the parameter, in half
            precision float32. The gradient is cast to the parameter's dtype once, at the end.
    """

    record: Record = field(default_factory=Carries)
    accumulate: str | None = None

    def __post_init__(self) -> None:
        check_accumulate("Symplectic", self.accumulate)


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


def check_accumulate(where: str, accumulate: object) -> None:
    """Refuse anything but the one dtype that totals can have instead of their own."""
    if accumulate not in (None, "float64"):
        raise InputError(
            f'{where}: accumulate must be "float64" or None; got {accumulate!r}. None keeps the dtype of the '
            "parameters, in half precision float32."
        )


def make_totals(backend: Backend, like: State, recovery: object) -> State:
    """Zeros in which a recovery wants the cotangents of parameters summed."""
    totals = backend.zeros(like, wide=True)
    if getattr(recovery, "accumulate", None) is None:
        return totals
    xp = backend.xp
    dtypes = [xp.complex128 if xp.isdtype(leaf.dtype, "complex floating") else xp.float64 for leaf in like]
    return tuple(xp.zeros_like(total, dtype=dtype) for total, dtype in zip(totals, dtypes, strict=True))
