"""janode.torch as a node of autograd's graph: what it saves, when it runs again, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import janode.torch as jo
from tests.torch_oracle import (
    EXACT,
    F64,
    RECOMPUTING,
    Net,
    assert_equal_gradients,
    gradients,
    loss,
    one_thread,
    reference,
    vector,
)

__all__ = ["one_thread"]


class Linear(torch.nn.Module):
    """dy/dt = -rate y + push, with a parameter that is frozen and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor([0.3, 0.2], dtype=F64))
        self.push = torch.nn.Parameter(torch.tensor([0.1, 0.5], dtype=F64), requires_grad=False)
        self.unused = torch.nn.Parameter(torch.ones(2, dtype=F64))

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -self.rate * y + self.push


class Saved:
    """Hooks of saved tensors: every tensor that autograd saves is packed, and unpacked as a copy."""

    def __init__(self) -> None:
        self.packed: list[torch.Tensor] = []
        self.num_unpacked = 0

    def pack(self, tensor: torch.Tensor) -> int:
        self.packed.append(tensor.detach())
        return len(self.packed) - 1

    def unpack(self, place: int) -> torch.Tensor:
        self.num_unpacked += 1
        return self.packed[place].clone()

    def hooks(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self.pack, self.unpack)

    def holds(self, state: torch.Tensor) -> bool:
        return any(state.shape == tensor.shape and torch.equal(state, tensor) for tensor in self.packed)


TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize("adjoint", ["symplectic", "aca", "stages"])
def test_every_carry_goes_through_the_hooks_of_saved_tensors(adjoint: str) -> None:
    net, y0, saved = Net(), vector(0.3, -0.8), Saved()
    leaves = (y0, *net.parameters())
    carries = jo.solve(net, y0, TIMES, method="rk4", steps=1).ys.detach()
    with saved.hooks():
        ys = jo.solve(net, y0, TIMES, method="rk4", steps=1, adjoint=adjoint).ys
    assert [saved.holds(carry) for carry in carries[:-1]] == [True] * 5
    got = gradients(ys, leaves)
    assert saved.num_unpacked >= 5
    assert_equal_gradients(got, gradients(reference(net, y0, TIMES, counts=(1,) * 5), leaves))


def test_restart_saves_the_start_alone() -> None:
    net, y0, saved = Net(), vector(0.3, -0.8), Saved()
    carries = jo.solve(net, y0, TIMES, method="rk4", steps=1).ys.detach()
    with saved.hooks():
        ys = jo.solve(net, y0, TIMES, method="rk4", steps=1, adjoint="restart").ys
    assert [saved.holds(carry) for carry in carries[:-1]] == [True] + [False] * 4
    gradients(ys, [y0])


@pytest.mark.parametrize("adjoint", EXACT)
def test_saved_tensors_may_live_on_the_host(adjoint: str) -> None:
    net, y0, rate = Net(), vector(0.3, -0.8), vector(0.4, 0.1)
    leaves = (y0, rate, *net.parameters())

    def solve() -> torch.Tensor:
        return jo.solve(lambda t, y, p: net(t, y) - p * y, y0, TIMES, rate, steps=2, adjoint=adjoint).ys

    with torch.autograd.graph.save_on_cpu():
        ys = solve()
    assert_equal_gradients(gradients(ys, leaves), gradients(solve(), leaves), rtol=0.0)


@pytest.mark.parametrize("adjoint", EXACT)
def test_a_second_backward_pass_gives_the_same_gradient(adjoint: str) -> None:
    net, y0 = Net(), vector(0.3, -0.8)
    leaves = (y0, *net.parameters())
    ys = jo.solve(net, y0, TIMES, method="dopri5", steps=1, adjoint=adjoint).ys
    first = gradients(ys, leaves)
    assert_equal_gradients(gradients(ys, leaves), first, rtol=0.0)


@pytest.mark.parametrize("adjoint", EXACT)
def test_a_second_backward_pass_over_a_freed_graph_is_refused_by_torch(adjoint: str) -> None:
    y0 = vector(0.3, -0.8)
    ys = jo.solve(Net(), y0, TIMES, steps=1, adjoint=adjoint).ys
    ys.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        ys.sum().backward()


def change_a_parameter() -> tuple[Callable[..., Any], Any, torch.Tensor]:
    field = Linear()
    return field, None, field.rate


