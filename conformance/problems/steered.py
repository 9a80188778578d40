"""A linear equation steered by two controls at nodes, with closed forms of its solution and of its gradient.

y' = r(t) y + g s(t),  controls r and s:  r(t) = cos 2t - 0.3,  s = q' - r q with q(t) = sin 3t
y(t) = g q(t) + (y0 - g q(t0)) exp(R(t) - R(t0)),  R(t) = sin(2t) / 2 - 0.3 t
The gradient of sum y(T): of s(t) g exp(R(T) - R(t)), of r(t) that times y(t) / g.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.array import Field

from ..problem import Problem, Tree


def _fn(t: Any, y: Any, params: Any, control: Any) -> Any:
    return control["rate"] * y + params["gain"] * control["force"]


def _vjp(t: Any, y: Any, params: Any, control: Any, f_bar: Any) -> Any:
    xp = array_namespace(y)
    control_bar = {"rate": f_bar * y, "force": xp.sum(f_bar * params["gain"])}
    return None, control["rate"] * f_bar, {"gain": f_bar * control["force"]}, control_bar


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    return rng.uniform(0.5, 2.0, 2), {"gain": rng.uniform(0.5, 1.5, 2)}


def _rate(t: Any) -> Any:
    return np.cos(2.0 * t) - 0.3


def _growth(t: Any) -> Any:
    return 0.5 * np.sin(2.0 * t) - 0.3 * t


def _controls(params: Tree, times: Any) -> Tree:
    rate = _rate(times)
    force = 3.0 * np.cos(3.0 * times) - rate * np.sin(3.0 * times)
    return {"rate": np.stack([rate, rate], axis=-1), "force": force}


def _solution(y0: Tree, params: Tree, ts: Any) -> Tree:
    t, gain = np.asarray(ts)[:, None], params["gain"]
    start = y0 - gain * np.sin(3.0 * t[0])
    return gain * np.sin(3.0 * t) + start * np.exp(_growth(t) - _growth(t[0]))


def _slopes(y0: Tree, params: Tree, times: Any, ts: tuple[float, ...]) -> Tree:
    t = np.asarray(times)[:, None]
    costate = np.exp(_growth(ts[-1]) - _growth(t)) * np.ones(2)
    start = y0 - params["gain"] * np.sin(3.0 * ts[0])
    states = params["gain"] * np.sin(3.0 * t) + start * np.exp(_growth(t) - _growth(ts[0]))
    return {"rate": costate * states, "force": np.sum(costate * params["gain"], axis=-1)}


STEERED = Problem(
    "steered",
    Field(_fn, _vjp),
    _draw,
    (0.0, 2.0),
    24,
    16.0,
    _solution,
    controls=_controls,
    slopes=_slopes,
)
