"""Adaptive steps in NumPy: the gradient is that of the accepted steps, and the field is asked only where it may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import scipy.integrate

import janode.numpy as jo
from janode.core.adaptive import AdaptiveSweep
from janode.core.continuous import ContinuousRungeKutta
from janode.core.tableaus import TABLEAUS

from .adaptive_oracle import Frozen, freeze
from .adaptive_problems import PAIRS, PARAMS, PENDULUM, TIMES, Y0, pendulum
from .problems import TARGETS, Counted, Target, to_numpy

STOPS = {
    "free": None,
    "stops": jo.PIController(step_ts=[0.7], jump_ts=[0.5, 1.1], first_step=1.0),
}
LOOSE = {"rtol": 1e-3, "atol": 1e-4}
ADJOINTS = ("backprop", "stages", "aca", "symplectic", "restart", "revolve")


def weights(shape: Sequence[int]) -> np.ndarray:
    """A cotangent."""
    return np.random.default_rng(0).normal(size=shape)


def packed(y0: Any, params: Any, ts: Any) -> np.ndarray:
    """All that a solution depends on as one vector."""
    return np.concatenate([y0, params, ts])


_GRADIENTS: dict[Any, np.ndarray] = {}


def oracle(key: Any, frozen: Frozen, ts: Sequence[float]) -> np.ndarray:
    """The gradient of sum(weights * ys) with the steps frozen, by complex steps; kept, for all adjoints share it."""
    if key not in _GRADIENTS:
        x, tiny = packed(Y0, PARAMS, ts), 1e-30
        bar = weights((len(ts), 2))
        rows = [x + 1j * tiny * direction for direction in np.eye(len(x))]
        _GRADIENTS[key] = np.array(
            [np.sum(bar * frozen(pendulum, row[:2], list(row[4:]), row[2:4]).imag) / tiny for row in rows]
        )
    return _GRADIENTS[key]


def check_gradient(monkeypatch: Any, method: str, adjoint: str, save: str, times: str, stops: str) -> jo.Stats:
    """Compares a solve and its gradient with the oracle on the steps that it took."""
    ts, options = TIMES[times], {**LOOSE, "controller": STOPS[stops], "save": save}
    solution, pullback, frozen = freeze(
        monkeypatch, PENDULUM, Y0, ts, PARAMS, method=method, adjoint=adjoint, **options
    )
    np.testing.assert_allclose(solution.ys, frozen(pendulum, Y0, ts, PARAMS), rtol=1e-12)
    gradients = pullback(weights(solution.ys.shape))
    got = packed(gradients.y0, gradients.params, gradients.ts)
    expected = oracle((method, save, times, stops), frozen, ts)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12 * np.max(np.abs(expected)))
    return solution.stats


@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("method", ["dopri5", "cash_karp"])
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_gradients_are_those_of_the_accepted_steps(
    monkeypatch: Any, adjoint: str, method: str, save: str, times: str, stops: str
) -> None:
    stats = check_gradient(monkeypatch, method, adjoint, save, times, stops)
    assert stats.num_accepted > 3
    assert stats.num_rejected > 0 or stops == "free" or save == "clip"


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("method", [name for name in PAIRS if name not in ("dopri5", "cash_karp")])
def test_gradients_of_every_pair(monkeypatch: Any, method: str, save: str, times: str) -> None:
    check_gradient(monkeypatch, method, "symplectic", save, times, "stops")


def test_a_stale_slope_would_be_caught(monkeypatch: Any) -> None:
    trial = ContinuousRungeKutta.trial

    def stale(self: Any, ops: Any, carry: Any, first: Any, h: Any) -> Any:
        kept = self.__dict__.setdefault("_stale", first)  # the slope at the very start, for ever
        return trial(self, ops, carry, kept, h)

    monkeypatch.setattr(ContinuousRungeKutta, "trial", stale)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_gradient(monkeypatch, "dopri5", "symplectic", "clip", "two", "free")


def test_van_der_pol(monkeypatch: Any) -> None:
    """Loose steps, many of them rejected, on a problem whose gradient grows: still exact for its steps."""

    def value(t: Any, y: Any, params: Any) -> Any:
        return np.stack([y[1], params[0] * (1.0 - y[0] ** 2) * y[1] - y[0]])

    def vjp(t: Any, y: Any, params: Any, bar: Any) -> Any:
        slope = params[0] * (1.0 - y[0] ** 2)
        y_bar = np.stack([-(2.0 * params[0] * y[0] * y[1] + 1.0) * bar[1], bar[0] + slope * bar[1]])
        return None, y_bar, np.stack([(1.0 - y[0] ** 2) * y[1] * bar[1]])

    y0, mu, ts = np.array([2.0, 0.0]), np.array([2.0]), [0.0, 10.0]
    solution, pullback, frozen = freeze(
        monkeypatch, jo.Field(value, vjp), y0, ts, mu, rtol=1e-2, atol=1e-2, method="dopri5"
    )
    assert solution.stats.num_rejected > 0
    bar = np.array([[0.0, 0.0], [1.0, -0.5]])
    gradients = pullback(bar)
    x = np.concatenate([y0, mu])
    rows = [x + 1e-30j * direction for direction in np.eye(3)]
    expected = [np.sum(bar * frozen(value, row[:2], ts, row[2:]).imag) / 1e-30 for row in rows]
    np.testing.assert_allclose(np.concatenate([gradients.y0, gradients.params]), expected, rtol=1e-10)


def test_gradients_of_complex_states(monkeypatch: Any) -> None:
    """dL/dx + i dL/dy, L = Re sum(conj(bar) ys), against central differences on the accepted steps."""

    def value(t: Any, y: Any, params: Any) -> Any:
        return params * y * np.cos(t) - 0.1 * y * y

    def vjp(t: Any, y: Any, params: Any, bar: Any) -> Any:
        t_bar = np.real(np.sum(np.conj(-params * y * np.sin(t)) * bar))
        return t_bar, np.conj(params * np.cos(t) - 0.2 * y) * bar, np.sum(np.conj(y * np.cos(t)) * bar)

    y0, rate, ts = np.array([1.0 + 0.5j, -0.3j]), np.asarray(0.4 + 2.0j), [0.0, 0.8, 1.5]
    solution, pullback, frozen = freeze(monkeypatch, jo.Field(value, vjp), y0, ts, rate, rtol=1e-4, atol=1e-5)
    assert solution.ys.dtype == np.complex128
    bar = weights((3, 2)) + 1j * weights((3, 4))[:, 2:]
    gradients = pullback(bar)

    def loss(x: np.ndarray, rate: Any, ts: Any) -> float:
        return float(np.real(np.sum(np.conj(bar) * frozen(value, x, list(ts), rate))))

    def slope(change: Any) -> float:
        return (change(1e-6) - change(-1e-6)) / 2e-6

    unit = np.eye(3)
    expected = [
        slope(lambda d, i=i: loss(y0 + d * unit[i, :2], rate, ts))
        + 1j * slope(lambda d, i=i: loss(y0 + 1j * d * unit[i, :2], rate, ts))
        for i in range(2)
    ]
    np.testing.assert_allclose(gradients.y0, expected, rtol=1e-8)
    expected_rate = slope(lambda d: loss(y0, rate + d, ts)) + 1j * slope(lambda d: loss(y0, rate + 1j * d, ts))
    np.testing.assert_allclose(gradients.params, expected_rate, rtol=1e-8)
    expected_ts = [slope(lambda d, i=i: loss(y0, rate, np.array(ts) + d * unit[i])) for i in range(3)]
    np.testing.assert_allclose(gradients.ts, expected_ts, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("adjoint", ["stages", "aca", "symplectic"])
@pytest.mark.parametrize("checkpoints", [2, 3, 4, 7, 1000])
def test_thinned_records_give_the_same_gradient(checkpoints: int, adjoint: str, save: str) -> None:
    options = {"save": save, "method": "bosh3", "rtol": 1e-4, "atol": 1e-5}

    def gradient(**more: Any) -> np.ndarray:
        solution, pullback = jo.solve_vjp(PENDULUM, Y0, TIMES["many"], PARAMS, **options, **more)
        found = pullback(weights(solution.ys.shape))
        return packed(found.y0, found.params, found.ts)

    got = gradient(adjoint=adjoint, checkpoints=checkpoints)
    np.testing.assert_allclose(got, gradient(), rtol=1e-13, atol=1e-13)


# Where the field is evaluated

NARROW = {
    # Here t0 + (t1 - t0) exceeds t1 by a rounding error.
    "rounded": [-1.960768253878453, 1.347893623613186],
    "rounded-reversed": [1.960768253878453, -1.347893623613186],
    "many": [-1.0, -0.99, 0.123, 2.0],
    "reversed": [2.0, 0.123, -0.99, -1.0],
}


@pytest.mark.parametrize("first_step", [None, 100.0], ids=["first", "one step"])
@pytest.mark.parametrize("times", NARROW)
@pytest.mark.parametrize("method", PAIRS)
def test_the_field_is_never_evaluated_outside(method: str, times: str, first_step: float | None) -> None:
    counted = Counted(lambda t, y: 0.1 * np.cos(3.0 * t) * y, lambda t, y, bar: (None, 0.1 * np.cos(3.0 * t) * bar))
    ts = NARROW[times]
    controller = jo.PIController(first_step=first_step)
    _, pullback = jo.solve_vjp(counted.field, np.ones(2), ts, method=method, controller=controller, **LOOSE)
    pullback(np.ones((len(ts), 2)))
    assert min(counted.times) >= min(ts)
    assert max(counted.times) <= max(ts)
    assert ts[0] in counted.times


@pytest.mark.parametrize("is_reversed", [False, True], ids=["forward", "reversed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", PAIRS)
def test_a_jump_is_seen_from_its_own_side(method: str, dtype: Any, is_reversed: bool) -> None:
    """y' = 1 before the jump and 3 after it: exact with steps that end there, and without a rejected one."""
    jump = 0.3
    seen: list[float] = []

    def value(t: Any, y: Any) -> Any:
        seen.append(float(t))
        return np.where(t < dtype(jump), dtype(1.0), dtype(3.0)) * np.ones_like(y)

    ts = [1.0, 0.0] if is_reversed else [0.0, 1.0]
    controller = jo.PIController(jump_ts=[jump])
    solution = jo.solve(value, np.zeros(2, dtype), ts, method=method, controller=controller)
    expected = 0.3 + 3 * 0.7
    factor = 16 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(solution.ys[-1], [-expected if is_reversed else expected] * 2, rtol=factor)
    assert solution.ys.dtype == dtype
    assert solution.stats.num_rejected == 0
    assert float(dtype(jump)) not in seen
    sides = [t < float(dtype(jump)) for t in seen]
    first = sides[0]
    crossing = sides.index(not first)
    assert all(side == first for side in sides[:crossing])
    assert all(side != first for side in sides[crossing:])


