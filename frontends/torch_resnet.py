"""Residual networks of PyTorch rewritten in place as residual stacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from janode.core.errors import InputError

from .torch_residual import ResidualStack

_LAYERS = ("conv1", "bn1", "conv2", "bn2")


class ResidualPart(torch.nn.Module):
    """The residual function of a block that adds its input itself: f(x) = block(x) - x."""

    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor, *extra: torch.Tensor) -> torch.Tensor:
        """block(x) - x."""
        return self.block(x, *extra) - x


def is_residual_block(module: torch.nn.Module) -> bool:
    """Whether a module looks like a shape-preserving block of a torchvision-style ResNet.

    It has ``conv1``, ``bn1``, ``conv2``, ``bn2`` (``conv3``, ``bn3``) and ``downsample is None``; all strides are 1,
    and the last convolution gives as many channels as the first takes.
    """
    if not all(isinstance(getattr(module, name, None), torch.nn.Module) for name in _LAYERS):
        return False
    if getattr(module, "downsample", module) is not None:
        return False
    parts: tuple[Any, ...] = (module.conv1, module.conv2, getattr(module, "conv3", None))
    convolutions = [part for part in parts if part is not None]
    if not all(isinstance(part, torch.nn.modules.conv._ConvNd) for part in convolutions):
        return False
    strides = {stride for part in convolutions for stride in part.stride}
    return strides == {1} and convolutions[0].in_channels == convolutions[-1].out_channels


def from_resnet(
    model: torch.nn.Module,
    *,
    adjoint: str = "symplectic",
    is_block: Callable[[torch.nn.Module], bool] = is_residual_block,
) -> torch.nn.Module:
    """Rewrite runs of shape-preserving residual blocks as :class:`ResidualStack` layers, in place.

    In every ``nn.Sequential`` each run of neighbouring modules for which ``is_block`` holds becomes one Euler stack of
    step 1 with the residual functions f_n(x) = block_n(x) - x: whatever a block computes, x + f_n(x) is its output, up
    to rounding. Blocks keep their parameters, buffers and modes; only their names in ``state_dict`` change, so load
    weights before.

    A block of torchvision ends in a relu, block(x) = relu(x + g(x)), so f(x) = max(g(x), -x) for x >= 0: where the relu
    cut something off, no step can be taken back; and with step 1 the inverse of ``"reconstruct"`` is no approximation.
    ``"symplectic"`` therefore is the default: exact, with one state a block instead of all activations. To train with
    none: :func:`deepen` the stacks, whose step then shrinks, until ``stats.reconstruction_error`` is small, and set
    their ``adjoint`` to ``"reconstruct"``.

    Args:
        model: any module; changed and returned.
        adjoint: of the stacks, see :class:`ResidualStack`.
        is_block: which modules are blocks, called as ``block(x)`` and returning a tensor like x.

    Raises:
        InputError: nothing was recognised; or the adjoint is unknown.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> class Block(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv1, self.bn1 = torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        ...         self.conv2, self.bn2 = torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        ...         self.downsample = None
        ...     def forward(self, x):
        ...         return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1), torch.nn.Sequential(Block(), Block(), Block()))
        >>> [type(layer).__name__ for layer in jo.from_resnet(model)[1]]
        ['ResidualStack']
    """
    found = 0
    for parent in [part for part in model.modules() if isinstance(part, torch.nn.Sequential)]:
        layers = list(parent.named_children())
        runs = _runs([is_block(layer) for _, layer in layers])
        for first, last in runs:
            blocks = [ResidualPart(layer) for _, layer in layers[first:last]]
            stack = ResidualStack(blocks, "euler", adjoint, step=1.0)
            stack.training = stack.blocks.training = parent.training
            for part in blocks:
                part.training = part.block.training
            setattr(parent, layers[first][0], stack)
            for name, _ in layers[first + 1 : last]:
                delattr(parent, name)
        found += len(runs)
    if not found:
        raise InputError(
            f"from_resnet: model must have residual blocks in an nn.Sequential; got {type(model).__name__}, in which "
            "none was recognised. Say with is_block which modules keep the shape of their input."
        )
    return model


def _runs(are_blocks: list[bool]) -> list[tuple[int, int]]:
    """Where neighbouring blocks begin and end."""
    runs, first = [], 0
    for place, is_block in enumerate([*are_blocks, False]):
        if not is_block:
            if place > first:
                runs.append((first, place))
            first = place + 1
    return runs
