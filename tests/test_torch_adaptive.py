"""Adaptive steps in PyTorch: every preset against autograd through the same steps, and against NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import janode.numpy
import janode.torch as jo

from .adaptive_problems import PAIRS, PARAMS, PENDULUM, TIMES, Y0, pendulum

torch.set_num_threads(1)
PRESETS = ("stages", "aca", "symplectic", "restart", "revolve")
LOOSE = {"rtol": 1e-3, "atol": 1e-4}
STOPS = jo.PIController(step_ts=[0.7], jump_ts=[0.5, 1.1], first_step=1.0)


def cotangents(*shape: int) -> torch.Tensor:
    """A cotangent of the states."""
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape))


def network(t: torch.Tensor, y: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """A small network that depends on time."""
    return torch.tanh(y @ weights[0].T) @ weights[1].T * torch.cos(t)


def network_gradient(adjoint: str, times: str, save: str, **options: Any) -> tuple[jo.Stats, list[torch.Tensor]]:
    """The statistics, and the gradients of y0, ts and both weights."""
    rng = np.random.default_rng(1)
    y0, first, second = (torch.from_numpy(rng.normal(size=shape)) for shape in ((3, 4), (6, 4), (4, 6)))
    leaves = [y0, torch.tensor(TIMES[times], dtype=torch.float64), first, second]
    for leaf in leaves:
        leaf.requires_grad_()
    solution = jo.solve(network, y0, leaves[1], leaves[2:], adjoint=adjoint, save=save, rtol=1e-4, atol=1e-5, **options)
    loss = (solution.ys * cotangents(*solution.ys.shape)).sum()
    return solution.stats, list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("stops", [None, STOPS], ids=["free", "stops"])
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("adjoint", PRESETS)
def test_presets_equal_autograd_through_the_steps(adjoint: str, save: str, times: str, stops: Any) -> None:
    options: dict[str, Any] = {"method": "dopri5", "controller": stops}
    stats, got = network_gradient(adjoint, times, save, **options)
    expected_stats, expected = network_gradient("backprop", times, save, **options)
    assert (stats.num_accepted, stats.num_rejected) == (expected_stats.num_accepted, expected_stats.num_rejected)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("method", PAIRS)
def test_every_pair(method: str, save: str) -> None:
    _, got = network_gradient("symplectic", "many", save, method=method)
    _, expected = network_gradient("backprop", "many", save, method=method)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("checkpoints", [2, 4, 6])
def test_thinned_records(checkpoints: int) -> None:
    _, got = network_gradient("symplectic", "many", "interpolate", method="bosh3", checkpoints=checkpoints)
    _, expected = network_gradient("symplectic", "many", "interpolate", method="bosh3")
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("method", PAIRS)
def test_steps_values_and_gradients_are_those_of_numpy(method: str, save: str, times: str) -> None:
    options: dict[str, Any] = {"method": method, "save": save, "controller": STOPS, **LOOSE}
    y0, params, ts = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (Y0, PARAMS, TIMES[times]))
    solution = jo.solve(pendulum, y0, ts, params, **options)
    expected, pullback = janode.numpy.solve_vjp(PENDULUM, Y0, TIMES[times], PARAMS, **options)
    assert solution.stats.num_accepted == expected.stats.num_accepted
    assert solution.stats.num_rejected == expected.stats.num_rejected
    np.testing.assert_allclose(solution.ys.detach().numpy(), expected.ys, rtol=1e-12, atol=1e-13)
    bar = cotangents(len(TIMES[times]), 2)
    got = torch.autograd.grad((solution.ys * bar).sum(), [y0, params, ts])
    gradients = pullback(bar.numpy())
    for one, other in zip(got, (gradients.y0, gradients.params, gradients.ts), strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-10, atol=1e-11)


class Module(torch.nn.Module):
    """A field with its own parameters, that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))
        self.times: list[float] = []

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.times.append(t.item())
        return self.rate * y * torch.cos(3.0 * t)


@pytest.mark.parametrize("adjoint", ["backprop", *PRESETS])
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("method", PAIRS)
def test_every_evaluation_is_counted_and_lies_inside(method: str, save: str, adjoint: str) -> None:
    field, ts = Module(), [-1.960768253878453, 0.5, 1.347893623613186]
    y0 = torch.ones(2, dtype=torch.float64, requires_grad=True)
    solution = jo.solve(field, y0, ts, method=method, save=save, adjoint=adjoint, **LOOSE)
    assert solution.stats.num_field_evals == len(field.times)
    solution.ys.sum().backward()
    assert solution.stats.num_field_evals == len(field.times)
    assert min(field.times) >= ts[0]
    assert max(field.times) <= ts[-1]
    exact = torch.exp(field.rate.detach() * (math.sin(3 * ts[-1]) - math.sin(3 * ts[0])) / 3)
    torch.testing.assert_close(solution.ys[-1].detach(), exact, rtol=0.25, atol=0.0)
    assert field.rate.grad is not None


