"""What a residual stack of PyTorch does: how near it is to an ODE, to its inverse, to the exact gradient."""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from janode.core.ode_gap import OdeGap, check_substeps, measure
from janode.core.residual import MEMORY_FREE, adjoints_of

from .torch_blocks import Blocks
from .torch_residual import ResidualStack
from .trees import Tree


@dataclass(frozen=True)
class GradientGap:
    """A memory-free gradient beside the exact one, over the input and all parameters.

    Attributes:
        relative_error: ||g~ - g|| / ||g||.
        cosine: <g~, g> / (||g~|| ||g||).
        reconstruction_error: ||x~_0 - x_0|| / ||x_0|| of that backward pass.
    """

    relative_error: float
    cosine: float
    reconstruction_error: float


@contextlib.contextmanager
def _looking(stack: ResidualStack, x: torch.Tensor, extra: Any) -> Any:
    """The steps of a stack that change neither statistics nor the stream of random numbers."""
    blocks = Blocks(list(stack.blocks), x, Tree(extra, "extra"))
    blocks.begin_backward()
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []), torch.no_grad():
        yield stack.steps(blocks)


def reconstruction_errors(stack: ResidualStack, x: torch.Tensor, *extra: Any) -> list[float]:
    """||x~_n - x_n|| / ||x_n|| for n = 0 .. N - 1, x~ going back from x_N. Holds N states; 2 e N evaluations."""
    with _looking(stack, x, extra) as steps:
        return [float(error) for error in steps.reconstruction_errors((x.detach(),))]


def ode_gap(stack: ResidualStack, x: torch.Tensor, *extra: Any, substeps: int = 4) -> OdeGap:
    """How far the states of a stack are from the ODE through its blocks.

    Args:
        stack: of any scheme; its modes stay, its statistics too.
        x: its input; give double precision for small gaps.
        extra: what every block gets.
        substeps: how many steps of rk4 resolve the ODE between two blocks, >= 1.

    Returns:
        Distances, the factors of the bound, depth doubling, smoothness: see :class:`OdeGap`.

    Raises:
        InputError: substeps is less than 1.

    Cost: about 7 substeps N evaluations, and N states.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> stack = jo.ResidualStack([torch.nn.Tanh()] * 100)
        >>> gap = jo.ode_gap(stack, torch.ones(2, dtype=torch.float64))
        >>> 0.0 < gap.distance < gap.bound < 0.02
        True
    """
    check_substeps(substeps)
    with _looking(stack, x, extra) as steps:
        params = [tuple(p.detach() for p in block.parameters()) for block in stack.blocks]
        return measure(steps, (x.detach(),), params, substeps)


def gradient_gap(stack: ResidualStack, x: torch.Tensor, *extra: Any) -> GradientGap:
    """The gradient of ||x_N||^2 / 2 without memory against the exact one. Holds N states, and two gradients.

    The adjoint is the stack's, if that is memory-free, else ``"reconstruct"``.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> stack = jo.ResidualStack([torch.nn.Linear(3, 3) for _ in range(64)])
        >>> jo.gradient_gap(stack, torch.ones(1, 3)).relative_error < 0.05
        True
    """
    found, error = [], 0.0
    x = x.detach().requires_grad_()
    wanted = [x, *[p for p in stack.parameters() if p.requires_grad]]
    memory_free = stack.adjoint if stack.adjoint in MEMORY_FREE else "reconstruct"
    for adjoint in (memory_free, "symplectic"):
        other = ResidualStack(stack.blocks, stack.scheme, adjoint, stack.step)
        with _untouched(stack), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
                output = other(x, *extra)
            bars = torch.autograd.grad(output, wanted, output.detach(), allow_unused=True)
        found.append([torch.zeros_like(leaf) if bar is None else bar for bar, leaf in zip(bars, wanted, strict=True)])
        if adjoint == memory_free:
            error = other.stats.reconstruction_error or 0.0
    near, exact = found
    size, length = _pair(exact, exact), _pair(near, near)
    off = [a - b for a, b in zip(near, exact, strict=True)]
    cosine = _pair(near, exact) / math.sqrt(size * length) if size and length else math.nan
    return GradientGap(math.sqrt(_pair(off, off) / size) if size else math.nan, cosine, error)


def kept_bytes(stack: ResidualStack, x: torch.Tensor, *extra: Any) -> dict[str, int]:
    """What autograd keeps between the passes with each adjoint, in bytes, beside x and the parameters."""
    found = {}
    given = {tensor.untyped_storage().data_ptr() for tensor in (x, *stack.parameters())}
    for adjoint in adjoints_of(stack.scheme):
        sizes: dict[int, int] = {}
        kept: list[torch.Tensor] = []

        def note(tensor: torch.Tensor, sizes: dict[int, int] = sizes, kept: list[torch.Tensor] = kept) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in given:
                sizes[storage.data_ptr()] = storage.nbytes()
                kept.append(tensor.detach())  # so that no other tensor gets its address
            return tensor

        other = ResidualStack(stack.blocks, stack.scheme, adjoint, stack.step)
        with _untouched(stack), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            other(x.detach().requires_grad_(), *extra)
        found[adjoint] = sum(sizes.values())
    return found


@contextlib.contextmanager
def _untouched(stack: ResidualStack) -> Any:
    """The buffers of a stack as they were, whatever happens inside."""
    kept = {name: buffer.clone() for name, buffer in stack.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in stack.named_buffers():
                buffer.copy_(kept[name])


def _pair(left: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    return sum(float((a.conj() * b).real.sum(dtype=torch.float64)) for a, b in zip(left, right, strict=True))
