"""Residual stacks in the core, and the reports on them: distance to the ODE, errors of the way back."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import janode.torch as jo
from janode.backends.registry import find_backend
from janode.core.records import Carries
from janode.core.residual import SCHEMES, Stack, check_stack
from tests.torch_oracle import F64, one_thread

__all__ = ["one_thread"]


class Diagonal:
    """f_n(x) = rate x^2 / 2 in NumPy, with its evaluations counted; the gradient of the rate is what a block gets."""

    needs_time = False

    def __init__(self) -> None:
        self.values = self.linearizations = 0

    def __call__(self, t: None, y: Any, rate: float) -> Any:
        self.values += 1
        return (rate * y[0] ** 2 / 2,)

    def linearize(self, t: None, y: Any, rate: float) -> Any:
        self.linearizations += 1

        class Linear:
            f = (rate * y[0] ** 2 / 2,)

            @staticmethod
            def pull(f_bar: Any) -> Any:
                return None, (rate * y[0] * f_bar[0],), (np.sum(y[0] ** 2 / 2 * f_bar[0]),)

        return Linear


RATES = [0.3, -0.5, 0.7, 0.2, 0.1]
COSTS = {  # evaluations without and with a VJP: forward, back from kept states, back without
    "euler": ((5, 0), (0, 5), (5, 5)),
    "heun": ((10, 0), (5, 10), (15, 10)),
    "leapfrog": ((5, 0), (0, 5), (0, 5)),
}


def stack_of(scheme: str) -> Stack:
    rows = (RATES, [*RATES[1:], RATES[-1]])
    return Stack(find_backend("numpy"), SCHEMES[scheme], Diagonal(), 0.2, len(RATES), rows)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_costs_are_those_documented(scheme: str) -> None:
    x = (np.array([0.4, -0.8]),)
    stack = stack_of(scheme)
    field: Any = stack.field
    counts = []

    def note() -> None:
        counts.append((field.values, field.linearizations))
        field.values = field.linearizations = 0

    last, records = stack.forward(x, Carries())
    note()
    stack.pull_kept(records, stack.start_bars((np.ones(2),), ()))
    note()
    stack.pull_reconstructed(last, stack.start_bars((np.ones(2),), ()))
    note()
    assert tuple(counts) == COSTS[scheme]


def test_prediction_takes_one_evaluation_a_step_at_the_predicted_state() -> None:
    x, stack, lam = np.array([0.4, -0.8]), stack_of("euler"), np.array([1.0, 2.0])
    field: Any = stack.field
    last, _ = stack.forward((x,), Carries())
    field.values = field.linearizations = 0
    first, bars, (sent,) = stack.pull_predicted(last, stack.start_bars((lam,), ()))
    assert (field.values, field.linearizations) == (1, 5)
    ((y,),), rate_bars = last, []
    slope = RATES[-1] * y**2 / 2
    for rate in reversed(RATES):
        predicted = y - 0.2 * slope
        slope = rate * predicted**2 / 2
        rate_bars.append(np.sum(predicted**2 / 2 * 0.2 * lam))
        y, lam = y - 0.2 * slope, lam + 0.2 * rate * predicted * lam
    np.testing.assert_allclose(first[0][0], y, rtol=1e-14)
    np.testing.assert_allclose(bars.carry[0][0], lam, rtol=1e-14)
    np.testing.assert_allclose([float(stage[0]) for (stage,) in sent], rate_bars[::-1], rtol=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pullback_is_the_derivative_by_complex_steps(scheme: str) -> None:
    x = np.array([0.4, -0.8])
    stack = stack_of(scheme)
    _last, records = stack.forward((x,), Carries())
    bars, _ = stack.pull_kept(records, stack.start_bars((np.array([1.0, 2.0]),), ()))
    pushed = [stack.run((x + 1e-20j * e,))[0].imag / 1e-20 for e in np.eye(2)]
    expected = [np.dot([1.0, 2.0], column) for column in pushed]
    np.testing.assert_allclose(stack.method.start_vjp(bars.carry)[0], expected, rtol=1e-13)


def test_step_is_one_over_the_depth_by_default() -> None:
    assert check_stack("here", 8, "euler", "reconstruct", None) == 0.125


class Smooth(torch.nn.Module):
    """a(t) x + b(t), linear between the nodes of any depth."""

    def __init__(self, t: float) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(1.0 - t, dtype=F64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * x


@pytest.mark.parametrize("depth", [10, 40])
def test_gap_is_the_distance_to_the_solution(depth: int) -> None:
    stack, x = jo.ResidualStack([Smooth(n / depth) for n in range(depth)]), torch.ones(1, dtype=F64)
    gap = jo.ode_gap(stack, x)
    h = 1.0 / depth
    # dx/dt = a(t) x, a = 1 - t up to the last node and constant behind it
    exact = [math.exp(n * h - (n * h) ** 2 / 2) for n in range(depth)]
    exact.append(exact[-1] * math.exp(h * h))
    steps = np.cumprod([1.0] + [1.0 + h * (1.0 - n * h) for n in range(depth)])
    np.testing.assert_allclose(gap.distances, np.abs(steps - exact), atol=1e-9)
    assert gap.distance == pytest.approx(max(gap.distances))
    assert gap.relative == pytest.approx(gap.distance / max(exact))
    assert gap.lipschitz == pytest.approx(1.0, rel=1e-6)
    assert gap.acceleration == pytest.approx(math.exp(0.5), rel=0.03)  # |a^2 + a'| x at t = 1
    assert gap.distance <= gap.bound <= h / 2 * math.expm1(1.0) * gap.acceleration * 1.001
    assert gap.smoothness == pytest.approx(1.0)
    halves = np.prod([1.0 + h / 2 * max(1.0 - m * h / 2, h) for m in range(2 * depth)])
    assert gap.doubling == pytest.approx(abs(halves - steps[-1]), rel=1e-9)


@pytest.mark.parametrize("scheme", ["heun", "leapfrog"])
def test_gap_of_schemes_of_second_order_falls_fourfold(scheme: str) -> None:
    def distance(depth: int) -> float:
        stack = jo.ResidualStack([Smooth(n / depth) for n in range(depth)], scheme)
        return jo.ode_gap(stack, torch.ones(1, dtype=F64)).distance

    assert 3.5 < distance(20) / distance(40) < 4.6


def test_blocks_of_other_shapes_have_no_smoothness() -> None:
    stack = jo.ResidualStack([torch.nn.Linear(2, 2), torch.nn.Tanh()])
    assert jo.ode_gap(stack, torch.ones(1, 2)).smoothness is None
    assert jo.ode_gap(jo.ResidualStack([torch.nn.Tanh()]), torch.ones(1, 2)).smoothness == 0.0


def test_too_few_substeps_are_refused() -> None:
    with pytest.raises(jo.InputError, match="ode_gap: substeps must be at least 1; got 0"):
        jo.ode_gap(jo.ResidualStack([torch.nn.Tanh()]), torch.ones(2), substeps=0)


def blocks() -> list[torch.nn.Module]:
    return [torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).double() for _ in range(6)]


def test_reconstruction_errors_are_those_of_the_inverse_steps() -> None:
    stack, x = jo.ResidualStack([torch.nn.Linear(3, 3).double() for _ in range(6)]), torch.randn(4, 3, dtype=F64)
    errors = jo.reconstruction_errors(stack, x)
    with torch.no_grad():
        states = [x]
        for block in stack.blocks:
            states.append(states[-1] + block(states[-1]) / 6)
        y, expected = states[-1], []
        for block, state in zip(reversed(stack.blocks), reversed(states[:-1]), strict=True):
            y = y - block(y) / 6
            expected.insert(0, float((y - state).norm() / state.norm()))
    assert errors == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("own", "used"), [("reconstruct", "reconstruct"), ("predict", "predict"), ("symplectic", "reconstruct")]
)
def test_gradient_gap_compares_with_the_exact_gradient(own: str, used: str) -> None:
    stack, x = jo.ResidualStack([torch.nn.Linear(3, 3).double() for _ in range(6)]), torch.randn(4, 3, dtype=F64)
    found, error = {}, None
    for adjoint in (used, "backprop"):
        stack.adjoint, start = adjoint, x.clone().requires_grad_()
        with pytest.warns(RuntimeWarning) if adjoint == used else torch.enable_grad():
            bars = torch.autograd.grad((stack(start) ** 2).sum() / 2, [start, *stack.parameters()])
        found[adjoint] = torch.cat([bar.reshape(-1) for bar in bars])
        error = stack.stats.reconstruction_error if adjoint == used else error
    near, exact = found[used], found["backprop"]
    stack.adjoint = own
    gap = jo.gradient_gap(stack, x)
    assert gap.relative_error == pytest.approx(float((near - exact).norm() / exact.norm()), rel=1e-9)
    assert gap.cosine == pytest.approx(float(near @ exact / near.norm() / exact.norm()), rel=1e-9)
    assert gap.reconstruction_error == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("report", [jo.ode_gap, jo.reconstruction_errors, jo.gradient_gap, jo.kept_bytes])
def test_reports_leave_statistics_and_random_numbers_alone(report: Any) -> None:
    parts = [*blocks(), torch.nn.Dropout(0.1)]
    stack, x = jo.ResidualStack(parts), torch.randn(4, 3, dtype=F64)
    before = {name: buffer.clone() for name, buffer in stack.named_buffers()}
    state = torch.get_rng_state()
    report(stack, x)
    torch.testing.assert_close(dict(stack.named_buffers()), before)
    assert stack.training
    assert stack.stats.reconstruction_error is None
    if report is not jo.kept_bytes:
        assert torch.equal(torch.get_rng_state(), state)


def test_kept_bytes_count_states_and_activations() -> None:
    stack, x = jo.ResidualStack([torch.nn.Tanh() for _ in range(10)]), torch.ones(25, dtype=F64)
    assert jo.kept_bytes(stack, x) == {"reconstruct": 200, "predict": 200, "symplectic": 2000, "backprop": 2000}
