"""Which records are kept of a solve whose number of steps is not known beforehand, within a budget.

With c slots, the records of the steps 0, d, 2 d, .. are kept, where d is the least power of two for which they fit: as
soon as the slots are full every other record gives way to a new one. The doubling rule needs no plan, and each step is
recomputed at most once. (Optimal online schedules recompute less for few slots: Stumm and Walther 2010, doi
10.1137/080742439.)

A new record takes the slot of one that gives way, so that nothing is ever moved: with c 2^(g-1) <= n < c 2^g, the
record of step n (a multiple of 2^g) replaces that of step n - c 2^(g-1) + 2^(g-1), an odd multiple of 2^(g-1).
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .protocols import Backend


@dataclass(frozen=True)
class Thinning:
    """``budget`` slots, or as many as there are steps if it is None."""

    budget: int | None = None

    def __post_init__(self) -> None:
        budget = self.budget
        if budget is not None and not (isinstance(budget, numbers.Integral) and budget >= 2):
            raise InputError(
                f"solve: checkpoints must be an integer >= 2; got {budget!r}. Each takes the memory of one state."
            )

    def num_slots(self, max_steps: int) -> int:
        """The number of slots c: even, and no more than there may be steps."""
        if self.budget is None or self.budget >= max_steps:
            return max_steps
        return self.budget - self.budget % 2

    def doublings(self, max_steps: int) -> int:
        """How often the distance between records may double."""
        slots, doublings = self.num_slots(max_steps), 0
        while slots << doublings < max_steps:
            doublings += 1
        return doublings

    def distance(self, ops: Backend, n: Any, max_steps: int) -> Any:
        """The distance d of records when step n is taken."""
        slots, distance = self.num_slots(max_steps), 1
        for g in range(1, self.doublings(max_steps) + 1):
            distance = _either(ops, n >= slots << (g - 1), 1 << g, distance)
        return distance

    def slot(self, ops: Backend, n: Any, max_steps: int) -> Any:
        """The slot of the record of step n, a multiple of the distance when it is taken."""
        slots = self.num_slots(max_steps)
        for g in range(self.doublings(max_steps), 0, -1):
            n = _either(ops, n >= slots << (g - 1), n - (slots - 1) * (1 << (g - 1)), n)
        return n


def _either(ops: Backend, condition: Any, then: Any, otherwise: Any) -> Any:
    return ops.choose(condition, lambda: then, lambda: otherwise)
