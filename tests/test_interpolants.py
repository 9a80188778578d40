"""Proves the continuous extensions: exact order conditions, ends, measured slopes, the peers' values."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mpmath
import numpy as np
import pytest

from janode.core.interpolants import Interpolant, interpolant
from janode.core.tableau import Row, Tableau, tableau
from janode.core.tableaus import TABLEAUS, alpha2

from .test_tableaus import DECLARED, Tree, density, num_nodes, trees


class Expected(NamedTuple):
    order: int
    num_extra_stages: int
    degree: int


PUBLISHED = {
    "bosh3": Expected(3, 0, 3),
    "dopri5": Expected(4, 0, 4),
    "tsit5": Expected(4, 0, 4),
    "dopri8": Expected(7, 3, 7),
}
EXPECTED = {name: PUBLISHED.get(name, Expected(min(3, DECLARED[name].order), 0, 3)) for name in DECLARED}
# Records of fractions satisfy their conditions exactly; these hold 40 decimals, multiplied by up to 500.
ROUNDING = {"tsit5": Fraction(1, 10**37), "dopri8": Fraction(1, 10**36)}


def dot(left: Row, right: Row) -> Fraction:
    return sum(map(Fraction.__mul__, left, right), Fraction(0))


def residual(extension: Interpolant, first: int, last: int) -> Fraction:
    """The largest coefficient of sum_i b_i(x) Phi_i(t) - x^|t| / gamma(t) over trees of first to last nodes."""

    @cache
    def stage_values(tree: Tree) -> Row:
        values = (Fraction(1),) * len(extension.a)
        for child in tree:
            inner = stage_values(child)
            values = tuple(v * dot(row, inner) for v, row in zip(values, extension.a, strict=True))
        return values

    worst = Fraction(0)
    for tree in (tree for order in range(first, last + 1) for tree in trees(order)):
        for power, column in enumerate(zip(*extension.weights, strict=True), start=1):
            wanted = Fraction(1, density(tree)) if power == num_nodes(tree) else 0
            worst = max(worst, abs(dot(column, stage_values(tree)) - wanted))
    return worst


def end_stage(method: Tableau) -> int:
    return method.num_stages - method.is_fsal


def unit(size: int, place: int) -> Row:
    return tuple(Fraction(i == place) for i in range(size))


# The proofs.


@pytest.mark.parametrize("name", EXPECTED)
def test_declared_properties(name: str) -> None:
    method, extension = TABLEAUS[name], interpolant(TABLEAUS[name])
    stages = end_stage(method) + 1
    assert extension.name == name
    assert extension.source
    assert (extension.order, len(extension.a) - stages, len(extension.weights[0])) == EXPECTED[name]
    assert len(extension.c) == len(extension.a) == len(extension.weights)
    assert {len(row) for row in extension.weights} == {EXPECTED[name].degree}


@pytest.mark.parametrize("name", EXPECTED)
def test_extended_stages_begin_with_the_step(name: str) -> None:
    method, extension = TABLEAUS[name], interpolant(TABLEAUS[name])
    s = method.num_stages
    assert (extension.c[:s], extension.a[:s]) == (method.c, method.a)
    end = end_stage(method)
    assert extension.c[end] == 1
    assert (*extension.a[end], Fraction(0))[: s + 1] == (method.b if method.is_fsal else (*method.b, 0))


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_are_explicit_and_sum_to_their_abscissae(name: str) -> None:
    extension = interpolant(TABLEAUS[name])
    assert [len(row) for row in extension.a] == list(range(len(extension.a)))
    off = max(abs(sum(row, -c)) for row, c in zip(extension.a, extension.c, strict=True))
    assert off <= Fraction(1, 10**38)


@pytest.mark.parametrize("name", EXPECTED)
def test_conditions_of_the_declared_order_hold(name: str) -> None:
    extension = interpolant(TABLEAUS[name])
    assert residual(extension, 1, extension.order) <= ROUNDING.get(name, 0)


@pytest.mark.parametrize("name", EXPECTED)
def test_conditions_of_the_next_order_fail(name: str) -> None:
    extension = interpolant(TABLEAUS[name])
    assert residual(extension, extension.order + 1, extension.order + 1) > Fraction(1, 10**4)


@pytest.mark.parametrize("name", EXPECTED)
def test_ends_are_exact_with_their_slopes(name: str) -> None:
    method, extension = TABLEAUS[name], interpolant(TABLEAUS[name])
    size = len(extension.weights)
    assert tuple(sum(row, Fraction(0)) for row in extension.weights) == method.b + (0,) * (size - method.num_stages)
    assert tuple(row[0] for row in extension.weights) == unit(size, 0)
    slopes = tuple(sum(power * w for power, w in enumerate(row, start=1)) for row in extension.weights)
    assert slopes == unit(size, end_stage(method))


@pytest.mark.parametrize("name", PUBLISHED)
def test_conditions_catch_a_changed_weight(name: str) -> None:
    extension = interpolant(TABLEAUS[name])
    last = (*extension.weights[-1][:-1], extension.weights[-1][-1] + Fraction(1, 10**12))
    changed = replace(extension, weights=(*extension.weights[:-1], last))
    assert residual(changed, 1, 1) >= Fraction(1, 10**12)


def test_conditions_catch_a_changed_extra_row() -> None:
    extension = interpolant(TABLEAUS["dopri8"])
    tiny = Fraction(1, 10**12)
    row = (extension.a[-1][0] + tiny, *extension.a[-1][1:-1], extension.a[-1][-1] - tiny)
    assert residual(replace(extension, a=(*extension.a[:-1], row)), 1, 7) > Fraction(1, 10**14)


def test_refined_digits_come_from_the_documented_script(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[1] / "docs/notes"
    monkeypatch.syspath_prepend(str(folder))
    script = runpy.run_path(str(folder / "interpolants_refine.py"))
    records = vars(__import__("janode.core.interpolants", fromlist=["_RECORDS"]))["_RECORDS"]

    def rows(text: str) -> list[list[Fraction]]:
        return [list(map(Fraction, row.split())) for row in text.split("|")]

    def numbers(texts: list[list[str]]) -> list[list[Fraction]]:
        return [list(map(Fraction, row)) for row in texts]

    extra, d = script["dopri8"]()
    assert rows(records["tsit5"].d) == numbers(script["tsit5"]())
    assert (rows(records["dopri8"].a), rows(records["dopri8"].d)) == (numbers(extra), numbers(d))


# Which extension a method gets.


def test_a_method_that_shares_only_its_name_gets_the_cubic() -> None:
    other = replace(TABLEAUS["rk4"], name="dopri5")
    assert interpolant(other).order == 3
    assert interpolant(other).weights == interpolant(TABLEAUS["rk4"]).weights


def test_an_equal_record_gets_the_published_one() -> None:
    assert interpolant(replace(TABLEAUS["dopri5"])).order == 4


def test_methods_of_users_get_the_cubic() -> None:
    assert interpolant(alpha2("1/3")).order == 2
    one = tableau(name="toy", order=1, c="0", a="", b="1", source="a test")
    extension = interpolant(one)
    assert (extension.order, extension.c, extension.a) == (1, (0, 1), ((), (1,)))
    assert extension.weights == ((1, 1, -1), (0, -1, 1))


def test_interpolants_are_made_once() -> None:
    assert interpolant(TABLEAUS["tsit5"]) is interpolant(TABLEAUS["tsit5"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_floats_are_the_nearest_floats(name: str) -> None:
    extension = interpolant(TABLEAUS[name])
    floats = extension.floats
    assert floats is extension.floats
    assert floats.c == tuple(map(float, extension.c))
    assert floats.a == tuple(tuple(map(float, row)) for row in extension.a)
    assert floats.weights == tuple(tuple(map(float, row)) for row in extension.weights)
    assert {type(x) for x in (*floats.c, *floats.a[-1], *floats.weights[0])} == {float}


# One step in numbers.


def one_step(method: Tableau, f: Callable, t: float, y: object, h: float, number: Callable, xs: list) -> list:
    """y(t + x h) for all x."""
    extension = interpolant(method)
    k: list = []
    for row, node in zip(extension.a, extension.c, strict=True):
        stage = y
        for a, each in zip(row, k, strict=True):
            stage = stage + h * number(a) * each
        k.append(f(t + number(node) * h, stage))
    values = []
    for x in xs:
        value = y
        for row, each in zip(extension.weights, k, strict=True):
            value = value + h * sum(number(w) * x**power for power, w in enumerate(row, start=1)) * each
        values.append(value)
    return values


@pytest.mark.parametrize("name", EXPECTED)
def test_measured_slope_is_the_order(name: str) -> None:
    """The error after one step on y' = -2 t y^2 from t = 1, y = 1/2, between its ends, is O(h^(order + 1))."""
    xs = [mpmath.mpf(n) / 8 for n in range(1, 8)]

    def error(h: mpmath.mpf) -> mpmath.mpf:
        values = one_step(
            TABLEAUS[name],
            lambda t, y: -2 * t * y**2,
            mpmath.mpf(1),
            mpmath.mpf(1) / 2,
            h,
            lambda x: mpmath.mpf(x.numerator) / x.denominator,
            xs,
        )
        return max(abs(value - 1 / (1 + (1 + x * h) ** 2)) for value, x in zip(values, xs, strict=True))

    with mpmath.workdps(50):
        h = mpmath.mpf(1) / 64
        slope = float(mpmath.log(error(h) / error(h / 2), 2))
    assert slope == pytest.approx(EXPECTED[name].order + 1, abs=0.15)


