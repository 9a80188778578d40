"""What surrounds a field of janode.torch when it runs again: autocast, buffers, devices."""

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
    one_thread,
    reference,
    vector,
)

__all__ = ["one_thread"]

TIMES = [0.0, 0.5, 1.0]


class Recorded(torch.nn.Module):
    """A network in single precision that notes the dtype of its hidden layer in every evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(2, 8), torch.nn.Linear(8, 2)
        self.dtypes: list[torch.dtype] = []

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        hidden = self.first(y)
        self.dtypes.append(hidden.dtype)
        return self.last(torch.tanh(hidden))


def autocast() -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_the_backward_pass_runs_the_field_under_the_autocast_of_the_forward_pass(adjoint: str) -> None:
    net, y0 = Recorded(), torch.randn(3, 2, requires_grad=True)
    with autocast():
        solution = jo.solve(net, y0, TIMES, method="rk4", steps=2, adjoint=adjoint)
    num_forward = len(net.dtypes)
    solution.ys.sum().backward()
    assert len(net.dtypes) > num_forward
    assert set(net.dtypes) == {torch.bfloat16}
    assert (solution.ys.dtype, y0.grad.dtype, net.first.weight.grad.dtype) == (torch.float32,) * 3


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_the_backward_pass_ignores_an_autocast_that_the_forward_pass_did_not_have(adjoint: str) -> None:
    net, y0 = Recorded(), torch.randn(3, 2, requires_grad=True)
    ys = jo.solve(net, y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    with autocast():
        ys.sum().backward()
    assert set(net.dtypes) == {torch.float32}


@pytest.mark.parametrize("adjoint", EXACT)
def test_gradients_under_autocast_are_those_of_the_cast_field(adjoint: str) -> None:
    net, y0 = Recorded(), torch.randn(3, 2, requires_grad=True)
    leaves = (y0, *net.parameters())

    def cast(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with autocast():
            return net(t, y).float()

    with autocast():
        ys = jo.solve(net, y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    expected = reference(cast, y0, TIMES, counts=(2, 2))
    torch.testing.assert_close(ys, expected, rtol=1e-5, atol=1e-6)
    assert_equal_gradients(gradients(ys, leaves), gradients(expected, leaves), rtol=2e-2)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_weights_cast_before_without_gradient_do_not_lose_it(adjoint: str) -> None:
    """autocast keeps cast weights: those cast while gradients were off have no graph."""
    net, y0 = Recorded(), torch.randn(3, 2, requires_grad=True)
    leaves = (y0, *net.parameters())
    with autocast():
        expected = gradients(jo.solve(net, y0, TIMES, steps=1, adjoint=adjoint).ys, leaves)
    with autocast():
        with torch.no_grad():
            net(torch.zeros(()), y0)
        ys = jo.solve(net, y0, TIMES, steps=1, adjoint=adjoint).ys
        got = gradients(ys, leaves)
    assert_equal_gradients(got, expected, rtol=0.0)


def counter() -> tuple[torch.nn.Module, str]:
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=F64))

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.calls += 1
            return -y * (1 + self.calls)

    return Counter(), "buffer 'calls' of Counter"


def replaced() -> tuple[torch.nn.Module, str]:
    class Average(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(2, dtype=F64))

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
            return self.mean - y

    return Average(), "buffer 'mean' of Average"


def captured() -> tuple[torch.nn.Module, str]:
    seen = torch.zeros(4, 2, dtype=F64)

    class Sum(torch.nn.Module):
        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return -y * (1.0 + (seen.add_(0.01 * y.detach()) if self.training else seen))

    return Sum(), r"a tensor of shape \(4, 2\)"


STATEFUL = pytest.mark.parametrize("make", [counter, replaced, captured], ids=lambda make: make.__name__)
Make = Callable[[], tuple[torch.nn.Module, str]]


def batch() -> torch.Tensor:
    return torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(3)).requires_grad_()


@STATEFUL
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_field_that_cannot_be_recomputed_is_refused_in_training_mode(adjoint: str, make: Make) -> None:
    module, what = make()
    with pytest.raises(
        jo.InputError, match=rf'must not change .*; it changed {what}. Call eval\(\) .* adjoint="backprop"'
    ):
        jo.solve(lambda t, y: module(y), batch(), TIMES, steps=1, adjoint=adjoint)


@STATEFUL
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_field_that_is_switched_to_training_before_the_backward_pass_is_refused(adjoint: str, make: Make) -> None:
    module, what = make()
    module.eval()
    ys = jo.solve(lambda t, y: module(y), batch(), TIMES, steps=1, adjoint=adjoint).ys
    module.train()
    with pytest.raises(jo.InputError, match=f"recomputed must not change .*; it changed {what}"):
        ys.sum().backward()


@STATEFUL
@pytest.mark.parametrize("adjoint", EXACT)
def test_the_same_field_works_in_evaluation_mode(adjoint: str, make: Make) -> None:
    module, y0 = make()[0].eval(), batch()
    leaves = (y0, *module.parameters())
    ys = jo.solve(lambda t, y: module(y), y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    expected = gradients(reference(lambda t, y: module(y), y0, TIMES, counts=(2, 2)), leaves)
    assert_equal_gradients(gradients(ys, leaves), expected)


@STATEFUL
def test_the_same_field_works_in_training_mode_by_backprop(make: Make) -> None:
    y0 = batch()
    torch.manual_seed(1)
    module, _ = make()
    leaves = (y0, *module.parameters())
    ys = jo.solve(lambda t, y: module(y), y0, TIMES, method="rk4", steps=2, adjoint="backprop").ys
    torch.manual_seed(1)
    again, _ = make()
    expected = reference(lambda t, y: again(y), y0, TIMES, counts=(2, 2))
    torch.testing.assert_close(ys, expected, rtol=1e-13, atol=1e-14)
    assert_equal_gradients(gradients(ys, leaves), gradients(expected, (y0, *again.parameters())), rtol=1e-12)


@STATEFUL
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_the_same_field_works_in_training_mode_where_no_gradient_is_wanted(adjoint: str, make: Make) -> None:
    module = make()[0].requires_grad_(False)
    ys = jo.solve(lambda t, y: module(y), batch().detach(), TIMES, steps=1, adjoint=adjoint).ys
    assert bool(torch.isfinite(ys).all())


def changes_y(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return y.mul_(-1.0)


def changes_t(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    t += 1.0
    return -y * t


@pytest.mark.parametrize("requires_grad", [False, True], ids=["constant", "wanted"])
@pytest.mark.parametrize("field", [changes_y, changes_t])
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_field_that_changes_its_arguments_is_refused(
    adjoint: str, field: Callable[..., Any], requires_grad: bool
) -> None:
    y0 = torch.ones(2, dtype=F64, requires_grad=requires_grad)
    with pytest.raises(jo.InputError, match=r"the field must not change its arguments in place; it did\. Return"):
        jo.solve(field, y0, TIMES, steps=1, adjoint=adjoint)


@pytest.mark.parametrize("field", [changes_y, changes_t])
def test_a_field_that_changes_its_arguments_is_refused_by_backprop_too(field: Callable[..., Any]) -> None:
    """The next state is computed from the very y that the field got."""
    with pytest.raises(jo.InputError, match="the field must not change its arguments in place"):
        jo.solve(field, torch.ones(2, dtype=F64), TIMES, steps=1, adjoint="backprop")


def test_a_field_that_changes_its_arguments_is_refused_without_gradients() -> None:
    with torch.no_grad(), pytest.raises(jo.InputError, match="the field must not change its arguments in place"):
        jo.solve(changes_y, torch.ones(2, dtype=F64), TIMES, steps=1)


@pytest.mark.parametrize("adjoint", EXACT)
def test_a_field_may_work_in_place_on_what_it_made(adjoint: str) -> None:
    y0, w = vector(1.0, 0.5), vector(0.3, 0.2)

    def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(y)
        out.add_(y).mul_(-w)
        out[0] += t
        return out

    ys = jo.solve(field, y0, TIMES, method="rk4", steps=2, adjoint=adjoint).ys
    expected = gradients(reference(field, y0, TIMES, counts=(2, 2)), [y0, w])
    assert_equal_gradients(gradients(ys, [y0, w]), expected)


@pytest.mark.parametrize("adjoint", EXACT)
def test_tensors_without_data_go_through_both_passes(adjoint: str) -> None:
    """So nothing inside the loops reads a number from the device, though failures are looked for by default."""
    net = Net().to("meta")
    y0 = torch.empty(3, 2, dtype=F64, device="meta", requires_grad=True)
    solution = jo.solve(net, y0, TIMES, method="dopri5", steps=2, adjoint=adjoint)
    assert (solution.ys.shape, solution.ys.device.type, solution.status) == ((3, 3, 2), "meta", 0)
    bars = torch.autograd.grad(solution.ys.sum(), [y0, *net.parameters()])
    assert {bar.device.type for bar in bars} == {"meta"}


@pytest.mark.parametrize("adjoint", EXACT)
def test_a_tensor_with_data_that_is_read_in_the_loop_is_noticed_by_the_same_means(adjoint: str) -> None:
    y0 = torch.empty(3, 2, dtype=F64, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        jo.solve(lambda t, y: -y if bool(y.sum() > 0) else y, y0, TIMES, steps=1, adjoint=adjoint)


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@CUDA
@pytest.mark.parametrize("adjoint", EXACT)
def test_times_on_the_host_get_the_gradient_of_states_on_a_device(adjoint: str) -> None:
    net, y0, ts = Net(), batch(), vector(*TIMES)
    expected = gradients(reference(net, y0, ts, counts=(2, 2)), [y0, ts, *net.parameters()])
    net = net.cuda()
    start = y0.detach().cuda().requires_grad_()
    ys = jo.solve(net, start, ts, method="rk4", steps=2, adjoint=adjoint).ys
    assert ys.is_cuda
    got = gradients(ys.cpu(), [start, ts, *net.parameters()])
    assert_equal_gradients([None if bar is None else bar.cpu() for bar in got], expected, rtol=1e-12)
