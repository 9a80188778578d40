"""NeuralODE, the layer of janode.torch: parameters, saving, copying, training."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

import janode.torch as jo
from tests.torch_oracle import EXACT, F64, Net, assert_equal_gradients, gradients, one_thread, reference, vector

__all__ = ["one_thread"]

TIMES = [0.0, 0.5, 1.0]


class Pair(torch.nn.Module):
    """A field on a dictionary of a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, t: torch.Tensor, y: Any) -> Any:
        position, velocity = y["state"]
        return {"state": (velocity, self.net(t, position))}


def layer(**settings: Any) -> jo.NeuralODE:
    return jo.NeuralODE(Net(), **{"method": "rk4", "steps": 2, **settings})


def test_parameters_are_those_of_the_field() -> None:
    module = layer()
    assert [name for name, _ in module.named_parameters()] == [f"field.{name}" for name, _ in Net().named_parameters()]


@pytest.mark.parametrize("adjoint", EXACT)
def test_gradients_are_those_of_a_solve(adjoint: str) -> None:
    module, y0 = layer(adjoint=adjoint), torch.randn(3, 2, dtype=F64, requires_grad=True)
    leaves = (y0, *module.parameters())
    expected = gradients(reference(module.field, y0, TIMES, counts=(2, 2)), leaves)
    assert_equal_gradients(gradients(module(y0, TIMES), leaves), expected)


@pytest.mark.parametrize("adjoint", EXACT)
def test_states_may_be_pytrees(adjoint: str) -> None:
    module = jo.NeuralODE(Pair(), method="rk4", steps=2, adjoint=adjoint)
    y0 = {"state": (vector(1.0, 0.5), vector(0.2, 0.1))}
    leaves = (*y0["state"], *module.parameters())
    ys = module(y0, TIMES)
    assert [leaf.shape for leaf in ys["state"]] == [(3, 2)] * 2
    assert_equal_gradients(gradients(ys, leaves), gradients(reference(module.field, y0, TIMES, counts=(2, 2)), leaves))


@pytest.mark.parametrize(
    ("settings", "counts"), [({"steps": 3}, (3, 3)), ({"steps": None, "step_size": 0.125}, (4, 4))], ids=["n", "h"]
)
def test_settings_reach_the_solver(settings: dict[str, Any], counts: tuple[int, ...]) -> None:
    module, y0 = layer(method="euler", **settings), vector(1.0, 0.5)
    expected = reference(module.field, y0, TIMES, method="euler", counts=counts)
    torch.testing.assert_close(module(y0, TIMES), expected, rtol=1e-14, atol=0.0)


def test_a_state_dict_restores_the_layer() -> None:
    torch.manual_seed(1)
    module, other = layer(), layer()
    file, y0 = io.BytesIO(), vector(1.0, 0.5)
    assert not torch.equal(module(y0, TIMES), other(y0, TIMES))
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    assert torch.equal(module(y0, TIMES), other(y0, TIMES))


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_equal_and_independent(duplicate: Any) -> None:
    module, y0 = layer(), vector(1.0, 0.5)
    module(y0, TIMES).sum().backward()
    before = module(y0, TIMES)
    twin = duplicate(module)
    assert torch.equal(twin(y0, TIMES), before)
    assert (twin.method, twin.steps, twin.step_size, twin.adjoint) == ("rk4", 2, None, "auto")
    with torch.no_grad():
        twin.field.last.bias.add_(1.0)
    assert torch.equal(module(y0, TIMES), before)
    assert not torch.equal(twin(y0, TIMES), before)


def test_the_text_of_a_layer_names_its_settings() -> None:
    first, *rest = repr(layer(adjoint="aca")).splitlines()
    assert first == "NeuralODE("
    assert rest[0].strip() == "method='rk4', steps=2, adjoint='aca'"
    assert rest[1].strip() == "(field): Net("


def train(module: torch.nn.Module, solve: Callable[[torch.Tensor], torch.Tensor]) -> list[float]:
    """The losses of twelve steps of Adam that fit a rotation."""
    y0 = torch.linspace(-1.0, 1.0, 16, dtype=F64).reshape(8, 2)
    target = y0.flip(1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = ((solve(y0) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("adjoint", EXACT)
def test_training_decreases_the_loss_as_plain_torch_does(adjoint: str) -> None:
    module = layer(adjoint=adjoint)
    twin = copy.deepcopy(module.field)
    losses = train(module, lambda y0: module(y0, [0.0, 1.0])[-1])
    expected = train(twin, lambda y0: reference(twin, y0, [0.0, 1.0], counts=(2,))[-1])
    assert losses[-1] < 0.5 * losses[0]
    assert losses == pytest.approx(expected, rel=1e-9)


def test_a_layer_between_layers_is_trained_with_them() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.flow, self.decode = torch.nn.Linear(3, 2), layer(), torch.nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.decode(self.flow(self.encode(x), [0.0, 1.0])[-1])

    model = Model().double()
    model(torch.randn(4, 3, dtype=F64)).sum().backward()
    assert [parameter.grad is None for parameter in model.parameters()] == [False] * 8
