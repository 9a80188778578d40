"""Scalar affine equations with time-dependent coefficients: non-autonomous, with a closed form.

y' = r(t) (y - s(t)) + s'(t),  r(t) = k + m cos t,  s(t) = c sin 2t
y(t) = s(t) + (y0 - s(t0)) exp(k (t - t0) + m (sin t - sin t0))
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.array import Field

from ..problem import Problem, Tree


def _fn(t: Any, y: Any, params: Any) -> Any:
    xp = array_namespace(y)
    rate = params["k"] + params["m"] * xp.cos(t)
    return rate * (y - params["c"] * xp.sin(2.0 * t)) + 2.0 * params["c"] * xp.cos(2.0 * t)


def _vjp(t: Any, y: Any, params: Any, f_bar: Any) -> Any:
    xp = array_namespace(y)
    k, m, c = params["k"], params["m"], params["c"]
    sin, cos, sin2, cos2 = xp.sin(t), xp.cos(t), xp.sin(2.0 * t), xp.cos(2.0 * t)
    rate, offset = k + m * cos, y - c * sin2
    slope = -m * sin * offset - rate * (2.0 * c * cos2) - 4.0 * c * sin2
    params_bar = {"k": f_bar * offset, "m": f_bar * offset * cos, "c": f_bar * (2.0 * cos2 - rate * sin2)}
    return xp.sum(f_bar * slope), rate * f_bar, params_bar


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    params = {"k": rng.uniform(-1.0, 0.5, 3), "m": rng.uniform(-1.0, 1.0, 3), "c": rng.uniform(0.5, 1.5, 3)}
    return rng.uniform(0.5, 2.0, 3), params


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    t = np.asarray(ts)[:, None]
    k, m, c = params["k"], params["m"], params["c"]
    growth = np.exp(k * (t - ts[0]) + m * (np.sin(t) - np.sin(ts[0])))
    return c * np.sin(2 * t) + (y0 - c * np.sin(2 * ts[0])) * growth


AFFINE = Problem("affine", Field(_fn, _vjp), _draw, (0.25, 0.75, 1.25, 2.0), 4, 1.0, _solution)
