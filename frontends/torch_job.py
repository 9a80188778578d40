"""One solve as a single node of PyTorch's graph."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import optree
import torch

from janode.core.adjoint import Backward, Correction, pull_back
from janode.core.backsolve import report_estimate
from janode.core.controls import Controls
from janode.core.protocols import Recovery, State
from janode.core.recheck import compared
from janode.core.stepped_back import report
from janode.core.sweep import Sweep

from .torch_field import TorchField
from .torch_refusals import SECOND, is_differentiated, only_once
from .torch_second import differentiable_gradient
from .torch_taps import Extras


class _Saved(NamedTuple):
    """The place of a tensor of the tape among those that autograd saves."""

    place: int


class Job:
    """One solve that autograd differentiates as a single node."""

    def __init__(self, sweep: Sweep, recovery: Recovery, field: TorchField, correction: Correction) -> None:
        self.sweep, self.recovery, self.field, self.correction = sweep, recovery, field, correction
        self.size = 0
        """The number of outputs that have a gradient."""
        self.extras: Any = None
        self.report: Any = None
        self.shapes: list[torch.Size] = []
        self.spec: Any = None
        self.tape: list[Any] = []
        self.own: State = ()
        """What graphs that were kept on the way forward end at."""

    def forward(self, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """(ys leaves, tape leaves that are not among the inputs)."""
        _, y0, theta, controls = self.split(tensors)
        self.own = self.field.own_theta(theta)
        sweep = replace(self.sweep, theta=self.own, controls=self.controls(controls))
        with self.field.surroundings.restored():
            outputs, tape = self.recovery.forward(sweep, y0)
        self.report = sweep.report(outputs)
        kept: Any = (tape, outputs if self.correction.reads_outputs else None)
        self.tape, self.spec = optree.tree_flatten(kept, none_is_leaf=True)
        given = {id(tensor): place for place, tensor in enumerate(tensors)}
        made: list[torch.Tensor] = []
        for i, leaf in enumerate(self.tape):
            if isinstance(leaf, torch.Tensor):
                if id(leaf) not in given:
                    given[id(leaf)] = len(tensors) + len(made)
                    made.append(leaf)
                self.tape[i] = _Saved(given[id(leaf)])
        ys = self.sweep.backend.stack(self.report.rows)
        self.shapes = [leaf.shape for leaf in ys]
        self.extras = Extras(self.report, self.field.needs_time)
        extra = self.extras.tensors()
        self.size = len(ys) + len(extra)
        return (*ys, *extra, *made)

    def backward(self, saved: Sequence[torch.Tensor], num_inputs: int, bars: Sequence[Any]) -> tuple[Any, ...]:
        """The cotangents of the inputs."""
        _, y0, theta, controls = self.split(saved[:num_inputs])
        own = self.field.own_theta(theta)
        leaves = [saved[leaf.place] if isinstance(leaf, _Saved) else leaf for leaf in self.tape]
        tape, outputs = optree.tree_unflatten(self.spec, leaves)
        ys_bar = tuple(
            torch.zeros(shape, dtype=leaf.dtype, device=leaf.device) if bar is None else bar
            for bar, leaf, shape in zip(bars, y0, self.shapes, strict=False)
        )
        event_bar, dense_bar = self.extras.bars(bars[len(ys_bar) :])
        with self.field.surroundings.restored():
            self.field.begin_backward()
            sweep = replace(compared(self.sweep), theta=own, controls=self.controls(controls))
            backward = Backward(sweep, self.recovery, y0, tape, ys_bar, event_bar, dense_bar, outputs)
            gradient = pull_back(backward, self.correction)
            self.field.end_backward()
        if gradient.error is not None and not gradient.error.is_meta:
            report(self.field.stats, gradient.error)
            report_estimate(self.field.stats, gradient.estimate)
        theta_bar: list[Any] = [None] * len(theta)
        for place, bar in zip(self.field.differentiable, gradient.theta, strict=True):
            if not self.field.reached.isdisjoint((id(own[place]), id(self.own[place]))):
                theta_bar[place] = bar.to(theta[place].dtype)
        ts_bar = () if gradient.ts is None else (_of_all(gradient.ts[0]).to(saved[0]),)
        return (*ts_bar, *gradient.y0, *theta_bar, *gradient.controls)

    def split(self, tensors: Sequence[torch.Tensor]) -> tuple[State, State, State, State]:
        """(ts or nothing, y0, theta, controls)."""
        rest = iter(tensors)
        field = self.field
        given = (field.state.leaves, field.theta, field.controls.leaves)
        sizes = (int(field.needs_time), *map(len, given))
        ts, y0, theta, controls = (tuple(itertools.islice(rest, size)) for size in sizes)
        return ts, y0, theta, controls

    def is_differentiable(self, bars: Sequence[Any]) -> bool:
        """Whether the cotangents for these bars, of ys and what is read beside them, can be differentiated again."""
        is_exact = is_differentiated(self.sweep, self.recovery, self.correction)
        return is_exact and all(bar is None for bar in bars[len(self.shapes) : self.size])

    def controls(self, leaves: State) -> Controls | None:
        """The controls of these leaves, as the sweep reads them."""
        read = self.sweep.controls
        return None if read is None else Controls(read.layout, self.sweep.backend.unstack(leaves))


def _of_all(ts_bar: torch.Tensor) -> torch.Tensor:
    """The cotangents of ts, summed over samples that take steps of their own."""
    return ts_bar if ts_bar.dim() == 1 else ts_bar.sum(1)


class SolveNode(torch.autograd.Function):
    """The solve as one node of the graph; what it keeps goes through ``save_for_backward``."""

    @staticmethod
    def forward(job: Job, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs, and what is kept."""
        return job.forward(tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        """Save what is kept."""
        job, *tensors = inputs
        kept = output[job.size :]
        ctx.job, ctx.num_inputs = job, len(tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*kept)
        # The constants of the field are saved for their versions: to change them before the backward pass is an error.
        ctx.save_for_backward(*tensors, *kept, *job.field.constants)

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> tuple[Any, ...]:
        """The cotangents of the inputs."""
        saved, job = ctx.saved_tensors, ctx.job
        tensors, is_recorded = saved[: ctx.num_inputs], torch.is_grad_enabled()
        if is_recorded and job.is_differentiable(bars):
            return (None, *differentiable_gradient(job, tensors, bars[: len(job.shapes)]))
        job.field.keeps_graphs = torch._C._autograd._get_current_graph_task_keep_graph()
        with torch.no_grad():
            found = job.backward(saved, ctx.num_inputs, bars[: job.size])
        if is_recorded:
            found = only_once("solve", found, [*tensors, *bars], SECOND)
        return (None, *found)
