"""The measured order of every gradient of controls, raw and corrected, on two problems, N = 80 .. 640.

Discrete solves and exact gradients are those of ``control_methods`` and ``control_problems``: the formulas are tested
without the solver.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

from janode.backends.registry import find_backend
from janode.core.adams_corrections import adams_bashforth_costate, adams_bashforth_filter
from janode.core.corrections import (
    divide,
    leapfrog_adjoint_average,
    leapfrog_filter,
    leapfrog_filter_any_start,
    leapfrog_filter_descent,
    leapfrog_weights,
    trapezoid_weights,
)
from janode.core.stencils import Stencil, apply_stencil, hermite, interpolate, reconstruct
from janode.core.tableaus import TABLEAUS
from tests.control_methods import BETA, Run, adams_bashforth, leapfrog, rk_places, runge_kutta, time_of, uniform, used
from tests.control_problems import PROBLEMS, Array, Problem, T, exact

NUMBERS = (80, 160, 320, 640)
Gradient = tuple[Array, Array]
"""(times, g at these times)."""


def alternating(num_steps: int) -> Array:
    """Steps of h and 2 h in turn."""
    steps = np.tile([1.0, 2.0], num_steps // 2)
    return np.concatenate([[0.0], T * np.cumsum(steps) / np.sum(steps)])


@cache
def solve(problem: str, method: str, num_steps: int) -> Run:
    """The run of a method by name, such as "rk4", "leapfrog from rk4", "leapfrog smoothed", "ab3 from heun3"."""
    name, _, rest = method.partition(" ")
    if name == "leapfrog":
        start = TABLEAUS[rest.removeprefix("from ")] if rest.startswith("from") else TABLEAUS["euler"]
        return leapfrog(PROBLEMS[problem], num_steps, start, rest if rest in ENDINGS else "plain")
    if name.startswith("ab"):
        return adams_bashforth(PROBLEMS[problem], int(name[2:]), num_steps, TABLEAUS[rest.removeprefix("from ")])
    times = alternating(num_steps) if rest == "alternating" else uniform(num_steps)
    return runge_kutta(PROBLEMS[problem], TABLEAUS[name], times)


ENDINGS = ("straight_through", "smoothed")


def applied(stencil: Stencil, rows: Array) -> Array:
    return apply_stencil(np, stencil, (rows,))[0]


def by_trapezoid(run: Run, _: Problem) -> Gradient:
    """The exact discrete gradient over the trapezoid weights of the nodes."""
    times = run.node_times
    return times, run.raw / np.array(trapezoid_weights(times.tolist()))[:, None]


def by_leapfrog(make: Callable[[int, float], Stencil]) -> Callable[[Run, Problem], Gradient]:
    return lambda run, _: (run.times, applied(make(len(run.times) - 1, run.h), run.raw))


def by_leapfrog_weights(run: Run, _: Problem) -> Gradient:
    return run.times, run.raw / np.array(leapfrog_weights(len(run.times) - 1, run.h))[:, None]


def by_adjoint_average(run: Run, problem: Problem) -> Gradient:
    p = applied(leapfrog_adjoint_average(len(run.times) - 1), run.lams)
    return run.times, problem.pull(run.zs, run.controls, p)[1]


def inside(gradient: Callable[[Run, Problem], Gradient]) -> Callable[[Run, Problem], Gradient]:
    """Without both ends."""
    return lambda run, problem: tuple(rows[1:-1] for rows in gradient(run, problem))  # type: ignore[return-value]


def by_cells(order: int) -> Callable[[Run, Problem], Gradient]:
    """S_p at all nodes and at the end."""

    def gradient(run: Run, _: Problem) -> Gradient:
        times = np.append(run.node_times, T)
        return times, applied(reconstruct(run.times.tolist(), times.tolist(), order), np.sum(run.stages, axis=1))

    return gradient


def by_division(method: str) -> Callable[[Run, Problem], Gradient]:
    """D with the nodes that stages share."""

    def gradient(run: Run, _: Problem) -> Gradient:
        nodes, _ = rk_places(TABLEAUS[method], len(run.times) - 1)
        stencil = divide(np.diff(run.times).tolist(), used(TABLEAUS[method])[2], nodes)
        return run.node_times, applied(stencil, run.raw)

    return gradient


def by_stage_division(method: str) -> Callable[[Run, Problem], Gradient]:
    """D stage by stage."""

    def gradient(run: Run, _: Problem) -> Gradient:
        c, _, b = used(TABLEAUS[method])
        num_steps = len(run.times) - 1
        times = time_of(run.times, [n + place for n in range(num_steps) for place in c])
        rows = run.stages.reshape(num_steps * len(b), -1)
        return times, applied(divide(np.diff(run.times).tolist(), b), rows)

    return gradient


def at_ends_of_steps(run: Run, problem: Problem) -> Gradient:
    """L at t_n: the method's own states and adjoints."""
    return run.times, problem.pull(run.zs, problem.theta(run.times), run.lams)[1]


