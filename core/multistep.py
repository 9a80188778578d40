"""Linear multistep methods: leapfrog and Adams-Bashforth, as maps on a carry, with their exact pullbacks.

Leapfrog (two-step midpoint):  z_{n+1} = z_{n-1} + 2 h f(t_n, z_n),  z_1 by a one-step method, Euler by default.
Adams-Bashforth of order k:    z_{n+1} = z_n + sum_{j<k} beta_j h f(t_{n-j}, z_{n-j}),  started by k - 1 steps of a
Runge-Kutta method. Both need equal steps. An increment h f keeps the step size it was made with, so h enters a step
only as the factor of the field value that the step itself asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .carry import SeveralStates, both, plus
from .errors import InputError
from .protocols import Backend, Carry, Phase, State, Stepper, StepPullRequests, StepRequests, Time
from .runge_kutta import RungeKutta, mean_slope
from .tableaus import TABLEAUS

ENDINGS = ("plain", "smoothed")

WEIGHTS: dict[int, tuple[float, ...]] = {
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
"""beta_0 .. beta_{k-1} (Hairer, Norsett, Wanner 1993, table III.1.1)."""


@dataclass(frozen=True)
class _LeapfrogStart:
    """The first step: (z_0, z_0) -> (z_0, z_1)."""

    one_step: RungeKutta
    c_back = ()
    inverse = "exact"

    @property
    def c(self) -> tuple[float, ...]:
        return self.one_step.c

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        (following,) = yield from self.one_step.step(ops, (carry[1],), h)
        return carry[1], following

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        (lam,), h_bar = yield from self.one_step.step_vjp(ops, (carry_bar[1],), h)
        return (ops.zeros(lam), plus(ops, lam, carry_bar[0])), h_bar

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        yield from ()
        return carry[0], carry[0]


def _leap_back(ops: Backend, carry: Carry, h: Time) -> StepRequests:
    """(z_n, z_{n+1}) -> (z_{n-1}, z_n)."""
    now, following = carry
    k = yield now
    return ops.linear_combination(following, h, (-2.0,), (k,)), now


@dataclass(frozen=True)
class _LeapfrogStep:
    """(z_{n-1}, z_n) -> (z_n, z_{n+1})."""

    c = (0.0,)
    c_back = (0.0,)
    inverse = "exact"

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        before, now = carry
        k = yield now
        return now, ops.linear_combination(before, h, (2.0,), (k,))

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        now_bar, following_bar = carry_bar
        v = ops.linear_combination(None, h, (2.0,), (following_bar,))
        f, y_bar = yield 0, v
        return (following_bar, plus(ops, now_bar, y_bar)), mean_slope(ops, h, [(v, f)])

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        return _leap_back(ops, carry, h)


@dataclass(frozen=True)
class _SmoothedStart:
    """The first step of a solve that looks one step ahead: (z_0, z_0, z_0) -> (z_0, z_1, z_2)."""

    one_step: RungeKutta
    c_back = ()
    inverse = "exact"

    @property
    def c(self) -> tuple[float, ...]:
        return (*self.one_step.c, 1.0)

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        z = carry[2]
        (following,) = yield from self.one_step.step(ops, (z,), h)
        k = yield following
        return z, following, ops.linear_combination(z, h, (2.0,), (k,))

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        z_bar, following_bar, ahead_bar = carry_bar
        v = ops.linear_combination(None, h, (2.0,), (ahead_bar,))
        f, y_bar = yield len(self.one_step.c), v
        (lam,), h_bar = yield from self.one_step.step_vjp(ops, (plus(ops, following_bar, y_bar),), h)
        rest = mean_slope(ops, h, [(v, f)])
        return (ops.zeros(lam), ops.zeros(lam), plus(ops, lam, z_bar, ahead_bar)), both(h_bar, rest)

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        yield from ()
        return (carry[0],) * 3


@dataclass(frozen=True)
class _SmoothedStep:
    """(z_{n-1}, z_n, z_{n+1}) -> (z_n, z_{n+1}, z_{n+2})."""

    c = (1.0,)
    c_back = (0.0,)
    inverse = "exact"

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        _, now, following = carry
        k = yield following
        return now, following, ops.linear_combination(now, h, (2.0,), (k,))

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        now_bar, following_bar, ahead_bar = carry_bar
        v = ops.linear_combination(None, h, (2.0,), (ahead_bar,))
        f, y_bar = yield 0, v
        pulled = plus(ops, now_bar, ahead_bar), plus(ops, following_bar, y_bar)
        return (ops.zeros(v), *pulled), mean_slope(ops, h, [(v, f)])

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        now, following, _ = carry
        before, _ = yield from _leap_back(ops, (now, following), h)
        return before, now, following


@dataclass(frozen=True)
class Leapfrog:
    """The two-step midpoint rule on the carry (z_{n-1}, z_n). One field evaluation per step; order 2.

    Args:
        start_method: the name of the Runge-Kutta method of the first step.
        ending: ``"plain"`` returns z_n at the times asked for; ``"smoothed"`` returns there Gragg's
            S_n = (z_n + z_{n-1} + h f(t_n, z_n)) / 2, whose exact gradient with respect to controls does not oscillate.
            The carry then looks one step ahead, as S_n = (z_{n-1} + 2 z_n + z_{n+1}) / 4, at one evaluation more in
            all; controls must be at nodes.

    Source: Gragg 1965, doi 10.1137/0702030, for the smoothing.
    """

    start_method: str = "euler"
    ending: str = "plain"

    name = "leapfrog"
    order = 2
    needs_equal_steps = True
    has_end_node = True

    def __post_init__(self) -> None:
        if self.ending not in ENDINGS:
            raise InputError(
                f"Leapfrog: ending must be one of: {', '.join(ENDINGS)}; got {self.ending!r}. Choose one of them."
            )
        _check_start("Leapfrog", self.start_method, 1)

    @property
    def is_smoothed(self) -> bool:
        """Whether it returns Gragg's S_n."""
        return self.ending == "smoothed"

    def phases(self, num_steps: int) -> tuple[Phase, ...]:
        """The start step, and the steps that follow."""
        one_step = RungeKutta(TABLEAUS[self.start_method])
        start: Stepper = _SmoothedStart(one_step) if self.is_smoothed else _LeapfrogStart(one_step)
        step: Stepper = _SmoothedStep() if self.is_smoothed else _LeapfrogStep()
        return (Phase(start, 1), *((Phase(step, num_steps - 1),) if num_steps > 1 else ()))

    def start(self, y0: State) -> Carry:
        """The carry before the first step, which reads its last entry alone."""
        return (y0,) * (3 if self.is_smoothed else 2)

    def output(self, carry: Carry) -> State:
        """The newest state, or S_n."""
        if not self.is_smoothed:
            return carry[1]
        return tuple([0.5 * now + 0.25 * (old + new) for old, now, new in zip(*carry, strict=True)])

    def output_vjp(self, carry_bar: Carry, y_bar: State, ops: Backend) -> Carry:
        """carry_bar with the cotangent of the output added."""
        if not self.is_smoothed:
            return carry_bar[0], plus(ops, carry_bar[1], y_bar)
        weighted = zip(carry_bar, (0.25, 0.5, 0.25), strict=True)
        return tuple([ops.linear_combination(bar, 1.0, (weight,), (y_bar,)) for bar, weight in weighted])

    def carry_zeros(self, zeros: State) -> Carry:
        """The cotangent of a carry nothing depends on."""
        return (zeros,) * (3 if self.is_smoothed else 2)

    def start_vjp(self, carry_bar: Carry) -> State:
        """The cotangent of y0."""
        return carry_bar[-1]


