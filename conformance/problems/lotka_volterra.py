"""Lotka-Volterra: a polynomial field on a dict of 0-d arrays. Its reference solution has 25 digits.

    hare' = hare (alpha - beta lynx),  lynx' = lynx (delta hare - gamma)

``docs/notes/conformance_solutions.py`` computes the digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janode.array import Field

from ..problem import Problem, Tree

_HARE = ("1", "1.795620776626645799158095", "3.470510677520245299690807", "6.248112977814435800113721")
_LYNX = ("0.5", "0.2184661592363745024419378", "0.1733367456154851184758018", "3.785025024330220969555292")


def _fn(t: Any, y: Any, params: Any) -> Any:
    hare, lynx = y["hare"], y["lynx"]
    return {
        "hare": hare * (params["alpha"] - params["beta"] * lynx),
        "lynx": lynx * (params["delta"] * hare - params["gamma"]),
    }


def _vjp(t: Any, y: Any, params: Any, f_bar: Any) -> Any:
    hare, lynx = y["hare"], y["lynx"]
    hare_bar, lynx_bar = f_bar["hare"], f_bar["lynx"]
    beta, delta = params["beta"], params["delta"]
    y_bar = {
        "hare": hare_bar * (params["alpha"] - beta * lynx) + lynx_bar * delta * lynx,
        "lynx": lynx_bar * (delta * hare - params["gamma"]) - hare_bar * beta * hare,
    }
    params_bar = {
        "alpha": hare_bar * hare,
        "beta": -hare_bar * hare * lynx,
        "gamma": -lynx_bar * lynx,
        "delta": lynx_bar * hare * lynx,
    }
    return None, y_bar, params_bar


def _draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
    params = {"alpha": 1.5, "beta": 1.0, "gamma": 3.0, "delta": 1.0}
    return (
        {"hare": np.asarray(1.0), "lynx": np.asarray(0.5)},
        {name: np.asarray(value) for name, value in params.items()},
    )


def _solution(y0: Tree, params: Tree, ts: tuple[float, ...]) -> Tree:
    return {"hare": np.asarray(_HARE, dtype=float)[: len(ts)], "lynx": np.asarray(_LYNX, dtype=float)[: len(ts)]}


LOTKA_VOLTERRA = Problem("lotka_volterra", Field(_fn, _vjp), _draw, (0.0, 0.5, 1.0, 2.0), 6, 4.0, _solution)