def change_a_frozen_parameter() -> tuple[Callable[..., Any], Any, torch.Tensor]:
    field = Linear()
    return field, None, field.push


def change_a_given_parameter() -> tuple[Callable[..., Any], Any, torch.Tensor]:
    rate = vector(0.3, 0.2)
    return lambda t, y, p: -p * y, rate, rate


def change_a_captured_tensor() -> tuple[Callable[..., Any], Any, torch.Tensor]:
    rate = vector(0.3, 0.2)
    return lambda t, y: -rate * y, None, rate


def change_a_captured_constant() -> tuple[Callable[..., Any], Any, torch.Tensor]:
    constant = torch.tensor([0.3, 0.2], dtype=F64)
    return lambda t, y: -constant * y, None, constant


@pytest.mark.parametrize("adjoint", RECOMPUTING)
@pytest.mark.parametrize(
    "make",
    [
        change_a_parameter,
        change_a_frozen_parameter,
        change_a_given_parameter,
        change_a_captured_tensor,
        change_a_captured_constant,
    ],
    ids=lambda make: make.__name__,
)
def test_a_tensor_changed_before_the_backward_pass_is_noticed(
    make: Callable[[], tuple[Callable[..., Any], Any, torch.Tensor]], adjoint: str
) -> None:
    field, params, tensor = make()
    ys = jo.solve(field, vector(1.0, 2.0), TIMES, params, steps=2, adjoint=adjoint).ys
    with torch.no_grad():
        tensor.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        ys.sum().backward()


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_gradient_with_a_graph_and_its_gradient(adjoint: str) -> None:
    y0, rate = vector(1.0, 2.0), vector(0.3, 0.2)
    ys = jo.solve(lambda t, y, p: -p * y * y, y0, TIMES, rate, steps=1, adjoint=adjoint).ys
    (first,) = torch.autograd.grad(loss(ys), rate, create_graph=True)
    expected = reference(lambda t, y, p: -p * y * y, y0, TIMES, rate, method="dopri5", counts=(1,) * 5)
    (wanted,) = torch.autograd.grad(loss(expected), rate, create_graph=True)
    assert_equal_gradients([first.detach()], [wanted.detach()])
    assert_equal_gradients(gradients(first, [rate]), gradients(wanted, [rate]))


