"""The study's stacks in PyTorch."""

from __future__ import annotations

import warnings

import numpy as np
import torch

import janode.torch as jo
from janode.backends.torch_memory import LiveBytes

from .problem import Array, Weights, layer


class Layer(torch.nn.Module):
    """V tanh(W x + b)."""

    def __init__(self, entry: Weights, device: str) -> None:
        super().__init__()
        for name, values in entry.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(values, device=device)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The residual function."""
        return layer(torch.tanh, x, self._parameters)


def _layers(weights: Weights, device: str) -> list[Layer]:
    depth = len(weights["b"])
    return [Layer({name: values[n] for name, values in weights.items()}, device) for n in range(depth)]


def gap(weights: Weights, x: Array, device: str) -> jo.OdeGap:
    """How far Euler's stack is from its ODE."""
    return jo.ode_gap(jo.ResidualStack(_layers(weights, device)), torch.tensor(x, device=device), substeps=2)


def gradient(weights: Weights, x: Array, scheme: str, adjoint: str, device: str) -> Array:
    """The gradient of ||x_N||^2 / 2 with respect to all weights, as one vector."""
    stack = jo.ResidualStack(_layers(weights, device), scheme, adjoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a large error of the way back is what is measured
        (stack(torch.tensor(x, device=device)) ** 2 / 2).sum().backward()
    return np.concatenate([parameter.grad.cpu().numpy().ravel() for parameter in stack.parameters()])


def peak_bytes(depth: int, sizes: tuple[int, int, int], scheme: str, adjoint: str, device: str) -> int:
    """The most bytes alive at once in forward and backward pass, beside weights and input.

    All layers share their weights, so that the gradients of weights do not grow with the depth.
    """
    size, width, batch = sizes
    block = torch.nn.Sequential(torch.nn.Linear(size, width), torch.nn.Tanh(), torch.nn.Linear(width, size)).to(device)
    stack = jo.ResidualStack([block] * depth, scheme, adjoint)
    x = torch.ones(batch, size, device=device, requires_grad=True)
    with warnings.catch_warnings(), LiveBytes([x, *stack.parameters()]) as live:
        warnings.simplefilter("ignore", RuntimeWarning)
        stack(x).sum().backward()
    return live.peak