def pendulum(t: float, y: np.ndarray) -> np.ndarray:
    return np.array([y[1], -np.sin(y[0]) + 0.3 * np.cos(t)])


XS = [0.0, 0.11, 0.35, 0.5, 0.77, 1.0]


def in_floats(name: str, h: float) -> np.ndarray:
    return np.array(one_step(TABLEAUS[name], pendulum, 0.4, np.array([1.0, 0.5]), h, float, XS))


@pytest.mark.parametrize(("name", "theirs"), [("bosh3", "RK23"), ("dopri5", "RK45")])
def test_scipy_has_the_same_values(name: str, theirs: str) -> None:
    integrate = pytest.importorskip("scipy.integrate")
    solver = getattr(integrate, theirs)(pendulum, 0.4, np.array([1.0, 0.5]), 9.0, first_step=0.3, rtol=1e-1, atol=1e-1)
    solver.step()
    assert solver.t - 0.4 == pytest.approx(0.3)
    dense = solver.dense_output()(0.4 + 0.3 * np.array(XS)).T
    np.testing.assert_allclose(in_floats(name, 0.3), dense, rtol=0, atol=2e-15)


def test_diffrax_has_the_same_values_for_tsit5() -> None:
    diffrax = pytest.importorskip("diffrax")
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        theirs = diffrax.Tsit5.interpolation_cls(
            t0=jax.numpy.asarray(0.0),
            t1=jax.numpy.asarray(1.0),
            y0=jax.numpy.zeros(7),
            y1=jax.numpy.zeros(7),
            k=jax.numpy.eye(7),
        )
        weights = np.array([theirs.evaluate(jax.numpy.asarray(x)) for x in XS])
    powers = np.array(XS)[:, None] ** np.arange(1, 5)
    ours = powers @ np.array(interpolant(TABLEAUS["tsit5"]).floats.weights).T
    np.testing.assert_allclose(ours, weights, rtol=0, atol=5e-14)


def test_torchdiffeq_has_the_same_midpoint_for_dopri5() -> None:
    dopri5 = pytest.importorskip("torchdiffeq._impl.dopri5")
    powers = 0.5 ** np.arange(1, 5)
    ours = np.array(interpolant(TABLEAUS["dopri5"]).floats.weights) @ powers
    np.testing.assert_allclose(ours, np.asarray(dopri5.DPS_C_MID), rtol=0, atol=1e-15)