@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("adjoint", ["backprop", *PRESETS])
def test_rows_behind_a_failure_have_no_gradient(adjoint: str, save: str) -> None:
    ts = torch.tensor([0.0, 0.5, 0.9, 1.5, 2.0], dtype=torch.float64, requires_grad=True)
    y0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    options: dict[str, Any] = {"on_failure": "return", "adjoint": adjoint, "save": save, "rtol": 1e-4}
    solution = jo.solve(lambda t, y, p: p * y * y, y0, ts, scale, **options)
    assert solution.status == 4
    assert torch.isnan(solution.ys[3:]).all()
    leaves = [y0, scale, ts]
    behind = torch.autograd.grad(solution.ys[3:].sum(), leaves, retain_graph=True)
    assert all(bool((bar == 0.0).all()) for bar in behind)
    y0_bar, _, ts_bar = torch.autograd.grad(solution.ys.sum(), leaves)
    torch.testing.assert_close(y0_bar, torch.tensor([1.0 + 4.0 + 100.0], dtype=torch.float64), rtol=3e-2, atol=0.0)
    expected = torch.tensor([-104.0, 4.0, 100.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(ts_bar, expected, rtol=3e-2, atol=0.0)


@pytest.mark.parametrize("adjoint", ["backprop", "symplectic"])
def test_failures_are_raised_with_what_is_known(adjoint: str) -> None:
    y0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
    with pytest.raises(jo.StepSizeUnderflow, match="the step size must stay above min_step") as caught:
        jo.solve(lambda t, y: y * y, y0, [0.0, 2.0], adjoint=adjoint)
    error = caught.value
    assert abs(error.time - 1.0) < 1e-5
    assert bool(torch.isfinite(error.last_good).all())
    assert error.step == error.counts.num_accepted
    with pytest.raises(jo.MaxStepsReached, match="within max_steps tries; it was not; got as far as t = ") as limited:
        jo.solve(lambda t, y: y * y, y0, [0.0, 2.0], adjoint=adjoint, max_steps=5)
    assert limited.value.counts.num_steps == 5


def test_float32_states_and_nanoseconds() -> None:
    """Times are Python floats: float32 could not tell them apart."""
    y0 = torch.ones(2, requires_grad=True)
    solution = jo.solve(lambda t, y: -1e9 * y, y0, [1.0, 1.0 + 1e-9, 1.0 + 3e-9])
    assert solution.ys.dtype == torch.float32
    expected = torch.exp(torch.tensor([0.0, -1.0, -3.0]))
    torch.testing.assert_close(solution.ys[:, 0].detach(), expected, rtol=2e-4, atol=0.0)
    solution.ys[-1].sum().backward()
    torch.testing.assert_close(y0.grad, torch.full((2,), math.exp(-3.0)), rtol=2e-4, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_a_jump_is_seen_from_its_own_side(dtype: torch.dtype) -> None:
    seen: list[torch.Tensor] = []

    def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        return torch.where(t < torch.tensor(0.3, dtype=dtype), 1.0, 3.0) * torch.ones_like(y)

    y0 = torch.zeros(2, dtype=dtype)
    solution = jo.solve(field, y0, [0.0, 1.0], controller=jo.PIController(jump_ts=[0.3]))
    torch.testing.assert_close(solution.ys[-1], torch.full((2,), 2.4, dtype=dtype))
    assert solution.stats.num_rejected == 0
    assert not any(bool(t == torch.tensor(0.3, dtype=dtype)) for t in seen)


@pytest.mark.parametrize("adjoint", PRESETS)
def test_complex_states(adjoint: str) -> None:
    def gradient(adjoint: str) -> tuple[torch.Tensor, ...]:
        y0 = torch.tensor([1.0 + 0.5j, -0.3j], dtype=torch.complex128, requires_grad=True)
        rate = torch.tensor(0.4 + 2.0j, dtype=torch.complex128, requires_grad=True)
        ts = torch.tensor([0.0, 0.8, 1.5], dtype=torch.float64, requires_grad=True)
        solution = jo.solve(lambda t, y, rate: rate * y * torch.cos(t) - 0.1 * y * y, y0, ts, rate, adjoint=adjoint)
        return torch.autograd.grad((solution.ys.abs() ** 2).sum(), [y0, rate, ts])

    for one, other in zip(gradient(adjoint), gradient("backprop"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_captured_tensor_gets_its_gradient() -> None:
    rate = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    solution = jo.solve(lambda t, y: -rate * y, torch.ones(2, dtype=torch.float64), [0.0, 0.5, 1.0])
    solution.ys[-1].sum().backward()
    torch.testing.assert_close(rate.grad, torch.tensor(-2 * math.exp(-0.5), dtype=torch.float64), rtol=1e-5, atol=0.0)


def test_a_state_that_does_not_move_is_solved_in_few_steps() -> None:
    solution = jo.solve(lambda t, y: torch.zeros_like(y), torch.ones(2, dtype=torch.float64), [0.0, 1e6])
    assert solution.stats.num_rejected == 0
    assert solution.stats.num_accepted < 20
    assert bool((solution.ys == 1.0).all())
