"""Corrections where the loss reads the states at several times: g jumps there, and the orders hold on both sides."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

import janode.numpy as jo
from janode.core.corrected import _corrections
from janode.core.corrections import trapezoid_weights
from janode.core.methods import find_method
from janode.core.multistep import Leapfrog

from .control_problems import PROBLEMS, exact, observed_p
from .controlled import FIELD, LIBRARIES, Y0, P, assert_close, by_numpy, controls

EQUAL = (0.0, 2 / 3, 4 / 3, 2.0)
UNEQUAL = (0.0, 0.5, 1.4, 2.0)
SIZES = (1.0, -0.6, 0.8)
"""How much of the loss is read at each of the three times."""


def found_g(problem: str, method: Any, steps: int, correction: str, ts: Any) -> tuple[np.ndarray, np.ndarray]:
    """(times, gradient over the weights)."""
    p = PROBLEMS[problem]
    field = jo.Field(lambda t, z, u: p.f(z, u), lambda t, z, u, f_bar: (None, *p.pull(z, u, f_bar)))
    times = np.array(jo.control_times(method, ts, steps=steps))
    options: dict[str, Any] = {"method": method, "steps": steps, "correction": correction}
    solution, pullback = jo.solve_vjp(field, p.z0, ts, controls=p.theta(times), **options)
    bars = [size * p.loss_bar(z) for size, z in zip(SIZES, solution.ys[1:], strict=True)]
    gradient = pullback(np.stack([np.zeros_like(p.z0), *bars])).controls
    return times, gradient / np.array(trapezoid_weights(times.tolist()))[:, None]


def exact_g(problem: str, times: np.ndarray, ts: Any) -> np.ndarray:
    """At ts the mean of both sides, weighted as the trapezoid rule weights the intervals between nodes there."""
    p, z = PROBLEMS[problem], exact(problem).z
    costate = observed_p(problem, ts[1:], [size * p.loss_bar(z(t)) for size, t in zip(SIZES, ts[1:], strict=True)])
    before, behind = (p.pull(z(times), p.theta(times), costate(times, side))[1] for side in (True, False))
    gaps = np.diff(times) / 2
    left, right = np.append(0.0, gaps), np.append(gaps, 0.0)
    return (left[:, None] * before + right[:, None] * behind) / (left + right)[:, None]


ORDERS: dict[tuple[Any, str], int] = {
    ("leapfrog", "filter"): 2,
    ("leapfrog", "consistent"): 2,
    ("leapfrog", "adjoint_average"): 2,
    (Leapfrog("rk4"), "filter"): 2,
    (Leapfrog("rk4"), "consistent"): 2,
    (Leapfrog("rk4"), "adjoint_average"): 2,
    (Leapfrog("midpoint"), "consistent"): 2,
    (Leapfrog(ending="smoothed"), "none"): 2,
    (Leapfrog("rk4", "smoothed"), "consistent"): 2,
    ("euler", "filter"): 1,
    ("euler", "consistent"): 1,
    ("midpoint", "filter"): 2,
    ("midpoint", "consistent"): 2,
    ("ralston", "filter"): 2,
    ("ralston", "consistent"): 2,
    ("leapfrog", "filter_descent"): 1,
    ("ralston", "divide"): 1,
    ("heun2", "filter"): 2,
    ("heun2", "consistent"): 2,
    ("heun2", "divide"): 2,
    ("kutta3", "filter"): 3,
    ("kutta3", "consistent"): 3,
    ("rk4", "filter"): 4,
    ("rk4", "consistent"): 4,
    ("rk4", "divide"): 3,
    ("dopri5", "filter"): 5,
    ("tsit5", "filter"): 5,
    ("ab2", "filter"): 2,
    ("ab2", "consistent"): 2,
    ("ab3", "filter"): 3,
    ("ab3", "consistent"): 3,
    ("ab4", "filter"): 4,
    ("ab4", "consistent"): 4,
}


def has_equal_steps(method: Any) -> bool:
    return bool(find_method(method).needs_equal_steps)


@cache
def slopes(problem: str, method: Any, correction: str, numbers: Sequence[int]) -> dict[str, float]:
    """The orders of the largest errors away from the times at which the loss reads the states, and there."""
    ts = EQUAL if has_equal_steps(method) else UNEQUAL
    found: dict[str, list[float]] = {"away": [], "at": []}
    for steps in numbers:
        times, g = found_g(problem, method, steps, correction, ts)
        error = np.max(np.abs(g - exact_g(problem, times, ts)), axis=1)
        is_at = np.min(np.abs(times[:, None] - np.array(ts[1:-1])), axis=1) < 1e-9
        assert np.sum(is_at) == 2
        found["away"].append(float(np.max(error[~is_at])))
        found["at"].append(float(np.max(error[is_at])))
    return {where: -float(np.polyfit(np.log(numbers), np.log(errors), 1)[0]) for where, errors in found.items()}


@pytest.mark.parametrize("where", ["away", "at"])
@pytest.mark.parametrize("problem", ["affine", "tanh"])
@pytest.mark.parametrize(("method", "correction"), ORDERS, ids=str)
def test_order(method: Any, correction: str, problem: str, where: str) -> None:
    order = ORDERS[method, correction]
    # Formulas of order 5 show it late where the controls vary, and drown in rounding soon where they hardly do.
    fifth = (64, 128, 256) if problem == "tanh" else (20, 40, 80)
    numbers = {5: fifth, 4: (26, 52, 104)}.get(order, (28, 56, 112))
    assert slopes(problem, method, correction, numbers)[where] == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("correction", ["filter", "consistent", "adjoint_average"])
@pytest.mark.parametrize("method", ["leapfrog", Leapfrog("rk4")], ids=str)
def test_order_of_leapfrog_with_an_odd_number_of_steps(method: Any, correction: str) -> None:
    """The sawtooth has the other sign at each of the times."""
    found = slopes("tanh", method, correction, (27, 55, 111))
    assert list(found.values()) == pytest.approx([2.0, 2.0], abs=0.15)


@pytest.mark.parametrize("problem", ["fast affine", "fast tanh"])
@pytest.mark.parametrize("method", ["dopri5", "tsit5"])
def test_order_of_consistent_at_inner_stages(method: str, problem: str) -> None:
    """6, that of the interpolation, where it is the larger part of the error; 5 where the solve's is."""
    found = slopes(problem, method, "consistent", (20, 40, 80))
    assert 4.85 < found["at"] < 6.15
    assert 4.85 < found["away"] < 6.15


