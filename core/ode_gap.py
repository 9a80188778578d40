"""How far a residual stack is from the ODE that it discretizes.

The ODE is dx/dt = phi(x, t) on [0, N h], phi(., n h) = f_n, linear in t between nodes and constant behind the last. Its
distance from the Euler steps of size h is at most

    ||x_n - x(n h)|| <= h (e^{L N h} - 1) / (2 L) * sup ||d_x phi . phi + d_t phi||,

L the Lipschitz constant of phi in x; the last factor is the largest second derivative of x(t) (Sander, Ablin, Peyre
2022, arXiv 2205.14612, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .errors import InputError
from .protocols import Backend, Field, State
from .records import Carries
from .residual import Stack
from .runge_kutta import RungeKutta
from .tableaus import TABLEAUS

_RK4 = RungeKutta(TABLEAUS["rk4"])
_POWER_STEPS = 4
_NUM_SAMPLES = 16


@dataclass(frozen=True)
class OdeGap:
    """What ``ode_gap`` found. Norms are over all entries of x, a batch included.

    Attributes:
        distances: ||x_n - x(n h)|| for n = 0 .. N.
        distance: the largest of them.
        relative: the largest, over the largest ||x(n h)||.
        lipschitz: the largest factor by which a sampled block stretched a small change of its input: at most L.
        acceleration: the largest ||d_x phi . phi + d_t phi|| along x(t).
        bound: h (e^{L N h} - 1) / (2 L) times the acceleration, with the sampled L; holds for Euler.
        doubling: ||x^N - x^{2N}||: the last state against that of twice the blocks, interpolated, at half the step.
        smoothness: N max ||theta_{n+1} - theta_n||, or None where the blocks have parameters of different shapes.
    """

    distances: list[float]
    distance: float
    relative: float
    lipschitz: float
    acceleration: float
    bound: float
    doubling: float
    smoothness: float | None


class Place(NamedTuple):
    """A point between block ``first`` and the next, ``share`` of the way."""

    first: int
    share: float


class _Interpolated:
    """phi: the blocks of a stack, linear between neighbours. The row of ``Stack`` is a ``Place``."""

    needs_time = False

    def __init__(self, backend: Backend, field: Field, rows: Sequence[Any]) -> None:
        self.backend, self.field, self.rows = backend, field, rows

    def __call__(self, t: None, y: State, place: Any) -> State:
        """(1 - share) f_first + share f_next."""
        first = self.field(t, y, self.rows[place.first])
        if place.share == 0.0 or place.first + 1 == len(self.rows):
            return first
        following = self.field(t, y, self.rows[place.first + 1])
        return self.backend.linear_combination(None, 1.0, (1.0 - place.share, place.share), (first, following))


def check_substeps(substeps: int) -> None:
    """Refuse fewer than one."""
    if substeps < 1:
        raise InputError(f"ode_gap: substeps must be at least 1; got {substeps}. 4 resolve a smooth stack.")


def measure(stack: Stack, x: State, params: Sequence[State] | None, substeps: int) -> OdeGap:
    """The gap of a stack whose rows are a list, on an eager backend; ``params`` are those of each block."""
    backend, h, count = stack.backend, stack.h, stack.num_blocks
    phi = _Interpolated(backend, stack.field, stack.rows[0])
    last, records = stack.forward(x, Carries())
    states = [stack.method.output(carry) for phase in records for carry in phase] + [stack.method.output(last)]
    exact, accelerations = zip(*_fine(phi, x, h, count, substeps), strict=True)
    distances = [_distance(backend, a, b) for a, b in zip(states, exact, strict=True)]
    size = max(_norm(backend, state) for state in exact)
    lipschitz = _lipschitz(stack, states)
    acceleration = max(accelerations)
    growth = math.expm1(lipschitz * count * h) / lipschitz if lipschitz else count * h
    distance = max(distances)
    return OdeGap(
        distances,
        distance,
        distance / size if size else distance,
        lipschitz,
        acceleration,
        h / 2 * growth * acceleration,
        _distance(backend, states[-1], _doubled(stack, phi).run(x)),
        None if params is None else smoothness(backend, params),
    )


def smoothness(backend: Backend, params: Sequence[State]) -> float | None:
    """N max_n ||theta_{n+1} - theta_n||; None where the parameters of two blocks differ in number or shape."""
    shapes = [[tuple(leaf.shape) for leaf in row] for row in params]
    if any(other != shapes[0] for other in shapes):
        return None
    steps = zip(params[1:], params[:-1], strict=True)
    return len(params) * max((_distance(backend, a, b) for a, b in steps if a), default=0.0)


def _fine(phi: _Interpolated, x: State, h: float, count: int, substeps: int) -> Iterator[tuple[State, float]]:
    """x(n h), and the largest second derivative since (n - 1) h, by ``substeps`` steps of rk4 for each block."""
    backend, delta, before = phi.backend, h / substeps, None
    yield x, 0.0
    for n in range(count):
        largest = 0.0
        for k in range(substeps):
            requests = _RK4.step(backend, (x,), delta)
            f: Any = None
            try:
                for c in _RK4.c:
                    f = phi(None, requests.send(f), Place(n, (k + c) / substeps))
                    if c == 0.0:
                        largest = largest if before is None else max(largest, _distance(backend, f, before) / delta)
                        before = f
                requests.send(f)
            except StopIteration as done:
                (x,) = done.value
        yield x, largest


def _doubled(stack: Stack, phi: _Interpolated) -> Stack:
    """Twice the blocks at half the step."""
    places = [Place(m // 2, (m % 2) / 2) for m in range(2 * stack.num_blocks)]
    rows = (places, [*places[1:], places[-1]])
    field: Any = phi
    return replace(stack, field=field, h=stack.h / 2, num_blocks=len(places), rows=rows)


def _lipschitz(stack: Stack, states: Sequence[State]) -> float:
    """The largest stretch found by power iterations at a sample of the blocks, each at the state it meets."""
    backend, rows = stack.backend, stack.rows[0]
    largest = 0.0
    for n in sorted({round(i * (len(rows) - 1) / _NUM_SAMPLES) for i in range(_NUM_SAMPLES + 1)}):
        x = states[n]
        v = stack.field(None, x, rows[n])
        for _ in range(_POWER_STEPS):
            length = _norm(backend, v)
            if length == 0.0:
                break
            eps = 1e-3 * (_norm(backend, x) or 1.0) / length
            ahead, behind = (
                stack.field(None, backend.linear_combination(x, eps * sign, (1.0,), (v,)), rows[n])
                for sign in (1.0, -1.0)
            )
            pushed = backend.linear_combination(None, 0.5 / eps, (1.0, -1.0), (ahead, behind))
            largest = max(largest, _norm(backend, pushed) / length)
            _, v, _ = stack.field.linearize(None, x, rows[n]).pull(pushed)
    return largest


def _norm(backend: Backend, state: State) -> float:
    return math.sqrt(sum(float(backend.xp.sum(backend.xp.abs(leaf) ** 2)) for leaf in state))


def _distance(backend: Backend, left: State, right: State) -> float:
    return _norm(backend, backend.linear_combination(left, -1.0, (1.0,), (right,)))
