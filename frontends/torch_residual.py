"""Residual stacks as layers of PyTorch, trained without keeping activations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from janode.backends.registry import find_backend
from janode.core.errors import InputError
from janode.core.records import Carries, Nothing
from janode.core.residual import MEMORY_FREE, Stack, check_stack, find_scheme
from janode.core.solution import Stats
from janode.core.stepped_back import report

from .torch_blocks import Blocks, Visit
from .torch_refusals import only_once, refuse_hooks, refuse_transforms
from .trees import Tree


class _Job:
    """One pass through a stack that autograd differentiates as a single node."""

    def __init__(self, stack: Stack, blocks: Blocks, adjoint: str) -> None:
        self.stack, self.blocks, self.adjoint = stack, blocks, adjoint
        self.stats = Stats()
        self.places: list[int] = []
        self.shape: list[int] = []

    def forward(self, x: torch.Tensor, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """(the output, then what the way back needs beyond it and the inputs)."""
        with self.blocks.surroundings.restored():
            last, records = self.stack.forward((x,), Nothing() if self.adjoint in MEMORY_FREE else Carries())
        carries = [last] if self.adjoint in MEMORY_FREE else [carry for phase in records for carry in phase]
        self.shape = [len(phase) for phase in records]
        (output,) = self.stack.method.output(last)
        known = [*inputs, output]
        places = {id(tensor): place for place, tensor in enumerate(known)}
        for tensor in (leaf for carry in carries for state in carry for leaf in state):
            if id(tensor) not in places:
                places[id(tensor)] = len(known)
                known.append(tensor)
        self.places = [places[id(leaf)] for carry in carries for state in carry for leaf in state]
        return tuple(known[len(inputs) :])

    def backward(self, saved: Sequence[torch.Tensor], x: torch.Tensor, x_bar: torch.Tensor) -> list[Any]:
        """The cotangents of x, and of what the blocks want, in the order of ``blocks.inputs``."""
        stack, blocks = self.stack, self.blocks
        flat = iter([saved[place] for place in self.places])
        width = len(stack.method.start((x,)))
        with blocks.surroundings.restored():
            bars = stack.start_bars((x_bar,), ())
            if self.adjoint in MEMORY_FREE:
                last = tuple([(next(flat),) for _ in range(width)])
                first, bars, _ = stack.pull_from_last(self.adjoint, last, bars)
                report(self.stats, stack.missed(first, (x,)))
            else:
                records = [[tuple([(next(flat),) for _ in range(width)]) for _ in range(size)] for size in self.shape]
                bars, _ = stack.pull_kept(records, bars)
        return [stack.method.start_vjp(bars.carry)[0], *blocks.collected()]


class _Run(torch.autograd.Function):
    """The stack as one node of the graph; what it keeps goes through ``save_for_backward``."""

    @staticmethod
    def forward(job: _Job, x: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return job.forward(x, (x, *inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.job, *tensors = inputs
        ctx.num_inputs = len(tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        if bars[0] is None:
            return (None,) * (1 + ctx.num_inputs)
        with torch.no_grad():
            ctx.job.blocks.begin_backward()
            found = tuple(ctx.job.backward(saved, saved[0], bars[0]))
        if torch.is_grad_enabled():
            found = only_once("ResidualStack", found, [*saved[: ctx.num_inputs], bars[0]])
        return (None, *found)


class ResidualStack(torch.nn.Module):
    """A stack of residual blocks, x_{n+1} = x_n + step f_n(x_n), whose memory need not grow with its depth.

    A block is the residual function f_n alone, without the sum: ``block(x, *extra)`` returns a tensor like x. A module
    may stand at several places. N blocks take N steps; ``"heun"`` evaluates block n at the start of step n and at the
    end of step n - 1, and the last block at the end of the last step as well.

    Args:
        blocks: at least one ``nn.Module``.
        scheme: ``"euler"``, the residual network; ``"heun"``, of second order, two evaluations a block; ``"leapfrog"``,
            x_{n+1} = x_{n-1} + 2 step f_n(x_n) after one Euler step: reversible, one evaluation a block.
        adjoint: ``"reconstruct"`` keeps the last state (leapfrog: the last two) and goes back from it: exact to
            rounding for leapfrog, else with an error that falls with the depth, and with a warning where the way back
            misses x by more than 1 % of its norm; ``"predict"``, for Euler, does so with one evaluation a block instead
            of two, at a predicted state: more accurate where f_n changes little with n, else less;
            ``"symplectic"`` keeps one state a block and is exact; ``"backprop"`` leaves it to autograd, which keeps
            every activation.
        step: h > 0; 1 / len(blocks) by default.

    Attributes:
        stats: of the last pass: ``reconstruction_error``, ||x~_0 - x_0|| / ||x_0|| of its backward pass, or None.

    Blocks run again in the backward pass. They then find the modes, the autocast state and the random numbers of the
    forward pass (5 kB are kept for a block that draws some on the CPU), and batch norm leaves its statistics alone.

    Raises:
        InputError: an argument breaks a rule above; a block changes its input in place, or returns another shape, dtype
            or device; or, with an adjoint other than ``"backprop"``, it changes buffers other than those of norm
            layers, keeps a ``torch.Generator``, or uses tensors that require gradient and are neither its parameters
            nor arguments; or there are second derivatives, hooks on parameters or transforms of torch.func.

    Cost with N blocks, e evaluations per block of the forward pass (2 for Heun, else 1): ``"reconstruct"`` 2 e N more
    evaluations (leapfrog N, Heun 5 N) and e N VJPs; ``"symplectic"`` N (Heun 3 N) and e N VJPs.
    Source: Sander, Ablin, Peyre 2022, arXiv 2205.14612, section 4.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> blocks = [torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()) for _ in range(100)]
        >>> stack = jo.ResidualStack(blocks, scheme="leapfrog")
        >>> stack(torch.ones(2, 4)).sum().backward()
        >>> stack.stats.reconstruction_error < 1e-4
        True
    """

    def __init__(
        self,
        blocks: Iterable[torch.nn.Module],
        scheme: str = "euler",
        adjoint: str = "reconstruct",
        step: float | None = None,
    ) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)
        self.step = check_stack("ResidualStack", len(self.blocks), scheme, adjoint, step)
        self.scheme, self.adjoint = scheme, adjoint
        self.stats = Stats()

    def forward(self, x: torch.Tensor, *extra: Any) -> torch.Tensor:
        """The last state. ``extra``, pytrees of tensors and other things, go to every block and get gradients."""
        check_stack("ResidualStack", len(self.blocks), self.scheme, self.adjoint, self.step)
        if not isinstance(x, torch.Tensor) or not (x.is_floating_point() or x.is_complex()):
            got = f"{x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__
            raise InputError(
                f"ResidualStack: x must be a real or complex floating-point tensor; got {got}. Convert it."
            )
        blocks = Blocks(list(self.blocks), x, Tree(extra, "extra"))
        stack = self.steps(blocks)
        wants = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in (x, *blocks.inputs))
        if self.adjoint == "backprop" or not wants:
            return stack.run((x,))[0]
        refuse_transforms("ResidualStack")
        refuse_hooks("ResidualStack", blocks.parameters)
        blocks.refuse_generators()
        blocks.records = True
        job = _Job(stack, blocks, self.adjoint)
        self.stats = job.stats
        return _Run.apply(job, x, *blocks.inputs)[0]

    def steps(self, blocks: Any) -> Stack:
        """The steps that the stack takes with these blocks."""
        count = len(self.blocks)
        rows = [Visit(n, 2 * n) for n in range(count)], [Visit(min(n + 1, count - 1), 2 * n + 1) for n in range(count)]
        return Stack(find_backend("torch"), find_scheme("ResidualStack", self.scheme), blocks, self.step, count, rows)

    def extra_repr(self) -> str:
        """The settings."""
        return f"scheme={self.scheme!r}, adjoint={self.adjoint!r}, step={self.step:.6g}"


def deepen(stack: ResidualStack, factor: int) -> ResidualStack:
    """A stack of ``factor`` copies of every block, one after the other, whose step is ``factor`` times smaller.

    It approximates the same ODE with finer steps: its output is near that of the stack if the stack's is near the
    ODE's. Copies have parameters of their own, equal at first; a module that stands at several places does so too in
    the result, once per copy.

    Raises:
        InputError: factor is no integer >= 1.
    """
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise InputError(f"deepen: factor must be an integer >= 1; got {factor!r}. Say how many copies of each block.")
    copies = [copy.deepcopy(stack.blocks) for _ in range(factor)]
    blocks = [each[n] for n in range(len(stack.blocks)) for each in copies]
    deeper = ResidualStack(blocks, stack.scheme, stack.adjoint, stack.step / factor)
    deeper.training = deeper.blocks.training = stack.training
    return deeper
