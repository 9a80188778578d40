"""Step size control: the formulas of the controllers, the error norm, the first step, and the limits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.integrate
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate._ivp.common import select_initial_step

import janode.numpy as jo
from janode.backends.numpy import BACKEND
from janode.core.controllers import NO_MEMORY, Memory, Tolerances, first_step

from .adaptive_problems import PARAMS, Y0, pendulum

ERRORS = st.floats(1e-3, 1.0)


@given(error=ERRORS, last=ERRORS, order=st.integers(2, 8))
def test_pi_is_the_formula_of_hairer_and_wanner(error: float, last: float, order: int) -> None:
    """h_new = h fac err_n^-alpha err_{n-1}^beta; DOPRI5 has alpha = 1/k - 0.75 beta and beta = 0.2/k, 0.04 at k = 5."""
    beta = 0.2 / order
    theirs = jo.PIController(0.2, 0.65, min_factor=1e-9, max_factor=1e9)
    expected = 0.9 * error ** -(1 / order - 0.75 * beta) * last**beta
    assert theirs.grown(BACKEND, error, Memory(last, 0.1), order, True) == pytest.approx(expected, rel=1e-13)
    default = jo.PIController(min_factor=1e-9, max_factor=1e9)
    expected = 0.9 * error ** (-1 / order) * last ** (0.1 / order)
    assert default.grown(BACKEND, error, Memory(last, 0.1), order, True) == pytest.approx(expected, rel=1e-13)


@given(error=ERRORS, last=ERRORS, before=ERRORS, order=st.integers(2, 8))
def test_pid_is_the_filter_of_soederlind(error: float, last: float, before: float, order: int) -> None:
    """H312PID: (1/18, 1/9, 1/18) on the last three errors, each to the power -1/k."""
    controller = jo.PIDController(min_factor=1e-9, max_factor=1e9)
    expected = 0.9 * (error ** (1 / 18) * last ** (1 / 9) * before ** (1 / 18)) ** (-1 / order)
    got = controller.grown(BACKEND, error, Memory(last, before), order, True)
    assert got == pytest.approx(expected, rel=1e-13)


@given(error=ERRORS, last=ERRORS, before=ERRORS, p=st.floats(0, 1), i=st.floats(0, 1), d=st.floats(0, 1))
def test_the_gains_are_those_of_a_pid_controller(
    error: float, last: float, before: float, p: float, i: float, d: float
) -> None:
    """log h_{n+1} - log h_n = -(I e_n + P (e_n - e_{n-1}) + D (e_n - 2 e_{n-1} + e_{n-2})) / k, e the logarithms."""
    controller = jo.PIDController(p, i, d, safety=1.0, min_factor=1e-9, max_factor=1e9)
    now, one, two = map(math.log, (error, last, before))
    expected = math.exp(-(i * now + p * (now - one) + d * (now - 2 * one + two)) / 4)
    assert controller.grown(BACKEND, error, Memory(last, before), 4, True) == pytest.approx(expected, rel=1e-12)


@given(error=st.floats(0.0, 1.0), last=st.floats(1e-4, 1.0), may_grow=st.booleans())
def test_growth_is_limited(error: float, last: float, may_grow: bool) -> None:
    controller = jo.PIController(min_factor=0.3, max_factor=4.0)
    factor = controller.grown(BACKEND, error, Memory(last, 1.0), 5, may_grow)
    assert 0.3 <= factor <= (4.0 if may_grow else 1.0)


@given(error=st.floats(1.0, 1e300))
def test_a_rejected_step_shrinks(error: float) -> None:
    factor = jo.PIController().shrunk(BACKEND, error, 5)
    assert factor == pytest.approx(max(0.2, 0.9 * error ** (-1 / 5)), rel=1e-12)
    assert factor < 1.0


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_a_step_without_a_finite_error_shrinks_most(error: float) -> None:
    assert jo.PIController(min_factor=0.25).shrunk(BACKEND, error, 5) == 0.25


def test_the_memory_holds_the_last_two_accepted_errors() -> None:
    controller = jo.PIDController()
    memory = controller.remembered(BACKEND, 0.5, NO_MEMORY)
    memory = controller.remembered(BACKEND, 0.25, memory)
    assert memory == Memory(0.25, 0.5)
    assert controller.remembered(BACKEND, 0.0, memory) == Memory(1e-4, 0.25)


def taken(field: Any, y0: Any, ts: Any, controller: jo.PIDController, **options: Any) -> list[tuple[float, float]]:
    """(error, step size) of every try, from the norm and the times of the stages."""
    tries: list[tuple[float, float]] = []
    seen: list[float] = []

    def norm(ratios: Any) -> Any:
        error = np.sqrt(np.mean(ratios**2))
        tries.append((float(error), seen[-1]))
        return error

    def noted(t: Any, y: Any) -> Any:
        seen.append(float(t))
        return field(t, y)

    jo.solve(noted, y0, ts, controller=replace(controller, norm=norm), **options)
    return tries


@pytest.mark.parametrize("kind", [jo.PIController, jo.PIDController])
def test_a_solve_takes_the_sizes_that_the_controller_gives(kind: Any) -> None:
    """Followed through a whole solve: growth, memory, rejections, no growth after a rejection."""
    controller = kind(first_step=0.5)
    tries = taken(lambda t, y: pendulum(t, y, PARAMS), Y0, [0.0, 30.0], controller, rtol=1e-4, atol=1e-6)
    t, size, memory, may_grow, num_rejected = 0.0, 0.5, NO_MEMORY, True, 0
    for error, end in tries[:-2]:  # the last ones are cut to end at 30
        assert end == pytest.approx(t + size, rel=1e-12)
        if error <= 1.0:
            t += size
            size *= controller.grown(BACKEND, error, memory, 5, may_grow)
            memory, may_grow = controller.remembered(BACKEND, error, memory), True
        else:
            size *= controller.shrunk(BACKEND, error, 5)
            may_grow, num_rejected = False, num_rejected + 1
    assert num_rejected > 0
    assert len(tries) > 30


def test_a_step_that_a_stop_cuts_short_does_not_bring_the_next_down() -> None:
    field = lambda t, y: pendulum(t, y, PARAMS)  # noqa: E731
    free = jo.solve(field, Y0, [0.0, 10.0]).stats.num_accepted
    stopped = jo.solve(field, Y0, [0.0, 10.0], controller=jo.PIController(step_ts=[5.0])).stats.num_accepted
    assert stopped <= free + 3


# The error norm


def test_the_norm_is_the_root_mean_square_over_all_entries() -> None:
    tolerances = Tolerances((1e-2, np.array([1e-1, 1e-3])), (1e-3, 1e-4))
    error = (np.array([1.0]), np.array([2.0, -3.0]))
    y = (np.array([5.0]), np.array([-2.0, 1.0]))
    y_next = (np.array([-7.0]), np.array([1.0, 0.5]))
    scaled = [1.0 / (1e-3 + 1e-2 * 7.0), 2.0 / (1e-4 + 1e-1 * 2.0), -3.0 / (1e-4 + 1e-3 * 1.0)]
    expected = math.sqrt(sum(x * x for x in scaled) / 3)
    assert tolerances.norm_of(BACKEND, error, y, y_next) == pytest.approx(expected, rel=1e-14)


def test_the_norm_takes_the_modulus_of_complex_numbers() -> None:
    tolerances = Tolerances((1e-2,), (1e-3,))
    got = tolerances.norm_of(BACKEND, (np.array([3e-3 + 4e-3j]),), (np.array([0.6 + 0.8j]),))
    assert got == pytest.approx(5e-3 / (1e-3 + 1e-2), rel=1e-14)


def test_a_norm_of_the_user_gets_the_pytree_and_decides() -> None:
    seen: list[Any] = []

    def norm(ratios: Any) -> Any:
        seen.append(ratios)
        return np.max(ratios["a"])

    y0 = {"a": np.ones(2), "b": np.ones(3)}
    field = lambda t, y: {"a": -0.0 * y["a"], "b": 100.0 * np.cos(100.0 * t) * np.ones(3)}  # noqa: E731
    stats = jo.solve(field, y0, [0.0, 1.0], controller=jo.PIController(norm=norm)).stats
    assert {name: leaf.shape for name, leaf in seen[-1].items()} == {"a": (2,), "b": (3,)}
    assert stats.num_rejected == 0
    assert jo.solve(field, y0, [0.0, 1.0]).stats.num_accepted > 5 * stats.num_accepted


def rough(t: Any, y: Any) -> Any:
    """One leaf that moves slowly, and one that asks for short steps."""
    return {"slow": -y["slow"], "fast": 50.0 * np.cos(50.0 * t) * np.ones(2)}


ROUGH = {"slow": np.ones(1), "fast": np.zeros(2)}


@pytest.mark.parametrize(
    ("rtol", "atol"),
    [
        ({"slow": 1e-6, "fast": 1e-6}, {"slow": 1e-9, "fast": 1e3}),
        (1e-6, {"slow": 1e-9, "fast": np.array([1e3, 1e4])}),
        ({"slow": np.array(1e-6), "fast": 1e-6}, {"slow": 1e-9, "fast": np.array(1e3)}),
    ],
    ids=["numbers", "an array for each entry", "0-d arrays"],
)
def test_each_leaf_has_its_tolerance(rtol: Any, atol: Any) -> None:
    tight = jo.solve(rough, ROUGH, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    loose = jo.solve(rough, ROUGH, [0.0, 1.0], rtol=rtol, atol=atol)
    assert loose.stats.num_steps < tight.stats.num_steps / 2
    assert abs(loose.ys["slow"][-1, 0] - math.exp(-1.0)) < 1e-5


def test_an_array_of_tolerances_stands_for_every_leaf() -> None:
    y0, ts = {"a": np.ones(2), "b": np.ones(2)}, [0.0, 1.0]
    got = jo.solve(lambda t, y: {"a": -y["a"], "b": y["b"]}, y0, ts, rtol=np.array([1e-6, 1e-6]), atol=np.array(1e-9))
    expected = jo.solve(lambda t, y: {"a": -y["a"], "b": y["b"]}, y0, ts, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(got.ys["a"], expected.ys["a"])


# The first step


def fields() -> dict[str, Any]:
    """Fields, with initial states, at all sides of the rule's conditions."""
    return {
        "pendulum": (lambda t, y: pendulum(t, y, PARAMS), Y0),
        "from zero": (lambda t, y: np.cos(t) + 0.0 * y, np.zeros(2)),
        "small slope": (lambda t, y: 1e-12 * y, np.ones(2)),
        "stiff": (lambda t, y: -1e4 * (y - np.cos(t)), np.ones(2)),
        "linear in time": (lambda t, y: np.ones_like(y), np.ones(2)),
    }


