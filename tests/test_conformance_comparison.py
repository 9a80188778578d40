"""The one comparison looks at everything that can be wrong with an array, and counts errors in eps."""

import math
import re

import array_api_strict
import numpy as np
import pytest

from janode.conformance.comparison import EPS, FACTOR, Comparison, Difference
from janode.conformance.problem import Problem
from janode.conformance.problems import PROBLEMS

ONE = np.asarray([1.0, -2.0])
STRICT = array_api_strict.asarray(ONE)
DEVICE1 = array_api_strict.Device("device1")


def compare(got: object, like: object = ONE, expected: np.ndarray = ONE, condition: float = 1.0) -> Difference:
    return Comparison(condition).array("x", got, like, expected)


@pytest.mark.parametrize(
    ("got", "like", "fault"),
    [
        ([1.0, -2.0], ONE, "must be an array; got list"),
        (STRICT, ONE, "must have namespace array_api_compat.numpy; got array_api_strict"),
        (STRICT, STRICT.to_device(DEVICE1), "must have device .*device1.*; got .*CPU_DEVICE"),
        (ONE.astype(np.float32), ONE, "must have dtype float64; got float32"),
        (ONE[:1], ONE, r"must have shape \(2,\); got \(1,\)"),
        (np.asarray([1.0, np.nan]), ONE, "must be finite"),
        (np.asarray([1.0, np.inf]), ONE, "must be finite"),
    ],
    ids=["type", "namespace", "device", "dtype", "shape", "nan", "inf"],
)
def test_a_fault_is_told_and_fails(got: object, like: object, fault: str) -> None:
    difference = compare(got, like)
    assert not difference.is_ok
    assert math.isinf(difference.error)
    assert re.match(f"x: {fault}", str(difference)), difference


def test_an_error_is_relative_to_the_largest_entry() -> None:
    assert compare(ONE + np.asarray([8 * EPS["f64"], 0.0])).error == 4.0


def test_an_error_against_zeros_is_absolute() -> None:
    assert compare(np.asarray([0.0, 3 * EPS["f64"]]), expected=np.zeros(2)).error == 3.0


def test_an_empty_array_has_no_error() -> None:
    assert compare(np.zeros(0), expected=np.zeros(0)).is_ok


@pytest.mark.parametrize(("share", "is_ok"), [(0.9, True), (1.1, False)])
@pytest.mark.parametrize("condition", [1.0, 8.0])
def test_the_tolerance_is_factor_times_eps_times_condition(condition: float, share: float, is_ok: bool) -> None:
    moved = ONE * (1 + share * FACTOR * condition * EPS["f64"])
    difference = compare(moved, condition=condition)
    assert difference.is_ok is is_ok
    assert f"at most {FACTOR * condition:.3g} allowed" in str(difference)


def test_single_precision_is_counted_in_its_own_eps() -> None:
    got = np.asarray([1.0 + 2 * EPS["f32"], -2.0], dtype=np.float32)
    assert Comparison(1.0, EPS["f32"]).array("x", got, got, ONE).error == 1.0


def test_trees_name_the_leaf() -> None:
    got = {"a": (ONE, ONE), "b": 2 * ONE}
    wrong = [d for d in Comparison(1.0).trees("x", got, got, {"a": (ONE, -ONE), "b": 2 * ONE}) if not d.is_ok]
    assert [difference.where for difference in wrong] == ["x['a'][1]"]


def test_another_structure_is_one_fault() -> None:
    (difference,) = Comparison(1.0).trees("x", (ONE, ONE), (ONE, ONE), [ONE, ONE])
    assert "must have the structure" in difference.fault
    assert not difference.is_ok


@pytest.mark.parametrize(
    "problem", [p for p in PROBLEMS.values() if p.name != "lorenz" and p.tolerances is None], ids=lambda p: p.name
)
def test_libraries_agree_to_1e_12_where_steps_are_fixed_and_no_chaos_is(problem: Problem) -> None:
    assert Comparison(problem.condition).tolerance * EPS["f64"] <= 1e-12
