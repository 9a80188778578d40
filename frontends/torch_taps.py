"""Events and dense output in PyTorch: what the solve reads from inside its steps, with gradients through autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from janode.core.errors import InputError
from janode.core.events import Event, Happened
from janode.core.protocols import State
from janode.core.solution import EventResult, Report
from janode.core.taps import Dense

from .eager_taps import EagerTaps
from .torch_refusals import EVENTS, only_once
from .trees import Tree


class Taps(EagerTaps):
    """What one solve reads from inside its steps."""

    def __init__(self, event: Any, dense: bool, state: Tree, params: Any) -> None:
        super().__init__("solve", event, dense, state)
        self.args = () if params is None else (params,)

    def _values(self, t: torch.Tensor, y: State, theta: State) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return tuple([self._value(event, t, y) for event in self.events])

    def _value(self, event: Event, t: torch.Tensor, y: State) -> torch.Tensor:
        value = event.fn(t, self.state.build(y), *self.args)
        if not isinstance(value, torch.Tensor) or value.numel() != 1 or value.is_complex():
            got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise InputError(
                f"solve: an event must return a real tensor of one entry; got {got}. Give several events as a list."
            )
        return value.reshape(())

    def result(self, report: Report, clock: int) -> EventResult[Any] | None:
        """The event that ended the solve; its time and state are functions of all that the solve depends on.

        The time follows from fn(t, y(t)) = 0: dt = -(change of fn with the time held fixed) / (d fn / dt).
        """
        happened: Happened | None = report.event
        if happened is None or happened.index < 0:
            return None
        like, y = happened.y[clock], happened.y
        dtype = like.dtype.to_real() if like.dtype.is_complex else like.dtype
        t = torch.tensor(happened.time, dtype=dtype, device=like.device)
        if torch.is_grad_enabled():
            if torch._C._functorch.peek_interpreter_stack() is not None:
                raise InputError(
                    "solve: events must be differentiated by torch.autograd or in forward mode; got a transform of "
                    "torch.func. Use torch.autograd.grad, or torch.autograd.forward_ad."
                )
            event = self.events[happened.index]
            value = self._value(event, t, y)
            if value.requires_grad or forward_ad._current_level >= 0:
                rate = self._rate(event, t, y, happened.slope)
                shift = _Shift.apply(value, rate)
                t = t + shift
                y = tuple([leaf + slope * shift.to(slope.dtype) for leaf, slope in zip(y, happened.slope, strict=True)])
        return EventResult(happened.index, t, self.state.build(y))

    def _rate(self, event: Event, t: torch.Tensor, y: State, slope: State) -> torch.Tensor:
        """The derivative of the event with respect to time along the solution."""
        inputs = [leaf.detach().requires_grad_() for leaf in (t, *y)]
        with torch.enable_grad():
            value = self._value(event, inputs[0], tuple(inputs[1:]))
        found = torch.autograd.grad(value, inputs, allow_unused=True)
        tangents = (torch.ones_like(t), *[leaf.detach() for leaf in slope])
        rate = torch.zeros_like(value)
        for bar, tangent in zip(found, tangents, strict=True):
            if bar is not None:
                rate = rate + (bar.conj() * tangent).real.sum() if bar.is_complex() else rate + (bar * tangent).sum()
        return rate.detach()


class _Shift(torch.autograd.Function):
    """-(value - its present value) / rate: zero, with a first derivative alone."""

    @staticmethod
    def forward(value: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, bar: torch.Tensor) -> tuple[torch.Tensor, None]:
        value, rate = ctx.saved_tensors
        if forward_ad._current_level >= 0:
            raise InputError(f"solve: a gradient of an event must not be taken in forward mode; got one. {EVENTS}")
        found = -bar / rate
        if torch.is_grad_enabled():
            (found,) = only_once("solve", [found], [value, bar], EVENTS)
        return found, None

    @staticmethod
    def jvp(ctx: Any, value_dot: torch.Tensor, _: Any) -> torch.Tensor:
        return -value_dot / ctx.saved_for_forward[1]


class Extras:
    """The outputs of a solve beside the states at all ts, as a flat list of tensors, and back."""

    def __init__(self, report: Report, with_times: bool) -> None:
        self.report: Any = report
        self.with_times = with_times
        self.event = () if report.event is None or report.event.index < 0 else report.event.y
        self.dense: list[Dense] = report.dense or []

    def tensors(self) -> list[torch.Tensor]:
        """The tensors: new ones, for those of the report may be part of the tape, which has no gradient."""
        event = [leaf.clone() for leaf in self.event]
        if not self.dense:
            return event
        found = [torch.stack(leaves) for leaves in zip(*map(_flat, self.dense), strict=True)]
        if self.with_times:
            times = torch.tensor([(row.t, row.h) for row in self.dense], dtype=torch.float64)
            found += [times[:, 0].clone(), times[:, 1].clone()]
        return [*event, *found]

    def restored(self, tensors: Sequence[torch.Tensor]) -> Report:
        """The report with these tensors in the place of its own."""
        report, rest = self.report, tensors[len(self.event) :]
        if self.event:
            report = report._replace(event=report.event._replace(y=tuple(tensors[: len(self.event)])))
        if self.dense:
            report = report._replace(dense=self._rows(rest))
        return report

    def bars(self, bars: Sequence[torch.Tensor | None]) -> tuple[State | None, list[Dense] | None]:
        """(cotangent of the state at the event, those of every step's extension); None for zero."""
        size = len(self.event)
        event, dense = None, None
        if any(bar is not None for bar in bars[:size]):
            event = tuple(
                [torch.zeros_like(leaf) if bar is None else bar for bar, leaf in zip(bars, self.event, strict=False)]
            )
        rest = bars[size:]
        if any(bar is not None for bar in rest):
            likes = self.tensors()[size:]
            dense = self._rows(
                [torch.zeros_like(like) if bar is None else bar for bar, like in zip(rest, likes, strict=True)]
            )
        return event, dense

    def _rows(self, tensors: Sequence[torch.Tensor]) -> list[Dense]:
        size = len(self.dense[0].y)
        count = len(_flat(self.dense[0]))
        rows = []
        times = zip(tensors[count].unbind(), tensors[count + 1].unbind(), strict=True) if self.with_times else None
        for row, *leaves in zip(self.dense, *[tensor.unbind() for tensor in tensors[:count]], strict=True):
            t, h = next(times) if times is not None else (row.t, row.h)
            groups = [tuple(leaves[i : i + size]) for i in range(0, count, size)]
            rows.append(Dense(t, h, groups[0], tuple(groups[1:])))
        return rows


def _flat(row: Dense) -> list[torch.Tensor]:
    return [*row.y, *[leaf for slope in row.slopes for leaf in slope]]
