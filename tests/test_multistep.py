"""Leapfrog and Adams-Bashforth methods: their steps, order, cost and exact gradients."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import janode.array as jo
from janode.core import multistep
from janode.core.adjoint import RECOVERIES
from janode.core.methods import find_method
from janode.core.multistep import WEIGHTS, AdamsBashforth, Leapfrog
from janode.core.tableaus import TABLEAUS

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
    to_numpy,
    value,
)

PRESETS = list(RECOVERIES)
TS = (0.25, 0.75, 1.25)
STEPS = 4
METHODS = {
    "leapfrog": Leapfrog(),
    "leapfrog from rk4": Leapfrog("rk4"),
    "leapfrog from midpoint": Leapfrog("midpoint"),
    "leapfrog smoothed": Leapfrog(ending="smoothed"),
    "leapfrog from heun2 smoothed": Leapfrog("heun2", "smoothed"),
    "ab2": AdamsBashforth(2),
    "ab2 from euler": AdamsBashforth(2, "euler"),
    "ab3": AdamsBashforth(3),
    "ab3 from dopri5": AdamsBashforth(3, "dopri5"),
    "ab4": AdamsBashforth(4),
    "ab4 from kutta3": AdamsBashforth(4, "kutta3"),
}
SMOOTHED = METHODS["leapfrog smoothed"]
X = pack(Y0, {"A": A, "b": B}, TS)


def one_step(name: str, f: Callable[..., Any], t: Any, y: Any, h: Any) -> Any:
    """A Runge-Kutta step by its definition."""
    c, a, b = (getattr(TABLEAUS[name].floats, part) for part in "cab")
    k: list[Any] = []
    for node, row in zip(c, a, strict=True):
        k.append(f(t + node * h, y + h * sum((w * s for w, s in zip(row, k, strict=False)), 0.0 * y)))
    return y + h * sum(w * s for w, s in zip(b, k, strict=True))


def textbook(method: Any, y0: Any, ts: Sequence[Any], params: Any, steps: int) -> np.ndarray:
    """The states at all ts by the method's definition; everything may be complex."""

    def f(t: Any, y: Any) -> Any:
        return value(t, y, params)

    grid = [
        (start + n / steps * (end - start), (end - start) / steps) for start, end in pairwise(ts) for n in range(steps)
    ]
    zs, increments = [y0], []
    is_smoothed = getattr(method, "ending", "plain") == "smoothed"
    for n, (t, h) in enumerate(grid):
        if n and is_smoothed:  # looks ahead: the field at t_n belongs to the step that ends there
            t, h = grid[n - 1][0] + grid[n - 1][1], grid[n - 1][1]
        increments.append(h * f(t, zs[n]))
        if n < (1 if isinstance(method, Leapfrog) else method.order - 1):
            zs.append(one_step(method.start_method, f, t, zs[n], h))
        elif isinstance(method, Leapfrog):
            zs.append(zs[n - 1] + 2 * increments[n])
        else:
            zs.append(zs[n] + sum(beta * increments[n - j] for j, beta in enumerate(BETA[method.order])))
    if is_smoothed:
        pairs = zip(pairwise(zs), grid, strict=True)
        zs = [y0, *((old + new + h * f(t + h, new)) / 2 for (old, new), (t, h) in pairs)]
    return np.stack(zs[::steps])


BETA = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}


def outputs(x: np.ndarray, method: Any, steps: int = STEPS) -> np.ndarray:
    return textbook(method, x[:2], x[7:], {"A": x[2:6].reshape(2, 2), "b": x[6]}, steps)


def gradient(x: np.ndarray, ys_bar: Any, method: Any, steps: int = STEPS) -> np.ndarray:
    """By complex steps, entry by entry."""
    return np.array([np.sum(ys_bar * outputs(x + 1e-30j * e, method, steps).imag) / 1e-30 for e in np.eye(len(x))])


def solve_vjp(method: Any, ts: Any = TS, target: Target = TARGETS["numpy-f64"], **options: Any) -> Any:
    options = {"steps": STEPS, **options}
    return jo.solve_vjp(FIELD, target.array(Y0), ts, params(target), method=method, **options)


