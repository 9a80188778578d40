"""Two problems with time-dependent controls, slow and fast, and their exact solutions, costates and L2 gradients.

NumPy alone; nothing here knows of the solver, so that it can be held against this.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

from janode.core.tableaus import DOPRI8

T = 2.0
Array = np.ndarray


class Problem(NamedTuple):
    """dz/dt = f(z, theta(t)) on [0, 2] from z0, and a loss of z(2) alone. All functions take leading axes."""

    z0: Array
    theta: Callable[[Any], Array]
    f: Callable[[Array, Array], Array]
    pull: Callable[[Array, Array, Array], tuple[Array, Array]]
    """(z, theta, v) -> (J^T v, (df/dtheta)^T v)."""
    loss: Callable[[Array], Any]
    loss_bar: Callable[[Array], Array]


def affine_z(t: Any, rate: float) -> Array:
    """The solution of the affine problem."""
    return 1.0 + 0.5 * np.sin(rate * np.asarray(t))


def affine_g(t: Any, rate: float) -> Array:
    """g = (z p, p), p(t) = z(2) exp(integral of theta_1 from t to 2), for the affine problem."""
    p = affine_z(T, rate) * np.exp(0.6 / rate * (np.sin(rate * T) - np.sin(rate * np.asarray(t))))
    return np.stack([affine_z(t, rate) * p, p], axis=-1)


def affine(rate: float) -> Problem:
    """z' = theta_1 z + theta_2 in one dimension, theta_2 such that the solution is ``affine_z``; loss z(2)^2 / 2."""

    def theta(t: Any) -> Array:
        t = np.asarray(t)
        a = 0.6 * np.cos(rate * t)
        return np.stack([a, 0.5 * rate * np.cos(rate * t) - a * affine_z(t, rate)], axis=-1)

    return Problem(
        np.array([1.0]),
        theta,
        lambda z, theta: theta[..., :1] * z + theta[..., 1:],
        lambda z, theta, v: (theta[..., :1] * v, np.concatenate([z * v, v], axis=-1)),
        lambda z: 0.5 * z[0] ** 2,
        lambda z: z,
    )


def _matrix(theta: Array) -> Array:
    return theta[..., :9].reshape(*theta.shape[:-1], 3, 3)


def _tanh_f(z: Array, theta: Array) -> Array:
    return np.tanh((_matrix(theta) @ z[..., None])[..., 0] + theta[..., 9:])


def _tanh_pull(z: Array, theta: Array, v: Array) -> tuple[Array, Array]:
    u = (1.0 - _tanh_f(z, theta) ** 2) * v
    z_bar = (u[..., None, :] @ _matrix(theta))[..., 0, :]
    return z_bar, np.concatenate([(u[..., :, None] * z[..., None, :]).reshape(*u.shape[:-1], 9), u], axis=-1)


def tanh(rate: float, size: float) -> Problem:
    """z' = tanh(W(t) z + b(t)) in three dimensions, 12 controls; loss |z(2) - target|^2 / 2."""
    rng = np.random.default_rng(2)
    phases, rates = rng.uniform(0.0, 6.0, 12), rate * rng.uniform(0.5, 1.0, 12)
    target = np.array([0.3, -0.5, 0.8])
    return Problem(
        np.array([0.7, -0.4, 0.2]),
        lambda t: size * np.sin(rates * np.asarray(t)[..., None] + phases),
        _tanh_f,
        _tanh_pull,
        lambda z: 0.5 * np.sum((z - target) ** 2),
        lambda z: z - target,
    )


PROBLEMS = {
    "affine": affine(0.8),
    "tanh": tanh(0.8, 0.5),
    # Controls that vary faster, for methods whose error would drown in rounding.
    "fast affine": affine(8.0),
    "fast tanh": tanh(3.0, 1.4),
}


