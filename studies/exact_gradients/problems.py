"""What is differentiated: continuous normalising flows, and a wave equation whose energy is a network.

Data and weights are NumPy arrays in float64; the fields are written in the functions that PyTorch and JAX share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


@dataclass(frozen=True)
class Problem:
    """A loss of the states at all times, of the field's weights and of the initial state."""

    ts: tuple[float, ...]
    y0: tuple[Array, ...]
    weights: Weights
    field: Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]
    """``field(xp, t, y, weights)``, with the functions of torch or of jax.numpy as ``xp``."""
    loss: Callable[[Any, tuple[Any, ...], Sequence[Any]], Any]
    """``loss(xp, ys, data)``, of the states at all ts."""
    data: tuple[Array, ...] = ()

    @property
    def state_bytes(self) -> int:
        """The size of one state in float64."""
        return sum(leaf.nbytes for leaf in self.y0)

    def rounded(self) -> Problem:
        """The same with all numbers rounded to float32, so that both precisions are given the same ones."""

        def near(array: Array) -> Array:
            return array.astype(np.float32).astype(float)

        weights = {name: near(leaf) for name, leaf in self.weights.items()}
        return replace(self, y0=tuple(map(near, self.y0)), weights=weights, data=tuple(map(near, self.data)))


def density(batch: int, width: int) -> Problem:
    """A flow from eight Gaussians on a ring, in the plane."""
    draw = np.random.default_rng(0)
    angles = 2.0 * np.pi * draw.integers(0, 8, batch) / 8.0
    points = 2.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + 0.2 * draw.normal(size=(batch, 2))
    return _flow(points, width)


def digits(batch: int, width: int) -> Problem:
    """A flow from scikit-learn's digits, their 16 principal components scaled to variance 1."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    images = load_digits().data
    images = images - images.mean(axis=0)
    scores = images @ np.linalg.svd(images, full_matrices=False)[2][:16].T
    return _flow((scores / scores.std(axis=0))[:batch], width)


def _flow(points: Array, width: int) -> Problem:
    """z' = f(t, z), (log p)' = -tr df/dz; the loss is the mean negative log-likelihood, but for a constant."""
    draw, size = np.random.default_rng(1), points.shape[1]
    shapes = {"w0": (size, width), "w1": (width, width), "w2": (width, size)}
    weights = {name: 1.5 * draw.normal(size=shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
    for name, length in (("b0", width), ("b1", width), ("u0", width), ("u1", width), ("b2", size)):
        weights[name] = 0.5 * draw.normal(size=length)
    return Problem((0.0, 1.0), (points, np.zeros(len(points))), weights, flow_field, likelihood_loss)


def flow_field(xp: Any, t: Any, y: tuple[Any, ...], p: dict[str, Any]) -> tuple[Any, Any]:
    """A network of two hidden layers, and the exact trace of its Jacobian.

    With rows as points the Jacobian is w0 D0 w1 D1 w2, D0 and D1 diagonal, and so its trace
    sum_jk D0_j (w1 * (w2 w0)^T)_jk D1_k: one more product of matrices, not one for each coordinate.
    """
    h0 = xp.tanh(y[0] @ p["w0"] + t * p["u0"] + p["b0"])
    h1 = xp.tanh(h0 @ p["w1"] + t * p["u1"] + p["b1"])
    mixed = p["w1"] * (p["w2"] @ p["w0"]).T
    trace = (((1.0 - h0 * h0) @ mixed) * (1.0 - h1 * h1)).sum(-1)
    return h1 @ p["w2"] + p["b2"], trace


def likelihood_loss(xp: Any, ys: tuple[Any, ...], data: Sequence[Any]) -> Any:
    """Mean of |z(1)|^2 / 2 - integral of the trace."""
    return ((ys[0][-1] ** 2).sum(-1) / 2.0 - ys[1][-1]).mean()


SPACING, SEGMENT, GAP = 0.25, 15, 0.01
"""Of the grid in space; the states of a segment behind its first, and the time between two of them."""
ALPHA, BETA = -6.0, 1.0


def waves(batch: int, channels: int, points: int = 40) -> Problem:
    """Korteweg and de Vries' equation u_t = d/dx (dH/du), on a ring, with a learned energy H.

    H = sum_x sum_c v_c tanh((w_c * u)(x) + b_c), w_c a convolution of width 3. w and b are drawn, v is found by least
    squares from dH/du at the states of other solutions. The loss is the mean square error over 15 states of solutions
    with the energy of the equation itself.
    """
    draw = np.random.default_rng(2)
    seen, unseen = _solutions(draw, 40, points), _solutions(draw, batch, points)
    p = {"w": 0.3 * draw.normal(size=(3, channels)), "b": draw.normal(size=channels)}
    p["v"] = _fitted(p, seen.reshape(-1, points))
    ts = tuple(GAP * n for n in range(SEGMENT + 1))
    return Problem(ts, (unseen[0],), p, wave_field, square_loss, (unseen,))


def wave_field(xp: Any, t: Any, y: tuple[Any, ...], p: dict[str, Any]) -> tuple[Any]:
    """u' = D dH/du, D central differences: the energy stays as it is."""
    return (_central(xp, energy_slope(xp, y[0], p)),)


