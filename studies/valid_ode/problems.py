"""What is classified, concentric spheres as the paper generates them and scikit-learn's digits; the first model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.spheres import make_spheres

Array = NDArray[Any]


@dataclass(frozen=True)
class Data:
    """Points (S, n, d) and labels (S, n) of S independent runs."""

    points: Array
    labels: Array

    def batch(self, indices: Array) -> tuple[Array, Array]:
        """The points and labels at indices (..., S, b)."""
        runs = np.arange(len(self.points))[:, None]
        return self.points[runs, indices], self.labels[runs, indices]


@dataclass(frozen=True)
class Problem:
    """Data to train on and to test with, and the first parameters of the model, each with a leading axis of runs."""

    train: Data
    test: Data
    params: dict[str, Array]

    def first(self, run: int) -> Problem:
        """The problem of one of the runs."""
        one = slice(run, run + 1)
        params = {name: leaf[one] for name, leaf in self.params.items()}
        train, test = (Data(data.points[one], data.labels[one]) for data in (self.train, self.test))
        return Problem(train, test, params)


def spheres(seeds: Sequence[int], num_extra: int) -> Problem:
    """Two classes in concentric rings, with zeros appended; 2000 points to train and 1000 to test with."""
    train, test = (
        _stack([make_spheres(n, seed + shift, num_extra) for seed in seeds]) for n, shift in ((2000, 0), (1000, 1000))
    )
    return Problem(train, test, first_params(seeds, 2 + num_extra, 2))


def digits(seeds: Sequence[int]) -> Problem:
    """The 8 x 8 images of scikit-learn's digits, one in five to test with; each run splits them anew."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)
    orders = [np.random.default_rng(seed).permutation(len(images)) for seed in seeds]
    cut = 4 * len(images) // 5
    train, test = (
        _stack([(images[order[part]], labels[order[part]]) for order in orders])
        for part in (slice(cut), slice(cut, None))
    )
    return Problem(train, test, first_params(seeds, 64, 10))


def first_params(seeds: Sequence[int], size: int, num_labels: int, width: int = 32) -> dict[str, Array]:
    """He's weights, a tenth of them in the last layer of the field: it starts small, and so nearly an ODE."""
    runs = []
    for seed in seeds:
        draw = np.random.default_rng(seed)
        params = {}
        shapes = ((size, width, 1.0), (width, width, 1.0), (width, size, 0.1), (size, num_labels, 1.0))
        for number, (fan_in, fan_out, scale) in enumerate(shapes):
            params[f"w{number}"] = scale * np.sqrt(2 / fan_in) * draw.normal(size=(fan_in, fan_out))
            params[f"b{number}"] = np.zeros((1, fan_out))
        runs.append(params)
    return {name: np.stack([params[name] for params in runs]).astype(np.float32) for name in runs[0]}


def batches(problem: Problem, iterations: int, size: int, seed: int) -> Array:
    """The indices of every batch, shape (iterations, S, size)."""
    num_runs, num_points = problem.train.labels.shape
    return np.random.default_rng(seed).integers(0, num_points, (iterations, num_runs, size))


def _stack(runs: Sequence[tuple[Array, Array]]) -> Data:
    points, labels = zip(*runs, strict=True)
    return Data(np.stack(points), np.stack(labels))
