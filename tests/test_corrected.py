"""Corrections through a solve: their orders, the same numbers on every library, and what they leave alone and cost."""

from functools import cache
from typing import Any

import numpy as np
import pytest

import janode.numpy as jo
from janode.core import corrected
from janode.core.adjoint import RECOVERIES
from janode.core.corrections import trapezoid_weights
from janode.core.methods import find_method
from janode.core.multistep import Leapfrog

from .control_problems import PROBLEMS, Problem, T, exact
from .controlled import FIELD, LIBRARIES, Y0, P, assert_close, by_numpy, controls

NUMBERS = (80, 160, 320)

ORDERS = {
    ("leapfrog", "none"): 0,
    ("leapfrog", "filter"): 2,
    ("leapfrog", "filter_descent"): 1,
    ("leapfrog", "consistent"): 2,
    ("leapfrog", "adjoint_average"): 2,
    ("euler", "filter"): 1,
    ("euler", "consistent"): 1,
    ("midpoint", "none"): 0,
    ("midpoint", "filter"): 2,
    ("midpoint", "consistent"): 2,
    ("ralston", "none"): 0,
    ("ralston", "divide"): 1,
    ("ralston", "filter"): 2,
    ("ralston", "consistent"): 2,
    ("heun2", "none"): 2,
    ("heun2", "divide"): 2,
    ("heun2", "filter"): 2,
    ("heun2", "consistent"): 2,
    ("kutta3", "filter"): 3,
    ("kutta3", "consistent"): 3,
    ("rk4", "none"): 0,
    ("rk4", "divide"): 3,
    ("rk4", "filter"): 4,
    ("rk4", "consistent"): 4,
    ("dopri5", "none"): 0,
    ("dopri5", "filter"): 5,
    ("tsit5", "filter"): 5,
    ("ab2", "none"): 0,
    ("ab2", "filter"): 2,
    ("ab2", "consistent"): 2,
    ("ab3", "none"): 0,
    ("ab3", "filter"): 3,
    ("ab3", "consistent"): 3,
    ("ab4", "none"): 0,
    ("ab4", "filter"): 4,
    ("ab4", "consistent"): 4,
}


def by_solver(problem: Problem, method: Any, num_steps: int, correction: str) -> tuple[np.ndarray, np.ndarray]:
    """(times, g at these times), g being the gradient that a solve gives its controls over the trapezoid weights."""
    field = jo.Field(lambda t, z, u: problem.f(z, u), lambda t, z, u, f_bar: (None, *problem.pull(z, u, f_bar)))
    times = np.array(jo.control_times(method, [0.0, T], steps=num_steps))
    options: dict[str, Any] = {"method": method, "steps": num_steps, "correction": correction}
    solution, pullback = jo.solve_vjp(field, problem.z0, [0.0, T], controls=problem.theta(times), **options)
    gradient = pullback(np.stack([0.0 * problem.z0, problem.loss_bar(solution.ys[-1])])).controls
    return times, gradient / np.array(trapezoid_weights(times.tolist()))[:, None]


@cache
def slope(problem: str, method: Any, correction: str) -> float:
    """The order of the largest error over all nodes."""
    errors = []
    for num_steps in NUMBERS:
        times, g = by_solver(PROBLEMS[problem], method, num_steps, correction)
        errors.append(np.max(np.abs(g - exact(problem).g(times))))
    return -float(np.polyfit(np.log(NUMBERS), np.log(errors), 1)[0])


@pytest.mark.parametrize("problem", ["affine", "tanh"])
@pytest.mark.parametrize(("method", "correction"), ORDERS)
def test_order(method: str, correction: str, problem: str) -> None:
    order = ORDERS[method, correction]
    assert slope(problem, method, correction) == pytest.approx(order, abs=0.15 if order else 0.05)


@pytest.mark.parametrize("problem", ["fast affine", "fast tanh"])
@pytest.mark.parametrize("method", ["dopri5", "tsit5"])
def test_order_of_consistent_at_inner_stages(method: str, problem: str) -> None:
    """Order 6, that of the interpolation, where it is the larger part of the error; 5 where the solve's is."""
    assert 4.85 < slope(problem, method, "consistent") < 6.15


@pytest.mark.parametrize("problem", ["affine", "tanh"])
@pytest.mark.parametrize("start", ["euler", "rk4"])
def test_order_of_a_smoothed_solve(start: str, problem: str) -> None:
    """Its exact gradient has order 2, whatever the start, away from the nodes of the start step."""
    errors = []
    for num_steps in NUMBERS:
        times, g = by_solver(PROBLEMS[problem], Leapfrog(start, "smoothed"), num_steps, "none")
        errors.append(np.max(np.abs(g - exact(problem).g(times))[5 if start == "rk4" else 0 :]))
    assert -np.polyfit(np.log(NUMBERS), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.15)


BASIS = (lambda t: np.ones_like(t), lambda t: np.cos(2.0 * t), lambda t: np.exp(-t))


