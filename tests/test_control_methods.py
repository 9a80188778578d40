"""The second opinion itself: its exact gradients against closed forms, its discrete ones against complex steps."""

from collections.abc import Callable

import numpy as np
import pytest

from janode.core.tableaus import DOPRI8, EULER, TABLEAUS
from tests.control_methods import Run, adams_bashforth, leapfrog, runge_kutta, uniform
from tests.control_problems import PROBLEMS, T, affine_g, affine_z, exact

RUNS: dict[str, Callable[..., Run]] = {
    "rk4": lambda problem: runge_kutta(problem, TABLEAUS["rk4"], uniform(3)),
    "dopri5 on uneven steps": lambda problem: runge_kutta(problem, TABLEAUS["dopri5"], np.array([0.0, 0.7, 1.1, 2.0])),
    "leapfrog": lambda problem: leapfrog(problem, 5),
    "leapfrog, one step": lambda problem: leapfrog(problem, 1),
    "leapfrog from rk4": lambda problem: leapfrog(problem, 5, TABLEAUS["rk4"]),
    "leapfrog straight through": lambda problem: leapfrog(problem, 5, EULER, "straight_through"),
    "leapfrog smoothed": lambda problem: leapfrog(problem, 5, EULER, "smoothed"),
    "ab2": lambda problem: adams_bashforth(problem, 2, 5, TABLEAUS["heun2"]),
    "ab3": lambda problem: adams_bashforth(problem, 3, 6, TABLEAUS["heun3"]),
    "ab4": lambda problem: adams_bashforth(problem, 4, 7, TABLEAUS["rk4"]),
}


@pytest.mark.parametrize("name", ["affine", "tanh"])
@pytest.mark.parametrize("make", RUNS.values(), ids=RUNS)
def test_raw_gradient_equals_complex_step(make: Callable[..., Run], name: str) -> None:
    run = make(PROBLEMS[name])
    expected = np.empty_like(run.raw)
    for index in np.ndindex(run.raw.shape):
        step = np.zeros(run.raw.shape, dtype=complex)
        step[index] = 1e-100j
        expected[index] = np.sum(run.end_bar * run.end(run.controls + step).imag) / 1e-100
    assert np.max(np.abs(expected)) > 0.1
    np.testing.assert_allclose(run.raw, expected, rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("name", PROBLEMS)
def test_loss_bar_equals_complex_step(name: str) -> None:
    problem = PROBLEMS[name]
    expected = [problem.loss(problem.z0 + 1e-100j * unit).imag / 1e-100 for unit in np.eye(len(problem.z0))]
    np.testing.assert_allclose(problem.loss_bar(problem.z0), expected, rtol=1e-15)


@pytest.mark.parametrize(("name", "rate"), [("affine", 0.8), ("fast affine", 8.0)])
def test_exact_gradient_equals_closed_form(name: str, rate: float) -> None:
    t = np.linspace(0.0, T, 501)
    np.testing.assert_allclose(exact(name).z(t)[:, 0], affine_z(t, rate), rtol=0.0, atol=1e-14)
    np.testing.assert_allclose(exact(name).g(t), affine_g(t, rate), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("name", ["tanh", "fast tanh"])
def test_exact_gradient_equals_a_fine_solve(name: str) -> None:
    run = runge_kutta(PROBLEMS[name], DOPRI8, uniform(200))
    np.testing.assert_allclose(exact(name).z(run.times), run.zs, rtol=0.0, atol=2e-13)
    np.testing.assert_allclose(exact(name).p(run.times), run.lams, rtol=0.0, atol=2e-13)