class Exact(NamedTuple):
    """z(t) and the costate p(t) of a problem, to about 1e-15; t may be an array."""

    problem: Problem
    z: Callable[[Any], Array]
    p: Callable[[Any], Array]

    def g(self, t: Any) -> Array:
        """The exact L2 gradient."""
        return self.problem.pull(self.z(t), self.problem.theta(t), self.p(t))[1]


def _step(slope: Callable[[float, Array], Array], t: float, y: Array, h: float) -> Array:
    """One step of order 8."""
    c, a, b = DOPRI8.floats.c, DOPRI8.floats.a, DOPRI8.floats.b
    k: list[Array] = []
    for node, row in zip(c, a, strict=True):
        k.append(slope(t + node * h, y + h * sum((w * s for w, s in zip(row, k, strict=True)), 0.0 * y)))
    return y + h * sum(w * s for w, s in zip(b, k, strict=True))


def _trace(slope: Callable[[float, Array], Array], y: Array, is_backward: bool) -> Callable[[Any], Array]:
    """The solution on [0, 2] from its value at one end: 16 panels, a polynomial of degree 20 on each."""
    points = -np.cos(np.arccos(np.longdouble(-1.0)) * np.arange(21) / 20)
    halves = np.array([0.5, *[1.0] * 19, 0.5])
    transform = 0.1 * halves[:, None] * halves * chebyshev.chebvander(points, 20).T  # from values to coefficients
    y = y.astype(np.longdouble)  # where it is longer than float64, rounding of 320 steps does not show
    pieces: list[Array] = []
    for panel in reversed(range(16)) if is_backward else range(16):
        times = (panel + 0.5 + 0.5 * points) / 8
        order = times[::-1] if is_backward else times
        values = [y]
        for left, right in pairwise(order):
            values.append(_step(slope, left, values[-1], right - left))
        y = values[-1]
        pieces.append(transform @ np.array(values[::-1] if is_backward else values))
    coefficients = np.array(pieces[::-1] if is_backward else pieces, dtype=float)

    def evaluate(t: Any) -> Array:
        t = np.asarray(t)
        panel = np.clip((8 * t).astype(int), 0, 15)
        basis = chebyshev.chebvander(16 * t - 2 * panel - 1, 20).reshape(*t.shape, 21)
        return np.sum(basis[..., None] * coefficients[panel], axis=-2)

    return evaluate


@cache
def exact(name: str) -> Exact:
    """The exact functions of a problem, from two solves of order 8."""
    problem = PROBLEMS[name]
    z = _trace(lambda t, y: problem.f(y, problem.theta(t)), problem.z0, False)
    p = _trace(lambda t, y: -problem.pull(z(t), problem.theta(t), y)[0], problem.loss_bar(z(T)), True)
    return Exact(problem, z, p)


@cache
def fundamental(name: str) -> Callable[[Any], Array]:
    """The matrices that take p(2) to p(t) under p' = -J^T p; t may be an array."""
    problem, z = PROBLEMS[name], exact(name).z

    def slope(t: float, y: Array) -> Array:
        return -problem.pull(z(t), problem.theta(t), y)[0]

    columns = [_trace(slope, unit, True) for unit in np.eye(len(problem.z0))]
    return lambda t: np.stack([column(t) for column in columns], axis=-1)


def observed_p(name: str, times: Any, bars: Any) -> Callable[[Any, bool], Array]:
    """p(t), or p(t-), where the loss reads z at these times and bars are its cotangents there."""
    matrix = fundamental(name)
    ends = [np.linalg.solve(matrix(time), bar) for time, bar in zip(times, bars, strict=True)]

    def evaluate(t: Any, is_before: bool) -> Array:
        t = np.asarray(t)[..., None]
        later = [(t < time + 1e-9) if is_before else (t < time - 1e-9) for time in times]
        total = sum(end * is_later for end, is_later in zip(ends, later, strict=True))
        return (matrix(t[..., 0]) @ total[..., None])[..., 0]

    return evaluate