@pytest.mark.parametrize("problem", ["affine", "tanh"])
@pytest.mark.parametrize("method", ["leapfrog", "midpoint", "ralston", "heun2", "kutta3", "rk4", "ab2", "ab3", "ab4"])
def test_controls_on_a_smooth_basis_need_no_correction(method: str, problem: str) -> None:
    """theta(t) = sum_k c_k phi_k(t): the exact gradient dL/dc_k of the solve converges at the method's order."""
    x, weights = np.polynomial.legendre.leggauss(40)
    expected = [np.sum((weights * phi(1.0 + x))[:, None] * exact(problem).g(1.0 + x), axis=0) for phi in BASIS]
    errors = []
    for num_steps in NUMBERS:
        times, g = by_solver(PROBLEMS[problem], method, num_steps, "none")
        raw = g * np.array(trapezoid_weights(times.tolist()))[:, None]
        found = [np.sum(phi(times)[:, None] * raw, axis=0) for phi in BASIS]
        errors.append(np.max(np.abs(np.array(found) - expected)))
    slope = -np.polyfit(np.log(NUMBERS), np.log(errors), 1)[0]
    assert slope == pytest.approx(find_method(method).order, abs=0.15), errors


def backward(problem: Problem) -> Problem:
    """The same solution run from t = T to 0 under the clock T - t."""
    return problem._replace(
        theta=lambda t: problem.theta(T - np.asarray(t)),
        f=lambda z, u: -problem.f(z, u),
        pull=lambda z, u, v: tuple(-bar for bar in problem.pull(z, u, v)),  # type: ignore[arg-type, return-value]
    )


@pytest.mark.parametrize(
    ("method", "correction"),
    [
        ("leapfrog", "filter"),
        ("leapfrog", "consistent"),
        ("midpoint", "filter"),
        ("rk4", "consistent"),
        ("ab2", "filter"),
    ],
)
def test_time_may_run_backward(method: str, correction: str) -> None:
    problem, steps = backward(PROBLEMS["tanh"]), 40
    field = jo.Field(lambda t, z, u: problem.f(z, u), lambda t, z, u, f_bar: (None, *problem.pull(z, u, f_bar)))
    times = np.array(jo.control_times(method, [T, 0.0], steps=steps))
    options: dict[str, Any] = {"method": method, "steps": steps, "correction": correction}
    solution, pullback = jo.solve_vjp(field, problem.z0, [T, 0.0], controls=problem.theta(times), **options)
    found = pullback(np.stack([0.0 * problem.z0, problem.loss_bar(solution.ys[-1])])).controls
    forward_times, g = by_solver(PROBLEMS["tanh"], method, steps, correction)
    expected = g * np.array(trapezoid_weights(forward_times.tolist()))[:, None]
    np.testing.assert_allclose(times, T - forward_times, atol=1e-15)
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-13)


SMOOTH = ("leapfrog", "midpoint", "ralston", "rk4", "dopri5", "ab2", "ab4")


@pytest.mark.parametrize("num_steps", [40, 160])
@pytest.mark.parametrize("method", SMOOTH)
def test_a_corrected_gradient_predicts_the_loss_along_smooth_directions(method: str, num_steps: int) -> None:
    """sum_k w_k g_k . dtheta_k = dL + O(h), as of the exact gradient, so step sizes keep their meaning."""
    times, raw = by_solver(PROBLEMS["tanh"], method, num_steps, "none")
    _, g = by_solver(PROBLEMS["tanh"], method, num_steps, "auto")
    weights = np.array(trapezoid_weights(times.tolist())) * np.cos(times)
    exact_change, change = (np.sum(weights[:, None] * rows) for rows in (raw, g))
    assert change == pytest.approx(exact_change, rel=0.25 / num_steps)


# One gradient for all libraries and presets.

NAMED = sorted({(method, name) for method, name in ORDERS if name != "none"} | {("dopri5", "consistent")})
OPTIONS = {"ts": [1.0, 0.0], "ys_bar": np.array([[0.0, 0.0], [0.4, -1.0]])}
STEPS = 24


def arguments(method: str, correction: str) -> dict[str, Any]:
    count = len(jo.control_times(method, [0.0, 1.0], steps=STEPS))
    return {**OPTIONS, "u": controls(count), "method": method, "steps": STEPS, "correction": correction}


@cache
def reference(method: str, correction: str) -> Any:
    return by_numpy(**arguments(method, correction))


@pytest.mark.parametrize(("method", "correction"), NAMED)
def test_torch_agrees_with_numpy(method: str, correction: str) -> None:
    assert_close(LIBRARIES["torch"](**arguments(method, correction)), reference(method, correction), 1e-11)


@pytest.mark.parametrize(
    ("method", "correction"),
    [
        *(case for case in NAMED if case[0] in ("leapfrog", "midpoint", "ab3")),
        ("ralston", "divide"),
        ("rk4", "consistent"),
        ("dopri5", "filter"),
    ],
)
def test_jax_agrees_with_numpy(method: str, correction: str) -> None:
    """Under jit and grad, with times that are traced."""
    assert_close(LIBRARIES["jax"](**arguments(method, correction)), reference(method, correction), 1e-11)