def by_hermite(order: int) -> Callable[[Run, Problem], Gradient]:
    """L at all nodes; t_N takes part in the interpolation only if it is a node."""

    def gradient(run: Run, problem: Problem) -> Gradient:
        count = len(run.at_steps(run.raw))
        times, zs, lams = run.times[:count], run.zs[:count], run.lams[:count]
        theta = problem.theta(times)
        stencil = hermite(times.tolist(), run.node_times.tolist(), order)
        z = applied(stencil, np.concatenate([zs, problem.f(zs, theta)]))
        lam = applied(stencil, np.concatenate([lams, -problem.pull(zs, theta, lams)[0]]))
        return run.node_times, problem.pull(z, run.controls, lam)[1]

    return gradient


def by_adams_filter(order: int) -> Callable[[Run, Problem], Gradient]:
    """At all nodes, those inside the start steps included."""

    def gradient(run: Run, problem: Problem) -> Gradient:
        num_steps = len(run.times) - 1
        ends = [0, -1]
        g_ends = problem.pull(run.zs[ends], problem.theta(run.times[ends]), run.lams[ends])[1]
        rows = np.concatenate([g_ends[:1], run.at_steps(run.raw), g_ends[1:]])
        stencil = adams_bashforth_filter(num_steps, order, run.h, [float(place) for place in run.places])
        return run.node_times, applied(stencil, rows)

    return gradient


def by_costate(order: int) -> Callable[[Run, Problem], Gradient]:
    """M at the steps, interpolated to the nodes inside the start steps."""

    def gradient(run: Run, problem: Problem) -> Gradient:
        num_steps = len(run.times) - 1
        theta = problem.theta(run.times)

        def pull(n: int, p: tuple[Array]) -> tuple[tuple[Array], tuple[Array]]:
            z_bar, theta_bar = problem.pull(run.zs[n], theta[n], p[0])
            return (z_bar,), (theta_bar,)

        backend = find_backend("numpy")
        (g,), _ = adams_bashforth_costate(backend, pull, num_steps, BETA[order], run.h, (run.lams[-1],))
        places = [float(place) for place in run.places]
        return run.node_times, applied(interpolate(range(num_steps + 1), places, order), g)

    return gradient


class Row(NamedTuple):
    """A line of the order table."""

    method: str
    gradient: str
    order: float
    formula: Callable[[Run, Problem], Gradient]
    speed: str = ""
    """"fast " for the problems whose controls vary faster."""