def test_a_jump_that_is_not_declared_costs_steps() -> None:
    def value(t: Any, y: Any) -> Any:
        return np.where(t < 0.3, 1.0, 3.0) * np.ones_like(y)

    assert jo.solve(value, np.zeros(2), [0.0, 1.0]).stats.num_rejected > 3


def test_jumps_at_both_ends_are_seen_from_inside() -> None:
    counted = Counted(lambda t, y: np.ones_like(y))
    controller = jo.PIController(jump_ts=[0.0, 1.0])
    jo.solve(counted.field.fn, np.zeros(1), [0.0, 1.0], controller=controller)
    assert min(counted.times) == np.nextafter(0.0, 1.0)
    assert max(counted.times) == np.nextafter(1.0, 0.0)


def test_steps_end_at_step_ts() -> None:
    counted = Counted(lambda t, y: -y)
    stops = [0.123, 0.7, 0.71]
    jo.solve(counted.field.fn, np.ones(1), [0.0, 1.0], controller=jo.PIController(step_ts=stops))
    assert set(stops) <= set(counted.times)


# Save times


@pytest.mark.parametrize("method", PAIRS)
def test_interpolated_times_do_not_change_the_steps(method: str) -> None:
    ts = list(np.linspace(0.0, 3.0, 31))
    many, two = (jo.solve(pendulum, Y0, times, PARAMS, method=method, **LOOSE) for times in (ts, [0.0, 3.0]))
    assert (many.stats.num_accepted, many.stats.num_rejected) == (two.stats.num_accepted, two.stats.num_rejected)
    np.testing.assert_array_equal(many.ys[-1], two.ys[-1])


