"""The gradient of a solve once more, as a function that autograd differentiates again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from janode.core.records import Nothing
from janode.core.recovery import Kept

from .torch_watch import edge_of, ends, refuse_capture

if TYPE_CHECKING:
    from .torch_job import Job


class _Valve:
    """Whether cotangents pass."""

    is_open = False


class _Gate(torch.autograd.Function):
    """The identity; its pullback stops at a closed valve, as if its argument had no history."""

    @staticmethod
    def forward(valve: _Valve, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.valve = inputs[0]

    @staticmethod
    def backward(ctx: Any, bar: torch.Tensor) -> tuple[None, torch.Tensor | None]:
        return None, bar if ctx.valve.is_open else None


def differentiable_gradient(job: Job, tensors: Sequence[torch.Tensor], bars: Sequence[Any]) -> tuple[Any, ...]:
    """The cotangents of the inputs, None for zero: by autograd, through the solver's own operations on the same steps.

    An input may be computed from another, or be captured as well; each of its places gets its own share. So the given
    ones are put behind gates, which open once the gradient has been taken: for the derivatives of the gradient.
    """
    field, valve = job.field, _Valve()
    gated = [_Gate.apply(valve, tensor) if tensor.requires_grad else tensor for tensor in tensors]
    ts, y0, theta, controls = job.split(gated)
    theta = theta[: len(theta) - len(field.implicit)] + field.implicit
    sweep = replace(job.sweep, field=field, theta=theta, controls=job.controls(controls))
    if ts:
        sweep = sweep.with_times(ts[0].to(torch.float64).unbind(0))
    with field.surroundings.restored(), field.again():
        outputs, _ = Kept(Nothing()).forward(sweep, y0)
        ys = sweep.backend.stack(sweep.report(outputs).rows)
    inputs = (*ts, *y0, *theta, *controls)
    places = [place for place, tensor in enumerate(inputs) if tensor.requires_grad]
    outs = [(y, bar) for y, bar in zip(ys, bars, strict=True) if bar is not None and y.requires_grad]
    found: list[Any] = [None] * len(inputs)
    if outs:
        known = {edge_of(inputs[place]): place for place in places}
        if ends([y for y, _ in outs], set(), known)[1]:
            refuse_capture("one that came later")
        fs, f_bars = zip(*outs, strict=True)
        wanted = [inputs[place] for place in places]
        bars = torch.autograd.grad(fs, wanted, f_bars, create_graph=True, allow_unused=True)
        for place, bar in zip(places, bars, strict=True):
            found[place] = bar
    valve.is_open = True
    return tuple(found)
