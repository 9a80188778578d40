"""Step size control: the error norm, the first step, and how the next step size follows from the errors so far.

Sizes are magnitudes: the direction of time belongs to the sweep. Nothing here carries a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import InputError
from .protocols import Backend, State

_LEAST_ERROR = 1e-4
"""Errors below it count as it in the memory of a controller: one lucky step must not bring the next ones down."""
_TINY = 1e-30


@dataclass(frozen=True)
class Tolerances:
    """For each leaf of the state a relative and an absolute tolerance: numbers, or arrays that broadcast to the leaf.

    ``norm`` maps the scaled error, as the user's pytree, to a number; None is the root mean square over all leaves.
    """

    rtol: tuple[Any, ...]
    atol: tuple[Any, ...]
    norm: Callable[[State], Any] | None = None

    def norm_of(self, ops: Backend, error: State, *scales: State) -> Any:
        """The norm of error / (atol + rtol max |scales|): one host read on eager libraries."""
        xp = ops.xp
        ratios = []
        for place, (leaf, rtol, atol) in enumerate(zip(error, self.rtol, self.atol, strict=True)):
            size = xp.abs(scales[0][place])
            for other in scales[1:]:
                size = xp.maximum(size, xp.abs(other[place]))
            ratios.append(xp.abs(leaf) / (atol + rtol * size))
        if self.norm is not None:
            return ops.scalar(self.norm(tuple(ratios)))
        return (ops.scalar(ops.pair(tuple(ratios), tuple(ratios))) / ops.num_entries(error)) ** 0.5


class Memory(NamedTuple):
    """The errors of the last two accepted steps, latest first."""

    last: Any
    before: Any


NO_MEMORY = Memory(1.0, 1.0)


@dataclass(frozen=True)
class PIDController:
    """h_{n+1} = h_n safety e_n^(-b1/k) e_{n-1}^(-b2/k) e_{n-2}^(-b3/k), k the order of the error.

    e is the error divided by the tolerance, and b1 = P + I + D, b2 = -(P + 2 D), b3 = D.

    Args:
        proportional, integral, derivative: P, I and D, dimensionless; the defaults are Soederlind's H312PID filter.
        safety: in (0, 1].
        min_factor, max_factor: the bounds of h_{n+1} / h_n, 0 < min_factor < 1 < max_factor.
        min_step: the least step size, >= 0, in the unit of ts; a step that would have to be shorter is a failure.
        max_step: the largest step size, > 0.
        first_step: the first step size, or None for Hairer's estimate.
        accepts_min_step: whether a step of size min_step is accepted whatever its error, instead.
        step_ts: times that a step must end at.
        jump_ts: times where the field is discontinuous: steps end there, and the field is never evaluated there but
            just before, for the step that ends, and just after, for the one that begins.
        norm: maps the error divided by the tolerance, a pytree like the state, to a number that is at most 1 for a
            step that is good enough; None is the root mean square over all entries.

    Raises:
        InputError: an argument is outside its range.

    Source: Soederlind 2003, Digital filters in adaptive time-stepping, doi 10.1145/641876.641877, table III.
    """

    proportional: float = -2 / 9
    integral: float = 2 / 9
    derivative: float = 1 / 18
    safety: float = 0.9
    min_factor: float = 0.2
    max_factor: float = 10.0
    min_step: float = 0.0
    max_step: float = math.inf
    first_step: float | None = None
    accepts_min_step: bool = False
    step_ts: Sequence[float] = ()
    jump_ts: Sequence[float] = ()
    norm: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        rules = {
            "safety": (0.0 < self.safety <= 1.0, "in (0, 1]"),
            "min_factor": (0.0 < self.min_factor < 1.0, "in (0, 1)"),
            "max_factor": (self.max_factor > 1.0, "> 1"),
            "min_step": (0.0 <= self.min_step < math.inf, ">= 0 and finite"),
            "max_step": (self.max_step > 0.0, "> 0"),
            "first_step": (self.first_step is None or 0.0 < self.first_step < math.inf, "> 0 and finite"),
        }
        for name, (is_met, rule) in rules.items():
            if not is_met:
                got = getattr(self, name)
                raise InputError(f"{type(self).__name__}: {name} must be {rule}; got {got}. Give a number that is.")
        if self.min_step > self.max_step:
            raise InputError(
                f"{type(self).__name__}: min_step must be at most max_step; got min_step={self.min_step} and "
                f"max_step={self.max_step}. Leave one of them out."
            )
        object.__setattr__(self, "step_ts", tuple(float(t) for t in self.step_ts))
        object.__setattr__(self, "jump_ts", tuple(float(t) for t in self.jump_ts))

    def grown(self, ops: Backend, error: Any, memory: Memory, order: int, may_grow: Any) -> Any:
        """The factor after an accepted step; at most 1 right after a rejected one."""
        b1 = self.proportional + self.integral + self.derivative
        b2, b3 = -(self.proportional + 2 * self.derivative), self.derivative
        error = larger(ops, error, _TINY)
        factor = self.safety * error ** (-b1 / order) * memory.last ** (-b2 / order)
        if b3:
            factor = factor * memory.before ** (-b3 / order)
        most = ops.choose(may_grow, lambda: self.max_factor, lambda: 1.0)
        return smaller(ops, larger(ops, factor, self.min_factor), most)

    def shrunk(self, ops: Backend, error: Any, order: int) -> Any:
        """The factor after a rejected step, whose error may not be finite."""
        is_finite = error < math.inf  # false for NaN
        error = ops.choose(is_finite, lambda: larger(ops, error, 1.0), lambda: 1.0)
        factor = larger(ops, self.safety * error ** (-1 / order), self.min_factor)
        return ops.choose(is_finite, lambda: factor, lambda: self.min_factor)

    def remembered(self, ops: Backend, error: Any, memory: Memory) -> Memory:
        """The memory after an accepted step."""
        return Memory(larger(ops, error, _LEAST_ERROR), memory.last)


@dataclass(frozen=True)
class PIController(PIDController):
    """h_{n+1} = h_n safety e_n^(-(P + I)/k) e_{n-1}^(P/k), k the order of the error: the default.

    It is the controller of Hairer and Wanner's DOPRI5, whose beta = P / k is 0.04 there and 0.02 here, and whose P + I
    is 0.85 there and 1 here: on DETEST that takes as many evaluations as SciPy's RK45 at a smaller error, where theirs
    takes 5 % more, and steps of smooth fields grow as soon as they may. The other arguments are those of
    :class:`PIDController`.

    Source: Hairer, Norsett, Wanner 1993, section II.4, and Hairer, Wanner 1996, section IV.2.
    """

    proportional: float = 0.1
    integral: float = 0.9
    derivative: float = 0.0


def larger(ops: Backend, left: Any, right: Any) -> Any:
    """The larger of two numbers."""
    return ops.choose(left > right, lambda: left, lambda: right)


def smaller(ops: Backend, left: Any, right: Any) -> Any:
    """The smaller of two numbers."""
    return ops.choose(left < right, lambda: left, lambda: right)


def first_step(
    ops: Backend,
    tolerances: Tolerances,
    order: int,
    y0: State,
    f0: State,
    longest: Any,
    slope_after: Callable[[Any], State],
) -> Any:
    """Hairer's first step size, at most ``longest``; ``slope_after(h)`` is the field after an Euler step of size h.

    Source: Hairer, Norsett, Wanner 1993, section II.4, page 169. Cost: one field evaluation.
    """
    d0, d1 = tolerances.norm_of(ops, y0, y0), tolerances.norm_of(ops, f0, y0)
    is_small = (d0 < 1e-5) | (d1 < 1e-5)
    euler = ops.choose(is_small, lambda: 1e-6, lambda: 0.01 * (d0 / d1))
    euler = smaller(ops, euler, longest)
    change = ops.linear_combination(slope_after(euler), 1.0, (-1.0,), (f0,))
    d2 = tolerances.norm_of(ops, change, y0) / euler
    most = larger(ops, d1, d2)
    by_order = (0.01 / larger(ops, most, _TINY)) ** (1 / order)
    refined = ops.choose(most <= 1e-15, lambda: larger(ops, 1e-6, euler * 1e-3), lambda: by_order)
    size = smaller(ops, 100 * euler, refined)
    return smaller(ops, ops.choose(size > 0.0, lambda: size, lambda: euler), longest)
