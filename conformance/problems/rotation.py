"""A rotation in the complex plane: a complex state with a real and a complex parameter, and a closed form.

y' = i omega (y - centre),  y(t) = centre + (y0 - centre) exp(i omega (t - t0))
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from janode.array import Field

from ..problem import Problem, Tree


def _fn(t: Any, y: Any, params: Any) -> Any:
    xp = array_namespace(y)
    return 1j * xp.astype(params["omega"], y.dtype) * (y - params["centre"])


def _vjp(t: Any, y: Any, params: Any, f_bar: Any) -> Any:
    xp = array_namespace(y)
    y_bar = -1j * xp.astype(params["omega"], y.dtype) * f_bar
    omega_bar = xp.real(f_bar * xp.conj(1j * (y - params["centre"])))
    return None, y_bar, {"omega": omega_bar, "centre": -y_bar}


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    def point() -> Any:
        return rng.normal(size=3) + 1j * rng.normal(size=3)

    return point(), {"omega": rng.uniform(0.5, 2.0, 3), "centre": point()}


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    turns = np.exp(1j * params["omega"] * (np.asarray(ts)[:, None] - ts[0]))
    return params["centre"] + (y0 - params["centre"]) * turns


ROTATION = Problem("rotation", Field(_fn, _vjp), _draw, (0.0, 0.5, 1.0, 2.0), 4, 1.0, _solution)
