"""Norm layers in a field of janode.torch: statistics of training mode, updated once and left alone in backward."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import janode.torch as jo
from tests.test_torch_random import ADJOINTS, FIXED, GRIDS, TIMES, Late, batch
from tests.torch_oracle import F64, RECOMPUTING, assert_equal_gradients, gradients, one_thread, reference, vector

__all__ = ["one_thread"]


class Normed(torch.nn.Module):
    """A network with a norm layer and dropout behind it."""

    def __init__(self, norm: Callable[[], torch.nn.Module], p: float = 0.0) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(2, 6, dtype=F64), torch.nn.Linear(6, 2, dtype=F64)
        self.norm, self.dropout = norm(), torch.nn.Dropout(p)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.last(self.dropout(torch.tanh(self.norm(self.first(y))))) * torch.cos(t)


class Channels(torch.nn.Module):
    """Instance norm with statistics, over the features as if they were pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.InstanceNorm1d(4, track_running_stats=True, affine=True, dtype=F64)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.norm(y[None])[0]


NORMS: dict[str, Callable[[], torch.nn.Module]] = {
    "batch": lambda: torch.nn.BatchNorm1d(6, dtype=F64),
    "cumulative": lambda: torch.nn.BatchNorm1d(6, momentum=None, dtype=F64),
    "without statistics": lambda: torch.nn.BatchNorm1d(6, track_running_stats=False, dtype=F64),
    "instance": Channels,
}
NORMED = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)


def normed(norm: Callable[[], Any], adjoint: str, p: float = 0.0, **options: Any) -> tuple[Any, ...]:
    """(states, gradients, buffers after both passes)."""
    torch.manual_seed(0)
    field, y0 = Normed(norm, p), batch()
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **options).ys
    bars = gradients(ys, (y0, *field.parameters()))
    assert field.training
    return ys.detach(), bars, dict(field.named_buffers())


