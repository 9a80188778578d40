"""The study's problems: two whose continuous gradient is known in closed form, and one to train on.

A problem is z' = f(t, z, u(t)) on [0, DURATION] with the loss <shift, z> + scale |z|^2 / 2 of the last state. In a
closed problem the solution z(t), the costate p(t) and with them the gradient g(t) = (df/du)^T p are chosen first; the
control u(t) is what makes them so.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

DURATION = 2.0

Array = np.ndarray[Any, Any]


class Problem(Protocol):
    """A field, a start and a loss, in NumPy; the field also in any namespace ``xp``."""

    @property
    def start(self) -> Array:
        """z(0)."""

    @property
    def shift(self) -> Array:
        """The linear part of the loss."""

    @property
    def scale(self) -> float:
        """The quadratic part of the loss."""

    def field(self, xp: Any, z: Any, u: Any) -> Any:
        """f(z, u)."""

    def vjp(self, z: Array, u: Array, f_bar: Array) -> tuple[Array, Array]:
        """The cotangents of z and u."""


class ClosedProblem(Problem, Protocol):
    """A problem whose gradient is known."""

    @property
    def name(self) -> str:
        """How tables call it."""

    def controls(self, t: Array) -> Array:
        """u at M times, shape (M, ...)."""

    def gradient(self, t: Array) -> Array:
        """g at M times, with the shape of u."""


class Affine:
    """z' = u_1 z + u_2 in R; the loss is z(T)."""

    name = "affine"
    shift = np.array([1.0])
    scale = 0.0

    @property
    def start(self) -> Array:
        """z(0)."""
        return self._solution(np.zeros(1))

    def controls(self, t: Array) -> Array:
        """u_1 is chosen, u_2 = z' - u_1 z."""
        rate = 0.3 * np.cos(2 * t) + 0.4
        return np.stack([rate, 0.65 * np.cos(1.3 * t + 1) - rate * self._solution(t)], axis=1)

    def gradient(self, t: Array) -> Array:
        """(z p, p) with p = exp(integral of u_1 from t to T)."""

        def primitive(time: Any) -> Any:
            return 0.15 * np.sin(2 * time) + 0.4 * time

        costate = np.exp(primitive(DURATION) - primitive(t))
        return np.stack([self._solution(t) * costate, costate], axis=1)

    def field(self, xp: Any, z: Any, u: Any) -> Any:
        """u_1 z + u_2."""
        return u[0] * z + u[1]

    def vjp(self, z: Array, u: Array, f_bar: Array) -> tuple[Array, Array]:
        """Its cotangents."""
        return u[0] * f_bar, np.stack([f_bar[0] * z[0], f_bar[0]])

    def _solution(self, t: Array) -> Array:
        return 1 + 0.5 * np.sin(1.3 * t + 1)


class TanhLayer:
    """z' = tanh(W z + b) for P points in R^d: z has shape (..., P, d), the control [W | b] shape (..., d, d + 1)."""

    def field(self, xp: Any, z: Any, u: Any) -> Any:
        """tanh(W z + b)."""
        return xp.tanh(z @ u[..., :-1].mT + u[..., -1][..., None, :])

    def vjp(self, z: Array, u: Array, f_bar: Array) -> tuple[Array, Array]:
        """Its cotangents."""
        f = self.field(np, z, u)
        a_bar = (1 - f * f) * f_bar
        b_bar = np.sum(a_bar, axis=-2)
        return a_bar @ u[..., :-1], np.concatenate([a_bar.mT @ z, b_bar[..., None]], axis=-1)


class Tanh(TanhLayer):
    """z' = tanh(W z + b) for one point in R^3, 12 controls; the loss is <p(T), z(T)>."""

    name = "tanh"
    scale = 0.0

    @property
    def start(self) -> Array:
        """z(0)."""
        return self._paths(np.zeros(1))[0]

    @property
    def shift(self) -> Array:
        """p(T)."""
        return self._paths(np.array([DURATION]))[2]

    def controls(self, t: Array) -> Array:
        """W is any smooth matrix with W^T q = -p', q = (1 - z'^2) p; then b = atanh(z') - W z."""
        z, z_slope, p, p_slope = self._paths(t)
        q = (1 - z_slope**2) * p
        free = np.stack([[0.5 * np.sin(0.5 * (i + 1) * t + j) for j in range(3)] for i in range(3)])
        free = np.moveaxis(free, 2, 0)
        missing = -p_slope - (free @ q[:, :, None])[:, :, 0]
        transposed = free + missing[:, :, None] * q[:, None, :] / np.sum(q * q, axis=1)[:, None, None]
        bias = np.arctanh(z_slope)[:, :, None] - transposed.mT @ z[:, :, None]
        return np.concatenate([transposed.mT, bias], axis=2)

    def gradient(self, t: Array) -> Array:
        """q [z | 1]^T."""
        z, z_slope, p, _ = self._paths(t)
        q = (1 - z_slope**2) * p
        return q[:, :, None] * np.concatenate([z, np.ones((len(t), 1))], axis=1)[:, None, :]

    def _paths(self, t: Array) -> tuple[Array, Array, Array, Array]:
        """z, z', p, p'."""
        z = np.stack([0.7 * np.sin(t), 0.6 * np.cos(1.3 * t), 0.5 * np.sin(0.8 * t + 0.5)], axis=1)
        z_slope = np.stack([0.7 * np.cos(t), -0.78 * np.sin(1.3 * t), 0.4 * np.cos(0.8 * t + 0.5)], axis=1)
        p = np.stack([1 + 0.3 * np.sin(1.5 * t), 0.8 * np.cos(0.8 * t), -0.7 + 0.3 * np.cos(1.2 * t)], axis=1)
        p_slope = np.stack([0.45 * np.cos(1.5 * t), -0.64 * np.sin(0.8 * t), -0.36 * np.sin(1.2 * t)], axis=1)
        return z, z_slope, p, p_slope


class Ellipse(TanhLayer):
    """z' = tanh(W z + b), to carry 16 points of the unit circle to a turned and moved ellipse.

    The loss is the mean over the points of |z(T) - target|^2 / 2, without its constant. ``num_runs`` trainings, each
    with its own control, go side by side.
    """

    num_points = 16

    def __init__(self, num_runs: int) -> None:
        angles = 2 * np.pi * np.arange(self.num_points) / self.num_points
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cos, sin = np.cos(1.2), np.sin(1.2)
        self.target = circle * np.array([1.3, 0.6]) @ np.array([[cos, sin], [-sin, cos]]) + np.array([0.3, -0.2])
        self.start = np.broadcast_to(circle, (num_runs, *circle.shape)).copy()
        self.scale = 1 / self.num_points
        self.shift = np.broadcast_to(-self.target * self.scale, self.start.shape)

    def first_controls(self, t: Array) -> Array:
        """Where training starts: a smooth control, shape (M, runs, 2, 3)."""
        zero = 0 * t
        rows = [
            [0.3 * np.cos(t), zero - 0.5, 0.1 * np.sin(t)],
            [zero + 0.5, 0.2 * np.sin(t), 0.1 * np.cos(t)],
        ]
        one = np.moveaxis(np.array(rows), 2, 0)
        return np.repeat(one[:, None], len(self.start), axis=1)

    def losses(self, end: Array) -> Array:
        """The loss of each run, with its constant."""
        return 0.5 * np.mean(np.sum((end - self.target) ** 2, axis=-1), axis=-1)
