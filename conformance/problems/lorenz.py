"""Lorenz' equations on [0, 2]: chaotic, so that rounding errors grow. The reference solution has 25 digits.

    x' = sigma (y - x),  y' = x (rho - z) - y,  z' = x y - beta z

``docs/notes/conformance_solutions.py`` computes the digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.array import Field

from ..problem import Problem, Tree

_DIGITS = (
    ("1", "1", "1"),
    ("1.198272968049544735633246", "-8.867197729737150608166128", "32.45474021150375756296051"),
    ("-9.378570010925062360842325", "-8.357033788426644732902417", "29.36232533736342818033597"),
    ("-8.17349993224224961295141", "-9.562023686798799462359745", "24.62070204967966565744926"),
)


def _fn(t: Any, state: Any, params: Any) -> Any:
    xp = array_namespace(state)
    x, y, z = state[0], state[1], state[2]
    sigma, rho, beta = params[0], params[1], params[2]
    return xp.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])


def _vjp(t: Any, state: Any, params: Any, f_bar: Any) -> Any:
    xp = array_namespace(state)
    x, y, z = state[0], state[1], state[2]
    sigma, rho, beta = params[0], params[1], params[2]
    p, q, r = f_bar[0], f_bar[1], f_bar[2]
    state_bar = xp.stack([q * (rho - z) + r * y - p * sigma, p * sigma - q + r * x, -q * x - r * beta])
    return None, state_bar, xp.stack([p * (y - x), q * x, -r * z])


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    return np.ones(3), np.asarray([10.0, 28.0, 8.0 / 3.0])


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    return np.asarray(_DIGITS, dtype=float)[: len(ts)]


LORENZ = Problem("lorenz", Field(_fn, _vjp), _draw, (0.0, 0.5, 1.0, 2.0), 30, 4.0, _solution, steps_back=False)