@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("method", PAIRS)
def test_states_at_all_times_are_as_good_as_the_last(method: str, save: str) -> None:
    ts = np.linspace(0.0, 3.0, 31)
    got = jo.solve(pendulum, Y0, ts, PARAMS, method=method, save=save, rtol=1e-5, atol=1e-5).ys
    # A cubic polynomial in the long steps of a method of order 5 loses most.
    assert np.max(np.abs(got - reference(tuple(ts)))) < 5e-3 * LENIENCE.get(method, 1.0)


def test_clipped_times_are_stops() -> None:
    ts = list(np.linspace(0.0, 1.0, 11))
    counted = Counted(lambda t, y: -y)
    solution = jo.solve(counted.field.fn, np.ones(1), ts, save="clip", **LOOSE)
    assert set(ts) <= set(counted.times)
    assert solution.stats.num_accepted >= 10


def test_many_times_in_one_step_need_no_more_evaluations() -> None:
    options = {"method": "dopri5", "controller": jo.PIController(first_step=10.0), **LOOSE}
    counts = [
        jo.solve(lambda t, y: -0.01 * y, np.ones(1), ts, **options).stats.num_field_evals
        for ts in ([0.0, 1.0], list(np.linspace(0.0, 1.0, 200)))
    ]
    assert counts == [7, 7]


