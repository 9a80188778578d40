"""ControlledODE: a stack of equal blocks of torch as one ODE, trained with exact or corrected gradients."""

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import janode.torch as jo
from janode.core.corrections import oscillation
from tests.torch_oracle import F64, one_thread

__all__ = ["one_thread"]

Y0 = torch.tensor([[0.5, -1.0], [1.5, 0.2], [-0.3, 0.8]], dtype=F64)


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2, dtype=F64)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(y)) + 0.1 * t


def residual_stack(blocks: list[Block], y: torch.Tensor) -> torch.Tensor:
    h = 1.0 / len(blocks)
    for n, block in enumerate(blocks):
        y = y + h * block(torch.tensor(n * h, dtype=F64), y)
    return y


def leapfrog_stack(blocks: list[Block], y: torch.Tensor) -> torch.Tensor:
    h = 1.0 / (len(blocks) - 1)
    before, now = y, y + h * blocks[0](torch.tensor(0.0, dtype=F64), y)
    for n, block in enumerate(blocks[1:-1], 1):
        before, now = now, before + 2.0 * h * block(torch.tensor(n * h, dtype=F64), now)
    return now


STACKS: dict[str, tuple[Callable[..., Any], int, dict[str, Any]]] = {
    "residual": (residual_stack, 6, {"method": "euler", "steps": 6, "sampling": "steps"}),
    "leapfrog": (leapfrog_stack, 7, {"method": "leapfrog", "steps": 6}),
}


@pytest.mark.parametrize("adjoint", ["auto", "aca", "stages", "restart", "backprop"])
@pytest.mark.parametrize("stack", STACKS)
def test_a_list_of_blocks_is_their_stack(stack: str, adjoint: str) -> None:
    run, count, options = STACKS[stack]
    blocks = [Block() for _ in range(count)]
    layer = jo.ControlledODE(blocks, **options, adjoint=adjoint, correction="none")
    expected = run(blocks, Y0)
    torch.testing.assert_close(layer(Y0), expected, rtol=1e-14, atol=1e-14)
    (expected**2).sum().backward()
    (layer(Y0) ** 2).sum().backward()
    weights = [block.linear.weight for block in blocks]
    wanted = torch.stack([torch.zeros_like(w) if w.grad is None else w.grad for w in weights])
    torch.testing.assert_close(layer.block.linear.weight.grad, wanted, rtol=1e-13, atol=1e-14)


def test_parameters_keep_their_names_and_get_nodes() -> None:
    block = Block()
    layer = jo.ControlledODE(block, method="rk4", steps=3, correction="none")
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    assert shapes == {"block.linear.weight": (7, 2, 2), "block.linear.bias": (7, 2)}
    assert tuple(block.linear.weight.shape) == (2, 2)
    torch.testing.assert_close(layer.block.linear.weight[4], block.linear.weight)
    assert layer.times == pytest.approx(np.arange(7) / 6)


def test_one_block_for_all_nodes_is_its_neural_ode() -> None:
    block = Block()
    layer = jo.ControlledODE(block, (0.0, 2.0), method="leapfrog", steps=8)
    expected = jo.solve(block, Y0, [0.0, 2.0], method="leapfrog", steps=8).ys[-1]
    torch.testing.assert_close(layer(Y0), expected, rtol=0.0, atol=0.0)


def bias_gradient(correction: str, **options: Any) -> torch.Tensor:
    torch.manual_seed(1)
    layer = jo.ControlledODE(Block(), steps=40, correction=correction, **options)
    (layer(Y0) ** 2).sum().backward()
    assert layer.block.linear.bias.grad is not None
    return layer.block.linear.bias.grad


def test_one_argument_corrects_the_gradient() -> None:
    found = {name: bias_gradient(name)[1:-1].numpy() for name in ("none", "auto", "filter")}  # all of one weight
    measured = {name: float(oscillation(np, (rows,))) for name, rows in found.items()}
    assert measured["none"] > 0.3
    assert max(measured["auto"], measured["filter"]) < 0.002