# The weights.


@pytest.mark.parametrize("order", WEIGHTS)
def test_weights_integrate_polynomials(order: int) -> None:
    """sum_j beta_j (-j)^q = integral of s^q from 0 to 1 = 1 / (q + 1) for q < k, and not for q = k."""
    weights = [Fraction(beta).limit_denominator(24) for beta in WEIGHTS[order]]
    defects = [sum(beta * (-j) ** q for j, beta in enumerate(weights)) - Fraction(1, q + 1) for q in range(order + 1)]
    assert defects[:-1] == [0] * order
    assert defects[-1] != 0


# Steps.


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_solution_is_that_of_the_definition(method: str, target: Target) -> None:
    solution, _ = solve_vjp(METHODS[method], target=target)
    assert target.owns(solution.ys)
    assert_close(solution.ys, outputs(X, METHODS[method]))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("method", ["leapfrog", "leapfrog smoothed", "ab2", "ab3", "ab4"])
def test_fewer_steps_than_the_method_remembers(method: str, steps: int) -> None:
    ts = (0.25, 0.75)
    solution, pullback = solve_vjp(METHODS[method], ts, steps=steps)
    x = pack(Y0, {"A": A, "b": B}, ts)
    assert_close(solution.ys, outputs(x, METHODS[method], steps))
    assert_close(packed(pullback(YS_BAR[:2])), gradient(x, YS_BAR[:2], METHODS[method], steps))


@pytest.mark.parametrize("method", ["leapfrog", "leapfrog smoothed", "ab2", "ab3", "ab4"])
def test_a_solve_goes_on_across_its_times(method: str) -> None:
    """A time between two steps changes nothing: no new start there."""
    ts = np.linspace(0.25, 1.25, 5)
    fine = jo.solve(FIELD, Y0, ts, params(), method=METHODS[method], steps=2).ys
    coarse = jo.solve(FIELD, Y0, ts[[0, 4]], params(), method=METHODS[method], steps=8).ys
    np.testing.assert_allclose(fine[-1], coarse[-1], rtol=1e-14)


EXACT = jo.solve(FIELD, Y0, TS, params(), method="dopri8", steps=200).ys


@pytest.mark.parametrize("method", METHODS)
def test_order_on_a_problem_that_depends_on_time(method: str) -> None:
    numbers = (20, 40, 80, 160)
    errors = [
        np.max(np.abs(jo.solve(FIELD, Y0, TS, params(), method=METHODS[method], steps=n).ys - EXACT)) for n in numbers
    ]
    slope = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert slope == pytest.approx(METHODS[method].order, abs=0.15), errors