# How good the solution is


LENIENCE = {"fehlberg2": 20.0}
"""Its error estimate has the weights 1 / 512: it is made for steps as long as the first-order solution allows."""


@lru_cache
def reference(ts: tuple[float, ...]) -> np.ndarray:
    """The pendulum by SciPy at its tightest."""
    found = scipy.integrate.solve_ivp(
        pendulum, (ts[0], ts[-1]), Y0, args=(PARAMS,), method="DOP853", rtol=3e-14, atol=1e-15, t_eval=ts
    )
    return found.y.T


@pytest.mark.parametrize("method", PAIRS)
def test_errors_are_proportional_to_the_tolerance(method: str) -> None:
    tolerances = [1e-3, 1e-5] if TABLEAUS[method].order <= 2 else [1e-4, 1e-6, 1e-8]
    errors = [
        np.max(np.abs(jo.solve(pendulum, Y0, [0.0, 5.0], PARAMS, method=method, rtol=tol, atol=tol).ys[-1] - expected))
        for tol in tolerances
        for expected in [reference((0.0, 5.0))[-1]]
    ]
    slope = np.polyfit(np.log(tolerances), np.log(errors), 1)[0]
    assert 0.75 < slope < 1.35
    assert all(error < 100 * LENIENCE.get(method, 1.0) * tol for error, tol in zip(errors, tolerances, strict=True))


