"""Reversible methods: steps with an exact algebraic inverse, so that a backward pass keeps one carry alone.

Asynchronous leapfrog and reversible Heun hand increments w = h v from step to step, not slopes. An increment keeps the
step size it was made with, so h enters a step only as the factor of the field values that the step itself asks for;
both need equal steps. The coupling of a Runge-Kutta method takes any steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .carry import SeveralStates, both, plus
from .errors import InputError
from .protocols import Backend, Carry, Phase, State, Stepper, StepPullRequests, StepRequests, Time
from .runge_kutta import RungeKutta, mean_slope
from .tableau import Tableau


def _added(left: State, right: State) -> State:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _scaled(ops: Backend, factor: Time, state: State) -> State:
    return ops.linear_combination(None, factor, (1.0,), (state,))


@dataclass(frozen=True)
class _AlfStep:
    """(z, w) -> (z', w'): z_m = z + w/2, w' = (1 - 2 eta) w + 2 eta h f(t + h/2, z_m), z' = z_m + w'/2."""

    damping: float
    c = (0.5,)
    c_back = (0.5,)

    @property
    def inverse(self) -> str | None:
        return None if self.damping == 0.5 else "exact"

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        z, w = carry
        middle = ops.linear_combination(z, 1.0, (0.5,), (w,))
        u = yield middle
        kept = _scaled(ops, 1.0 - 2.0 * self.damping, w)
        w = ops.linear_combination(kept, h, (2.0 * self.damping,), (u,))
        return ops.linear_combination(middle, 1.0, (0.5,), (w,)), w

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        z_bar, w_bar = carry_bar
        w_bar = ops.linear_combination(w_bar, 1.0, (0.5,), (z_bar,))
        v = ops.linear_combination(None, h, (2.0 * self.damping,), (w_bar,))
        f, y_bar = yield 0, v
        z_bar = plus(ops, z_bar, y_bar)
        w_bar = ops.linear_combination(None, 1.0, (1.0 - 2.0 * self.damping, 0.5), (w_bar, z_bar))
        return (z_bar, w_bar), mean_slope(ops, h, [(v, f)])

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        z, w = carry
        middle = ops.linear_combination(z, 1.0, (-0.5,), (w,))
        u = yield middle
        kept = ops.linear_combination(w, h, (-2.0 * self.damping,), (u,))
        w = _scaled(ops, 1.0 / (1.0 - 2.0 * self.damping), kept)
        return ops.linear_combination(middle, 1.0, (-0.5,), (w,)), w


@dataclass(frozen=True)
class _HeunStep:
    """(y, x, d) -> (y', x', d'): x' = 2 y - x + d, d' = h f(t + h, x'), y' = y + (d + d')/2."""

    c = (1.0,)
    c_back = (0.0,)
    inverse = "exact"

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        y, x, d = carry
        x = ops.linear_combination(d, 1.0, (2.0, -1.0), (y, x))
        y = ops.linear_combination(y, 1.0, (0.5,), (d,))
        f = yield x
        d = _scaled(ops, h, f)
        return ops.linear_combination(y, 1.0, (0.5,), (d,)), x, d

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        y_bar, x_bar, d_bar = carry_bar
        v = _scaled(ops, h, ops.linear_combination(d_bar, 1.0, (0.5,), (y_bar,)))
        f, from_f = yield 0, v
        x_bar = plus(ops, x_bar, from_f)
        d_bar = ops.linear_combination(x_bar, 1.0, (0.5,), (y_bar,))
        y_bar = ops.linear_combination(y_bar, 1.0, (2.0,), (x_bar,))
        return (y_bar, _scaled(ops, -1.0, x_bar), d_bar), mean_slope(ops, h, [(v, f)])

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        y, x, d = carry
        x = ops.linear_combination(None, 1.0, (2.0, -1.0, -1.0), (y, x, d))
        y = ops.linear_combination(y, 1.0, (-0.5,), (d,))
        f = yield x
        d = _scaled(ops, h, f)
        return ops.linear_combination(y, 1.0, (-0.5,), (d,)), x, d