@pytest.mark.parametrize(("method", "start"), [("ab3", "euler"), ("ab4", "heun2")])
def test_a_start_of_too_low_an_order_costs_the_order(method: str, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why such a start is refused."""
    monkeypatch.setattr(multistep, "_check_start", lambda *args: None)
    slow = replace(METHODS[method], start_method=start)
    errors = [np.max(np.abs(jo.solve(FIELD, Y0, TS, params(), method=slow, steps=n).ys - EXACT)) for n in (40, 160)]
    assert np.log(errors[0] / errors[1]) / np.log(4.0) < slow.order - 0.7


def test_leapfrog_runs_back_through_its_own_states() -> None:
    """The two-step midpoint rule is symmetric: started from its last two states it returns to its first two."""
    steps, f = 10, FIELD.fn
    times = np.linspace(0.0, 1.0, steps + 1)
    zs = list(jo.solve(FIELD, Y0, times, params(), method="leapfrog", steps=1).ys)
    later, now = zs[-1], zs[-2]
    for n in reversed(range(1, steps)):
        later, now = now, later - 2 / steps * f(times[n], now, params())
    np.testing.assert_allclose(now, Y0, rtol=1e-14)


# Gradients.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_gradient_is_that_of_the_discrete_solution(method: str, preset: str) -> None:
    _, pullback = solve_vjp(METHODS[method], adjoint=preset)
    assert_close(packed(pullback(YS_BAR)), gradient(X, YS_BAR, METHODS[method]))


@pytest.mark.parametrize("method", METHODS)
def test_gradient_backward_in_time(method: str) -> None:
    ts = TS[::-1]
    _, pullback = solve_vjp(METHODS[method], ts)
    assert_close(packed(pullback(YS_BAR)), gradient(pack(Y0, {"A": A, "b": B}, ts), YS_BAR, METHODS[method]))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("method", ["leapfrog smoothed", "ab3"])
def test_gradient_on_every_target(method: str, target: Target) -> None:
    _, pullback = solve_vjp(METHODS[method], target=target)
    assert_close(
        packed(pullback(target.array(YS_BAR))).astype(to_numpy(target.array(0.0)).dtype),
        gradient(X, YS_BAR, METHODS[method]),
    )


# Costs.


def evaluations(method: Any, num_steps: int) -> int:
    """One per step, but for start steps and for the end of a smoothed solve."""
    num_start = 1 if isinstance(method, Leapfrog) else method.order - 1
    stages = TABLEAUS[method.start_method].num_solution_stages
    return num_start * stages + num_steps - num_start + int(getattr(method, "ending", "plain") != "plain")


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_solve_evaluates_the_field_once_per_step(method: Any) -> None:
    counted = Counted()
    solution = jo.solve(counted.field, Y0, TS, params(), method=method, steps=STEPS)
    assert counted.num_field_evals == solution.stats.num_field_evals == evaluations(method, 2 * STEPS)
    assert solution.stats.num_steps == 2 * STEPS


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_pulls_every_evaluation_back_once(method: str, preset: str) -> None:
    counted = Counted()
    solution, pullback = jo.solve_vjp(
        counted.field, Y0, TS, params(), method=METHODS[method], steps=STEPS, adjoint=preset
    )
    pullback(YS_BAR)
    assert counted.num_vjps == solution.stats.num_vjps == evaluations(METHODS[method], 2 * STEPS)


# What is refused.


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Leapfrog(ending="smooth"), "ending must be one of: plain, smoothed; got 'smooth'"),
        (lambda: Leapfrog("leapfrog"), "start_method must be a Runge-Kutta method of order >= 1; got 'leapfrog'"),
        (lambda: AdamsBashforth(5), "order must be 2, 3 or 4; got 5"),
        (lambda: AdamsBashforth(4, "heun2"), "start_method must be .* of order >= 3; got 'heun2'.*one of: bosh3, "),
    ],
)
def test_a_method_that_does_not_exist_is_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        make()


@pytest.mark.parametrize("method", ["leapfrog", "ab2", "ab3", "ab4"])
def test_unequal_steps_are_refused(method: str) -> None:
    text = rf"solve: steps must all be equal for method '{method}'; got sizes from 0.25 to 0.375"
    with pytest.raises(jo.InputError, match=text):
        jo.solve(FIELD, Y0, (0.0, 0.5, 1.25), params(), method=method, steps=2)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_times_rounded_to_single_precision_are_equally_spaced(scale: float) -> None:
    ts = (scale + 0.1 * np.arange(200)).astype(np.float32)
    assert jo.solve(FIELD, Y0, ts, params(), method="leapfrog", steps=2).ys.shape == (200, 2)


def test_smoothing_needs_controls_at_nodes() -> None:
    text = r'solve: sampling must be "nodes" for a smoothed leapfrog, .* got "steps"'
    with pytest.raises(jo.InputError, match=text):
        jo.solve(FIELD, Y0, TS, params(), controls=np.ones(4), sampling="steps", method=SMOOTHED, steps=2)


def test_names_find_methods() -> None:
    found = [find_method(name) for name in ("leapfrog", "ab2", "ab3", "ab4")]
    assert found == [
        Leapfrog("euler"),
        AdamsBashforth(2, "heun2"),
        AdamsBashforth(3, "heun3"),
        AdamsBashforth(4, "rk4"),
    ]
