"""The suite's stack of layers as a ``ResidualStack``: the states and gradients of the suite's reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax
import janode.torch
from janode.conformance.comparison import Comparison
from janode.conformance.problem import Inputs, draw_inputs
from janode.conformance.problems import PROBLEMS
from janode.conformance.reference import reference_values

Found = dict[str, Any]
STACK = PROBLEMS["stack"]
STEP = (STACK.ts[1] - STACK.ts[0]) / STACK.steps


def by_torch(inputs: Inputs, scheme: str, adjoint: str) -> Found:
    blocks = []
    for weight, bias in zip(inputs.controls["weight"], inputs.controls["bias"], strict=True):
        linear = torch.nn.Linear(3, 3, dtype=torch.float64)
        linear.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        blocks.append(torch.nn.Sequential(linear, torch.nn.Tanh()))
    x = torch.tensor(inputs.y0, requires_grad=True)
    y = janode.torch.ResidualStack(blocks, scheme=scheme, adjoint=adjoint, step=STEP)(x)
    y.backward(torch.tensor(inputs.ys_bar[-1]))
    layers: Any = [block[0] for block in blocks]
    weights, biases = (torch.stack([getattr(layer, name).grad for layer in layers]) for name in ("weight", "bias"))
    return {"ys": y.detach().numpy(), "y0_bar": x.grad, "weight": weights.numpy(), "bias": biases.numpy()}


def by_jax(inputs: Inputs, scheme: str, adjoint: str) -> Found:
    def block(x: Any, layer: Any) -> Any:
        return jnp.tanh(x @ layer["weight"].T + layer["bias"][None, :])

    def stack(x: Any, layers: Any) -> Any:
        return janode.jax.residual_stack(block, layers, x, scheme=scheme, adjoint=adjoint, step=STEP)

    with jax.enable_x64(True):
        layers = jax.tree.map(jnp.asarray, inputs.controls)
        y, pullback = jax.vjp(stack, jnp.asarray(inputs.y0), layers)
        x_bar, bars = pullback(jnp.asarray(inputs.ys_bar[-1]))
        return {name: np.asarray(leaf) for name, leaf in {"ys": y, "y0_bar": x_bar, **bars}.items()}


@pytest.mark.filterwarnings("ignore:the backward pass missed the initial state")
@pytest.mark.parametrize(
    ("scheme", "adjoint"),
    [
        ("euler", "symplectic"),
        ("euler", "backprop"),
        ("euler", "reconstruct"),
        ("leapfrog", "symplectic"),
        ("leapfrog", "reconstruct"),
    ],
)
@pytest.mark.parametrize("solve", [by_torch, by_jax])
def test_a_stack_conforms(solve: Callable[[Inputs, str, str], Found], scheme: str, adjoint: str) -> None:
    inputs = draw_inputs(STACK, scheme, single=False)
    last = np.zeros_like(inputs.ys_bar)
    last[-1] = inputs.ys_bar[-1]
    inputs = dataclasses.replace(inputs, ys_bar=last)
    values = reference_values(STACK, inputs, scheme, "stages" if adjoint == "backprop" else adjoint)
    expected = {"ys": values["ys"][-1], "y0_bar": values["y0_bar"], **values["controls_bar"]}
    got = {name: np.asarray(leaf) for name, leaf in solve(inputs, scheme, adjoint).items()}
    comparison = Comparison(STACK.condition)
    differences = [comparison.array(name, got[name], leaf, leaf) for name, leaf in expected.items()]
    assert all(difference.is_ok for difference in differences), differences