def _central(xp: Any, u: Any) -> Any:
    return (_roll(xp, u, -1) - _roll(xp, u, 1)) / (2.0 * SPACING)


def energy_slope(xp: Any, u: Any, p: dict[str, Any]) -> Any:
    """dH/du: the convolution, and its transpose on the slope of what follows."""
    h = xp.tanh(sum(_roll(xp, u, 1 - k)[..., None] * p["w"][k] for k in range(3)) + p["b"])
    inner = p["v"] * (1.0 - h * h)
    return sum(_roll(xp, inner @ p["w"][k], k - 1) for k in range(3))


def square_loss(xp: Any, ys: tuple[Any, ...], data: Sequence[Any]) -> Any:
    """Mean square error at all times."""
    return ((ys[0] - data[0]) ** 2).mean()


def _roll(xp: Any, array: Any, shift: int) -> Any:
    """Along the last axis; torch and NumPy differ in that argument's name, not in its place."""
    return xp.roll(array, shift, -1)


def _true_slope(u: Array) -> Array:
    second = (np.roll(u, -1, -1) - 2.0 * u + np.roll(u, 1, -1)) / SPACING**2
    return ALPHA * u * u / 2.0 - BETA * second


def _slopes(u: Array) -> Array:
    """u_t of the equation itself."""
    return _central(np, _true_slope(u))


def _fitted(p: Weights, states: Array) -> Array:
    """The v of the energy whose slope is nearest to that of the equation, over all states."""
    channels = len(p["b"])
    columns = [energy_slope(np, states, p | {"v": row}).ravel() for row in np.eye(channels)]
    return np.linalg.lstsq(np.stack(columns, axis=1), _true_slope(states).ravel(), rcond=1e-4)[0]


def _solutions(draw: Any, batch: int, points: int) -> Array:
    """Two solitons each, of random speeds and places, at the times of a segment: (times, batch, points)."""
    x, length = SPACING * np.arange(points), SPACING * points
    u = np.zeros((batch, points))
    for low, high in ((0.8, 1.2), (0.5, 0.8)):
        k, place = draw.uniform(low, high, (batch, 1)), draw.uniform(0.0, length, (batch, 1))
        near = (x - place + length / 2) % length - length / 2
        u = u + 2.0 * (k / np.cosh(k * near)) ** 2

    states, h = [u], GAP / 8
    for _ in range(SEGMENT):
        for _ in range(8):
            a = _slopes(u)
            b = _slopes(u + h / 2 * a)
            c = _slopes(u + h / 2 * b)
            u = u + h / 6 * (a + 2 * b + 2 * c + _slopes(u + h * c))
        states.append(u)
    return np.stack(states)
