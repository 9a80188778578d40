"""janode.torch: every exact adjoint equals autograd through the same steps in plain torch."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

import janode.torch as jo
from tests.torch_oracle import (
    EXACT,
    F64,
    METHODS,
    RECOMPUTING,
    Net,
    assert_equal_gradients,
    gradients,
    one_thread,
    reference,
    vector,
)

__all__ = ["one_thread"]


class Case(NamedTuple):
    """A solve, the steps it should take, and the tensors whose gradients are compared."""

    field: Callable[..., Any]
    y0: Any
    ts: Any
    params: Any
    settings: dict[str, Any]
    counts: tuple[int, ...]
    leaves: tuple[torch.Tensor, ...]


def pytrees() -> Case:
    """Every kind of nesting, leaves of different shapes, times that require gradient and lie ragged."""
    u, v = torch.randn(2, 3, dtype=F64, requires_grad=True), vector(0.4)
    rate, matrix = vector(0.7), torch.randn(3, 3, dtype=F64, requires_grad=True)
    ts = vector(0.1, 0.4, 1.2)

    def field(t: torch.Tensor, y: Any, params: Any) -> Any:
        rate, (matrix, *_) = params["rate"], params["rest"]
        slope = torch.sin(y["u"] @ matrix) * torch.cos(t)
        return {"u": slope, "v": [-rate * y["v"][0] + slope.sum() * t]}

    params = {"rest": (matrix, None), "rate": rate}
    return Case(field, {"u": u, "v": [v]}, ts, params, {"step_size": 0.25}, (2, 4), (u, v, rate, matrix, ts))


def module() -> Case:
    """Parameters found in a module; batched states."""
    net, y0 = Net(), torch.randn(4, 2, dtype=F64, requires_grad=True)
    return Case(net, y0, [0.0, 0.5, 0.6], None, {"steps": 3}, (3, 3), (y0, *net.parameters()))


def hypernetwork() -> Case:
    """Parameters made by another network, from a leaf that only the graph knows."""
    code, y0 = vector(0.3, -1.2), vector(0.5, 0.2)
    made = torch.tanh(code * torch.randn(3, 2, dtype=F64)) ** 2

    def field(t: torch.Tensor, y: torch.Tensor, params: torch.Tensor) -> torch.Tensor:
        return torch.tanh(params[0] * y + t * params[1]) - params[2]

    return Case(field, y0, [0.0, 1.0], made, {"steps": 4}, (4,), (code, y0))


def complex_states() -> Case:
    """A field that is not holomorphic, with a complex and a real parameter; torch's convention of gradients."""
    y0 = torch.tensor([1.0 + 0.5j, -0.3j], dtype=torch.complex128, requires_grad=True)
    rotation = torch.tensor(0.2 + 1.3j, dtype=torch.complex128, requires_grad=True)
    damping, ts = vector(0.4), vector(0.0, 0.7, 1.0)

    def field(t: torch.Tensor, y: torch.Tensor, params: Any) -> torch.Tensor:
        rotation, damping = params
        assert t.dtype == F64
        return rotation * y - damping * y.conj() * t + 0.1 * y.abs()

    return Case(field, y0, ts, (rotation, damping), {"steps": 3}, (3, 3), (y0, rotation, damping, ts))


def backward_in_time() -> Case:
    """Decreasing times; the start is the largest."""
    net, y0, ts = Net(), vector(0.3, -0.8), vector(1.0, 0.8, -0.2)
    return Case(net, y0, ts, None, {"step_size": 0.3}, (1, 4), (y0, ts, *net.parameters()))


def repeated() -> Case:
    """One tensor in two places of params, and one that is computed from another."""
    y0, rate = vector(1.0, 0.5), vector(0.3, 0.2)

    def field(t: torch.Tensor, y: torch.Tensor, params: Any) -> torch.Tensor:
        first, second, doubled = params
        return -(first + second**2) * y + doubled * t

    return Case(field, y0, [0.0, 1.0], (rate, rate, 2 * rate), {"steps": 3}, (3,), (y0, rate))


CASES = (pytrees, module, hypernetwork, complex_states, backward_in_time, repeated)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("adjoint", EXACT)
def test_gradients_equal_autograd_through_the_same_steps(adjoint: str, method: str, case: Callable[[], Case]) -> None:
    field, y0, ts, params, settings, counts, leaves = case()
    solution = jo.solve(field, y0, ts, params, method=method, adjoint=adjoint, **settings)
    expected = reference(field, y0, ts, params, method=method, counts=counts)
    torch.testing.assert_close(solution.ys, expected, rtol=1e-14, atol=1e-15)
    assert solution.stats.num_steps == sum(counts)
    assert_equal_gradients(gradients(solution.ys, leaves), gradients(expected, leaves))


