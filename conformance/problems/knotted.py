"""Equations that are driven by controls on knots: cubic between them on fixed steps, constant on adaptive ones.

y' = k (u(t) - sin y) has no closed form. y' = k (u(t) - y) has one where u is constant from knot to knot:
y(t) = u + (y(a) - u) exp(-k (t - a)) after the knot a.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.array import Field
from janode.core.controllers import PIController

from ..problem import Problem, Tree

_KNOTS = (0.0, 0.5, 0.75, 1.5, 2.0)


def _fn(t: Any, y: Any, params: Any, control: Any) -> Any:
    return params * (control["drive"] - array_namespace(y).sin(y))


def _vjp(t: Any, y: Any, params: Any, control: Any, f_bar: Any) -> Any:
    xp = array_namespace(y)
    pushed = params * f_bar
    return None, -pushed * xp.cos(y), f_bar * (control["drive"] - xp.sin(y)), {"drive": pushed}


def _fn_linear(t: Any, y: Any, params: Any, control: Any) -> Any:
    return params * (control["drive"] - y)


def _vjp_linear(t: Any, y: Any, params: Any, control: Any, f_bar: Any) -> Any:
    pushed = params * f_bar
    return None, -pushed, f_bar * (control["drive"] - y), {"drive": pushed}


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    return rng.uniform(0.5, 2.0, 2), rng.uniform(0.5, 1.5, 2)


def _controls(params: Tree, times: Any) -> Tree:
    return {"drive": np.stack([np.cos(2.0 * times), 1.0 + np.sin(3.0 * times)], axis=-1)}


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    drive = _controls(params, np.asarray([(a + b) / 2 for a, b in pairwise(_KNOTS)]))["drive"]

    def at(t: float) -> Any:
        y = y0
        for (start, end), u in zip(pairwise(_KNOTS), drive, strict=True):
            y = u + (y - u) * np.exp(-params * max(0.0, min(t, end) - start))
        return y

    return np.stack([at(t) for t in ts])


KNOTTED = Problem(
    "knotted",
    Field(_fn, _vjp),
    _draw,
    (0.0, 0.75, 1.5, 2.0),
    6,
    2.0,
    None,
    controls=_controls,
    sampling="knots",
    knots=_KNOTS,
    kind="cubic",
)
HELD = Problem(
    "held",
    Field(_fn_linear, _vjp_linear),
    _draw,
    (0.0, 0.625, 1.25, 2.0),
    4,
    16.0,
    _solution,
    controls=_controls,
    sampling="knots",
    tolerances=(1e-5, 1e-7),
    extras=(("controller", PIController(first_step=0.125)),),
    knots=_KNOTS,
    kind="constant",
)
