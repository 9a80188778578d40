"""The monitors: their decisions, counts and history on evaluators that are formulas, and what they refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest

from janode.core.errors import InputError
from janode.core.methods import find_method
from janode.core.tableaus import TABLEAUS, alpha2
from janode.core.validity import StepSizeMonitor, ToleranceMonitor
from janode.core.validity_pairs import num_field_evals, num_steps, paired_method, paired_steps, paired_tolerance


class Stub:
    """An evaluator by formula that notes its calls."""

    def __init__(self, metric: Callable[[str, float], Any]) -> None:
        self.metric, self.calls = metric, []

    def __call__(self, method: str, size: float) -> Any:
        self.calls.append((method, size))
        return self.metric(method, size)


def tied(method: str, size: float) -> float:
    """Euler's metric is far from the others'."""
    return 0.9 if method == "euler" else 0.6


# Test solvers.


@pytest.mark.parametrize(
    ("method", "step", "expected"),
    [
        pytest.param("euler", 0.5, ("midpoint", 0.1), id="euler-coarse"),
        pytest.param("euler", 0.02, ("midpoint", 0.02), id="euler-edge"),
        pytest.param("euler", 0.01, ("midpoint", 0.01), id="euler-fine"),
        pytest.param("midpoint", 0.5, ("rk4", (0.25 / 50) ** 0.25), id="midpoint-coarse"),
        pytest.param("midpoint", 0.1, ("rk4", 0.1), id="midpoint-fine"),
        pytest.param(TABLEAUS["euler"], 0.5, ("midpoint", 0.1), id="tableau"),
        pytest.param(find_method("euler"), 0.5, ("midpoint", 0.1), id="object"),
    ],
)
def test_the_papers_pairs(method: Any, step: float, expected: tuple[str, float]) -> None:
    name, test_step = paired_steps(method, step, 1.0)
    assert (name, test_step) == (expected[0], pytest.approx(expected[1], rel=1e-14))


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("ralston", "rk38"),
        ("heun2", "rk38"),
        ("leapfrog", "rk38"),
        ("ab2", "rk38"),
        ("bosh3", "tsit5"),
        ("ab3", "tsit5"),
        ("rk4", "dopri8"),
        ("ab4", "dopri8"),
        ("dopri5", "dopri8"),
        ("dopri8", None),
    ],
)
def test_other_methods_are_paired_by_order_cost_and_error(method: str, expected: str | None) -> None:
    assert paired_method(method, find_method(method).order) == expected


@pytest.mark.parametrize("method", [*sorted(set(TABLEAUS) - {"euler", "midpoint"}), "leapfrog", "ab2", "ab3", "ab4"])
@pytest.mark.parametrize("step", [0.5, 0.1, 0.01])
def test_the_test_solver_is_better_by_a_factor_of_fifty(method: str, step: float) -> None:
    from janode.core.error_constants import error_constant

    test, test_step = paired_steps(method, step, 1.0)
    first, second = find_method(method), find_method(test)
    error, test_error = error_constant(first) * step**first.order, error_constant(second) * test_step**second.order
    assert test_step <= step
    assert test_error <= error / 50 * (1 + 1e-9)
    assert test_step == step or test_error == pytest.approx(error / 50, rel=1e-9)


def test_a_method_of_ones_own_is_paired_by_its_tableau() -> None:
    assert paired_steps(alpha2("2/3"), 0.5, 1.0) == paired_steps("ralston", 0.5, 1.0)


def test_the_unit_of_time_does_not_matter() -> None:
    assert paired_steps("euler", 0.5 * 60, 60.0) == ("midpoint", pytest.approx(0.1 * 60))


@pytest.mark.parametrize(
    ("method", "expected"),
    [("fehlberg2", ("dopri5", 2e-4)), ("bosh3", ("dopri5", 2e-4)), ("dopri5", ("dopri5", 1e-4)), ("dopri8", None)],
)
def test_pairs_of_tolerances(method: str, expected: tuple[str, float] | None) -> None:
    name, tolerance = paired_tolerance(method, 1e-3)
    assert (name, tolerance) == ((method, pytest.approx(1e-4)) if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("step", "expected"), [(1.0, 1), (0.5, 2), (0.3, 4), (0.1, 10), (0.1 * 1.1, 10)])
def test_number_of_steps(step: float, expected: int) -> None:
    assert num_steps(step, 1.0) == expected


@pytest.mark.parametrize(
    ("method", "expected"), [("euler", 10), ("midpoint", 20), ("rk4", 40), ("dopri5", 60), ("leapfrog", 10)]
)
def test_number_of_field_evaluations_is_that_of_the_solve(method: str, expected: int) -> None:
    import janode.numpy as jo

    solution = jo.solve(lambda t, y: -y, np.ones(1), [0.0, 1.0], method=method, step_size=0.1)
    assert num_field_evals(method, 0.1, 1.0) == solution.stats.num_field_evals == expected


# The step-size monitor.


def test_it_is_due_at_every_interval_but_not_at_the_start() -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5)
    assert [iteration for iteration in range(151) if monitor.is_due(iteration)] == [50, 100, 150]


def test_steps_are_halved_while_the_metrics_differ() -> None:
    monitor, stub = StepSizeMonitor(T=1.0, h=0.5), Stub(tied)
    check = monitor.update(stub, 50)
    assert stub.calls == [("euler", 0.5), ("midpoint", pytest.approx(0.1))]
    assert (monitor.h, monitor.steps, monitor.is_valid) == (0.25, 4, False)
    assert (check.iteration, check.before, check.after, check.is_valid) == (50, 0.5, 0.25, False)
    assert (check.training, check.test, check.trial) == (0.9, 0.6, None)
    assert check.difference == pytest.approx(0.3)
    assert (check.test_method, check.test_size) == ("midpoint", pytest.approx(0.1))


def test_steps_grow_while_the_larger_ones_hold() -> None:
    monitor, stub = StepSizeMonitor(T=1.0, h=0.5), Stub(lambda method, step: 0.9 if step < 0.52 else 0.85)
    check = monitor.update(stub)
    assert stub.calls == [("euler", 0.5), ("midpoint", pytest.approx(0.1)), ("euler", 0.55)]
    assert (monitor.h, check.before, check.after, monitor.is_valid) == (0.55, 0.5, 0.55, True)
    assert (check.trial, check.trial_difference) == (0.85, pytest.approx(0.05))


def test_steps_stay_where_the_larger_ones_do_not_hold() -> None:
    monitor, stub = StepSizeMonitor(T=1.0, h=0.5), Stub(lambda method, step: 0.9 if step < 0.52 else 0.7)
    check = monitor.update(stub)
    assert (monitor.h, monitor.is_valid, check.trial_difference) == (0.5, True, pytest.approx(0.2))


@pytest.mark.parametrize(("difference", "after"), [(0.125, 0.55), (0.126, 0.25)])
def test_the_threshold_itself_is_within(difference: float, after: float) -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5, threshold=0.125)
    monitor.update(lambda method, step: 0.5 + difference * (method == "euler"))
    assert monitor.h == after


def test_no_step_is_longer_than_the_interval_and_none_is_tried_in_vain() -> None:
    monitor, stub = StepSizeMonitor(T=1.0, h=0.95), Stub(lambda *_: 0.9)
    for _ in range(3):
        monitor.update(stub)
    assert monitor.h == 1.0
    assert len(stub.calls) == 3 + 2 + 2


def test_there_are_never_more_steps_than_the_most() -> None:
    monitor = StepSizeMonitor(T=2.0, h=0.01)
    for _ in range(5):
        monitor.update(tied)
    assert (monitor.h, monitor.steps, monitor.is_valid) == (2.0 / 500, 500, False)


def test_field_evaluations_are_counted() -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5)
    valid = monitor.update(lambda *_: 0.9)
    shrunk = monitor.update(tied)
    assert valid.num_field_evals == 2 + 2 * 10 + 2
    assert shrunk.num_field_evals == 2 + 2 * math.ceil(1 / math.sqrt(0.55 / 50))
    assert monitor.num_field_evals == valid.num_field_evals + shrunk.num_field_evals


def test_counts_that_evaluate_returns_are_taken() -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5)
    assert monitor.update(lambda method, _: (tied(method, 0.0), np.int64(7))).num_field_evals == 14


def test_constants_can_be_set() -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.4, interval=7, shrink=0.25, growth=1.5, max_steps=20, method="heun2")
    monitor.update(lambda method, _: 0.9 if method == "heun2" else 0.1)
    assert monitor.h == 0.1
    monitor.update(lambda *_: 0.9)
    assert monitor.h == pytest.approx(0.15)
    assert monitor.is_due(14)


def test_another_test_solver_can_be_set() -> None:
    monitor, stub = StepSizeMonitor(T=1.0, h=0.5, test_solver=lambda h: ("euler", h / 2)), Stub(lambda *_: 0.9)
    monitor.update(stub)
    assert stub.calls[1] == ("euler", 0.25)


@pytest.mark.parametrize(
    ("halved", "midpoint", "larger", "expected"),
    [
        pytest.param(0.9, 0.9, 0.9, (0.55, True, "euler", 0.25, 0.0), id="all-agree"),
        pytest.param(0.85, 0.6, 0.9, (0.25, False, "midpoint", 0.5, 0.3), id="the-second-differs"),
        pytest.param(0.7, 0.85, 0.9, (0.25, False, "euler", 0.25, 0.2), id="the-first-differs"),
        pytest.param(0.9, 0.82, 0.93, (0.5, True, "midpoint", 0.5, 0.08), id="the-second-differs-from-the-larger"),
    ],
)
def test_all_test_solvers_must_agree(
    halved: float, midpoint: float, larger: float, expected: tuple[float, bool, str, float, float]
) -> None:
    metrics = {("euler", 0.5): 0.9, ("euler", 0.25): halved, ("midpoint", 0.5): midpoint, ("euler", 0.55): larger}
    monitor = StepSizeMonitor(T=1.0, h=0.5, test_solver=lambda h: [("euler", h / 2), ("midpoint", h)])
    check = monitor.update(lambda method, step: metrics[method, round(step, 12)])
    found = (check.after, check.is_valid, check.test_method, check.test_size, check.difference)
    assert found[1:3] == expected[1:3]
    assert (found[0], *found[3:]) == pytest.approx((expected[0], *expected[3:]))


@pytest.mark.parametrize(("loss", "after"), [(1.05, 0.55), (1.2, 0.25), (0.8, 0.25)])
def test_losses_are_compared_relatively(loss: float, after: float) -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5, compare="relative")
    monitor.update(lambda method, _: -30.0 * (loss if method == "euler" else 1.0))
    assert monitor.h == after


@pytest.mark.parametrize(("loss", "is_valid"), [(0.0, True), (1e-9, False)])
def test_a_loss_is_compared_with_zero(loss: float, is_valid: bool) -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5, compare="relative")
    assert monitor.update(lambda method, _: loss if method == "euler" else 0.0).is_valid is is_valid


def test_anything_can_be_compared_by_a_function() -> None:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))

    monitor = StepSizeMonitor(T=1.0, h=0.5, compare=distance)
    check = monitor.update(lambda method, _: np.array([3.0, 4.5]) if method == "euler" else np.array([3.0, 4.0]))
    assert (check.difference, check.training, monitor.h) == (pytest.approx(0.1), None, 0.55)


# Noise.


def right(number: int, total: int) -> list[bool]:
    """Whether each sample of a batch is classified rightly."""
    return [sample < number for sample in range(total)]


@pytest.mark.parametrize(
    ("number", "total", "after"),
    [
        pytest.param(39, 40, 0.55, id="surely-within"),
        pytest.param(37, 40, 0.5, id="perhaps-within"),
        pytest.param(34, 40, 0.5, id="perhaps-beyond"),
        pytest.param(28, 40, 0.25, id="surely-beyond"),
        pytest.param(340, 400, 0.25, id="beyond-by-more-samples"),
    ],
)
def test_steps_stay_where_the_batch_does_not_tell(number: int, total: int, after: float) -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5, confidence=0.95)
    check = monitor.update(lambda method, _: right(number if method == "euler" else total, total))
    margin = 1.959964 * math.sqrt((total - number) * number / total / (total - 1) / total)
    assert monitor.h == after
    assert check.is_valid is ((total - number) / total - margin <= 0.1)
    assert check.training == pytest.approx(number / total)


def test_the_same_samples_wrong_for_both_are_no_noise() -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5, confidence=0.95)
    monitor.update(lambda *_: right(5, 10))
    assert monitor.h == 0.55


@pytest.mark.parametrize("xp", [np, array_api_strict], ids=["numpy", "strict"])
def test_metrics_may_be_arrays(xp: Any) -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5)
    single = monitor.update(lambda method, _: np.float32(0.5))
    assert (single.training, type(single.training)) == (0.5, float)
    many = monitor.update(lambda method, _: np.asarray([0.0, 1.0, 1.0, 1.0]))
    assert many.training == 0.75


# Tolerances.


def costs(method: str, tol: float) -> int:
    return 6 * math.ceil(3 * tol**-0.2)


def test_tolerance_is_halved_while_the_metrics_differ() -> None:
    monitor, stub = ToleranceMonitor(tol=1e-3), Stub(lambda _, tol: (0.9 if tol == 1e-3 else 0.6, costs("", tol)))
    check = monitor.update(stub)
    assert stub.calls == [("dopri5", 1e-3), ("dopri5", pytest.approx(1e-4))]
    assert (monitor.tol, check.num_field_evals) == (5e-4, costs("", 1e-3) + costs("", 1e-4))


def test_tolerance_grows_while_the_larger_one_holds() -> None:
    monitor, stub = ToleranceMonitor(tol=1e-3, method="fehlberg2"), Stub(lambda _, tol: (0.9, costs("", tol)))
    check = monitor.update(stub)
    assert stub.calls == [("fehlberg2", 1e-3), ("dopri5", 2e-4), ("fehlberg2", pytest.approx(1.1e-3))]
    assert (check.after, monitor.tol) == (pytest.approx(1.1e-3), pytest.approx(1.1e-3))


def test_the_test_solver_takes_more_field_evaluations() -> None:
    monitor, stub = ToleranceMonitor(tol=1e-2), Stub(lambda _, tol: (0.9, 20 if tol > 1e-5 else 26))
    check = monitor.update(stub)
    assert [size for _, size in stub.calls] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5, 1.1e-2])
    assert check.num_field_evals == 4 * 20 + 26
    assert check.test_size == pytest.approx(1e-5)


def test_it_ends_where_no_tolerance_takes_more_field_evaluations() -> None:
    monitor, stub = ToleranceMonitor(tol=1e-3, min_tol=2e-6), Stub(lambda *_: (0.9, 12))
    monitor.update(stub)
    assert [size for _, size in stub.calls] == pytest.approx([1e-3, 1e-4, 1e-5, 2e-6, 1.1e-3])


def test_tolerance_stays_in_its_limits() -> None:
    monitor = ToleranceMonitor(tol=1e-4, min_tol=4e-5, max_tol=1.05e-4)
    monitor.update(lambda _, tol: (0.9, costs("", tol)))
    assert monitor.tol == 1.05e-4
    for _ in range(3):
        monitor.update(lambda _, tol: (0.9 * (tol > 4e-5), costs("", tol)))
    assert monitor.tol == 4e-5


def test_tolerance_is_not_raised_where_that_saves_nothing() -> None:
    monitor = ToleranceMonitor(tol=1e-3)
    for _ in range(8):
        monitor.update(lambda _, tol: (0.9, 20 if tol > 3e-4 else 26))
    assert [check.after > check.before for check in monitor.history] == [True] * 4 + [False] * 4
    assert monitor.history[-1].trial == 0.9


def test_solves_of_training_count_among_the_five() -> None:
    monitor = ToleranceMonitor(tol=1e-3)
    for cost in (26, 20, 20, 20, 20):
        monitor.observe(cost)
    monitor.update(lambda _, tol: (0.9, 20 if tol > 3e-4 else 26))
    assert monitor.tol == 1e-3
    monitor.observe(26)
    monitor.update(lambda _, tol: (0.9, 20 if tol > 3e-4 else 26))
    assert monitor.tol > 1e-3


# State.


@pytest.mark.parametrize(
    "make", [lambda: StepSizeMonitor(T=1.0, h=0.5), lambda: ToleranceMonitor(tol=1e-3)], ids=["steps", "tolerance"]
)
def test_a_monitor_goes_on_where_it_was(make: Callable[[], Any]) -> None:
    def evaluate(method: str, size: float) -> Any:
        return min(1.0, 0.5 + size), 20 if size > 3e-4 else 26

    straight, first, second = make(), make(), make()
    for number in range(9):
        straight.update(evaluate, number)
        (first if number < 4 else second).update(evaluate, number)
        if number == 3:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.state_dict() == straight.state_dict()
    assert second.history == straight.history
    assert len(second.history) == 9


@pytest.mark.parametrize("change", [{"method": "midpoint"}, {"size": 1.5}, {"size": 1e-4}])
def test_a_state_of_another_monitor_is_refused(change: dict[str, Any]) -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5)
    with pytest.raises(InputError, match=r"the state must be of method 'euler' and of a size in \[0.002, 1\]; got"):
        monitor.load_state_dict(monitor.state_dict() | change)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param({"h": 0.0}, r"h must be a step size in \(0, T\], T = 2; got 0.0", id="zero"),
        pytest.param({"h": -0.1}, r"h must be a step size in \(0, T\]", id="negative"),
        pytest.param({"h": 2.1}, r"h must be a step size in \(0, T\], T = 2; got 2.1", id="long"),
        pytest.param({"h": math.nan}, r"h must be a step size in \(0, T\]", id="nan"),
        pytest.param({"h": 0.003}, "h must be at least T / max_steps = 0.004; got 0.003", id="short"),
        pytest.param({"T": 0.0}, "T must be a positive finite number; got 0.0", id="no-interval"),
        pytest.param({"T": math.inf}, "T must be a positive finite number", id="endless"),
        pytest.param({"max_steps": 0}, "max_steps must be an integer >= 1; got 0", id="no-steps"),
        pytest.param({"interval": 0}, "interval must be an integer >= 1; got 0", id="interval"),
        pytest.param({"threshold": 0.0}, "threshold must be a positive number; got 0.0", id="threshold"),
        pytest.param({"shrink": 1.0}, r"shrink must be a number in \(0, 1\); got 1.0", id="shrink"),
        pytest.param({"growth": 1.0}, "growth must be a finite number above 1; got 1.0", id="growth"),
        pytest.param({"method": "oiler"}, "method must be one of: euler, .*; got 'oiler'", id="method"),
        pytest.param({"compare": "percent"}, 'compare must be "absolute", "relative" or a func', id="compare"),
        pytest.param({"confidence": 1.0}, r"confidence must be a number in \(0, 1\), or None; got 1.0", id="certain"),
        pytest.param({"confidence": 0.9, "compare": max}, "confidence must be None where compare is", id="both"),
        pytest.param({"metric_range": (1.0, 0.0)}, r"metric_range must be \(low, high\) with low < high", id="range"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        StepSizeMonitor(**{"T": 2.0, "h": 0.5} | arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param({"tol": 0.0}, r"tol must be a tolerance in \[1e-12, 1\]; got 0.0", id="zero"),
        pytest.param({"tol": 2.0}, r"tol must be a tolerance in \[1e-12, 1\]; got 2.0", id="large"),
        pytest.param({"min_tol": 0.0}, "min_tol must be a positive number <= max_tol; got 0.0", id="least"),
        pytest.param({"method": "rk4"}, "method must have an error estimate; got 'rk4'. .* dopri5", id="no-estimate"),
        pytest.param({"method": "leapfrog"}, "method must have an error estimate", id="multistep"),
    ],
)
def test_bad_tolerances_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        ToleranceMonitor(**{"tol": 1e-3} | arguments)


@pytest.mark.parametrize(
    ("settings", "metric", "text"),
    [
        pytest.param({}, math.nan, "metric must be finite; got nan from 'euler' with 0.5", id="nan"),
        pytest.param({"compare": "relative"}, math.inf, "metric must be finite; got inf from 'euler'", id="infinite"),
        pytest.param({}, [0.5, math.nan], "metric must be finite; got nan", id="nan-sample"),
        pytest.param({}, 1.2, r"metric must lie in \[0, 1\]; got 1.2 from 'euler' with 0.5", id="above"),
        pytest.param({}, -0.1, r"metric must lie in \[0, 1\]; got -0.1", id="below"),
        pytest.param({"metric_range": (0, 100)}, 101, r"metric must lie in \[0, 100\]; got 101", id="percent"),
        pytest.param({}, "good", "metric must be a number, or one for each sample; got 'good'", id="text"),
        pytest.param({}, [], r"metric must be a number, or one for each sample; got \[\]", id="empty"),
        pytest.param({}, None, "metric must be a number, or one for each sample; got None", id="none"),
        pytest.param({}, (0.5, -1), r"evaluate must return a metric, or a tuple .* got \(0.5, -1\)", id="count"),
        pytest.param({}, (0.5, 0.5), r"evaluate must return a metric, or a tuple", id="tuple"),
        pytest.param({"confidence": 0.9}, 0.5, "must be one number for each sample where confidence", id="single"),
        pytest.param({"compare": lambda *_: math.nan}, 1, "compare must return a finite number >= 0; got nan", id="f"),
        pytest.param({"compare": lambda *_: -1.0}, 1, "compare must return a finite number >= 0; got -1.0", id="neg"),
    ],
)
def test_bad_metrics_are_refused_and_change_nothing(settings: dict[str, Any], metric: Any, text: str) -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5, **settings)
    state = monitor.state_dict()
    with pytest.raises(InputError, match=text):
        monitor.update(lambda *_: metric)
    assert monitor.state_dict() == state


def test_metrics_of_other_samples_are_refused() -> None:
    with pytest.raises(InputError, match="metrics of all solvers must be of the same samples; got 3 and 2 of them"):
        StepSizeMonitor(T=1.0, h=0.5).update(lambda method, _: [0.5] * (3 if method == "euler" else 2))


def test_tolerances_need_counts() -> None:
    with pytest.raises(InputError, match=r"evaluate must return \(metric, number of field evaluations\)"):
        ToleranceMonitor(tol=1e-3).update(lambda *_: 0.5)


def test_a_test_step_beyond_the_interval_is_refused() -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5, test_solver=lambda h: [("midpoint", h), ("rk4", 4 * h)])
    with pytest.raises(InputError, match=r"test_solver must be a function that returns a step in \(0, 1\], .* got 2.0"):
        monitor.update(lambda *_: 0.5)


def test_no_test_solver_is_refused() -> None:
    monitor = StepSizeMonitor(T=1.0, h=0.5, test_solver=lambda h: [])
    with pytest.raises(InputError, match=r"or a list of one or more such solvers; got \[\]"):
        monitor.update(lambda *_: 0.5)


def test_an_evaluation_that_changes_the_model_is_found() -> None:
    model = np.zeros(3)

    def evaluate(method: str, step: float) -> float:
        model[1] += method == "midpoint"
        return 0.5

    monitor = StepSizeMonitor(T=1.0, h=0.5, checksum=model.tobytes)
    with pytest.raises(InputError, match="evaluate must not change the model; got another checksum after 'midpoint'"):
        monitor.update(evaluate)
    assert monitor.history == []