@dataclass(frozen=True)
class _FirstStep:
    """A step before which the last entry of the carry is made: h f(t_0, y_0).

    What the carry holds there is not read. Going back, the step leaves the increment it finds, and so the same y_0.
    """

    step_on: Any

    @property
    def c(self) -> tuple[float, ...]:
        return 0.0, *self.step_on.c

    @property
    def c_back(self) -> tuple[float, ...]:
        return self.step_on.c_back

    @property
    def inverse(self) -> str | None:
        return self.step_on.inverse

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        f = yield carry[0]
        return (yield from self.step_on.step(ops, (*carry[:-1], _scaled(ops, h, f)), h))

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        requests = self.step_on.step_vjp(ops, carry_bar, h)
        i, v = next(requests)
        reply = yield i + 1, v
        try:
            requests.send(reply)
        except StopIteration as done:
            (y_bar, *others, d_bar), h_bar = done.value
        v = _scaled(ops, h, d_bar)
        f, from_f = yield 0, v
        rest = mean_slope(ops, h, [(v, f)])
        return (plus(ops, y_bar, from_f), *others, ops.zeros(d_bar)), both(h_bar, rest)

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        return (yield from self.step_on.step_back(ops, carry, h))


class _Started(SeveralStates):
    """A method of equal steps whose carry holds h f to begin with as its last entry."""

    needs_equal_steps = True
    has_end_node = False

    @property
    def _stepper(self) -> Any:
        raise NotImplementedError

    def phases(self, num_steps: int) -> tuple[Phase, ...]:
        """The first step, which makes the increment, and the others."""
        first = Phase(_FirstStep(self._stepper), 1)
        return (first, Phase(self._stepper, num_steps - 1)) if num_steps > 1 else (first,)


@dataclass(frozen=True)
class AsynchronousLeapfrog(_Started):
    """Asynchronous leapfrog on the carry (z, h v), v the velocity. One field evaluation per step; order 2.

        z_m = z + h/2 v,   u = f(t + h/2, z_m),   v' = v + 2 eta (u - v),   z' = z_m + h/2 v',   v_0 = f(t_0, z_0)

    Args:
        damping: eta, 0 < eta <= 1, dimensionless; 1 is none. Below 1 a disturbance of the velocity shrinks by
            |1 - 2 eta| per step, which makes the method stable, and of order 1. Its inverse divides by that, and so
            multiplies rounding errors: to go back over N steps costs N log10(1 / |1 - 2 eta|) digits. 1/2 has none.

    Source: Zhuang et al. 2021, arXiv 2102.04668, algorithms 2 and 3, section A.5.
    """

    damping: float = 1.0

    name = "alf"
    size = 2

    def __post_init__(self) -> None:
        if not 0.0 < self.damping <= 1.0:
            raise InputError(
                f"AsynchronousLeapfrog: damping must be in (0, 1]; got {self.damping!r}. 1 is no damping at all."
            )

    @property
    def order(self) -> int:
        """2, or 1 with damping."""
        return 2 if self.damping == 1.0 else 1

    @property
    def _stepper(self) -> Stepper:
        return _AlfStep(self.damping)


@dataclass(frozen=True)
class ReversibleHeun(_Started):
    """Reversible Heun on the carry (y, x, h f(t, x)), x a shadow of y. One field evaluation per step; order 2.

        x' = 2 y - x + h f(t, x),   y' = y + h/2 (f(t, x) + f(t + h, x')),   x_0 = y_0

    Source: Kidger, Foster, Li, Lyons 2021, arXiv 2105.13493, algorithms 1 and 2.
    """

    name = "reversible_heun"
    order = 2
    size = 3

    @property
    def _stepper(self) -> Stepper:
        return _HeunStep()

    def start_vjp(self, carry_bar: Carry) -> State:
        """The cotangent of y0, which the shadow starts from too."""
        return _added(carry_bar[0], carry_bar[1])


