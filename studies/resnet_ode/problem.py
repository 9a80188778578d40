"""The layers of the study, f(x, theta) = V tanh(W x + b), and their weights as functions of depth."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]

SIZE, WIDTH, BATCH = 6, 12, 4
KINDS = ("smooth", "random", "signs")
"""Smooth in depth; independent from layer to layer; one set of weights with V times sqrt(N) and a random sign."""


def weights(kind: str, depth: int, seed: int = 0) -> Weights:
    """The weights of all layers, with a leading axis ``depth``; smooth ones are samples of the same functions.

    Depth averages independent layers out: their sum, over N, is of the size 1 / sqrt(N). Signs times sqrt(N) it does
    not: the products of neighbours stay.
    """
    draw = np.random.default_rng(seed if kind == "smooth" else (depth, seed))
    shapes = {"v": (SIZE, WIDTH), "w": (WIDTH, SIZE), "b": (WIDTH,)}
    scales = {"v": 1.0 / np.sqrt(WIDTH), "w": 1.0 / np.sqrt(SIZE), "b": 1.0}
    found = {}
    for name, shape in shapes.items():
        if kind == "smooth":
            t = (np.arange(depth) / depth).reshape(-1, *[1] * len(shape))
            mean, sine, cosine = draw.normal(size=(3, *shape))
            values = mean + sine * np.sin(2.0 * np.pi * t) + cosine * np.cos(np.pi * t)
        elif kind == "signs":
            first = np.random.default_rng((depth, seed)).choice((-1.0, 1.0), size=depth // 2)
            signs = np.stack([first, -first], axis=1).reshape(-1, 1, 1) * np.sqrt(depth) if name == "v" else 1.0
            values = np.broadcast_to(np.random.default_rng(seed).normal(size=shape), (depth, *shape)) * signs
        else:
            values = draw.normal(size=(depth, *shape))
        found[name] = scales[name] * values
    return found


def start() -> Array:
    """The input of the first layer."""
    return np.random.default_rng(1).normal(size=(BATCH, SIZE))


def layer(tanh: Any, x: Any, entry: Any) -> Any:
    """One residual function, in the arithmetic of the arrays."""
    return tanh(x @ entry["w"].T + entry["b"]) @ entry["v"].T