RAW = "raw / trapezoid weights"
TABLE = [
    Row("leapfrog", RAW, 0, by_trapezoid),
    Row("leapfrog", "filter", 2, by_leapfrog(leapfrog_filter)),
    Row("leapfrog", "filter_descent", 1, by_leapfrog(leapfrog_filter_descent)),
    Row("leapfrog", "filter_descent inside", 2, inside(by_leapfrog(leapfrog_filter_descent))),
    Row("leapfrog from rk4", "filter_any_start", 2, by_leapfrog(leapfrog_filter_any_start)),
    Row("leapfrog from midpoint", "filter_any_start", 2, by_leapfrog(leapfrog_filter_any_start)),
    Row("leapfrog", "adjoint_average", 2, by_adjoint_average),
    Row("leapfrog from midpoint", "adjoint_average", 2, by_adjoint_average),
    Row("leapfrog straight_through", "raw / leapfrog_weights", 2, by_leapfrog_weights),
    Row("leapfrog smoothed", "raw / leapfrog_weights", 2, by_leapfrog_weights),
    Row("midpoint", RAW, 0, by_trapezoid),
    Row("midpoint", "filter", 2, by_cells(2)),
    Row("midpoint", "consistent", 2, by_hermite(2)),
    Row("ralston", RAW, 0, by_trapezoid),
    Row("ralston", "divide by stage", 1, by_stage_division("ralston")),
    Row("ralston", "filter", 2, by_cells(2)),
    Row("ralston", "consistent", 2, by_hermite(2)),
    Row("heun2", RAW, 2, by_trapezoid),
    Row("heun2", "divide", 2, by_division("heun2")),
    Row("heun2", "filter", 2, by_cells(2)),
    Row("heun2", "consistent", 2, by_hermite(2)),
    Row("kutta3", "filter", 3, by_cells(3)),
    Row("kutta3", "consistent", 3, by_hermite(3)),
    Row("rk4", RAW, 0, by_trapezoid),
    Row("rk4", "divide by stage", 2, by_stage_division("rk4")),
    Row("rk4", "divide", 3, by_division("rk4")),
    Row("rk4", "filter", 4, by_cells(4)),
    Row("rk4", "consistent", 4, by_hermite(4)),
    Row("rk4 alternating", "filter", 4, by_cells(4)),
    Row("rk4 alternating", "consistent", 4, by_hermite(4)),
    Row("dopri5", RAW, 0, by_trapezoid),
    Row("dopri5", "filter", 5, by_cells(5)),
    Row("dopri5", "consistent at t_n", 5, at_ends_of_steps, "fast "),
    Row("tsit5", RAW, 0, by_trapezoid),
    Row("tsit5", "filter", 5, by_cells(5)),
    Row("tsit5", "consistent at t_n", 5, at_ends_of_steps, "fast "),
    Row("ab2 from heun2", RAW, 0, by_trapezoid),
    Row("ab2 from heun2", "filter", 2, by_adams_filter(2)),
    Row("ab2 from heun2", "consistent", 2, by_costate(2)),
    Row("ab3 from heun3", RAW, 0, by_trapezoid),
    Row("ab3 from heun3", "filter", 3, by_adams_filter(3)),
    Row("ab3 from heun3", "consistent", 3, by_costate(3)),
    Row("ab4 from rk4", RAW, 0, by_trapezoid),
    Row("ab4 from rk4", "filter", 4, by_adams_filter(4)),
    Row("ab4 from rk4", "consistent", 4, by_costate(4)),
]


def errors(row: Row, problem: str) -> list[float]:
    """The largest error over all nodes, for each number of steps."""
    name = row.speed + problem
    found = []
    for num_steps in NUMBERS:
        times, g = row.formula(solve(name, row.method, num_steps), PROBLEMS[name])
        found.append(float(np.max(np.abs(g - exact(name).g(times)))))
    return found


def slope(found: list[float]) -> float:
    """The order, by least squares."""
    return -float(np.polyfit(np.log(NUMBERS), np.log(found), 1)[0])


each_problem = pytest.mark.parametrize("problem", ["affine", "tanh"])


@each_problem
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method}-{row.gradient}")
def test_order(row: Row, problem: str) -> None:
    found = errors(row, problem)
    assert slope(found) == pytest.approx(row.order, abs=0.05 if row.order == 0 else 0.15), found


@each_problem
@pytest.mark.parametrize("method", ["dopri5", "tsit5"])
def test_order_of_consistent_at_inner_stages(method: str, problem: str) -> None:
    """The error of the quintic, of order 6, is the larger part of it where controls vary fast."""
    found = errors(Row(method, "consistent", 5, by_hermite(5), "fast "), problem)
    assert 5 - 0.15 < slope(found) < 6.15, found


BASIS = (lambda t: np.ones_like(t), lambda t: np.cos(2.0 * t))


@each_problem
@pytest.mark.parametrize(
    ("method", "order"),
    [("leapfrog", 2), ("midpoint", 2), ("ralston", 2), ("rk4", 4), ("ab2 from heun2", 2), ("ab3 from heun3", 3)],
)
def test_controls_on_a_smooth_basis_need_no_correction(method: str, order: int, problem: str) -> None:
    """theta(t) = sum_k c_k phi_k(t): the exact discrete dL/dc_k converges at the method's order."""
    x, weights = np.polynomial.legendre.leggauss(40)
    expected = [np.sum((weights * phi(1.0 + x))[:, None] * exact(problem).g(1.0 + x), axis=0) for phi in BASIS]
    found = []
    for num_steps in NUMBERS:
        run = solve(problem, method, num_steps)
        got = [np.sum(phi(run.node_times)[:, None] * run.raw, axis=0) for phi in BASIS]
        found.append(float(np.max(np.abs(np.array(got) - expected))))
    assert slope(found) == pytest.approx(order, abs=0.15), found