@dataclass(frozen=True)
class _AdamsStart:
    """A Runge-Kutta step that remembers its first increment: (z, d_1, ...) -> (z', h k_1, d_1, ...)."""

    one_step: RungeKutta

    @property
    def c(self) -> tuple[float, ...]:
        return self.one_step.c

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        requests = self.one_step.step(ops, carry[:1], h)
        first = f = yield next(requests)
        while True:
            try:
                stage = requests.send(f)
            except StopIteration as done:
                increment = ops.linear_combination(None, h, (1.0,), (first,))
                return (*done.value, increment, *carry[1:-1])
            f = yield stage

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        newest_bar = ops.linear_combination(None, h, (1.0,), (carry_bar[1],))
        requests = self.one_step.step_vjp(ops, carry_bar[:1], h)
        reply: Any = None
        extra: list[tuple[State, State | None]] = []
        while True:
            try:
                i, v = requests.send(reply)
            except StopIteration as done:
                (lam,), h_bar = done.value
                rest = mean_slope(ops, h, extra)
                return (lam, *carry_bar[2:], ops.zeros(lam)), both(h_bar, rest)
            reply = yield i, (plus(ops, v, newest_bar) if i == 0 else v)
            if i == 0:
                extra.append((newest_bar, reply.f))


@dataclass(frozen=True)
class _AdamsStep:
    """(z_n, d_1, ..., d_{k-1}) -> (z_{n+1}, h f_n, d_1, ..., d_{k-2}), with d_j = h f_{n-j}."""

    weights: tuple[float, ...]
    c = (0.0,)

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        z, *history = carry
        k = yield z
        increments = [ops.linear_combination(None, h, (1.0,), (k,)), *history]
        return ops.linear_combination(z, 1.0, self.weights, increments), *increments[:-1]

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        lam, *increments_bar = carry_bar
        newest_bar = ops.linear_combination(increments_bar[0], 1.0, self.weights[:1], (lam,))
        v = ops.linear_combination(None, h, (1.0,), (newest_bar,))
        f, y_bar = yield 0, v
        older = [
            ops.linear_combination(bar, 1.0, (weight,), (lam,))
            for weight, bar in zip(self.weights[1:-1], increments_bar[1:], strict=True)
        ]
        oldest = ops.linear_combination(None, 1.0, self.weights[-1:], (lam,))
        return (plus(ops, lam, y_bar), *older, oldest), mean_slope(ops, h, [(v, f)])