@dataclass(frozen=True)
class ReversibleCoupling(SeveralStates):
    """A Runge-Kutta method Psi made reversible by a second state, on the carry (y, z). 2 s evaluations per step.

        y' = q y + (1 - q) z + Psi_h(z) - z,   z' = z - (Psi_{-h}(y') - y'),   z_0 = y_0,   0 < q < 1

    Psi_{-h} starts at t + h. The inverse divides by q: rounding errors grow by q^-N over N steps.

    Args:
        base: Psi.
        coupling: q, dimensionless; near 1 for accuracy, further below it for stability.

    Source: McCallum and Foster 2024, arXiv 2410.11648, section 3.
    """

    base: RungeKutta
    coupling: float = 0.999

    needs_equal_steps = False
    has_end_node = False
    inverse = "exact"
    size = 2

    def __post_init__(self) -> None:
        if isinstance(self.base, Tableau):
            object.__setattr__(self, "base", RungeKutta(self.base))
        if not isinstance(self.base, RungeKutta):
            raise InputError(
                f"ReversibleCoupling: base must be a Runge-Kutta method; got {self.base!r}. Give RungeKutta(tableau)."
            )
        if not 0.0 < self.coupling < 1.0:
            raise InputError(
                f"ReversibleCoupling: coupling must be between 0 and 1; got {self.coupling!r}. The default is 0.999."
            )

    @property
    def name(self) -> str:
        """reversible(...) with the name of the method that is coupled."""
        return f"reversible({self.base.name})"

    @property
    def order(self) -> int:
        """The order of the method that is coupled."""
        return self.base.order

    @cached_property
    def c(self) -> tuple[float, ...]:
        """The abscissae of Psi_h, then those of Psi_{-h}, which starts at the end of the step."""
        return self.base.c + self.base.c_reversed

    @cached_property
    def c_back(self) -> tuple[float, ...]:
        """Those of Psi_{-h}, then those of Psi_h."""
        return self.base.c_reversed + self.base.c

    def phases(self, num_steps: int) -> tuple[Phase, ...]:
        """All steps are alike."""
        return (Phase(self, num_steps),)

    def start_vjp(self, carry_bar: Carry) -> State:
        """The cotangent of y0, which both states start from."""
        return _added(*carry_bar)

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        """One step; the stages of Psi_h(z), then those of Psi_{-h}(y')."""
        y, z = carry
        (forth,) = yield from self.base.step(ops, (z,), h)
        y = ops.linear_combination(forth, self.coupling, (1.0, -1.0), (y, z))
        (back,) = yield from self.base.step(ops, (y,), -h)
        return y, ops.linear_combination(z, 1.0, (1.0, -1.0), (y, back))

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        """The inverse of one step; the stages of Psi_{-h}(y'), then those of Psi_h(z)."""
        y, z = carry
        (back,) = yield from self.base.step(ops, (y,), -h)
        z = ops.linear_combination(z, 1.0, (1.0, -1.0), (back, y))
        (forth,) = yield from self.base.step(ops, (z,), h)
        return ops.linear_combination(z, 1.0 / self.coupling, (1.0, -1.0), (y, forth)), z

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        """The exact pullback of one step, last stage first."""
        y_bar, z_bar = carry_bar
        minus = _scaled(ops, -1.0, z_bar)
        (back_bar,), minus_h_bar = yield from _shifted(self.base.step_vjp(ops, (minus,), -h), len(self.base.c))
        y_bar = plus(ops, y_bar, z_bar, back_bar)
        (forth_bar,), h_bar = yield from self.base.step_vjp(ops, (y_bar,), h)
        z_bar = ops.linear_combination(forth_bar, 1.0, (1.0, -self.coupling), (z_bar, y_bar))
        total = None if h_bar is None or minus_h_bar is None else h_bar - minus_h_bar
        return (_scaled(ops, self.coupling, y_bar), z_bar), total


def _shifted(requests: StepPullRequests, places: int) -> StepPullRequests:
    """The same pullback, its stages counted from ``places``."""
    reply: Any = None
    while True:
        try:
            i, v = requests.send(reply)
        except StopIteration as done:
            return done.value
        reply = yield i + places, v


__all__ = ["AsynchronousLeapfrog", "ReversibleCoupling", "ReversibleHeun"]