@pytest.mark.parametrize("adjoint", EXACT)
def test_times_of_single_precision_step_as_their_exact_values_do(adjoint: str) -> None:
    net, y0 = Net(), vector(0.3, -0.8)
    ts = torch.tensor([0.0, 0.3, 1.1], requires_grad=True)
    exact = ts.detach().to(F64).requires_grad_()
    got = jo.solve(net, y0, ts, method="rk4", steps=3, adjoint=adjoint)
    expected = reference(net, y0, exact, counts=(3, 3))
    leaves = (y0, *net.parameters())
    assert_equal_gradients(gradients(got.ys, leaves), gradients(expected, leaves))
    (ts_bar,) = gradients(got.ys, [ts])
    (exact_bar,) = gradients(expected, [exact])
    assert ts_bar is not None
    assert exact_bar is not None
    assert ts_bar.dtype == torch.float32
    torch.testing.assert_close(ts_bar, exact_bar.float(), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("adjoint", EXACT)
def test_only_some_outputs_and_leaves_have_cotangents(adjoint: str) -> None:
    """The loss sees one leaf at one inner time: cotangents that are missing count as zero."""
    y0 = {"a": vector(1.0), "b": vector(2.0)}

    def field(t: torch.Tensor, y: Any) -> Any:
        return {"a": -y["a"] * t, "b": y["a"] * y["b"]}

    ys = jo.solve(field, y0, [0.0, 0.5, 1.0], method="rk4", steps=2, adjoint=adjoint).ys
    expected = reference(field, y0, [0.0, 0.5, 1.0], counts=(2, 2))
    leaves = (y0["a"], y0["b"])
    got = torch.autograd.grad(ys["b"][1].sum(), leaves)
    assert_equal_gradients(got, torch.autograd.grad(expected["b"][1].sum(), leaves))
    only_a = torch.autograd.grad(jo.solve(field, y0, [0.0, 1.0], steps=2, adjoint=adjoint).ys["a"].sum(), y0["a"])[0]
    assert math.isclose(float(only_a), 1.0 + math.exp(-0.5), rel_tol=1e-5)


@pytest.mark.parametrize("adjoint", EXACT)
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, F64, torch.complex64, torch.complex128], ids=str
)
def test_dtypes_are_kept(dtype: torch.dtype, adjoint: str) -> None:
    y0 = torch.ones(3, dtype=dtype, requires_grad=True)
    rate = torch.tensor(0.5, dtype=dtype, requires_grad=True)
    seen = set()

    def field(t: torch.Tensor, y: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        seen.add((y.dtype, t.dtype))
        return -rate * y * t

    ys = jo.solve(field, y0, [0.0, 1.0], rate, method="dopri5", steps=2, adjoint=adjoint).ys
    ys.abs().sum().backward()
    assert seen == {(dtype, dtype.to_real() if dtype.is_complex else dtype)}
    assert (ys.dtype, y0.grad.dtype, rate.grad.dtype) == (dtype,) * 3
    assert abs(complex(ys[-1, 0].detach()) - math.exp(-0.25)) < max(1e-4, 2 * torch.finfo(dtype).eps)
    assert abs(complex(rate.grad) + 1.5 * math.exp(-0.25)) < max(1e-3, 8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_parameter_gradients_of_half_precision_are_summed_in_single(dtype: torch.dtype, adjoint: str) -> None:
    """1000 addends of 0.001: summed in half precision they would stop growing at 0.25 (bfloat16)."""
    slope = torch.tensor(1.0, dtype=dtype, requires_grad=True)
    y0 = torch.zeros((), dtype=dtype)
    ys = jo.solve(lambda t, y, p: p + 0 * y, y0, [0.0, 1.0], slope, method="euler", steps=1000, adjoint=adjoint).ys
    ys[-1].backward()
    assert abs(float(slope.grad) - 1.0) < 0.01


@pytest.mark.parametrize("adjoint", EXACT)
def test_the_states_of_a_mixed_precision_pytree_keep_their_dtypes(adjoint: str) -> None:
    y0 = (torch.ones(2, dtype=torch.float32, requires_grad=True), torch.ones(2, dtype=F64, requires_grad=True))

    def field(t: torch.Tensor, y: Any) -> Any:
        assert t.dtype == F64
        return -y[0], y[1] * y[0].double()

    ys = jo.solve(field, y0, [0.0, 1.0], method="rk4", steps=8, adjoint=adjoint).ys
    (ys[0].sum().double() + ys[1].sum()).backward()
    assert [leaf.dtype for leaf in ys] == [torch.float32, F64]
    assert [leaf.grad.dtype for leaf in y0] == [torch.float32, F64]
    assert math.isclose(float(ys[1][-1, 0].detach()), math.exp(1 - math.exp(-1)), rel_tol=1e-5)


@dataclasses.dataclass(frozen=True)
class Inner:
    """A node within a node."""

    rate: torch.Tensor


@dataclasses.dataclass
class State:
    """Not registered with any pytree library."""

    u: torch.Tensor
    inner: Inner


@pytest.mark.parametrize("adjoint", EXACT)
def test_dataclasses_are_pytrees(adjoint: str) -> None:
    u, rate, weight = vector(1.0, 0.5), vector(0.3), vector(0.2)

    def slopes(t: torch.Tensor, u: torch.Tensor, rate: torch.Tensor, weight: torch.Tensor) -> Any:
        return -rate * u * t, weight * rate

    def field(t: torch.Tensor, y: State, params: Inner) -> State:
        u, rate = slopes(t, y.u, y.inner.rate, params.rate)
        return State(u, Inner(rate))

    ys = jo.solve(field, State(u, Inner(rate)), [0.0, 1.0], Inner(weight), method="rk4", steps=2, adjoint=adjoint).ys
    expected = reference(lambda t, y, p: slopes(t, *y, p), (u, rate), [0.0, 1.0], weight, counts=(2,))
    assert (type(ys), type(ys.inner)) == (State, Inner)
    leaves = (u, rate, weight)
    assert_equal_gradients(gradients((ys.u, ys.inner.rate), leaves), gradients(expected, leaves))


def test_a_number_in_a_dataclass_is_refused_by_its_place() -> None:
    with pytest.raises(jo.InputError, match=r"y0\['inner'\]\['rate'\] must be a torch.Tensor; got float"):
        jo.solve(lambda t, y: y, State(vector(1.0), Inner(0.5)), [0.0, 1.0], steps=1)
