"""A function of torchdiffeq's kind as a field: what it returns for a tuple, and which tensors get a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from janode.core.errors import InputError


class Adapted(torch.nn.Module):
    """The field of ``func``: a tuple for a tuple, whatever sequence func returns."""

    def __init__(self, func: Callable[..., Any], y0: Any) -> None:
        super().__init__()
        self.func = func
        self.is_tuple = isinstance(y0, tuple)
        self.params: Any = getattr(func, "params", None) if isinstance(func, Only) else None

    def forward(self, t: torch.Tensor, y: Any, *params: Any) -> Any:
        """dy/dt in the structure of y."""
        f = self.func(t, y, *params)
        return tuple(f) if self.is_tuple and isinstance(f, list) else f

    def at(self, t: torch.Tensor, y: Any) -> Any:
        """dy/dt at a time of any dtype."""
        leaf = y[0] if self.is_tuple else y
        return self(t.to(leaf.real), y, *(() if self.params is None else (self.params,)))


class Only:
    """``func`` with gradients for t, y and the tensors ``params`` alone, which it goes on using by itself."""

    def __init__(self, func: Callable[..., Any], params: tuple[torch.Tensor, ...]) -> None:
        self.func, self.params = func, params

    def __call__(self, t: torch.Tensor, y: Any, params: tuple[torch.Tensor, ...]) -> Any:
        """dy/dt; its graph ends at t, y and the tensors that stand for params."""
        if not torch.is_grad_enabled():
            return self.func(t, y)
        leaves = y if isinstance(y, tuple) else (y,)
        f = _Only.apply(self, isinstance(y, tuple), len(leaves), t, *leaves, *params)
        return f if isinstance(y, tuple) else f[0]


class _Only(torch.autograd.Function):
    """One evaluation whose graph is cut off from everything that is not asked for."""

    @staticmethod
    def forward(ctx: Any, only: Only, is_tuple: bool, num_leaves: int, *tensors: torch.Tensor) -> Any:
        with torch.enable_grad():
            t, *leaves = (tensor.detach().requires_grad_() for tensor in tensors[: 1 + num_leaves])
            f = only.func(t, tuple(leaves) if is_tuple else leaves[0])
        f = tuple(f) if is_tuple else (f,)
        ctx.inputs, ctx.outputs = (t, *leaves, *only.params), f
        return tuple(leaf.detach() for leaf in f)

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        pairs = [(f, bar) for f, bar in zip(ctx.outputs, bars, strict=True) if f.requires_grad and bar is not None]
        found: Any = (None,) * len(ctx.inputs)
        if pairs:
            outputs, given = zip(*pairs, strict=True)
            found = torch.autograd.grad(outputs, ctx.inputs, given, allow_unused=True, retain_graph=True)
        return (None, None, None, *found)


def only_for(where: str, func: Callable[..., Any], params: Iterable[torch.Tensor]) -> Only:
    """``func`` with gradients for these tensors alone, besides t and y."""
    given = tuple(params)
    for i, tensor in enumerate(given):
        if not isinstance(tensor, torch.Tensor):
            raise InputError(
                f"{where}: adjoint_params must be tensors; got {type(tensor).__name__} at place {i}. Give for example "
                "tuple(func.parameters())."
            )
    return Only(func, tuple(tensor for tensor in given if tensor.requires_grad))