def test_the_corrected_gradient_is_that_of_solve() -> None:
    torch.manual_seed(1)
    block = Block()
    u = {name: parameter.detach().repeat(41, *[1] * parameter.ndim) for name, parameter in block.named_parameters()}
    leaves = {name: leaf.requires_grad_() for name, leaf in u.items()}

    def field(t: Any, y: Any, control: Any) -> Any:
        return torch.tanh(y @ control["linear.weight"].mT + control["linear.bias"]) + 0.1 * t

    options: dict[str, Any] = {"method": "leapfrog", "steps": 40, "correction": "consistent"}
    (jo.solve(field, Y0, [0.0, 1.0], controls=leaves, **options).ys[-1] ** 2).sum().backward()
    torch.testing.assert_close(bias_gradient("auto"), leaves["linear.bias"].grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("correction", ["none", "auto"])
def test_training_lowers_the_loss(correction: str) -> None:
    layer = jo.ControlledODE(Block(), steps=10, correction=correction)
    target = torch.flip(Y0, (0,))
    optimizer = torch.optim.SGD(layer.parameters(), lr=2.0)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = ((layer(Y0) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_gradients_reach_the_initial_state() -> None:
    y0 = Y0.clone().requires_grad_()
    layer = jo.ControlledODE(Block(), steps=6)
    assert torch.autograd.gradcheck(layer, (y0,))


# Refining.


@pytest.mark.parametrize(
    ("options", "ratio"),
    [({}, 4.0), ({"method": "euler", "sampling": "steps", "correction": "none"}, 2.0)],
    ids=["leapfrog", "residual"],
)
def test_refined_layers_converge_to_one_ode(options: Any, ratio: float) -> None:
    layer = jo.ControlledODE(Block(), steps=16, **options)
    with torch.no_grad():
        times = torch.tensor(layer.times, dtype=F64)
        layer.block.linear.bias += torch.sin(3.0 * times)[:, None]
    results = [layer(Y0), *(layer.refined(steps)(Y0) for steps in (32, 64, 128))]
    changes = [float((b - a).detach().abs().max()) for a, b in pairwise(results)]
    assert np.divide(changes[:-1], changes[1:]) == pytest.approx(ratio, rel=0.15)


def test_a_refined_layer_has_its_own_parameters_and_the_same_settings() -> None:
    layer = jo.ControlledODE(Block(), steps=4, correction="filter", adjoint="aca")
    finer = layer.refined(8)
    assert (finer.steps, finer.correction, finer.adjoint) == (8, "filter", "aca")
    assert tuple(finer.block.linear.weight.shape) == (9, 2, 2)
    assert tuple(layer.block.linear.weight.shape) == (5, 2, 2)
    finer(Y0).sum().backward()
    assert layer.block.linear.weight.grad is None


# Modules of all kinds.


class Tied(torch.nn.Module):
    """One submodule under two names, and one parameter in two submodules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(2, 2, dtype=F64)
        self.again = self.first
        self.other = torch.nn.Linear(2, 2, dtype=F64)
        self.other.weight = self.first.weight
        self.frozen = torch.nn.Parameter(torch.ones(2, dtype=F64), requires_grad=False)
        self.register_buffer("scale", torch.tensor(0.5, dtype=F64))

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.first(y)) - self.scale * self.other(self.again(y)) + self.frozen


def test_tied_frozen_and_buffered() -> None:
    block = Tied()
    layer = jo.ControlledODE(block, steps=6)
    expected = jo.solve(block, Y0, [0.0, 1.0], method="leapfrog", steps=6).ys[-1]
    for _ in range(2):
        torch.testing.assert_close(layer(Y0), expected, rtol=0.0, atol=0.0)
    names = {name for name, _ in layer.named_parameters()}
    assert names == {"block.frozen", "block.first.weight", "block.first.bias", "block.other.bias"}
    assert layer.block.other.weight is layer.block.first.weight is layer.block.again.weight
    layer(Y0).sum().backward()
    assert layer.block.frozen.grad is None
    assert layer.block.first.weight.grad is not None
    assert layer.refined(12).block.other.weight.shape == (13, 2, 2)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_copies_give_the_same(copied: Callable[[Any], Any]) -> None:
    layer = jo.ControlledODE(Tied(), steps=6)
    torch.testing.assert_close(copied(layer)(Y0), layer(Y0), rtol=0.0, atol=0.0)


def test_states_are_saved_and_loaded() -> None:
    layer, other = (jo.ControlledODE(Block(), steps=6) for _ in range(2))
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(Y0), layer(Y0), rtol=0.0, atol=0.0)


def test_layers_move_and_change_dtype() -> None:
    layer = jo.ControlledODE(Block(), steps=6).to(torch.float32)
    assert layer(Y0.to(torch.float32)).dtype is torch.float32


def test_settings_are_shown() -> None:
    text = repr(jo.ControlledODE(Block(), steps=6))
    assert "ts=(0.0, 1.0), method='leapfrog', steps=6, sampling='nodes', adjoint='auto', correction='auto'" in text


# What is refused.


class Other(Block):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2, bias=False, dtype=F64)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: [Block()] * 3, r"block must be one module, or 5 of them, one for each node; got 3"),
        (list, r"block must be one module, or 5 of them, one for each node; got 0"),
        (lambda: [Block() for _ in range(4)] + [Other()], r"all blocks must have one structure; got block 4 = Other"),
        (
            lambda: [Tied() for _ in range(5)],
            r"blocks of their own for each node must have no buffers; got some in block 1",
        ),
    ],
)
def test_blocks_that_do_not_fit_are_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=f"ControlledODE: {text}"):
        jo.ControlledODE(make(), steps=4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": 0}, "control_times: steps must be an integer >= 1; got 0"),
        ({"steps": 4, "method": "leapfrogs"}, "method must be one of: leapfrog,"),
        ({"steps": 4, "sampling": "layers"}, 'sampling must be "nodes" or "steps"'),
    ],
)
def test_settings_that_do_not_exist_are_refused(options: Any, text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.ControlledODE(Block(), **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sampling": "steps"}, "correction 'consistent' must have controls at nodes"),
        ({"adjoint": "backprop"}, 'adjoint must not be "backprop" with a correction'),
        (
            {"ts": (0.0, 0.5, 1.0), "method": "dopri5", "steps": 3, "correction": "filter"},
            "correction 'filter' for method 'dopri5' must have at least 5 steps between neighbouring ts; got 3",
        ),
    ],
)
def test_a_correction_that_does_not_fit_is_refused(options: Any, text: str) -> None:
    layer = jo.ControlledODE(Block(), **{"steps": 4, **options})
    with pytest.raises(jo.InputError, match=text):
        layer(Y0)


def test_times_between_are_stepped_on() -> None:
    """Where nothing enters at the time between, leapfrog's consistent gradient is the same."""
    gradients = []
    for ts, steps in (((0.0, 1.0), 40), ((0.0, 0.5, 1.0), 20)):
        torch.manual_seed(0)
        layer = jo.ControlledODE(Block(), ts, method="leapfrog", steps=steps)
        (layer(Y0) ** 2).sum().backward()
        gradients.append(layer.block.linear.weight.grad)
    assert torch.allclose(*gradients, rtol=0.0, atol=1e-14)