def test_second_derivatives_through_backprop_are_exact() -> None:
    y0, rate = vector(1.0, 2.0), vector(0.3, 0.2)

    def solve(y0: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        return jo.solve(lambda t, y, p: -p * y * y, y0, [0.0, 0.5], rate, method="rk4", steps=2, adjoint="backprop").ys

    assert torch.autograd.gradgradcheck(solve, (y0, rate))
    hessians = [
        torch.autograd.functional.hessian(lambda y, p, ys=ys: loss(ys(y, p)), (y0, rate))
        for ys in (solve, lambda y, p: reference(lambda t, y, p: -p * y * y, y, [0.0, 0.5], p, counts=(2,)))
    ]
    for got, expected in zip(*hessians, strict=True):
        assert_equal_gradients(got, expected)


@pytest.mark.parametrize("adjoint", EXACT)
def test_gradcheck(adjoint: str) -> None:
    y0, rate, ts = vector(1.0, 2.0), vector(0.3, 0.2), vector(0.0, 0.3, 0.8)

    def solve(*leaves: torch.Tensor) -> torch.Tensor:
        y0, rate, ts = leaves
        return jo.solve(lambda t, y, p: -p * y * t, y0, ts, rate, method="rk4", steps=2, adjoint=adjoint).ys

    assert torch.autograd.gradcheck(solve, (y0, rate, ts))


@pytest.mark.parametrize("adjoint", EXACT)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_saved(mode: Any, adjoint: str) -> None:
    net, y0, saved = Net(), vector(0.3, -0.8), Saved()
    with saved.hooks(), mode():
        solution = jo.solve(net, y0, torch.tensor(TIMES, requires_grad=True), steps=2, adjoint=adjoint)
    assert not solution.ys.requires_grad
    assert saved.packed == []
    assert solution.stats.num_field_evals == 5 * 2 * 6


@pytest.mark.parametrize("adjoint", EXACT)
def test_where_nothing_requires_gradient_nothing_is_saved(adjoint: str) -> None:
    net, saved = Net().requires_grad_(False), Saved()
    with saved.hooks():
        solution = jo.solve(net, torch.ones(2, dtype=F64), TIMES, steps=2, adjoint=adjoint)
    assert not solution.ys.requires_grad
    assert saved.packed == []
    assert solution.stats.num_field_evals == 5 * 2 * 6


@pytest.mark.parametrize("adjoint", EXACT)
def test_unused_and_frozen_parameters_get_no_gradient(adjoint: str) -> None:
    field, y0, spare = Linear(), vector(1.0, 2.0), vector(1.0)
    ys = jo.solve(lambda t, y, p: field(t, y), y0, TIMES, {"spare": spare}, steps=1, method="rk4", adjoint=adjoint).ys
    leaves = (y0, field.rate, field.unused, spare)
    assert_equal_gradients(gradients(ys, leaves), gradients(reference(field, y0, TIMES, counts=(1,) * 5), leaves))
    ys = jo.solve(field, y0, TIMES, steps=1, adjoint=adjoint).ys
    ys.sum().backward()
    assert field.rate.grad is not None
    assert (field.unused.grad, field.push.grad) == (None, None)


@pytest.mark.parametrize("adjoint", EXACT)
def test_a_field_without_parameters_has_the_gradient_of_its_state(adjoint: str) -> None:
    y0 = vector(1.0, 2.0)
    ys = jo.solve(lambda t, y: torch.ones_like(y) * t, y0, TIMES, steps=1, adjoint=adjoint).ys
    assert_equal_gradients(torch.autograd.grad(ys.sum(), y0), [torch.full((2,), 6.0, dtype=F64)])


@pytest.mark.parametrize("adjoint", EXACT)
def test_shared_parameters_count_once_with_their_full_gradient(adjoint: str) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(2, 2, dtype=F64)
            self.again = self.first
            self.other = torch.nn.Linear(2, 2, dtype=F64)
            self.other.weight = self.first.weight

        def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.other(torch.tanh(self.again(torch.tanh(self.first(y))))))

    field, y0 = Tied(), vector(1.0, 2.0)
    leaves = (y0, *field.parameters())
    assert len(leaves) == 4
    ys = jo.solve(field, y0, TIMES, method="rk4", steps=1, adjoint=adjoint).ys
    assert_equal_gradients(gradients(ys, leaves), gradients(reference(field, y0, TIMES, counts=(1,) * 5), leaves))


@pytest.mark.parametrize("adjoint", RECOMPUTING)
@pytest.mark.parametrize("is_captured", [False, True], ids=["module", "captured"])
@pytest.mark.parametrize("how", ["hook", "retain_grad"])
def test_hooks_on_tensors_the_field_uses_are_refused(how: str, is_captured: bool, adjoint: str) -> None:
    field = Linear()
    made = field.rate * 2.0
    tensor = made if is_captured or how == "retain_grad" else field.rate
    _ = tensor.register_hook(lambda bar: bar) if how == "hook" else tensor.retain_grad()
    called = (lambda t, y: -made * y) if tensor is made else field
    with pytest.raises(jo.InputError, match=r"with tensor hooks or retain_grad\(\) must be .* Remove the hook"):
        jo.solve(called, vector(1.0, 2.0), TIMES, steps=1, adjoint=adjoint)


@pytest.mark.parametrize("adjoint", EXACT)
def test_a_hook_on_a_given_parameter_runs_once(adjoint: str) -> None:
    rate, calls = vector(0.3, 0.2), []
    rate.register_hook(calls.append)
    jo.solve(lambda t, y, p: -p * y, vector(1.0, 2.0), TIMES, rate, steps=1, adjoint=adjoint).ys.sum().backward()
    assert len(calls) == 1
    torch.testing.assert_close(calls[0], rate.grad)


@pytest.mark.parametrize("adjoint", EXACT)
def test_transforms_of_torch_func(adjoint: str) -> None:
    y0, net = vector(1.0, 2.0), Net()
    got = torch.func.grad(lambda y: loss(jo.solve(net, y, TIMES, steps=1, adjoint=adjoint).ys))(y0.detach())
    assert_equal_gradients([got.detach()], gradients(jo.solve(net, y0, TIMES, steps=1).ys, [y0]))
