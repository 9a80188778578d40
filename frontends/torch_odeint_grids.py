"""Fixed steps of torchdiffeq's kind: the grid that they lead along, and the states between its points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from janode.core.errors import InputError
from janode.core.spaced import bracket, cubic, linear, spaced

from .torch_odeint_field import Adapted
from .torch_odeint_options import Fixed


def mapped(function: Callable[..., Any], *trees: Any) -> Any:
    """The function of the leaves of tensors or tuples of tensors."""
    if isinstance(trees[0], tuple):
        return tuple([function(*leaves) for leaves in zip(*trees, strict=True)])
    return function(*trees)


def grid_of(where: str, fixed: Fixed, func: Callable[..., Any], y0: Any, t: torch.Tensor) -> torch.Tensor:
    """The times that fixed steps lead to: t itself unless an option says otherwise."""
    if fixed.step_size is not None:
        start, *_, end = t.tolist()
        offsets = spaced(end - start, fixed.step_size)
        return torch.cat([t[0] + torch.tensor(offsets, dtype=t.dtype, device=t.device), t[-1:]])
    if fixed.grid_constructor is None:
        return t
    grid = fixed.grid_constructor(func, y0, t)
    if not (isinstance(grid, torch.Tensor) and grid.ndim == 1 and len(grid) > 1) or not (
        bool(grid[0] == t[0]) and bool(grid[-1] == t[-1])
    ):
        raise InputError(
            f"{where}: grid_constructor must return a 1-D tensor from t[0] to t[-1]; got {grid}. Let it begin and end "
            "there."
        )
    return grid


def between(interp: str, field: Adapted, grid: torch.Tensor, ys: Any, t: torch.Tensor) -> Any:
    """The states at all t from those at the grid points."""
    points = grid.tolist()
    rows = []
    for place, time in enumerate(t.tolist()):
        k = bracket(points, time)
        y, y_next = (mapped(lambda leaf, n=n: leaf[n], ys) for n in (k, k + 1))
        if time in (points[k], points[k + 1]):
            rows.append(y if time == points[k] else y_next)
            continue
        h = grid[k + 1] - grid[k]
        x = (t[place] - grid[k]) / h
        if interp == "linear":
            rows.append(mapped(lambda a, b, x=x: linear(x.to(a.real), a, b), y, y_next))
        else:
            f, f_next = field.at(grid[k], y), field.at(grid[k + 1], y_next)
            rows.append(
                mapped(
                    lambda a, fa, b, fb, x=x, h=h: cubic(x.to(a.real), h.to(a.real), a, fa, b, fb),
                    y,
                    f,
                    y_next,
                    f_next,
                )
            )
    return mapped(lambda *leaves: torch.stack(leaves), *rows)