@pytest.mark.parametrize("method", ["midpoint", "rk4", "leapfrog"])
def test_the_exact_gradient_does_not_converge(method: str) -> None:
    assert abs(slopes("tanh", method, "none", (28, 56, 112))["away"]) < 0.05


@pytest.mark.parametrize("method", ["leapfrog", "heun2", "rk4"])
def test_a_running_cost_read_at_every_step(method: str) -> None:
    """L = integral of |z|^2 / 2 by the trapezoid rule: a jump of O(h) at every step, and g between is their mean."""
    problem, found, numbers = PROBLEMS["tanh"], [], (40, 80, 160)
    field = jo.Field(lambda t, z, u: problem.f(z, u), lambda t, z, u, f_bar: (None, *problem.pull(z, u, f_bar)))
    for steps in (*numbers, 1280):
        ts = np.linspace(0.0, 2.0, steps + 1)
        times = np.array(jo.control_times(method, ts, steps=1))
        options: dict[str, Any] = {"method": method, "steps": 1, "correction": "consistent"}
        solution, pullback = jo.solve_vjp(field, problem.z0, ts, controls=problem.theta(times), **options)
        gradient = pullback(np.array(trapezoid_weights(ts.tolist()))[:, None] * solution.ys).controls
        g = gradient / np.array(trapezoid_weights(times.tolist()))[:, None]
        common = [np.argmin(np.abs(times - t)) for t in np.arange(1, 20) / 10]
        found.append(g[common])
    errors = [np.max(np.abs(g - found[-1])) for g in found[:-1]]
    assert -np.polyfit(np.log(numbers), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.15)


# The same on all libraries, and at which cost.

STEPS = 20
TS = (1.0, 0.6, 0.2, -0.2)
YS_BAR = np.random.default_rng(5).standard_normal((4, 2))
NAMED = list(ORDERS)


def arguments(method: Any, correction: str, steps: int = STEPS) -> dict[str, Any]:
    count = len(jo.control_times(method, TS, steps=steps))
    return {
        "ts": list(TS),
        "ys_bar": YS_BAR,
        "u": controls(count),
        "method": method,
        "steps": steps,
        "correction": correction,
    }


