"""What an adjoint that autograd sees as one node must refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from janode.core.errors import InputError


class _Once(torch.autograd.Function):
    """Gradients that depend on what follows them, and that say so where their own gradient is asked for."""

    @staticmethod
    def forward(where: str, num_gradients: int, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple([tensor.clone() for tensor in tensors[:num_gradients]])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.where = inputs[0]

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        raise InputError(
            f"{ctx.where}: second derivatives must be taken by the framework; got a gradient of this adjoint to "
            'differentiate again. Use adjoint="backprop".'
        )


def only_once(where: str, found: Sequence[Any], depends_on: Sequence[Any]) -> tuple[Any, ...]:
    """The gradients found, where they are not None, such that their own gradients are refused."""
    made = [bar for bar in found if bar is not None]
    once = iter(_Once.apply(where, len(made), *made, *[bar for bar in depends_on if bar is not None]))
    return tuple([None if bar is None else next(once) for bar in found])


def refuse_hooks(where: str, tensors: Sequence[torch.Tensor]) -> None:
    """Raise for parameters whose hooks would run more than once."""
    if any(tensor._backward_hooks or tensor.retains_grad for tensor in tensors):
        raise InputError(
            f"{where}: parameters with tensor hooks or retain_grad() must be differentiated by the framework, for the "
            'hooks would run once per evaluation; got one. Remove the hook, or use adjoint="backprop".'
        )


def refuse_transforms(where: str) -> None:
    """Raise inside a transform of torch.func."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise InputError(
            f"{where}: transforms of torch.func must differentiate the steps' own operations; got one around another "
            'adjoint. Use adjoint="backprop", or torch.autograd.'
        )
