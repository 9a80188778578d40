"""What an adjoint that autograd sees as one node must refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from janode.backends.torch_rows import TorchRowsBackend
from janode.core.adjoint import Correction
from janode.core.backsolve import Backsolve
from janode.core.corrected import NoCorrection
from janode.core.errors import InputError
from janode.core.protocols import Recovery
from janode.core.stepped_back import SteppedBack
from janode.core.sweep import Sweep

SECOND = (
    'They are to be had with an exact adjoint, correction="none" and steps shared by the batch, of solution.ys alone; '
    'for dense output use adjoint="backprop", for events finite differences of gradients.'
)
EVENTS = "Events are differentiated once: take finite differences of gradients."


def is_differentiated(sweep: Sweep, recovery: Recovery, correction: Correction) -> bool:
    """Whether a gradient is the derivative of the solver's own operations, and these can be differentiated."""
    if isinstance(recovery, SteppedBack):
        is_exact = "approximate" not in recovery.inverses
    else:
        is_exact = not isinstance(recovery, Backsolve)
    return is_exact and isinstance(correction, NoCorrection) and not isinstance(sweep.backend, TorchRowsBackend)


def is_pushed() -> bool:
    """Whether derivatives are taken forwards, or by a transform of torch.func."""
    return forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None


def refuse_pushed(where: str, sweep: Sweep, recovery: Recovery, correction: Correction) -> None:
    """Raise where what ``is_pushed`` finds would differentiate something else than the gradient does."""
    if not is_differentiated(sweep, recovery, correction):
        raise InputError(
            f'{where}: forward mode and transforms of torch.func must have an exact adjoint, correction="none" and '
            "steps shared by the batch, for they differentiate the solver's own operations; got another. Leave out "
            "adjoint, correction and batch_axis."
        )


def refuse_batches(where: str, tensors: Sequence[torch.Tensor]) -> None:
    """Raise for tensors that torch.func.vmap batches: the solve reads numbers, such as errors, to choose its steps."""
    functorch = torch._C._functorch
    for tensor in tensors:
        while functorch.is_functorch_wrapped_tensor(tensor):
            if functorch.is_batchedtensor(tensor):
                raise InputError(
                    f"{where}: y0, params and controls must not be batched by torch.func.vmap; got one that is. Give "
                    "them a batch axis of their own, and batch_axis=0 for steps of their own."
                )
            tensor = functorch.get_unwrapped(tensor)


class _Once(torch.autograd.Function):
    """Gradients that depend on what follows them, and that say so where their own gradient is asked for."""

    @staticmethod
    def forward(text: str, num_gradients: int, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple([tensor.clone() for tensor in tensors[:num_gradients]])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.text = inputs[0]

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        raise InputError(ctx.text)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise InputError(ctx.text)


def only_once(
    where: str, found: Sequence[Any], depends_on: Sequence[Any], advice: str = 'Use adjoint="backprop".'
) -> tuple[Any, ...]:
    """The gradients found, where they are not None, such that their own gradients are refused."""
    made = [bar for bar in found if bar is not None]
    text = (
        f"{where}: second derivatives must be taken by the framework; got a gradient of this adjoint to differentiate "
        f"again. {advice}"
    )
    once = iter(_Once.apply(text, len(made), *made, *[bar for bar in depends_on if bar is not None]))
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
