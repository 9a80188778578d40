"""The linear network prod_n (I + theta_n / N), trained towards a matrix from theta = 0: do its weights stay smooth?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .problem import Array

SIZE = 2
# Of small loss at theta = 0, and of positive determinant: no other can be reached with smooth weights.
TARGET = np.eye(SIZE) + np.random.default_rng(7).normal(size=(SIZE, SIZE))
NUM_POINTS = 60
"""Measured so many times in a training."""


def train(depth: int, iterations: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Gradient descent on the mean square error, at the rate ``depth``: 1 per layer and time.

    Returns the loss and N max ||theta_{n+1} - theta_n|| in the course of the training, and the learned weights.
    """
    theta = np.zeros((depth, SIZE, SIZE))
    every = max(1, iterations // NUM_POINTS)
    times, losses, jumps = [], [], []
    for i in range(iterations + 1):
        loss, gradient = _gradient(theta)
        if i % every == 0 or i == iterations:
            times.append(i)
            losses.append(loss)
            jumps.append(smoothness(theta))
            tick()
        theta = theta - depth * gradient
    return {"times": times, "losses": losses, "smoothness": jumps, "weights": theta.reshape(depth, -1).tolist()}


def num_ticks(iterations: int) -> int:
    """How often a training says that it goes on."""
    every = max(1, iterations // NUM_POINTS)
    return iterations // every + 1 + (iterations % every != 0)


def smoothness(theta: Array) -> float:
    """N max_n ||theta_{n+1} - theta_n||."""
    return float(len(theta) * np.max(np.linalg.norm(np.diff(theta, axis=0), axis=(1, 2))))


def _gradient(theta: Array) -> tuple[float, Array]:
    layers = np.eye(SIZE) + theta / len(theta)
    before, after = [np.eye(SIZE)], [np.eye(SIZE)]
    for layer in layers:
        before.append(layer @ before[-1])
    for layer in layers[:0:-1]:
        after.append(after[-1] @ layer)
    error = before[-1] - TARGET
    bars = (
        np.stack(after[::-1]).transpose(0, 2, 1) @ (error * 2.0 / error.size) @ np.stack(before[:-1]).transpose(0, 2, 1)
    )
    return float(np.mean(error**2)), bars / len(theta)
