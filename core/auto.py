"""What a user asks for with the adjoint ``"auto"``; ``plan`` finds it."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

from .adjoint import DEFAULT
from .errors import InputError

DEFAULT_SHARE = 0.5


@dataclass(frozen=True)
class Auto:
    """The adjoint ``"auto"``: of the exact gradients the one with the fewest field evaluations that fits the memory.

    Args:
        memory_budget: the most memory that a gradient may take at once, beyond the arguments of the solve: bytes, an
            integer >= 1, or the share of what the device has free when it is asked, in (0, 1]. Unless given, half.

    Cost: the first solve of a field with its shapes evaluates and linearizes it once more, and then runs the methods on
    sizes, about 0.1 ms a step; later ones find the plan again.
    """

    memory_budget: float | None = None

    def __post_init__(self) -> None:
        budget = self.memory_budget
        if budget is None:
            return
        is_number = isinstance(budget, numbers.Real) and not isinstance(budget, bool)
        if not is_number or not (budget >= 1 if isinstance(budget, numbers.Integral) else 0.0 < budget <= 1.0):
            raise InputError(
                f"Auto: memory_budget must be an integer >= 1, bytes, or a share in (0, 1]; got {budget!r}. Give what "
                "a gradient may take."
            )

    def bytes(self, free: int | None) -> int:
        """The budget, where the device has so much free."""
        budget = DEFAULT_SHARE if self.memory_budget is None else self.memory_budget
        if isinstance(budget, numbers.Integral):
            return int(budget)
        if free is None:
            raise InputError(
                "Auto: memory_budget must be in bytes where the free memory of the device cannot be read; got "
                f"{self.memory_budget!r}. Give an integer."
            )
        return int(budget * free)


@dataclass(frozen=True)
class Explained(Auto):
    """Ends the solve with its plan, before any step."""


def read_auto(adjoint: Any) -> tuple[Auto | None, Any]:
    """(what chooses the adjoint, or None; the adjoint where nothing needs to be chosen)."""
    auto = Auto() if isinstance(adjoint, str) and adjoint == "auto" else adjoint
    return (auto, DEFAULT) if isinstance(auto, Auto) else (None, adjoint)
