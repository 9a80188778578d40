"""Tensors that reach a field of janode.torch by themselves get their exact gradient."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.utils import parametrizations

import janode.torch as jo
from tests.torch_oracle import (
    EXACT,
    F64,
    Net,
    assert_equal_gradients,
    gradients,
    one_thread,
    reference,
    vector,
)

__all__ = ["one_thread"]

TIMES = [0.0, 0.5, 1.0]
COUNTS = (2, 2)


class Capture(NamedTuple):
    """A field, its initial state, and the leaves whose gradient it must get."""

    field: Callable[..., Any]
    y0: torch.Tensor
    leaves: tuple[torch.Tensor, ...]
    params: Any = None


class Square(torch.autograd.Function):
    """y w^2 by a function of the user's own, which torch functions do not see as a whole."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(y, w)
        return y * w**2

    @staticmethod
    def backward(ctx: Any, f_bar: torch.Tensor) -> Any:
        y, w = ctx.saved_tensors
        return f_bar * w**2, 2 * f_bar * y * w


class Holder:
    """No module; it holds a tensor and has a method."""

    def __init__(self, rate: torch.Tensor) -> None:
        self.rate = rate

    def slope(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -self.rate * y * t

    def __call__(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.slope(t, y)


def leaf() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y: -w * y, y0, (y0, w))


def leaf_of_a_constant_state() -> Capture:
    y0, w = torch.tensor([1.0, 0.5], dtype=F64), vector(0.3, 0.2)
    return Capture(lambda t, y: -w * y, y0, (w,))


def computed_by_operations_that_save_tensors() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    made = torch.tanh(w**2) * torch.exp(w)
    return Capture(lambda t, y: -made * y, y0, (y0, w))


def two_outputs_of_one_operation() -> Capture:
    y0, w = vector(1.0, 0.5), torch.randn(2, 2, dtype=F64, requires_grad=True)
    first, second = (w**2).unbind(0)
    return Capture(lambda t, y: -first * y + second * t, y0, (y0, w))


def nested_functions() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)

    def outer(t: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda y: -w * y * t

    return Capture(lambda t, y: outer(t)(y), y0, (y0, w))


def module_in_a_closure() -> Capture:
    y0, net = vector(1.0, 0.5), Net()
    return Capture(lambda t, y: -net(t, y), y0, (y0, *net.parameters()))


def partial_of_a_module() -> Capture:
    y0, net, w = vector(1.0, 0.5), Net(), vector(0.3, 0.2)
    return Capture(functools.partial(lambda net, t, y, scale: scale * net(t, y), net, scale=w), y0, (y0, w))


def method_of_a_module() -> Capture:
    class Pair(Net):
        def negative(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return -self(t, y)

    y0, net = vector(1.0, 0.5), Pair()
    return Capture(net.negative, y0, (y0, *net.parameters()))


def method_of_an_object() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(Holder(w).slope, y0, (y0, w))


def object_that_can_be_called() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(Holder(w * 2.0), y0, (y0, w))


def module_that_reads_a_global() -> Capture:
    y0, net, w = vector(1.0, 0.5), Net(), vector(0.3, 0.2)
    net.register_forward_hook(lambda module, args, out: out * w)
    return Capture(net, y0, (y0, w, *net.parameters()))


def the_initial_state() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y: -w * (y - y0) + 1.0, y0, (y0, w))


def a_computed_initial_state() -> Capture:
    source = vector(1.0, 0.5)
    y0 = source**2
    return Capture(lambda t, y: -(y - y0) + t, y0, (source,))


def given_and_captured() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y, p: -p * y + w * t, y0, (y0, w), w)


def given_and_its_source_captured() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y, p: -p * y + w * t, y0, (y0, w), w**2)


def given_parameter_of_the_module() -> Capture:
    y0, net = vector(1.0, 0.5), Net()
    return Capture(lambda t, y, p: net(t, y) + p * t, y0, (y0, *net.parameters()), net.last.bias)


def returned_as_it_is() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y: w, y0, (y0, w))


def returned_as_it_was_computed() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    made = torch.exp(w)
    return Capture(lambda t, y: made, y0, (y0, w))


def used_by_a_function_of_the_user() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y: -Square.apply(y, w), y0, (y0, w))


def computed_and_used_by_a_function_of_the_user() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    made = torch.exp(w)
    return Capture(lambda t, y: -Square.apply(y, made), y0, (y0, w))


def inside_a_checkpoint() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)

    def slope(y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(-w * y)

    return Capture(lambda t, y: torch.utils.checkpoint.checkpoint(slope, y, use_reentrant=False), y0, (y0, w))


def inside_another_solve() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)

    def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -jo.solve(lambda s, z: -w * z, y, [0.0, 0.2], method="rk4", steps=1).ys[-1]

    return Capture(field, y0, (y0, w))


def gradient_of_an_energy() -> Capture:
    """A field that differentiates by itself and marks its own t and y, as continuous flows and energy networks do."""
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)

    def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            t.requires_grad_(True)
            y.requires_grad_(True)
            energy = (w * y**2).sum() * torch.cos(t) + (y**4).sum()
            return -torch.autograd.grad(energy, y, create_graph=True)[0]

    return Capture(field, y0, (y0, w))


