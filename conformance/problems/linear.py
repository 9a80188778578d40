"""A linear system of 20 equations, not symmetric and not stiff, solved backwards in time, with a closed form.

y' = A y,  A = Q B Q^T,  B of 2 x 2 blocks ((d, w), (-w, d)):  y(t) = Q exp(B (t - t0)) Q^T y0
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.array import Field

from ..problem import Problem, Tree

_SIZE = 20


def _fn(t: Any, y: Any, matrix: Any) -> Any:
    return array_namespace(y).matmul(matrix, y)


def _vjp(t: Any, y: Any, matrix: Any, f_bar: Any) -> Any:
    xp = array_namespace(y)
    outer = xp.reshape(f_bar, (_SIZE, 1)) * xp.reshape(y, (1, _SIZE))
    return None, xp.matmul(xp.matrix_transpose(matrix), f_bar), outer


def _blocks(diagonal: Any, off: Any) -> Any:
    """The matrix of 2 x 2 blocks ((diagonal, off), (-off, diagonal))."""
    blocks = np.zeros((_SIZE, _SIZE))
    even = np.arange(0, _SIZE, 2)
    blocks[even, even] = blocks[even + 1, even + 1] = diagonal
    blocks[even, even + 1], blocks[even + 1, even] = off, -off
    return blocks


def _parts() -> tuple[Any, Any, Any]:
    """(Q, d, w)"""
    rng = np.random.default_rng(20)
    q = np.linalg.qr(rng.normal(size=(_SIZE, _SIZE)))[0]
    return q, rng.uniform(-0.5, 0.5, _SIZE // 2), rng.uniform(0.5, 2.0, _SIZE // 2)


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    q, d, w = _parts()
    return rng.normal(size=_SIZE), q @ _blocks(d, w) @ q.T


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    q, d, w = _parts()
    states = []
    for span in np.asarray(ts) - ts[0]:
        growth = np.exp(d * span)
        states.append(q @ _blocks(growth * np.cos(w * span), growth * np.sin(w * span)) @ q.T @ y0)
    return np.stack(states)


LINEAR = Problem("linear", Field(_fn, _vjp), _draw, (1.0, 0.75, 0.5, 0.0), 4, 1.0, _solution)
