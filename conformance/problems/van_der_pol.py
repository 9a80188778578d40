"""Van der Pol's oscillator at mu = 2, on a tuple of arrays of one entry. Its reference solution has 25 digits.

    x' = v,  v' = mu (1 - x^2) v - x

``docs/notes/conformance_solutions.py`` computes the digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janode.array import Field

from ..problem import Problem, Tree

_X = ("2", "1.79553651078567838833642", "1.470107294934301022191662", "-0.393667318358530315793755")
_V = ("0", "-0.3719740590731286180367576", "-0.5129041935558353511690494", "-3.336634037363883823847757")


def _fn(t: Any, y: Any, mu: Any) -> Any:
    x, v = y
    return v, mu * (1.0 - x * x) * v - x


def _vjp(t: Any, y: Any, mu: Any, f_bar: Any) -> Any:
    x, v = y
    x_bar, v_bar = f_bar
    y_bar = (-v_bar * (2.0 * mu * x * v + 1.0), x_bar + v_bar * mu * (1.0 - x * x))
    return None, y_bar, v_bar * (1.0 - x * x) * v


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    return (np.asarray([2.0]), np.asarray([0.0])), np.asarray([2.0])


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    return np.asarray(_X, dtype=float)[: len(ts), None], np.asarray(_V, dtype=float)[: len(ts), None]


VAN_DER_POL = Problem(
    "van_der_pol", Field(_fn, _vjp), _draw, (0.0, 0.75, 1.5, 3.0), 10, 2.0, _solution, steps_back=False
)