@pytest.mark.parametrize("case", fields())
@pytest.mark.parametrize("is_reversed", [False, True], ids=["forward", "reversed"])
def test_the_first_step_is_that_of_scipy(case: str, is_reversed: bool) -> None:
    field, y0 = fields()[case]
    t0, rtol, atol, sign = 0.5, 1e-6, 1e-9, -1.0 if is_reversed else 1.0
    f0 = field(t0, y0)
    expected = select_initial_step(field, t0, y0, t0 + 10.0 * sign, np.inf, f0, sign, 4, rtol, atol)
    tolerances = Tolerances((rtol,), (atol,))

    def slope_after(h: float) -> Any:
        return (field(t0 + sign * h, y0 + sign * h * f0),)

    got = first_step(BACKEND, tolerances, 5, (y0,), (f0,), 10.0, slope_after)
    assert got == pytest.approx(expected, rel=1e-12)


def test_the_first_step_is_that_of_the_book() -> None:
    """Hairer, Norsett, Wanner, page 169, by hand for y' = -y, y(0) = 1, tolerances 1e-3."""
    scale = 2e-3
    d0 = d1 = 1.0 / scale
    h0 = 0.01 * d0 / d1
    d2 = abs(-(1.0 - h0) + 1.0) / scale / h0
    h1 = (0.01 / max(d1, d2)) ** (1 / 3)  # the error of bosh3, whose embedded solution has order 2, is of order 3
    tries = taken(lambda t, y: -y, np.ones(1), [0.0, 5.0], jo.PIController(), method="bosh3", rtol=1e-3, atol=1e-3)
    del tries[:3]  # the norms of the rule itself
    assert tries[0][1] == pytest.approx(min(100 * h0, h1), rel=1e-12)


