"""A network as field, tanh with time as an input, on a batch of states; nested parameters.

It has no closed form: the solution is a solve by dopri8 with steps too small to see, by the textbook solver.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janode.core.layers import MLP
from janode.core.tableaus import DOPRI8

from ..problem import Problem, Tree
from ..textbook import integrate

_NETWORK = MLP((3, 16, 3), time=True)


def _value(t: Any, y: Any, params: Any) -> Any:
    """The same network for complex arguments, which layers refuse."""
    _, first, _, last = params
    inputs = np.concatenate([y, np.broadcast_to(t, (*y.shape[:-1], 1))], axis=-1)
    return np.tanh(inputs @ first["weight"].T + first["bias"]) @ last["weight"].T + last["bias"]


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    return rng.normal(size=(5, 3)), _NETWORK.init(rng, np, np.float64)


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    return integrate(_value, y0, ts, params, DOPRI8, 60)


NETWORK = Problem("network", _NETWORK, _draw, (0.0, 0.5, 1.0, 2.0), 4, 1.0, _solution, _value)