@pytest.mark.parametrize("adjoint", RECOVERIES)
@pytest.mark.parametrize(("method", "correction"), [case for case in NAMED if case[0] in ("leapfrog", "rk4", "ab3")])
def test_every_adjoint_gives_the_same_correction(method: str, correction: str, adjoint: str) -> None:
    found = by_numpy(**arguments(method, correction), adjoint=adjoint)
    assert_close(found, reference(method, correction), 1e-14)


@pytest.mark.parametrize("adjoint", [name for name in RECOVERIES if name != "backprop"])
@pytest.mark.parametrize("correction", ["filter", "consistent", "adjoint_average"])
def test_every_adjoint_of_torch_gives_the_same_correction(correction: str, adjoint: str) -> None:
    found = LIBRARIES["torch"](**arguments("leapfrog", correction), adjoint=adjoint)
    assert_close(found, reference("leapfrog", correction), 1e-12)


@pytest.mark.parametrize(("method", "correction"), NAMED)
def test_other_gradients_stay_exact(method: str, correction: str) -> None:
    for found, expected in zip(reference(method, correction)[:3], reference(method, "none")[:3], strict=True):
        np.testing.assert_array_equal(found, expected)
    is_corrected = np.max(np.abs(reference(method, correction)[3] - reference(method, "none")[3])) > 1e-4
    assert is_corrected == ((method, correction) != ("heun2", "divide"))  # which has those weights already


@pytest.mark.parametrize("method", ["leapfrog", "midpoint", "dopri5", "ab2", "ab3", "ab4"])
def test_auto_is_the_consistent_one(method: str) -> None:
    np.testing.assert_array_equal(reference(method, "auto")[3], reference(method, "consistent")[3])


def test_auto_of_a_smoothed_solve_is_its_exact_gradient() -> None:
    method = Leapfrog(ending="smoothed")
    options = {**OPTIONS, "u": controls(STEPS + 1), "method": method, "steps": STEPS}
    np.testing.assert_array_equal(by_numpy(**options, correction="auto")[3], by_numpy(**options)[3])


def test_consistent_leapfrog_is_the_exact_gradient_of_a_smoothed_solve() -> None:
    """The same cotangent of the end; but for it the solves are one."""
    smoothed = by_numpy(**{**arguments("leapfrog", "none"), "method": Leapfrog(ending="smoothed")})
    np.testing.assert_allclose(reference("leapfrog", "consistent")[3], smoothed[3], rtol=0.0, atol=1e-15)


# Costs.


def extra(method: str, correction: str) -> int:
    """How many more VJPs a correction takes than the exact gradient."""
    counts = []
    for name in ("none", correction):
        options = arguments(method, name)
        ts, u, ys_bar = (options.pop(key) for key in ("ts", "u", "ys_bar"))
        calls = []

        def vjp(*args: Any, calls: list[Any] = calls) -> Any:
            calls.append(args)
            return FIELD.vjp(*args)

        solution, pullback = jo.solve_vjp(
            jo.Field(FIELD.fn, vjp), Y0, ts, P, controls=u, adjoint="symplectic", **options
        )
        pullback(ys_bar)
        assert solution.stats.num_vjps == len(calls)
        counts.append(len(calls))
    return counts[1] - counts[0]


def allowed(method: str, correction: str) -> int:
    if correction == "consistent":
        return len(jo.control_times(method, [0.0, 1.0], steps=STEPS))
    if correction == "adjoint_average":
        return STEPS + 1
    return 2 if method.startswith("ab") else 0


@pytest.mark.parametrize(("method", "correction"), NAMED)
def test_cost(method: str, correction: str) -> None:
    assert 0 <= extra(method, correction) <= allowed(method, correction)


# The limits of each formula.


def least_steps(method: str, correction: str) -> int:
    return corrected._corrections(find_method(method))[correction].least_steps


@pytest.mark.parametrize(("method", "correction"), NAMED)
def test_the_least_number_of_steps_is_enough(method: str, correction: str) -> None:
    steps = least_steps(method, correction)
    u = np.ones(len(jo.control_times(method, [0.0, 1.0], steps=steps)))
    field = jo.Field(lambda t, y, u: u * y, lambda t, y, u, f_bar: (None, u * f_bar, np.sum(y * f_bar)))
    options: dict[str, Any] = {"method": method, "steps": steps, "correction": correction}
    _, pullback = jo.solve_vjp(field, np.ones(1), [0.0, 1.0], controls=u, **options)
    assert np.all(np.isfinite(pullback(np.array([[0.0], [1.0]])).controls))


# What must be caught.


def test_a_correction_where_the_exact_gradient_was_asked_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    find = corrected.find_correction
    expected = by_numpy(**arguments("leapfrog", "none"))
    monkeypatch.setattr(corrected, "find_correction", lambda where, name, sweep: find(where, "filter", sweep))
    with pytest.raises(AssertionError):
        assert_close(by_numpy(**arguments("leapfrog", "none")), expected, 1e-11)