_STARTS = {2: "heun2", 3: "heun3", 4: "rk4"}


@dataclass(frozen=True)
class AdamsBashforth(SeveralStates):
    """The Adams-Bashforth method of order 2, 3 or 4 on the carry (z_n, h f_{n-1}, ...). One evaluation per step.

    Args:
        order: k, from 2 to 4.
        start: the name of the Runge-Kutta method of the first k - 1 steps, of order >= k - 1; by default one of
            order k.

    Source: Hairer, Norsett, Wanner 1993, section III.1.
    """

    order: int
    start_method: str = ""

    needs_equal_steps = True
    has_end_node = True

    def __post_init__(self) -> None:
        if self.order not in WEIGHTS:
            raise InputError(f"AdamsBashforth: order must be 2, 3 or 4; got {self.order!r}. Choose one of them.")
        object.__setattr__(self, "start_method", self.start_method or _STARTS[self.order])
        _check_start("AdamsBashforth", self.start_method, self.order - 1)

    @property
    def name(self) -> str:
        """ab2, ab3 or ab4."""
        return f"ab{self.order}"

    @property
    def size(self) -> int:
        """z_n and k - 1 increments; the start steps push out those to begin with without reading them."""
        return self.order

    def phases(self, num_steps: int) -> tuple[Phase, ...]:
        """k - 1 start steps, then multistep steps."""
        start: Stepper = _AdamsStart(RungeKutta(TABLEAUS[self.start_method]))
        num_start = min(self.order - 1, num_steps)
        phases = (Phase(start, num_start), Phase(_AdamsStep(WEIGHTS[self.order]), num_steps - num_start))
        return tuple(phase for phase in phases if phase.num_steps)


def _check_start(where: str, name: str, least_order: int) -> None:
    legal = sorted(key for key, tableau in TABLEAUS.items() if tableau.order >= least_order)
    if name not in legal:
        raise InputError(
            f"{where}: start_method must be a Runge-Kutta method of order >= {least_order}; got {name!r}. Choose one "
            f"of: {', '.join(legal)}."
        )


__all__ = ["ENDINGS", "WEIGHTS", "AdamsBashforth", "Leapfrog"]
