"""What a problem of the suite is: a field written once for every array library, its inputs, and its true solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

Tree = Any
"""A pytree of NumPy arrays."""


@dataclass(frozen=True)
class Problem:
    """An initial value problem whose solution is known.

    Attributes:
        name: as it stands in the ids of cases.
        field: the field on Array API calls, with its hand-written VJP: ``janode.array.Field`` or a network of
            ``janode.core.layers``. The manual frontends use both parts, torch and JAX only the value.
        draw: ``draw(rng) -> (y0, params)``, in float64 or complex128, from a NumPy Generator.
        ts: the times, all exact in float32.
        steps: steps between neighbouring times when libraries are compared; few, for every method stays stable.
        condition: by how much rounding errors may grow on the way to a solution or a gradient; see ``tolerance``.
        solution: ``solution(y0, params, ts) -> ys``, exact or to more digits than float64 has.
        value: the field's value for complex arguments, where ``field`` refuses them.
    """

    name: str
    field: Any
    draw: Callable[[np.random.Generator], tuple[Tree, Tree]]
    ts: tuple[float, ...]
    steps: int
    condition: float
    solution: Callable[[Tree, Tree, tuple[float, ...]], Tree]
    value: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Inputs:
    """What every target starts from: NumPy arrays whose values are exact in the target's precision."""

    y0: Tree
    params: Tree
    ts: tuple[float, ...]
    ys_bar: Tree


def draw_inputs(problem: Problem, single: bool) -> Inputs:
    """The inputs of a problem in double precision, after rounding them to single precision if asked for.

    ``ys_bar``, the cotangent of the states at all times, makes every gradient a random linear functional.
    """
    rng = np.random.default_rng(20_240_607)
    y0, params = problem.draw(rng)

    def cotangent(leaf: np.ndarray[Any, Any]) -> Any:
        shape = (len(problem.ts), *leaf.shape)
        bar = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
        return bar + 1j * rng.uniform(0.5, 1.5, shape) if np.iscomplexobj(leaf) else bar

    def rounded(leaf: np.ndarray[Any, Any]) -> Any:
        narrow = np.complex64 if np.iscomplexobj(leaf) else np.float32
        return leaf.astype(narrow).astype(leaf.dtype) if single else leaf

    y0, params, ys_bar = (optree.tree_map(rounded, tree) for tree in (y0, params, optree.tree_map(cotangent, y0)))
    return Inputs(y0, params, problem.ts, ys_bar)
