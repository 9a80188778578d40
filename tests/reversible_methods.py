"""Reversible methods by their definitions, in the letters of their papers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from janode.core.multistep import Leapfrog
from janode.core.reversible import AsynchronousLeapfrog, ReversibleCoupling, ReversibleHeun
from janode.core.runge_kutta import RungeKutta
from janode.core.tableaus import TABLEAUS

COUPLED = {name: ReversibleCoupling(RungeKutta(TABLEAUS[name])) for name in ("euler", "midpoint", "rk4", "tsit5")}
METHODS: dict[str, Any] = {
    "alf": AsynchronousLeapfrog(),
    "damped alf": AsynchronousLeapfrog(0.9),
    "reversible_heun": ReversibleHeun(),
    **{f"reversible({name})": method for name, method in COUPLED.items()},
    "reversible(rk4) of 0.8": ReversibleCoupling(RungeKutta(TABLEAUS["rk4"]), 0.8),
}
LEAPFROGS = {
    "leapfrog": Leapfrog(),
    "leapfrog from rk4": Leapfrog("rk4"),
    "leapfrog smoothed": Leapfrog(ending="smoothed"),
}
Field = Callable[[Any, Any], Any]


def one_step(tableau: Any, f: Field, t: Any, y: Any, h: Any) -> Any:
    """A Runge-Kutta step."""
    c, a, b = (getattr(tableau.floats, part) for part in "cab")
    k: list[Any] = []
    for node, row in zip(c, a, strict=True):
        k.append(f(t + node * h, y + h * sum((w * slope for w, slope in zip(row, k, strict=False)), 0.0 * y)))
    return y + h * sum(w * slope for w, slope in zip(b, k, strict=True))


def alf(eta: float) -> Callable[..., Any]:
    def step(f: Field, t: Any, carry: Any, h: Any) -> Any:
        z, v = carry
        middle = z + h / 2 * v
        v = v + 2 * eta * (f(t + h / 2, middle) - v)
        return middle + h / 2 * v, v

    return step


def heun(f: Field, t: Any, carry: Any, h: Any) -> Any:
    y, shadow, slope = carry
    shadow = 2 * y - shadow + h * slope
    before, slope = slope, f(t + h, shadow)
    return y + h / 2 * (before + slope), shadow, slope


def coupled(tableau: Any, q: float) -> Callable[..., Any]:
    def step(f: Field, t: Any, carry: Any, h: Any) -> Any:
        y, z = carry
        y = q * y + (1 - q) * z + one_step(tableau, f, t, z, h) - z
        return y, z - (one_step(tableau, f, t + h, y, -h) - y)

    return step


def textbook(method: Any, f: Field, y0: Any, ts: Sequence[Any], steps: int) -> np.ndarray:
    """The states at all ts; everything may be complex."""
    if isinstance(method, ReversibleCoupling):
        step, carry = coupled(method.base.tableau, method.coupling), (y0, y0)
    elif isinstance(method, ReversibleHeun):
        step, carry = heun, (y0, y0, f(ts[0], y0))
    else:
        step, carry = alf(method.damping), (y0, f(ts[0], y0))
    ys = [y0]
    for start, end in pairwise(ts):
        h = (end - start) / steps
        for n in range(steps):
            carry = step(f, start + n * h, carry, h)
        ys.append(carry[0])
    return np.stack(ys)
