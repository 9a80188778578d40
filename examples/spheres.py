"""Two classes in concentric rings: small data on which a neural ODE may learn its solver instead of a flow.

Source: Ott, Katiyar, Hennig, Tiemann, ResNet After All?, arXiv 2007.15386.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BANDS = ((0.1, 0.15, 0, 1), (0.4, 0.45, 0, 1), (0.25, 0.3, 1, 2))
"""Least radius, largest radius, label, and how many quarters of the points."""


def make_spheres(n: int, seed: int, num_extra: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(n points in the plane, with ``num_extra`` zeros appended to each; their labels).

    In the plane a flow cannot take the inner ring out of the middle one without tearing it; one more coordinate gives
    it the room.
    """
    draw = np.random.default_rng(seed)
    points, labels = [], []
    for least, most, label, quarters in BANDS:
        count = n * quarters // 4
        radius = least + (most - least) * np.sqrt(draw.random(count))
        angle = 2 * np.pi * draw.random(count)
        points.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), *np.zeros((num_extra, count))], axis=1))
        labels.append(np.full(count, label))
    return np.concatenate(points).astype(np.float32), np.concatenate(labels)
