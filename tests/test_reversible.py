"""Reversible methods: their steps, order, inverse, cost and exact gradients under every adjoint."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import janode.array as jo
import janode.jax
import janode.numpy
import janode.torch
from janode.backends.numpy import BACKEND
from janode.core.adjoint import RECOVERIES
from janode.core.controls import node_layout
from janode.core.methods import find_method
from janode.core.multistep import Leapfrog
from janode.core.reversible import AsynchronousLeapfrog, ReversibleCoupling
from janode.core.runge_kutta import RungeKutta
from janode.core.tableaus import DOPRI5, TABLEAUS

from .controlled import Y0 as CONTROLLED_Y0
from .controlled import P, by_numpy, controls, field_of, ys_bar_of
from .controlled import packed as packed_controls
from .problems import (
    FIELD,
    TARGETS,
    Y0,
    YS_BAR,
    A,
    B,
    Counted,
    Target,
    assert_close,
    pack,
    packed,
    params,
    value,
)
from .reversible_methods import COUPLED, LEAPFROGS, METHODS, textbook

PRESETS = [*RECOVERIES, "reversible", "reconstruct"]
TS = (0.25, 0.75, 1.25)
STEPS = 4
X = pack(Y0, {"A": A, "b": B}, TS)


def outputs(x: np.ndarray, method: Any, steps: int = STEPS) -> np.ndarray:
    theta = {"A": x[2:6].reshape(2, 2), "b": x[6]}
    return textbook(method, lambda t, y: value(t, y, theta), x[:2], x[7:], steps)


def gradient(x: np.ndarray, ys_bar: Any, method: Any, steps: int = STEPS) -> np.ndarray:
    """By complex steps, entry by entry."""
    return np.array([np.sum(ys_bar * outputs(x + 1e-30j * e, method, steps).imag) / 1e-30 for e in np.eye(len(x))])


def solve_vjp(method: Any, ts: Any = TS, target: Target = TARGETS["numpy-f64"], **options: Any) -> Any:
    return jo.solve_vjp(FIELD, target.array(Y0), ts, params(target), method=method, **{"steps": STEPS, **options})


# Steps.


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_solution_is_that_of_the_definition(method: str, target: Target) -> None:
    solution, _ = solve_vjp(METHODS[method], target=target)
    assert target.owns(solution.ys)
    assert_close(solution.ys, outputs(X, METHODS[method]))


REFERENCE = jo.solve(FIELD, Y0, TS, params(), method="dopri8", steps=200).ys


@pytest.mark.parametrize("method", [*METHODS, "reversible(heun3)"])
def test_order_on_a_problem_that_depends_on_time(method: str) -> None:
    found = METHODS.get(method) or find_method(method)
    numbers = (5, 10, 20) if found.order > 3 else (20, 40, 80, 160)
    errors = [np.max(np.abs(jo.solve(FIELD, Y0, TS, params(), method=found, steps=n).ys - REFERENCE)) for n in numbers]
    slope = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    # On this problem the leading error of coupled Tsit5 is tiny at h = 0.1: it gains more than its order.
    assert found.order - 0.15 < slope < found.order + (1.1 if found.order == 5 else 0.25), errors


@pytest.mark.parametrize("method", ["alf", "reversible_heun"])
def test_a_solve_goes_on_across_its_times(method: str) -> None:
    """A time between two steps changes nothing: no new start there."""
    ts = np.linspace(0.25, 1.25, 5)
    fine = jo.solve(FIELD, Y0, ts, params(), method=method, steps=2).ys
    coarse = jo.solve(FIELD, Y0, ts[[0, 4]], params(), method=method, steps=8).ys
    np.testing.assert_allclose(fine[-1], coarse[-1], rtol=1e-14)


# The inverse.


def run(requests: Any, c: Any, t: float, h: float) -> Any:
    f: Any = None
    try:
        for place in (*c, None):
            y = requests.send(f)
            assert place is not None
            f = (value(t + place * h, y[0], params()),)
    except StopIteration as done:
        return done.value


ALL = {**METHODS, **LEAPFROGS}


@pytest.mark.parametrize("method", ALL)
def test_a_step_back_undoes_a_step(method: str) -> None:
    h, num_steps = 0.05, 10
    steppers = [phase.stepper for phase in ALL[method].phases(num_steps) for _ in range(phase.num_steps)]
    carries = [ALL[method].start((Y0,))]
    for n, stepper in enumerate(steppers):
        carries.append(run(stepper.step(BACKEND, carries[-1], h), stepper.c, n * h, h))
    back = carries[-1]
    for n, stepper in reversed(list(enumerate(steppers))):
        assert stepper.inverse == "exact"
        back = run(stepper.step_back(BACKEND, back, h), stepper.c_back, n * h, h)
        # The first step does not read the last entry of its carry, so nothing has to come back there.
        read = slice(None) if n else (slice(1) if method in LEAPFROGS or "alf" in method else slice(2))
        np.testing.assert_allclose(back[read], carries[n][read], rtol=1e-13, atol=1e-14)


def test_what_cannot_be_undone_says_so() -> None:
    assert {phase.stepper.inverse for phase in AsynchronousLeapfrog(0.5).phases(4)} >= {None}


# Gradients.


def comparable(gradient: np.ndarray, method: Any, ts: Any = TS) -> np.ndarray:
    """For methods of equal steps the gradient of times along the motions that keep them equal: shift and stretch."""
    if not method.needs_equal_steps:
        return gradient
    ts_bar = gradient[7:].astype(float)
    return np.array([*gradient[:7], np.sum(ts_bar), np.sum(ts_bar * (np.array(ts) - ts[0]))], dtype=gradient.dtype)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_gradient_is_that_of_the_discrete_solution(method: str, preset: str) -> None:
    found = METHODS[method]
    _, pullback = solve_vjp(found, adjoint=preset)
    assert_close(comparable(packed(pullback(YS_BAR)), found), comparable(gradient(X, YS_BAR, found), found))


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_few_steps(method: str, steps: int) -> None:
    ts = (0.25, 0.5)
    _, pullback = solve_vjp(METHODS[method], ts, steps=steps, adjoint="reversible")
    x = pack(Y0, {"A": A, "b": B}, ts)
    assert_close(packed(pullback(YS_BAR[:2])), gradient(x, YS_BAR[:2], METHODS[method], steps))


@pytest.mark.parametrize("method", METHODS)
def test_gradient_backward_in_time(method: str) -> None:
    ts = TS[::-1]
    found = METHODS[method]
    _, pullback = solve_vjp(found, ts, adjoint="reversible")
    expected = gradient(pack(Y0, {"A": A, "b": B}, ts), YS_BAR, found)
    assert_close(comparable(packed(pullback(YS_BAR)), found, ts), comparable(expected, found, ts))


@pytest.mark.parametrize("method", ["reversible(euler)", "reversible(tsit5)"])
def test_a_coupling_takes_unequal_steps(method: str) -> None:
    ts = (0.25, 0.5, 1.5)
    _, pullback = solve_vjp(method, ts, adjoint="reversible")
    expected = gradient(pack(Y0, {"A": A, "b": B}, ts), YS_BAR, METHODS[method])
    assert_close(packed(pullback(YS_BAR)), expected)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("method", ["alf", "reversible_heun", "reversible(midpoint)"])
def test_gradient_on_every_target(method: str, target: Target) -> None:
    found = METHODS[method]
    _, pullback = solve_vjp(found, target=target, adjoint="reversible")
    gradients = pullback(target.array(YS_BAR))
    assert all(map(target.owns, (gradients.y0, gradients.params["A"], gradients.params["b"], gradients.ts)))
    assert_close(comparable(packed(gradients), found), comparable(gradient(X, YS_BAR, found), found))


CASES = [
    (method, adjoint, sampling)
    for method in ("alf", "reversible_heun", "reversible(heun2)", "reversible(dopri5)")
    for adjoint in ("symplectic", "reversible")
    for sampling in ("nodes", "steps")
]
CASES.remove(("reversible_heun", "reversible", "steps"))


@pytest.mark.parametrize(("method", "adjoint", "sampling"), CASES)
def test_gradient_of_controls(method: str, adjoint: str, sampling: str) -> None:
    ts, options = (0.0, 0.5, 1.0), {"method": method, "steps": 3, "sampling": sampling}
    count = node_layout("", find_method(method), 6, sampling).num_nodes
    u, direction = controls(count), controls(count, seed=1)
    found = by_numpy(ts, u, ys_bar_of(3), adjoint=adjoint, **options)[3]
    moved = jax.tree.map(lambda leaf, dot: leaf + 1e-30j * dot, u, direction)
    ys = jo.solve(field_of(np), CONTROLLED_Y0.astype(complex), ts, P.astype(complex), controls=moved, **options).ys
    expected = np.sum(ys_bar_of(3) * ys).imag / 1e-30
    np.testing.assert_allclose(np.sum(found * packed_controls(direction)), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("method", "per_step", "more"),
    [("alf", 1, 1), ("reversible_heun", 1, 1), ("reversible(heun2)", 1, 1), ("reversible(tsit5)", 9, 1)],
)
def test_number_of_nodes(method: str, per_step: int, more: int) -> None:
    """The two halves of a coupled step read the nodes at c and at 1 - c, which are one where they fall together."""
    times = janode.numpy.control_times(method, (0.0, 1.0), steps=6)
    assert len(times) == 6 * per_step + more
    assert np.min(np.diff(times)) > 1e-3


# Costs.


def evaluations(method: Any, num_steps: int) -> int:
    """One per step and one at the start; a coupling takes the stages of two steps."""
    if isinstance(method, ReversibleCoupling):
        return 2 * len(method.base.c) * num_steps
    return num_steps + 1


@pytest.mark.parametrize("method", METHODS)
def test_evaluations(method: str) -> None:
    counted = Counted()
    solution = jo.solve(counted.field, Y0, TS, params(), method=METHODS[method], steps=STEPS)
    assert counted.num_field_evals == solution.stats.num_field_evals == evaluations(METHODS[method], 2 * STEPS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_pulls_every_evaluation_back_once(method: str, preset: str) -> None:
    counted = Counted()
    solution, pullback = jo.solve_vjp(
        counted.field, Y0, TS, params(), method=METHODS[method], steps=STEPS, adjoint=preset
    )
    pullback(YS_BAR)
    assert counted.num_vjps == solution.stats.num_vjps == evaluations(METHODS[method], 2 * STEPS)


# Names, and what is refused.


def test_names_find_methods() -> None:
    assert [find_method(name) for name in ("alf", "reversible_heun")] == [METHODS["alf"], METHODS["reversible_heun"]]
    assert [find_method(f"reversible({name})") for name in COUPLED] == list(COUPLED.values())
    assert [method.name for method in COUPLED.values()] == [f"reversible({name})" for name in COUPLED]
    assert ReversibleCoupling(DOPRI5) == find_method("reversible(dopri5)")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reversible(tsit4)", r"method in 'reversible\(tsit4\)' must be one of: tsit5, .*; got 'tsit4'"),
        ("reversible(leapfrog)", r"method in 'reversible\(leapfrog\)' must be one of: .*; got 'leapfrog'"),
        ("reversible()", r"method in 'reversible\(\)' must be one of: .*; got ''"),
        ("reversible", r"method must be one of: reversible_heun, reversible\(tsit5\), .*; got 'reversible'"),
        ("aff", r"method must be one of: alf, .*; got 'aff'"),
    ],
)
@pytest.mark.parametrize("solve", [jo.solve, janode.torch.solve, janode.jax.solve], ids=["array", "torch", "jax"])
def test_unknown_names_are_refused(solve: Callable[..., Any], name: str, text: str) -> None:
    with pytest.raises(jo.InputError, match=f"solve: {text}"):
        solve(lambda t, y: y, Y0, (0.0, 1.0), method=name, steps=1)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AsynchronousLeapfrog(0.0), r"damping must be in \(0, 1\]; got 0.0"),
        (lambda: AsynchronousLeapfrog(1.5), r"damping must be in \(0, 1\]; got 1.5"),
        (lambda: AsynchronousLeapfrog(float("nan")), r"damping must be in \(0, 1\]; got nan"),
        (lambda: ReversibleCoupling(RungeKutta(TABLEAUS["rk4"]), 1.0), "coupling must be between 0 and 1; got 1.0"),
        (lambda: ReversibleCoupling("rk4"), "base must be a Runge-Kutta method; got 'rk4'"),
        (lambda: ReversibleCoupling(Leapfrog()), r"base must be a Runge-Kutta method; got Leapfrog\("),
    ],
)
def test_a_method_that_does_not_exist_is_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        make()


@pytest.mark.parametrize("method", ["alf", "reversible_heun"])
def test_unequal_steps_are_refused(method: str) -> None:
    with pytest.raises(jo.InputError, match=rf"solve: steps must all be equal for method '{method}'; got sizes from"):
        jo.solve(FIELD, Y0, (0.0, 0.5, 1.25), params(), method=method, steps=2)
