"""A ball thrown up against drag until it falls to a rising floor: an event, and the flight between steps.

x' = v,  v' = -g - d v;  the event is x = s t
v(t) = (v0 + g / d) exp(-d t) - g / d,  x(t) = x0 + (v0 + g / d) (1 - exp(-d t)) / d - g t / d
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.array import Field
from janode.core.controllers import PIController
from janode.core.events import Event

from ..problem import Problem, Tree


def _fn(t: Any, y: Any, params: Any) -> Any:
    return array_namespace(y).stack([y[1], -params[0] - params[1] * y[1]])


def _vjp(t: Any, y: Any, params: Any, f_bar: Any) -> Any:
    xp = array_namespace(y)
    y_bar = xp.stack([0.0 * f_bar[0], f_bar[0] - params[1] * f_bar[1]])
    return None, y_bar, xp.stack([-f_bar[1], -f_bar[1] * y[1], 0.0 * f_bar[0]])


def _height(t: Any, y: Any, params: Any) -> Any:
    return y[0] - params[2] * t


def _height_vjp(t: Any, y: Any, params: Any, bar: Any) -> Any:
    xp = array_namespace(y)
    return -params[2] * bar, xp.stack([bar, 0.0 * bar]), xp.stack([0.0 * bar, 0.0 * bar, -t * bar])


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    return np.asarray([1.0, 3.0]), np.asarray([9.75, 0.5, 0.25])


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    t, (g, d, _) = np.asarray(ts), params
    decay, fall = np.exp(-d * t), g / d
    return np.stack([y0[0] + (y0[1] + fall) * (1.0 - decay) / d - fall * t, (y0[1] + fall) * decay - fall], axis=-1)


THROWN = Problem(
    "thrown",
    Field(_fn, _vjp),
    _draw,
    (0.0, 0.25, 0.5, 3.0),
    4,
    16.0,
    _solution,
    tolerances=(1e-5, 1e-7),
    extras=(("controller", PIController(first_step=0.1, max_factor=3.0)),),
    event=Event(_height, direction=-1, vjp=_height_vjp),
    place=0.625,
)