@cache
def reference(method: Any, correction: str) -> Any:
    return by_numpy(**arguments(method, correction))


@pytest.mark.parametrize(("method", "correction"), NAMED, ids=str)
def test_torch_agrees_with_numpy(method: Any, correction: str) -> None:
    assert_close(LIBRARIES["torch"](**arguments(method, correction)), reference(method, correction), 1e-11)


IN_JAX = [case for case in NAMED if case[0] in ("leapfrog", "rk4", "ab3", Leapfrog("rk4"))]


@pytest.mark.parametrize(
    ("method", "correction"), [*IN_JAX, ("ralston", "divide"), ("midpoint", "consistent")], ids=str
)
def test_jax_agrees_with_numpy(method: Any, correction: str) -> None:
    """Under jit and grad, with times that are traced."""
    assert_close(LIBRARIES["jax"](**arguments(method, correction)), reference(method, correction), 1e-11)


@pytest.mark.parametrize(("method", "correction"), NAMED, ids=str)
def test_other_gradients_stay_exact(method: Any, correction: str) -> None:
    for found, expected in zip(reference(method, correction)[:3], reference(method, "none")[:3], strict=True):
        np.testing.assert_array_equal(found, expected)


def num_vjps(method: Any, correction: str) -> int:
    options = arguments(method, correction)
    ts, u, ys_bar = (options.pop(key) for key in ("ts", "u", "ys_bar"))
    solution, pullback = jo.solve_vjp(FIELD, Y0, ts, P, controls=u, **options)
    pullback(ys_bar)
    return solution.stats.num_vjps


NUM_NODES = {method: len(jo.control_times(method, TS, steps=STEPS)) for method, _ in ORDERS}
NUM_INNER_TS = 2
COSTS = {
    ("leapfrog", "consistent"): 3 * STEPS + 1,
    ("leapfrog", "adjoint_average"): 3 * STEPS + 1 + NUM_INNER_TS,
    (Leapfrog("rk4"), "consistent"): 3 * STEPS + 4,
    ("rk4", "consistent"): NUM_NODES["rk4"] + NUM_INNER_TS,
    ("midpoint", "consistent"): NUM_NODES["midpoint"] + NUM_INNER_TS,
    ("heun2", "consistent"): NUM_NODES["heun2"] + NUM_INNER_TS,
    ("ab2", "consistent"): 3 * (STEPS + 1),
    ("ab3", "consistent"): 3 * (STEPS + 4),
    ("ab4", "consistent"): 3 * (STEPS + 4),
    **{(f"ab{order}", "filter"): 4 for order in (2, 3, 4)},
    **{(method, "filter"): 0 for method in ("leapfrog", "midpoint", "rk4")},
    ("heun2", "divide"): 0,
}


@pytest.mark.parametrize(("method", "correction"), COSTS, ids=str)
def test_cost(method: Any, correction: str) -> None:
    """One VJP per node, and one more where the loss reads the states between: g has two values there."""
    assert num_vjps(method, correction) - num_vjps(method, "none") == COSTS[method, correction]


# The least number of steps.

LEAST = {
    (method, correction): _corrections(find_method(method))[correction].least_steps
    for method, correction in ORDERS
    if correction != "none"
}


@pytest.mark.parametrize(("method", "correction"), LEAST, ids=str)
def test_the_least_number_of_steps_is_enough(method: Any, correction: str) -> None:
    steps = LEAST[method, correction]
    assert all(np.all(np.isfinite(part)) for part in by_numpy(**arguments(method, correction, steps)))


@pytest.mark.parametrize(("method", "correction"), [case for case in LEAST if LEAST[case] > 1], ids=str)
def test_one_step_too_few_is_refused(method: Any, correction: str) -> None:
    steps = LEAST[method, correction]
    text = rf"correction '{correction}' for method '.*' must have at least {steps} steps between neighbouring ts; got"
    with pytest.raises(jo.InputError, match=text):
        by_numpy(**arguments(method, correction, steps - 1))


def test_what_can_be_had_with_few_steps_is_named() -> None:
    text = r'at least 4 steps between neighbouring ts; got 1. Take more steps, or correction="consistent"'
    with pytest.raises(jo.InputError, match=text):
        by_numpy(**arguments("rk4", "filter", 1))
