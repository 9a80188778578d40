"""The DETEST problems are those of the literature, and their end values are right."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import janode.numpy as jo
from benchmarks.detest import END, PROBLEMS, Problem, end_value

EXACT = [problem for problem in PROBLEMS if problem.exact is not None]


def named(problem: Problem) -> str:
    return problem.name


def somewhere(problem: Problem) -> np.ndarray:
    return np.array(problem.y0) + 0.1 * np.random.default_rng(0).random(len(problem.y0))


def test_names() -> None:
    assert [problem.name for problem in PROBLEMS] == [f"{group}{number}" for group in "ABCDE" for number in range(1, 6)]


@pytest.mark.parametrize("problem", PROBLEMS, ids=named)
def test_nodepy_has_the_same_problem(problem: Problem) -> None:
    theirs = pytest.importorskip("nodepy.ivp").detest(problem.name)
    y = somewhere(problem)
    assert theirs.T == END
    np.testing.assert_allclose(problem.y0, np.atleast_1d(theirs.u0), rtol=2e-15)
    expected = np.atleast_1d(theirs.rhs(1.7, y if len(y) > 1 else y[0]))
    np.testing.assert_allclose(problem.field(1.7, y, np), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("problem", PROBLEMS, ids=named)
def test_jax_has_the_same_fields(problem: Problem) -> None:
    y = somewhere(problem).astype(np.float32)
    ours = problem.field(np.float32(1.7), y, np)
    np.testing.assert_allclose(problem.field(jnp.float32(1.7), jnp.asarray(y), jnp), ours, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("problem", EXACT, ids=named)
@pytest.mark.parametrize("t", [0.3, 7.1, 19.0])
def test_closed_forms_solve_their_equations(problem: Problem, t: float) -> None:
    exact = problem.exact
    assert exact is not None
    np.testing.assert_allclose(exact(0.0), problem.y0, rtol=0, atol=1e-15)
    h = 2e-4
    ahead, behind = (np.array(exact(t + n * h)) - np.array(exact(t - n * h)) for n in (1, 2))
    slope = (8.0 * ahead - behind) / (12.0 * h)
    expected = problem.field(t, np.array(exact(t)), np)
    np.testing.assert_allclose(slope, expected, rtol=2e-9, atol=1e-11)


@pytest.mark.parametrize("problem", PROBLEMS, ids=named)
def test_end_values(problem: Problem) -> None:
    """Another method at another tolerance comes to the same end."""
    y0 = np.array(problem.y0)
    solution = jo.solve(lambda t, y: problem.field(t, y, np), y0, [0.0, END], method="dopri8", rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(solution.ys[-1], end_value(problem.name), rtol=1e-8, atol=2e-10)
