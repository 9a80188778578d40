"""What a field of janode.torch may not capture, and what it may not exchange between its two passes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize

import janode.torch as jo
from tests.torch_oracle import (
    F64,
    RECOMPUTING,
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
    """A field, its initial state, and the leaves whose gradient it must not lose."""

    field: Callable[..., Any]
    y0: torch.Tensor
    leaves: tuple[torch.Tensor, ...]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_computed_tensor_that_no_torch_function_sees_is_refused(adjoint: str) -> None:
    made = vector(0.3, 0.2) ** 2
    multiply = torch.jit.script(multiply_scripted)
    with pytest.raises(jo.InputError, match=r"every tensor that requires gradient must .* got one of shape unknown"):
        jo.solve(lambda t, y: multiply(y, made), vector(1.0, 0.5), TIMES, steps=1, adjoint=adjoint)


def multiply_scripted(y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return -y * w


@pytest.mark.parametrize("adjoint", RECOMPUTING)
@pytest.mark.parametrize("make", [torch.nn.Parameter, lambda ones: ones.requires_grad_()], ids=["Parameter", "leaf"])
def test_a_leaf_made_anew_in_every_evaluation_is_refused(make: Callable[..., Any], adjoint: str) -> None:
    def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -y * make(torch.ones(2, dtype=F64))

    with pytest.raises(jo.InputError, match=r"every tensor that .* got one of shape \(2,\) by another"):
        jo.solve(field, vector(1.0, 0.5), TIMES, steps=1, adjoint=adjoint)


def from_a_parameter() -> tuple[Callable[..., Any], torch.Tensor]:
    net = Net()
    scale = net.last.weight / net.last.weight.norm()
    return lambda t, y: net(t, y) @ scale[:, :2], vector(1.0, 0.5)


def from_a_captured_leaf_by_an_operation_that_saves_nothing() -> tuple[Callable[..., Any], torch.Tensor]:
    w = vector(0.3, 0.2)
    made = w + 1.0
    return lambda t, y: -made * y + w, vector(1.0, 0.5)


def from_another_computed_tensor() -> tuple[Callable[..., Any], torch.Tensor]:
    first = vector(0.3, 0.2) ** 2
    second = first * 2.0
    return lambda t, y: -first * y + second, vector(1.0, 0.5)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
@pytest.mark.parametrize(
    "make",
    [from_a_parameter, from_a_captured_leaf_by_an_operation_that_saves_nothing, from_another_computed_tensor],
    ids=lambda make: make.__name__,
)
def test_a_captured_tensor_computed_from_another_that_is_used_is_refused(
    make: Callable[[], tuple[Callable[..., Any], torch.Tensor]], adjoint: str
) -> None:
    """autograd would carry the one's gradient on to the other within every stage, and once more after the solve."""
    field, y0 = make()
    with pytest.raises(jo.InputError, match=r"a captured tensor must not be computed from another .* shape \(2"):
        jo.solve(field, y0, TIMES, steps=1, adjoint=adjoint)


def late_leaf() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y: -w * y if t > 0.5 else -y, y0, (y0, w))


def late_exchange() -> Capture:
    """The graphs of all evaluations look alike; only the tensor differs."""
    y0, first, second = vector(1.0, 0.5), vector(0.3, 0.2), vector(0.4, 0.1)
    return Capture(lambda t, y: -(second if t > 0.5 else first) * y, y0, (y0, first, second))


def late_output_of_a_known_operation() -> Capture:
    y0, w = vector(1.0, 0.5), torch.randn(2, 2, dtype=F64, requires_grad=True)
    first, second = w.unbind(0)
    return Capture(lambda t, y: -(second if t > 0.5 else first) * y, y0, (y0, w))


def late_return() -> Capture:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y: w if t > 0.5 else -y, y0, (y0, w))


def midway_leaf() -> Capture:
    """Neither the first nor the last evaluation uses it."""
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)
    return Capture(lambda t, y: -w * y if 0.2 < t < 0.8 else -y, y0, (y0, w))


LATE = (midway_leaf, late_leaf, late_exchange, late_output_of_a_known_operation, late_return)


@pytest.mark.parametrize("make", LATE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_tensor_that_is_captured_later_is_refused_in_the_backward_pass(
    adjoint: str, make: Callable[[], Capture]
) -> None:
    field, y0, leaves = make()
    ys = jo.solve(field, y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    with pytest.raises(jo.InputError, match=r"every tensor that requires gradient must .* Pass it in params, or use"):
        gradients(ys, leaves)


@pytest.mark.parametrize("make", LATE, ids=lambda make: make.__name__)
def test_a_tensor_that_is_captured_later_gets_its_gradient_by_backprop(make: Callable[[], Capture]) -> None:
    field, y0, leaves = make()
    ys = jo.solve(field, y0, TIMES, method="rk4", steps=2, adjoint="backprop").ys
    assert_equal_gradients(gradients(ys, leaves), gradients(reference(field, y0, TIMES, counts=COUNTS), leaves))


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_spectral_norm_in_training_mode_is_refused_and_works_after_eval(adjoint: str) -> None:
    """Its power iteration changes buffers."""
    field, y0 = Net(), vector(1.0, 0.5)
    parametrizations.spectral_norm(field.last)
    with pytest.raises(jo.InputError, match=r"it changed buffer .* of _SpectralNorm, .* Call eval\(\)"):
        jo.solve(field, y0, TIMES, steps=1, adjoint=adjoint)
    field.eval()
    leaves = (y0, *field.parameters())
    ys = jo.solve(field, y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    assert_equal_gradients(gradients(ys, leaves), gradients(reference(field, y0, TIMES, counts=COUNTS), leaves), 1e-12)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_cache_of_parametrized_weights_is_refused(adjoint: str) -> None:
    field, y0 = Net(), vector(1.0, 0.5)
    parametrizations.weight_norm(field.last)
    with parametrize.cached(), pytest.raises(jo.InputError, match=r"every tensor that requires gradient must"):
        jo.solve(field, y0, TIMES, steps=1, adjoint=adjoint).ys.sum().backward()


@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "trained"])
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_parameters_replaced_for_the_forward_pass_alone_are_refused(adjoint: str, is_frozen: bool) -> None:
    layer = jo.NeuralODE(Net().requires_grad_(not is_frozen), steps=2, adjoint=adjoint)
    code = vector(0.9)
    made = {name: parameter.detach() * code for name, parameter in layer.named_parameters()}
    ys = torch.func.functional_call(layer, made, (torch.ones(2, dtype=F64), TIMES))
    match = "must use the same tensors again" if is_frozen else "every tensor that requires gradient must"
    with pytest.raises(jo.InputError, match=match):
        ys.sum().backward()


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_tensor_that_is_captured_later_gets_its_gradient_where_nothing_else_has_one(adjoint: str) -> None:
    field, y0, (_, w) = late_leaf()
    y0 = y0.detach()
    ys = jo.solve(field, y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    assert_equal_gradients(gradients(ys, [w]), gradients(reference(field, y0, TIMES, counts=COUNTS), [w]))


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_every_backward_pass_must_use_the_tensors_of_the_forward_pass(adjoint: str) -> None:
    y0, used = vector(1.0, 0.5), [vector(0.3, 0.2)]
    ys = jo.solve(lambda t, y: -used[0] * y, y0, TIMES, steps=1, adjoint=adjoint).ys
    gradients(ys, [y0])
    used[0] = used[0].detach()
    with pytest.raises(jo.InputError, match="must use the same tensors again"):
        gradients(ys, [y0])
