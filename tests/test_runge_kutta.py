"""Explicit Runge-Kutta steps: the order, the cost and the symmetries of every tableau, through a solve."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import janode.numpy as jo
from janode.core.runge_kutta import RungeKutta
from janode.core.tableaus import RK4, TABLEAUS, alpha2, tableau

from .problems import TS, Y0, Counted, X, assert_close, outputs, params, value

NUM_EVALUATED = {
    "euler": 1,
    "midpoint": 2,
    "ralston": 2,
    "heun2": 2,
    "heun3": 3,
    "kutta3": 3,
    "ssprk3": 3,
    "rk4": 4,
    "rk38": 4,
    "adaptive_heun": 2,
    "fehlberg2": 3,
    "bosh3": 3,
    "fehlberg45": 6,
    "cash_karp": 6,
    "dopri5": 6,
    "tsit5": 6,
    "dopri8": 13,
}
# Steps on [0, 1] at which the error is small enough for its slope and still far above rounding.
STEPS = {1: 64, 2: 64, 3: 64, 4: 64, 5: 32, 8: 6}


def test_every_method_is_tested_here() -> None:
    assert list(NUM_EVALUATED) == list(TABLEAUS)


def error(method: str, steps: int) -> float:
    """On y' = -2 t y^2, y(0) = 1, with the solution 1 / (1 + t^2), at t = 1."""
    ys = jo.solve(lambda t, y: -2.0 * t * y * y, np.asarray(1.0), [0.0, 1.0], method=method, steps=steps).ys
    return abs(float(ys[-1]) - 0.5)


@pytest.mark.parametrize("method", TABLEAUS)
def test_measured_order(method: str) -> None:
    order = TABLEAUS[method].order
    steps = STEPS[order]
    assert math.log2(error(method, steps) / error(method, 2 * steps)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", TABLEAUS)
def test_a_solve_is_the_method_by_its_definition(method: str) -> None:
    solution = jo.solve(value, Y0, TS, params(), method=method, steps=3)
    assert_close(solution.ys, outputs(X, TABLEAUS[method]), factor=8.0)


@pytest.mark.parametrize("method", TABLEAUS)
def test_number_of_field_evaluations(method: str) -> None:
    counted = Counted()
    stats = jo.solve(counted.field, Y0, TS, params(), method=method, steps=3).stats
    assert stats == jo.Stats(num_steps=6, num_accepted=6, num_field_evals=6 * NUM_EVALUATED[method])
    assert counted.num_field_evals == stats.num_field_evals


@pytest.mark.parametrize("method", TABLEAUS)
def test_field_is_evaluated_at_the_abscissae(method: str) -> None:
    counted = Counted()
    jo.solve(counted.field, Y0, [2.0, -1.0], params(), method=method, steps=2)
    c = TABLEAUS[method].floats.c[: NUM_EVALUATED[method]]
    assert counted.times == [start - 1.5 * node for start in (2.0, 0.5) for node in c]


@pytest.mark.parametrize("method", ["bosh3", "dopri5", "tsit5"])
def test_last_stage_of_a_first_same_as_last_pair_is_left_out(method: str) -> None:
    assert TABLEAUS[method].is_fsal
    assert NUM_EVALUATED[method] == TABLEAUS[method].num_stages - 1


@pytest.mark.parametrize("method", TABLEAUS)
def test_time_may_run_backward(method: str) -> None:
    forward = jo.solve(value, Y0, TS, params(), method=method, steps=3)
    mirrored = jo.solve(lambda t, y, p: -value(-t, y, p), Y0, [-t for t in TS], params(), method=method, steps=3)
    np.testing.assert_array_equal(mirrored.ys, forward.ys)


@pytest.mark.parametrize("method", TABLEAUS)
def test_there_and_back(method: str) -> None:
    there = jo.solve(value, Y0, TS, params(), method=method, step_size=1 / 64)
    back = jo.solve(value, there.ys[-1], TS[::-1], params(), method=method, step_size=1 / 64)
    order = TABLEAUS[method].order
    np.testing.assert_allclose(back.ys[::-1], there.ys, rtol=0.0, atol=4.0 / 64**order + 1e-15)


@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5", "dopri8"])
@settings(max_examples=20)
@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_splitting_the_interval_changes_nothing(method: str, counts: list[int]) -> None:
    # Steps of 1/8 from 1/4 on: every time is an exact float, so the steps are the same.
    ends = [0.25 + sum(counts[:i]) / 8 for i in range(len(counts) + 1)]
    split = jo.solve(value, Y0, ends, params(), method=method, step_size=1 / 8)
    whole = jo.solve(value, Y0, [ends[0], ends[-1]], params(), method=method, steps=sum(counts))
    np.testing.assert_allclose(split.ys[-1], whole.ys[-1], rtol=4e-15, atol=0.0)


@pytest.mark.parametrize("method", [RK4, RungeKutta(RK4), "rk4"], ids=["a tableau", "a method object", "a name"])
def test_a_method_is_given_as(method: Any) -> None:
    expected = jo.solve(value, Y0, TS, params(), method="rk4", steps=3)
    np.testing.assert_array_equal(jo.solve(value, Y0, TS, params(), method=method, steps=3).ys, expected.ys)


@pytest.mark.parametrize(("alpha", "method"), [("1/2", "midpoint"), ("2/3", "ralston"), (1, "heun2")])
def test_family_of_two_stages(alpha: Any, method: str) -> None:
    expected = jo.solve(value, Y0, TS, params(), method=method, steps=3)
    family = jo.solve(value, Y0, TS, params(), method=alpha2(alpha), steps=3)
    np.testing.assert_array_equal(family.ys, expected.ys)


def test_default_method_is_dopri5() -> None:
    expected = jo.solve(value, Y0, TS, params(), method="dopri5", steps=3)
    np.testing.assert_array_equal(jo.solve(value, Y0, TS, params(), steps=3).ys, expected.ys)


@pytest.mark.parametrize("method", TABLEAUS)
def test_name_order_and_abscissae_are_the_tableaus(method: str) -> None:
    made, record = RungeKutta(TABLEAUS[method]), TABLEAUS[method]
    assert (made.name, made.order) == (record.name, record.order)
    assert made.c == tuple(map(float, record.c[: NUM_EVALUATED[method]]))


def test_a_stage_that_nothing_uses_is_evaluated_but_not_pulled_back() -> None:
    idle = tableau(name="idle", order=2, c="0 1 1/2", a="1 | 1/2 0", b="0 0 1", source="a test")
    counted = Counted()
    _, pullback = jo.solve_vjp(counted.field, Y0, TS, params(), method=idle, steps=1)
    midpoint = jo.solve_vjp(counted.field, Y0, TS, params(), method="midpoint", steps=1)[1]
    before = counted.num_vjps
    gradients = pullback(np.ones((3, 2)))
    assert counted.num_vjps - before == 4
    np.testing.assert_array_equal(gradients.ts, midpoint(np.ones((3, 2))).ts)