def test_the_rule_costs_one_evaluation() -> None:
    counts = [
        jo.solve(lambda t, y: -y, np.ones(1), [0.0, 1e-3], controller=jo.PIController(first_step=h)).stats
        for h in (None, 1.0)
    ]
    assert [stats.num_steps for stats in counts] == [1, 1]
    assert [stats.num_field_evals for stats in counts] == [8, 7]


def test_a_zero_field_is_crossed_in_few_steps() -> None:
    solution = jo.solve(lambda t, y: 0.0 * y, np.ones(2), [0.0, 1e6])
    np.testing.assert_array_equal(solution.ys, np.ones((2, 2)))
    assert solution.stats.num_rejected == 0
    assert solution.stats.num_accepted < 20


def test_a_zero_field_from_a_zero_state() -> None:
    solution = jo.solve(lambda t, y: 0.0 * y, np.zeros(2), [0.0, 1.0])
    np.testing.assert_array_equal(solution.ys, np.zeros((2, 2)))


# Limits


def sizes(tries: list[tuple[float, float]], t0: float = 0.0) -> list[float]:
    """The sizes of the accepted steps."""
    ends = [t0] + [end for error, end in tries if error <= 1.0]
    return list(np.diff(ends))


def test_no_step_is_longer_than_max_step() -> None:
    tries = taken(lambda t, y: -0.01 * y, np.ones(1), [0.0, 1.0], jo.PIController(max_step=0.1, first_step=0.3))
    assert max(sizes(tries)) <= 0.1 * (1 + 1e-12)
    assert len(tries) in (10, 11)