@NORMED
@GRIDS
@pytest.mark.parametrize("p", [0.0, 0.4], ids=["", "dropout"])
@pytest.mark.parametrize("adjoint", [*RECOMPUTING, "revolve", "auto"])
def test_statistics_are_those_of_backprop(
    adjoint: str, p: float, options: dict[str, Any], norm: Callable[[], Any]
) -> None:
    ys, bars, buffers = normed(norm, adjoint, p, **options)
    expected_ys, expected, statistics = normed(norm, "backprop", p, **options)
    torch.testing.assert_close(buffers, statistics, rtol=0.0, atol=0.0)
    assert torch.equal(ys, expected_ys)
    # The bias in front of the norm has no effect: its gradient is rounding, compared as such.
    for got, wanted in zip(bars, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_statistics_count_the_evaluations_of_the_way_forward() -> None:
    *_, buffers = normed(NORMS["batch"], "symplectic", **FIXED)
    assert int(buffers["norm.num_batches_tracked"]) == 16


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_gradients_with_batch_norm_are_those_of_autograd(adjoint: str) -> None:
    field, y0 = Normed(NORMS["batch"]), batch()
    leaves = (y0, *field.last.parameters(), *field.norm.parameters(), field.first.weight)
    got = gradients(jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys, leaves)
    expected = gradients(reference(field, y0, TIMES, counts=(2, 2)), leaves)
    assert_equal_gradients(got, expected, rtol=1e-12)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_the_evaluation_that_finds_captured_tensors_does_not_count(adjoint: str) -> None:
    def run(adjoint: str) -> tuple[Any, ...]:
        torch.manual_seed(0)
        field, y0, w = Normed(NORMS["batch"], 0.4), batch(), vector(0.3, 0.7)
        ys = jo.solve(lambda t, y: w * field(t, y), y0, TIMES, adjoint=adjoint, **FIXED).ys
        return ys, gradients(ys, (y0, w)), dict(field.named_buffers())

    ys, bars, buffers = run(adjoint)
    expected_ys, expected, statistics = run("backprop")
    torch.testing.assert_close(buffers, statistics, rtol=0.0, atol=0.0)
    assert torch.equal(ys, expected_ys)
    assert_equal_gradients(bars, expected, rtol=1e-12)


def test_a_solve_that_begins_anew_does_not_count_twice() -> None:
    """Its random numbers begin behind the first evaluation."""
    field, late = Normed(NORMS["batch"]), Late(True)
    ys = jo.solve(lambda t, y: field(t, y) + late(t, y), batch(), TIMES, **FIXED).ys
    ys.sum().backward()
    assert int(field.norm.num_batches_tracked) == 16  # type: ignore[arg-type]


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_two_solves_before_the_backward_pass(adjoint: str) -> None:
    field, y0 = Normed(NORMS["batch"]), batch()
    first, second = (jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys for _ in range(2))
    (first.sum() + second.sum()).backward()
    assert int(field.norm.num_batches_tracked) == 32  # type: ignore[arg-type]


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_backward_pass_may_be_run_again(adjoint: str) -> None:
    field, y0 = Normed(NORMS["batch"], 0.4), batch()
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys
    first, second = (gradients(ys, (y0, *field.parameters())) for _ in range(2))
    for got, expected in zip(first, second, strict=True):
        assert torch.equal(got, expected)  # type: ignore[arg-type]
    assert int(field.norm.num_batches_tracked) == 16  # type: ignore[arg-type]


@pytest.fixture
def failing() -> Iterator[Callable[[torch.nn.Module], None]]:
    """Lets a module fail in its n-th call from now on."""
    handles = []

    def fail(module: torch.nn.Module, count: int = 3) -> None:
        calls = iter(range(count))

        def hook(*args: Any) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt

        handles.append(module.register_forward_pre_hook(hook))

    yield fail
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_an_interrupt_leaves_statistics_in_place(adjoint: str, failing: Callable[[torch.nn.Module], None]) -> None:
    field, y0 = Normed(NORMS["batch"]), batch()
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys
    before = {name: (id(buffer), buffer.clone()) for name, buffer in field.named_buffers()}
    failing(field.last)
    with pytest.raises(KeyboardInterrupt):
        ys.sum().backward()
    assert {name: id(buffer) for name, buffer in field.named_buffers()} == {k: v[0] for k, v in before.items()}
    torch.testing.assert_close(dict(field.named_buffers()), {k: v[1] for k, v in before.items()}, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_in_evaluation_mode_statistics_are_read_and_kept(adjoint: str) -> None:
    field, y0 = Normed(NORMS["batch"], 0.4), batch()
    field(torch.zeros((), dtype=F64), y0)
    field.eval()
    before = {name: buffer.clone() for name, buffer in field.named_buffers()}
    leaves = (y0, *field.parameters())
    got = gradients(jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys, leaves)
    assert_equal_gradients(got, gradients(reference(field, y0, TIMES, counts=(2, 2)), leaves), rtol=1e-12)
    torch.testing.assert_close(dict(field.named_buffers()), before, rtol=0.0, atol=0.0)
    assert not field.training


@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_statistics_in_one_pass_alone_are_refused(adjoint: str, which: str) -> None:
    field, y0 = Normed(NORMS["batch"]).train(which == "forward"), batch()
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys
    before = {name: buffer.clone() for name, buffer in field.named_buffers()}
    field.train(which == "backward")
    with pytest.raises(jo.InputError, match=f"change the statistics of norm layers in both .* in the {which} pass"):
        ys.sum().backward()
    torch.testing.assert_close(dict(field.named_buffers()), before, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_statistics_of_a_compiled_program_are_refused(adjoint: str) -> None:
    """TorchScript runs norm layers out of sight: they cannot be told to leave their statistics alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        field = torch.jit.script(NORMS["batch"]())
    y0 = torch.randn(4, 6, dtype=F64, requires_grad=True)
    with pytest.raises(jo.InputError, match=r"it changed buffer 'num_batches_tracked' of RecursiveScriptModule"):
        jo.solve(lambda t, y: field(y), y0, TIMES, adjoint=adjoint, **FIXED)
    field.eval()
    jo.solve(lambda t, y: field(y), y0, TIMES, adjoint=adjoint, **FIXED).ys.sum().backward()
    assert y0.grad is not None


def dense(field: torch.nn.Module, y0: torch.Tensor, adjoint: str) -> torch.Tensor:
    solution = jo.solve(field, y0, [0.0, 1.0], rtol=1e-4, atol=1e-4, dense=True, adjoint=adjoint)
    return (solution.interpolant(0.3) ** 2).sum() + (solution.ys**2).sum()


def event(field: torch.nn.Module, y0: torch.Tensor, adjoint: str) -> torch.Tensor:
    options = {"rtol": 1e-4, "atol": 1e-4, "event": lambda t, y: t - 0.7 + 0.01 * y.sum()}
    happened = jo.solve(field, y0, [0.0, 3.0], adjoint=adjoint, **options).event
    assert happened is not None
    return happened.t + (happened.y**2).sum()


def second(field: torch.nn.Module, y0: torch.Tensor, adjoint: str) -> torch.Tensor:
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys
    return (torch.autograd.grad((ys**2).sum(), y0, create_graph=True)[0] ** 2).sum()


def controlled(field: torch.nn.Module, y0: torch.Tensor, adjoint: str) -> torch.Tensor:
    return (jo.ControlledODE(field, method="rk4", steps=3, adjoint=adjoint, correction="none")(y0) ** 2).sum()


@pytest.mark.parametrize("adjoint", [*RECOMPUTING, "revolve"])
@pytest.mark.parametrize("make", [dense, event, second, controlled])
def test_whatever_a_solve_gives(make: Callable[..., torch.Tensor], adjoint: str) -> None:
    def run(adjoint: str) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(0)
        field, y0 = Normed(NORMS["batch"], 0.4), batch()
        torch.manual_seed(1)
        value = make(field, y0, adjoint)
        return value, *torch.autograd.grad(value, y0), *field.buffers(), torch.rand(())

    for got, expected in zip(run(adjoint), run("backprop"), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@CUDA
@ADJOINTS
def test_dropout_on_a_device(adjoint: str) -> None:
    def run(adjoint: str) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(0)
        field, y0 = Normed(NORMS["batch"], 0.4).cuda(), batch().detach().cuda().requires_grad_()
        ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys
        return ys, *torch.autograd.grad(ys.sum(), (y0, *field.parameters())), *field.buffers(), torch.rand(1).cuda()

    for got, expected in zip(run(adjoint), run("backprop"), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