CAPTURES = (
    leaf,
    leaf_of_a_constant_state,
    computed_by_operations_that_save_tensors,
    two_outputs_of_one_operation,
    nested_functions,
    module_in_a_closure,
    partial_of_a_module,
    method_of_a_module,
    method_of_an_object,
    object_that_can_be_called,
    module_that_reads_a_global,
    the_initial_state,
    a_computed_initial_state,
    given_and_captured,
    given_and_its_source_captured,
    given_parameter_of_the_module,
    returned_as_it_is,
    returned_as_it_was_computed,
    used_by_a_function_of_the_user,
    computed_and_used_by_a_function_of_the_user,
    inside_a_checkpoint,
    inside_another_solve,
    gradient_of_an_energy,
)


@pytest.mark.parametrize("make", CAPTURES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("adjoint", EXACT)
def test_captured_tensors_get_their_exact_gradient_each_time(adjoint: str, make: Callable[[], Capture]) -> None:
    field, y0, leaves, params = make()
    ys = jo.solve(field, y0, TIMES, params, method="rk4", steps=2, adjoint=adjoint).ys
    expected = gradients(reference(field, y0, TIMES, params, counts=COUNTS), leaves)
    assert_equal_gradients(gradients(ys, leaves), expected)
    assert_equal_gradients(gradients(ys, leaves), expected)


def test_the_users_state_stays_as_it_was_when_the_field_marks_its_own() -> None:
    field = gradient_of_an_energy().field
    y0 = torch.tensor([1.0, 0.5], dtype=F64)
    jo.solve(field, y0, TIMES, steps=4)
    assert not y0.requires_grad


@pytest.mark.parametrize("adjoint", EXACT)
def test_captured_times_get_their_gradient(adjoint: str) -> None:
    y0, ts = vector(1.0, 0.5), vector(*TIMES)
    field = lambda t, y: -y * ts[1] * t  # noqa: E731
    ys = jo.solve(field, y0, ts, method="rk4", steps=2, adjoint=adjoint).ys
    leaves = (y0, ts)
    assert_equal_gradients(gradients(ys, leaves), gradients(reference(field, y0, ts, counts=COUNTS), leaves))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("adjoint", EXACT)
def test_a_leaf_that_no_torch_function_sees_gets_its_gradient(adjoint: str) -> None:
    """The parameters of a compiled module are used behind torch functions, but stand in the graph."""
    net, y0 = torch.nn.Linear(2, 2, dtype=F64), vector(1.0, 0.5)
    compiled = torch.jit.script(net)
    leaves = (y0, *net.parameters())
    ys = jo.solve(lambda t, y: compiled(y), y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    expected = gradients(reference(lambda t, y: net(y), y0, TIMES, counts=COUNTS), leaves)
    assert_equal_gradients(gradients(ys, leaves), expected)


@pytest.mark.parametrize("adjoint", EXACT)
@pytest.mark.parametrize("is_method", [False, True], ids=["module", "method"])
def test_a_parameter_of_the_module_may_be_used_later(is_method: bool, adjoint: str) -> None:
    class Switch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.early, self.late = Net(), Net()

        def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.late(t, y) if t > 0.5 else self.early(t, y)

    module, y0 = Switch(), vector(1.0, 0.5)
    leaves = (y0, *module.parameters())
    field = module.forward if is_method else module
    ys = jo.solve(field, y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    assert_equal_gradients(gradients(ys, leaves), gradients(reference(field, y0, TIMES, counts=COUNTS), leaves))


@pytest.mark.parametrize("adjoint", EXACT)
@pytest.mark.parametrize("normalize", [parametrizations.weight_norm, parametrizations.orthogonal], ids=["weight", "qr"])
def test_parametrized_modules_have_their_gradient(normalize: Callable[..., Any], adjoint: str) -> None:
    field, y0 = Net(), vector(1.0, 0.5)
    normalize(field.last)
    leaves = (y0, *field.parameters())
    ys = jo.solve(field, y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    assert_equal_gradients(gradients(ys, leaves), gradients(reference(field, y0, TIMES, counts=COUNTS), leaves), 1e-12)


@pytest.mark.parametrize("adjoint", EXACT)
def test_parameters_replaced_inside_the_field_get_their_gradient(adjoint: str) -> None:
    net, y0, code = Net(), vector(1.0, 0.5), vector(0.9)
    made = {name: parameter.detach() * code for name, parameter in net.named_parameters()}

    def field(t: torch.Tensor, y: torch.Tensor, params: Any) -> torch.Tensor:
        return torch.func.functional_call(net, params, (t, y))

    ys = jo.solve(field, y0, TIMES, made, method="rk4", steps=2, adjoint=adjoint).ys
    expected = gradients(reference(field, y0, TIMES, made, counts=COUNTS), [y0, code])
    assert_equal_gradients(gradients(ys, [y0, code]), expected)