def test_a_step_below_min_step_is_a_failure() -> None:
    controller = jo.PIController(min_step=1e-2, first_step=0.1)
    with pytest.raises(
        jo.StepSizeUnderflow, match=r"must stay above min_step and above rounding in t; .* t = 0\.0 in 0"
    ):
        jo.solve(lambda t, y: -50 * y + np.sin(200 * t), np.ones(1), [0.0, 0.5], rtol=1e-10, controller=controller)


def test_the_least_step_is_accepted_if_asked_for() -> None:
    controller = jo.PIController(min_step=1e-2, first_step=0.1, accepts_min_step=True)
    solution = jo.solve(
        lambda t, y: -50 * y + np.sin(200 * t), np.ones(1), [0.0, 0.5], rtol=1e-10, controller=controller
    )
    assert solution.stats.num_accepted == 50


def test_the_least_step_is_not_accepted_if_it_is_not_finite() -> None:
    controller = jo.PIController(min_step=1e-3, accepts_min_step=True)
    field = lambda t, y: np.where(t > 0.25, math.nan, 1.0) * y  # noqa: E731
    with pytest.raises(jo.StepSizeUnderflow) as caught:
        jo.solve(field, np.ones(1), [0.0, 0.5], controller=controller)
    assert 0.2 < caught.value.time <= 0.25
    np.testing.assert_allclose(caught.value.last_good, math.exp(caught.value.time), rtol=1e-5)


@pytest.mark.parametrize("kind", [jo.PIController, jo.PIDController])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"safety": 0.0}, r"safety must be in \(0, 1\]; got 0\.0\. Give a number that is\."),
        ({"safety": 1.1}, r"safety must be in \(0, 1\]; got 1\.1"),
        ({"safety": math.nan}, r"safety must be in \(0, 1\]; got nan"),
        ({"min_factor": 0.0}, r"min_factor must be in \(0, 1\); got 0\.0"),
        ({"min_factor": 1.0}, r"min_factor must be in \(0, 1\); got 1\.0"),
        ({"max_factor": 1.0}, r"max_factor must be > 1; got 1\.0"),
        ({"min_step": -1.0}, r"min_step must be >= 0 and finite; got -1\.0"),
        ({"min_step": math.inf}, r"min_step must be >= 0 and finite; got inf"),
        ({"max_step": 0.0}, r"max_step must be > 0; got 0\.0"),
        ({"max_step": math.nan}, r"max_step must be > 0; got nan"),
        ({"first_step": 0.0}, r"first_step must be > 0 and finite; got 0\.0"),
        ({"first_step": math.inf}, r"first_step must be > 0 and finite; got inf"),
        (
            {"min_step": 2.0, "max_step": 1.0},
            r"min_step must be at most max_step; got min_step=2\.0 and max_step=1\.0\. Leave one of them out\.",
        ),
    ],
)
def test_bad_options_are_refused(kind: Any, options: dict[str, float], text: str) -> None:
    with pytest.raises(jo.InputError, match=f"^{kind.__name__}: {text}"):
        kind(**options)


def test_pi_is_no_worse_than_scipy() -> None:
    """The same pair, the same tolerances: as many evaluations, at a like error."""
    mine = jo.solve(lambda t, y: pendulum(t, y, PARAMS), Y0, [0.0, 20.0], rtol=1e-6, atol=1e-8)
    theirs = scipy.integrate.solve_ivp(pendulum, (0.0, 20.0), Y0, args=(PARAMS,), rtol=1e-6, atol=1e-8)
    assert mine.stats.num_field_evals <= 1.1 * theirs.nfev