@pytest.mark.parametrize("offset", [0.0, 1.0], ids=["at zero", "far from zero"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nanosecond_scales(dtype: Any, offset: float) -> None:
    """Time is kept in double precision: from 1 s on, float32 could not tell these times apart."""
    ts = [offset, offset + 1e-9, offset + 3e-9]
    solution = jo.solve(lambda t, y: dtype(-1e9) * y, np.ones(2, dtype), ts)
    assert solution.ys.dtype == dtype
    np.testing.assert_allclose(solution.ys[:, 0], np.exp([0.0, -1.0, -3.0]), rtol=2e-4 if dtype is np.float32 else 2e-6)
    unscaled = jo.solve(lambda t, y: -y, np.ones(2, dtype), [0.0, 1.0, 3.0])
    # The first step follows a rule that knows a unit of time.
    assert abs(solution.stats.num_accepted - unscaled.stats.num_accepted) <= 3


@pytest.mark.parametrize("dtype", ["float32", "complex64", "complex128", "float16"])
def test_states_keep_their_dtype(dtype: str) -> None:
    y0 = np.array([1.0, 2.0], dtype)
    field = jo.Field(lambda t, y: -y, lambda t, y, bar: (None, -bar))
    solution, pullback = jo.solve_vjp(field, y0, [0.0, 0.5, 1.0], rtol=1e-2, atol=1e-2)
    gradients = pullback(np.ones_like(solution.ys))
    assert (solution.ys.dtype, gradients.y0.dtype) == (y0.dtype, y0.dtype)
    np.testing.assert_allclose(solution.ys[-1], np.exp(-1.0) * y0, rtol=2e-2)


# Counts


@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("method", PAIRS)
def test_every_evaluation_is_counted(method: str, save: str, adjoint: str) -> None:
    counted = Counted(PENDULUM.fn, PENDULUM.vjp)
    options = {"method": method, "save": save, "adjoint": adjoint, "controller": STOPS["stops"], **LOOSE}
    solution, pullback = jo.solve_vjp(counted.field, Y0, TIMES["many"], PARAMS, **options)
    assert solution.stats.num_field_evals == counted.num_field_evals
    pullback(weights(solution.ys.shape))
    assert solution.stats.num_field_evals == counted.num_field_evals
    assert solution.stats.num_vjps == counted.num_vjps > 0


def test_accepted_and_rejected_steps_are_counted() -> None:
    errors: list[float] = []

    def norm(ratios: Any) -> Any:
        errors.append(float(np.max(ratios)))
        return np.max(ratios)

    controller = jo.PIController(first_step=1.0, norm=norm)
    stats = jo.solve(pendulum, Y0, [0.0, 5.0], PARAMS, controller=controller).stats
    assert stats.num_accepted == sum(error <= 1.0 for error in errors)
    assert stats.num_rejected == sum(error > 1.0 for error in errors) > 0
    assert stats.num_steps == len(errors)


def test_a_first_same_as_last_pair_reuses_its_last_slope() -> None:
    stats = jo.solve(
        pendulum, Y0, [0.0, 5.0], PARAMS, method="dopri5", controller=jo.PIController(first_step=0.1)
    ).stats
    assert stats.num_field_evals == 1 + 6 * stats.num_steps


# Failures


class Faulty:
    """The pendulum, NaN at the given calls."""

    def __init__(self, *calls: int) -> None:
        self.calls, self.num = calls, 0

    def __call__(self, t: Any, y: Any) -> Any:
        self.num += 1
        return np.full_like(y, math.nan) if self.num in self.calls else pendulum(t, y, PARAMS)


@pytest.mark.parametrize("call", range(14, 20))
def test_one_bad_stage_is_rejected_and_taken_again(call: int) -> None:
    """Each stage of the third step in turn."""
    errors: list[float] = []

    def norm(ratios: Any) -> Any:
        errors.append(float(np.max(ratios)))
        return np.max(ratios)

    field = Faulty(call)
    controller = jo.PIController(first_step=0.1, norm=norm)
    solution = jo.solve(field, Y0, [0.0, 2.0], controller=controller)
    assert [i for i, error in enumerate(errors) if math.isnan(error)] == [2]
    assert errors[3] < 1.0
    assert solution.status == 0
    assert solution.stats.num_field_evals == field.num
    assert solution.stats.num_rejected == sum(not error <= 1.0 for error in errors)
    np.testing.assert_allclose(solution.ys[-1], reference((0.0, 2.0))[-1], rtol=1e-5)


def test_a_field_that_is_never_finite_fails_at_once() -> None:
    with pytest.raises(jo.StepSizeUnderflow) as caught:
        jo.solve(lambda t, y: math.nan * y, np.ones(1), [0.0, 1.0])
    assert (caught.value.time, caught.value.step) == (0.0, 0)
    np.testing.assert_array_equal(caught.value.last_good, [1.0])


SQUARE = jo.Field(lambda t, y: y * y, lambda t, y, bar: (None, 2.0 * y * bar))


def test_blow_up_in_finite_time() -> None:
    with np.errstate(all="ignore"), pytest.raises(jo.StepSizeUnderflow) as caught:
        jo.solve(SQUARE, np.array([1.0]), [0.0, 0.5, 2.0])
    error = caught.value
    assert abs(error.time - 1.0) < 1e-5
    assert np.isfinite(error.last_good).all()
    assert error.last_good[0] > 1e8
    assert error.step == error.counts.num_accepted > 10
    assert str(error) == (
        "solve: the step size must stay above min_step and above rounding in t; a smaller one was needed; got as far "
        f"as t = {error.time} in {error.step} steps; {error.counts}. Check whether the solution blows up or the field "
        'is not finite there, or raise rtol and atol; on_failure="return" gives the solution as far as it went.'
    )


@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_rows_behind_a_failure_have_no_gradient(adjoint: str, save: str) -> None:
    ts = [0.0, 0.5, 0.9, 1.5, 2.0]
    with np.errstate(all="ignore"):
        solution, pullback = jo.solve_vjp(
            SQUARE, np.array([1.0]), ts, on_failure="return", adjoint=adjoint, save=save, rtol=1e-4
        )
    assert (solution.status, solution.message) == (4, "the step size became too small")
    np.testing.assert_allclose(solution.ys[:3, 0], [1.0, 2.0, 10.0], rtol=1e-2)
    assert np.isnan(solution.ys[3:]).all()
    behind = pullback(np.array([0.0, 0.0, 0.0, 1.0, 1.0])[:, None])
    np.testing.assert_array_equal(behind.y0, [0.0])
    np.testing.assert_array_equal(behind.ts, [0.0] * 5)
    all_rows = pullback(np.array([0.0, 1.0, 1.0, math.nan, math.nan])[:, None])
    np.testing.assert_allclose(all_rows.y0, [4.0 + 100.0], rtol=3e-2)
    np.testing.assert_allclose(all_rows.ts, [-104.0, 4.0, 100.0, 0.0, 0.0], rtol=3e-2)


@pytest.mark.parametrize("max_steps", [1, 7])
def test_max_steps_is_a_limit_of_tries(max_steps: int) -> None:
    with pytest.raises(jo.MaxStepsReached) as caught:
        jo.solve(pendulum, Y0, [0.0, 5.0], PARAMS, max_steps=max_steps)
    error = caught.value
    assert error.counts.num_steps == max_steps
    assert error.step == error.counts.num_accepted
    assert 0.0 <= error.time < 5.0
    assert str(error).startswith(
        f"solve: the end must be reached within max_steps tries; it was not; got as far as t = {error.time} in "
        f"{error.step} steps; "
    )
    expected = jo.solve(pendulum, Y0, [0.0, error.time], PARAMS).ys[-1]
    np.testing.assert_allclose(error.last_good, expected, rtol=1e-5)


def test_max_steps_that_are_just_enough() -> None:
    needed = jo.solve(pendulum, Y0, [0.0, 5.0], PARAMS).stats.num_steps
    assert jo.solve(pendulum, Y0, [0.0, 5.0], PARAMS, max_steps=needed).status == 0
    assert jo.solve(pendulum, Y0, [0.0, 5.0], PARAMS, max_steps=needed - 1, on_failure="return").status == 3


# Any array library


@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith("numpy")])
def test_the_strict_namespace_gives_the_same_bits(name: str, save: str) -> None:
    def solved(target: Target) -> tuple[Any, Any]:
        options = {"rtol": 1e-3, "atol": 1e-3, "save": save, "controller": jo.PIController(jump_ts=[0.25])}
        y0, params = target.array(Y0), target.array(PARAMS)
        solution, pullback = jo.solve_vjp(PENDULUM, y0, [0.0, 0.3, 0.5], params, **options)
        assert target.owns(solution.ys)
        return solution, pullback(target.array(weights((3, 2))))

    target = TARGETS[name]
    solution, gradients = solved(target)
    expected, expected_gradients = solved(TARGETS["numpy-f64" if target.dtype == "float64" else "numpy-f32"])
    assert solution.stats == expected.stats
    np.testing.assert_array_equal(to_numpy(solution.ys), expected.ys)
    np.testing.assert_array_equal(to_numpy(gradients.y0), expected_gradients.y0)
    np.testing.assert_array_equal(to_numpy(gradients.params), expected_gradients.params)
    np.testing.assert_array_equal(to_numpy(gradients.ts), expected_gradients.ts)


