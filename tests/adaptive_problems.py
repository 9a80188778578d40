"""Problems for adaptive steps, analytic in everything, for any array library, and the times that suit them."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.core.tableaus import TABLEAUS
from janode.numpy import Field

PAIRS = [name for name, tableau in TABLEAUS.items() if tableau.b_error is not None]


def pendulum(t: Any, y: Any, params: Any) -> Any:
    """A damped and driven pendulum; stays bounded, and grows little in reversed time."""
    xp = array_namespace(y)
    return xp.stack([params[0] * y[1], -5.0 * xp.sin(y[0]) - params[1] * y[1] + xp.cos(3.0 * t)])


def pendulum_vjp(t: Any, y: Any, params: Any, f_bar: Any) -> Any:
    """Its pullback, by hand."""
    xp = array_namespace(y)
    y_bar = xp.stack([-5.0 * f_bar[1] * xp.cos(y[0]), f_bar[0] * params[0] - f_bar[1] * params[1]])
    params_bar = xp.stack([f_bar[0] * y[1], -f_bar[1] * y[1]])
    return -3.0 * f_bar[1] * xp.sin(3.0 * t), y_bar, params_bar


PENDULUM = Field(pendulum, pendulum_vjp)
Y0 = np.array([1.2, -0.4])
PARAMS = np.array([0.9, 0.3])
TIMES = {
    "two": [0.0, 2.0],
    "many": [0.0, 0.3, 0.31, 0.5, 1.9, 2.0],
    "reversed": [2.0, 1.5, 0.2, 0.15, 0.0],
}
