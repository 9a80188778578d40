"""The solution as a function of time: the continuous extension of every accepted step."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Any

from .continuous import ContinuousRungeKutta
from .errors import InputError
from .protocols import Array, Backend, State
from .taps import Dense, Inside, drawn


class ContinuousSolution:
    """y(t) between the ends of a solve, as each step's continuous extension has it.

    It is continuous, and continuously differentiable if the extension is; its order is that of the extension, at least
    the method's less one for bosh3, dopri5, tsit5 and dopri8, and at most 3 for the other pairs. Where the library
    differentiates, gradients flow through it to all that the solve depends on, and to t.

    Attributes:
        t0, t1: the times between which it is known.
        step_ts: the times at the ends of all steps, in the direction of the solve.

    Cost: the extended stages of every step are held. An evaluation is one linear combination of them.
    """

    def __init__(
        self,
        ops: Backend,
        pair: ContinuousRungeKutta,
        rows: Sequence[Dense],
        end: float,
        build: Callable[[State], Any],
    ) -> None:
        self._ops, self._pair, self._rows, self._build = ops, pair, rows, build
        self.step_ts = [_known(row.t) for row in rows] + [end]
        self.t0, self.t1 = self.step_ts[0], end
        self._direction = 1.0 if self.t1 > self.t0 else -1.0
        self._ordered = [self._direction * t for t in self.step_ts]

    def __call__(self, t: Any) -> Any:
        """The same as :meth:`evaluate`."""
        return self.evaluate(t)

    def evaluate(self, t: Any) -> Any:
        """The state at time t, or the states at a sequence of times along a new leading axis.

        Raises:
            InputError: a time outside [t0, t1].
        """
        return self._mapped(self._value, t)

    def derivative(self, t: Any) -> Any:
        """dy/dt of the continuous extension at time t, or at a sequence of times along a new leading axis.

        Raises:
            InputError: a time outside [t0, t1].
        """
        return self._mapped(self._slope, t)

    def vjp(self, t: float, y_bar: State) -> tuple[Array, list[Dense]]:
        """(cotangent of t, cotangent of the solution as a whole) for the leaves of a cotangent of the state at t."""
        ops = self._ops
        zero = ops.zeros(y_bar)
        none = ops.zeros((ops.time(0.0, y_bar[0]),))[0]
        nothing = Dense(none, none, zero, (zero,) * len(self._pair.c))
        n, x = self._placed(t)
        rate = ops.pair(y_bar, self._slope(n, x))
        inside = drawn(ops, self._pair, Inside(nothing.slopes, zero, none, none), x, self._rows[n].h, y_bar, rate)
        rows = [nothing] * len(self._rows)
        rows[n] = Dense(inside.t, inside.h, inside.y, inside.slopes)
        return rate, rows

    def _value(self, n: int, x: Any) -> State:
        row = self._rows[n]
        return self._pair.value(self._ops, row.y, row.slopes, row.h, x)

    def _slope(self, n: int, x: Any) -> State:
        return self._pair.slope(self._ops, self._rows[n].slopes, x)

    def _mapped(self, function: Callable[[int, Any], State], t: Any) -> Any:
        if hasattr(t, "__len__") and getattr(t, "shape", (1,)) != ():
            return self._build(self._ops.stack([function(*self._placed(entry)) for entry in t]))
        return self._build(function(*self._placed(t)))

    def _placed(self, t: Any) -> tuple[int, Any]:
        """(step, place in it) of a time."""
        known = _known(t)
        if not min(self.t0, self.t1) <= known <= max(self.t0, self.t1):
            raise InputError(
                f"interpolant: t must lie between {self.t0} and {self.t1}; got {known}. Solve further, or ask inside."
            )
        n = min(bisect.bisect_right(self._ordered, self._direction * known) - 1, len(self._rows) - 1)
        row = self._rows[n]
        return n, ((t if getattr(t, "requires_grad", False) else known) - row.t) / row.h


def _known(t: Any) -> float:
    return float(t.detach() if hasattr(t, "detach") else t)


def total(ops: Backend, left: Sequence[Dense], right: Sequence[Dense]) -> list[Dense]:
    """The sum of two cotangents of a solution as a whole."""

    def plus(a: State, b: State) -> State:
        return ops.linear_combination(a, 1.0, (1.0,), (b,))

    return [
        Dense(
            plus((a.t,), (b.t,))[0],
            plus((a.h,), (b.h,))[0],
            plus(a.y, b.y),
            tuple(plus(k, m) for k, m in zip(a.slopes, b.slopes, strict=True)),
        )
        for a, b in zip(left, right, strict=True)
    ]