def test_solves_in_a_loop_leave_memory_flat() -> None:
    import gc
    import tracemalloc

    def solve_once() -> None:
        solution, pullback = jo.solve_vjp(PENDULUM, Y0, [0.0, 0.1, 0.3], PARAMS, **LOOSE)
        pullback(weights(solution.ys.shape))

    def used(count: int) -> tuple[int, int]:
        for _ in range(count):
            solve_once()
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

    tracemalloc.start()
    try:
        used(50)
        before = used(10)
        after = used(150)
    finally:
        tracemalloc.stop()
    assert after[0] - before[0] < 10_000
    assert after[1] - before[1] < 50


def test_the_sweep_is_an_adaptive_one(monkeypatch: Any) -> None:
    """What the other tests rest on: a pair without steps takes adaptive ones, with default tolerances."""
    seen: list[Any] = []
    advance = AdaptiveSweep.advance
    monkeypatch.setattr(AdaptiveSweep, "advance", lambda self, *args: (seen.append(self), advance(self, *args))[1])
    jo.solve(pendulum, Y0, [0.0, 1.0], PARAMS)
    jo.solve(lambda t, y: -y, Y0.astype(np.float32), [0.0, 1.0])
    tolerances = [(sweep.tolerances.rtol, sweep.tolerances.atol) for sweep in seen]
    assert tolerances == [((1e-6,), (1e-9,)), ((1e-4,), (1e-6,))]
