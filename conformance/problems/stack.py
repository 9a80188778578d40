"""A stack of layers, one control per step: x' = tanh(W_n x + b_n) on a batch, with weights that change with depth.

A network, not an equation: it has no solution but the discrete one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.array import Field

from ..problem import Problem, Tree


def _fn(t: Any, y: Any, control: Any) -> Any:
    xp = array_namespace(y)
    return xp.tanh(xp.matmul(y, xp.matrix_transpose(control["weight"])) + control["bias"][None, :])


def _vjp(t: Any, y: Any, control: Any, f_bar: Any) -> Any:
    xp = array_namespace(y)
    f = _fn(t, y, control)
    inner = f_bar * (1.0 - f * f)
    weight_bar = xp.matmul(xp.matrix_transpose(inner), y)
    return None, xp.matmul(inner, control["weight"]), {"weight": weight_bar, "bias": xp.sum(inner, axis=0)}


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    return rng.normal(size=(4, 3)), None


def _controls(params: Tree, times: Any) -> Tree:
    phase = np.arange(9.0).reshape(3, 3)
    return {
        "weight": np.sin(phase + 2.0 * times[:, None, None]),
        "bias": np.cos(phase[0] - times[:, None]),
    }


STACK = Problem("stack", Field(_fn, _vjp), _draw, (0.0, 0.5, 1.0), 4, 1.0, None, controls=_controls, sampling="steps")
