"""Claims: a measured number and the interval in which it must lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Claim:
    """What is claimed, what was measured, and from where to where that may be."""

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def holds(self) -> bool:
        """Whether the value lies in the interval; NaN does not."""
        return self.low <= self.value <= self.high

    @property
    def rule(self) -> str:
        """The interval in words."""
        if math.isinf(self.low):
            return f"at most {self.high:.4g}"
        if math.isinf(self.high):
            return f"at least {self.low:.4g}"
        return f"{self.low:.4g} to {self.high:.4g}"

    @property
    def fault(self) -> str:
        """What to say of a claim that does not hold."""
        return f"{self.name} must be {self.rule}; got {self.value:.4g}."


def order_of(steps: ArrayLike, errors: ArrayLike) -> float:
    """The order p of errors ~ C steps^-p: the slope of the least-squares line through their logarithms."""
    return -float(np.polyfit(np.log(np.asarray(steps, dtype=float)), np.log(np.asarray(errors, dtype=float)), 1)[0])
