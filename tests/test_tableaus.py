"""Proves the tableaus: exact order conditions, measured slopes, derived flags, refusals."""

import math
import runpy
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path
from typing import NamedTuple

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from janode.core.errors import InputError, TableauError
from janode.core.tableaus import DOPRI5, TABLEAUS, Tableau, alpha2, tableau

Tree = tuple["Tree", ...]


class Declared(NamedTuple):
    order: int
    embedded_order: int | None
    num_stages: int
    num_solution_stages: int
    is_fsal: bool


DECLARED = {
    "euler": Declared(1, None, 1, 1, False),
    "midpoint": Declared(2, None, 2, 2, False),
    "ralston": Declared(2, None, 2, 2, False),
    "heun2": Declared(2, None, 2, 2, False),
    "heun3": Declared(3, None, 3, 3, False),
    "kutta3": Declared(3, None, 3, 3, False),
    "ssprk3": Declared(3, None, 3, 3, False),
    "rk4": Declared(4, None, 4, 4, False),
    "rk38": Declared(4, None, 4, 4, False),
    "adaptive_heun": Declared(2, 1, 2, 2, False),
    "fehlberg2": Declared(2, 1, 3, 3, False),
    "bosh3": Declared(3, 2, 4, 3, True),
    "fehlberg45": Declared(5, 4, 6, 6, False),
    "cash_karp": Declared(5, 4, 6, 6, False),
    "dopri5": Declared(5, 4, 7, 6, True),
    "tsit5": Declared(5, 4, 7, 6, True),
    "dopri8": Declared(8, 7, 13, 13, False),
}
PAIRS = [name for name, declared in DECLARED.items() if declared.embedded_order is not None]
# Records of fractions satisfy their conditions exactly; these two hold 40 decimals.
ROUNDING = {"tsit5": Fraction(1, 10**38), "dopri8": Fraction(1, 10**38)}


@cache
def trees(order: int) -> list[Tree]:
    """The rooted trees of that many nodes; a tree is the tuple of its subtrees."""

    def forests(nodes: int, largest: int) -> list[Tree]:
        if nodes == 0:
            return [()]
        found = []
        for size in range(1, min(nodes, largest) + 1):
            for number in range(1, nodes // size + 1):
                for same in combinations_with_replacement(trees(size), number):
                    found += [same + rest for rest in forests(nodes - size * number, size - 1)]
        return found

    return forests(order - 1, order - 1)


def num_nodes(tree: Tree) -> int:
    return 1 + sum(map(num_nodes, tree))


def density(tree: Tree) -> int:
    return num_nodes(tree) * math.prod(map(density, tree))


@cache
def stage_values(method: Tableau, tree: Tree) -> tuple[Fraction, ...]:
    """The stages' elementary weights: the product of a @ (those of the subtree), over the subtrees."""
    values = [Fraction(1)] * method.num_stages
    for child in tree:
        inner = stage_values(method, child)
        values = [
            v * sum(map(Fraction.__mul__, row, inner), Fraction(0)) for v, row in zip(values, method.a, strict=True)
        ]
    return tuple(values)


def worst(method: Tableau, weights: tuple[Fraction, ...], first: int, last: int) -> Fraction:
    """The largest residual of the order conditions on trees of ``first`` to ``last`` nodes."""
    conditions = [tree for order in range(first, last + 1) for tree in trees(order)]
    return max(
        abs(sum(map(Fraction.__mul__, weights, stage_values(method, tree)), -Fraction(1, density(tree))))
        for tree in conditions
    )


def embedded(method: Tableau) -> tuple[Fraction, ...]:
    assert method.b_error is not None
    return tuple(map(Fraction.__sub__, method.b, method.b_error))


# The proofs.


@pytest.mark.parametrize(
    ("order", "number"), [(1, 1), (2, 1), (3, 2), (4, 4), (5, 9), (6, 20), (7, 48), (8, 115), (9, 286)]
)
def test_number_of_rooted_trees(order: int, number: int) -> None:
    assert len(set(trees(order))) == len(trees(order)) == number


def test_every_method_is_declared_here() -> None:
    assert list(TABLEAUS) == list(DECLARED)


@pytest.mark.parametrize("name", DECLARED)
def test_derived_properties(name: str) -> None:
    method = TABLEAUS[name]
    derived = (method.order, method.embedded_order, method.num_stages, method.num_solution_stages, method.is_fsal)
    assert derived == DECLARED[name]
    assert method.name == name
    assert method.source


@pytest.mark.parametrize("name", DECLARED)
def test_weights_satisfy_all_conditions_of_their_order(name: str) -> None:
    method = TABLEAUS[name]
    assert worst(method, method.b, 1, method.order) <= ROUNDING.get(name, 0)


@pytest.mark.parametrize("name", DECLARED)
def test_weights_fail_the_next_order(name: str) -> None:
    method = TABLEAUS[name]
    assert worst(method, method.b, method.order + 1, method.order + 1) > Fraction(1, 10**6)


@pytest.mark.parametrize("name", PAIRS)
def test_embedded_weights_satisfy_all_conditions_of_their_order(name: str) -> None:
    method = TABLEAUS[name]
    assert worst(method, embedded(method), 1, method.embedded_order) <= ROUNDING.get(name, 0)


@pytest.mark.parametrize("name", PAIRS)
def test_embedded_weights_fail_the_next_order(name: str) -> None:
    method = TABLEAUS[name]
    assert worst(method, embedded(method), method.embedded_order + 1, method.embedded_order + 1) > Fraction(1, 10**6)


TINY = Fraction(1, 10**12)


@pytest.mark.parametrize("name", [name for name, declared in DECLARED.items() if declared.order > 1])
def test_conditions_catch_a_changed_coefficient(name: str) -> None:
    method = TABLEAUS[name]
    last = method.num_solution_stages - 1
    row = (method.a[last][0] + TINY, *method.a[last][1:])
    changed = replace(
        method,
        name="changed",
        c=(*method.c[:last], method.c[last] + TINY, *method.c[last + 1 :]),
        a=(*method.a[:last], row, *method.a[last + 1 :]),
    )
    assert worst(changed, changed.b, 1, changed.order) > Fraction(1, 10**16)


@pytest.mark.parametrize("name", DECLARED)
def test_construction_catches_a_changed_weight(name: str) -> None:
    method = TABLEAUS[name]
    with pytest.raises(TableauError, match=r"b must sum to 1; got a sum off by 1e-12"):
        replace(method, b=(method.b[0] + TINY, *method.b[1:]))


@pytest.mark.parametrize("name", ROUNDING)
def test_refined_digits_come_from_the_documented_script(name: str) -> None:
    script = runpy.run_path(str(Path(__file__).parents[1] / "docs/notes/tableaus_refine.py"))
    texts, largest_change, relative_change = script["refine"](script[name.upper()])
    method = TABLEAUS[name]
    s = method.num_stages
    rows = [(*row, *[Fraction(0)] * (s - len(row))) for row in method.a]
    assert list(map(Fraction, texts)) == [*method.c, *[x for row in rows for x in row], *method.b, *embedded(method)]
    assert (largest_change, relative_change) < {"tsit5": (2.2e-15, 1.0), "dopri8": (3e-17, 1.0)}[name]


# The measured slopes.


def slope(method: Tableau, steps: int) -> float:
    """The order measured on y' = -2 t y^2, y(0) = 1, with the solution 1 / (1 + t^2), on [0, 1]."""

    def number(x: Fraction) -> mpmath.mpf:
        return mpmath.mpf(x.numerator) / x.denominator

    a, b, c = [list(map(number, row)) for row in method.a], list(map(number, method.b)), list(map(number, method.c))

    def error(steps: int) -> mpmath.mpf:
        h, y = mpmath.mpf(1) / steps, mpmath.mpf(1)
        for n in range(steps):
            k: list[mpmath.mpf] = []
            for row, node in zip(a, c, strict=True):
                k.append(-2 * (n + node) * h * (y + h * mpmath.fdot(row, k)) ** 2)
            y += h * mpmath.fdot(b, k)
        return abs(y - mpmath.mpf(1) / 2)

    return float(mpmath.log(error(steps) / error(2 * steps), 2))


@pytest.mark.parametrize("name", DECLARED)
def test_measured_slope_is_the_order(name: str) -> None:
    with mpmath.workdps(40):
        assert slope(TABLEAUS[name], 32) == pytest.approx(DECLARED[name].order, abs=0.15)


# The floats.


@pytest.mark.parametrize("name", DECLARED)
def test_floats_are_the_nearest_floats(name: str) -> None:
    method = TABLEAUS[name]
    floats = method.floats
    assert floats is method.floats
    assert floats.c == tuple(map(float, method.c))
    assert floats.a == tuple(tuple(map(float, row)) for row in method.a)
    assert floats.b == tuple(map(float, method.b))
    assert floats.b_error == (None if method.b_error is None else tuple(map(float, method.b_error)))
    assert {type(x) for x in (*floats.c, *floats.b, *floats.a[-1])} == {float}


def test_equal_tableaus_have_equal_hashes() -> None:
    assert hash(alpha2("1/2")) == hash(alpha2("1/2"))
    assert alpha2("1/2") == alpha2("1/2") != alpha2("1/3")


# The family of two-stage methods.


@given(st.fractions(min_value=0, max_value=1).filter(bool) | st.floats(min_value=0, max_value=1, exclude_min=True))
def test_alpha2_has_order_2_and_not_3(alpha: Fraction | float) -> None:
    method = alpha2(alpha)
    assert method.order == 2
    assert method.c == (0, Fraction(alpha))
    assert worst(method, method.b, 1, 2) == 0
    assert worst(method, method.b, 3, 3) >= Fraction(1, 6)


@pytest.mark.parametrize(
    ("alpha", "name"),
    [
        ("1/2", "midpoint"),
        (0.5, "midpoint"),
        (Fraction(2, 3), "ralston"),
        ("2/3", "ralston"),
        (1, "heun2"),
        (Decimal("1.0"), "heun2"),
    ],
)
def test_alpha2_contains_the_named_methods(alpha: Fraction | float | str, name: str) -> None:
    method, named = alpha2(alpha), TABLEAUS[name]
    assert (method.c, method.a, method.b) == (named.c, named.a, named.b)
    assert method.name == f"alpha2({alpha})"


@pytest.mark.parametrize("alpha", [0, -0.5, "3/2", 1.0000001, math.nan, math.inf, "half", "1/0", None, 1j])
def test_alpha2_refuses_other_numbers(alpha: object) -> None:
    with pytest.raises(InputError) as caught:
        alpha2(alpha)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"alpha2: alpha must be a number with 0 < alpha <= 1; got {alpha!r}. "
        "Choose for example '1/2' (midpoint), '2/3' (Ralston) or 1 (Heun)."
    )


# The refusals.


def record(**changes: object) -> Tableau:
    texts = {"name": "toy", "order": 2, "c": "0 1", "a": "1", "b": "1/2 1/2", "source": "a test"}
    return tableau(**{**texts, **changes})  # type: ignore[arg-type]


REFUSALS = {
    "no stage": (
        lambda: record(b=""),
        "b must have at least one entry; got none. Give one weight per stage.",
    ),
    "short c": (
        lambda: record(c="0"),
        "c must have as many entries as b, 2; got 1. Give one per stage.",
    ),
    "missing row": (
        lambda: record(a=""),
        "a must have as many rows as b, 2; got 1. Give one per stage.",
    ),
    "long b_hat": (
        lambda: record(b_hat="1 0 0", embedded_order=1),
        "b_hat must have as many entries as b, 2; got 3. Give one per stage.",
    ),
    "short b_error": (
        lambda: replace(DOPRI5, name="toy", b_error=(Fraction(0),)),
        "b_error must have as many entries as b, 7; got 1. Give one per stage.",
    ),
    "implicit row": (
        lambda: record(a="1/2 1/2"),
        "row 2 of a must have length 1; got 2. "
        "Only explicit methods are supported: give a_ij for j < i, zeros included.",
    ),
    "row sum": (
        lambda: record(a="1/2"),
        "row 2 of a must sum to c_2 = 1.0; got a sum off by -0.5. Give fractions, or decimals of 40 digits.",
    ),
    "first abscissa": (
        lambda: record(c="1/4 1"),
        "row 1 of a must sum to c_1 = 0.25; got a sum off by -0.25. Give fractions, or decimals of 40 digits.",
    ),
    "few digits": (
        lambda: record(b="0.3333333333333333 0.6666666666666666"),
        "b must sum to 1; got a sum off by -1e-16. Give fractions, or decimals of 40 digits.",
    ),
    "just beyond rounding": (
        lambda: record(b="1/2 0.50000000000000000000000000000000000002"),
        "b must sum to 1; got a sum off by 2e-38. Give fractions, or decimals of 40 digits.",
    ),
    "b_hat sum": (
        lambda: record(b_hat="1 1", embedded_order=1),
        "b_error must sum to 0; got a sum off by -1. Give fractions, or decimals of 40 digits.",
    ),
    "no embedded order": (
        lambda: record(b_hat="1 0"),
        "b_error and embedded_order must be given together; "
        "got b_error (Fraction(-1, 2), Fraction(1, 2)) and embedded_order None. Give both or neither.",
    ),
    "no embedded weights": (
        lambda: record(embedded_order=1),
        "b_error and embedded_order must be given together; "
        "got b_error None and embedded_order 1. Give both or neither.",
    ),
    "not a number": (
        lambda: record(c="0 one"),
        "c must hold fractions or decimals separated by spaces; got '0 one'. Write for example '0 1/2 0.25'.",
    ),
    "division by zero": (
        lambda: record(a=" 1/0 "),
        "a must hold fractions or decimals separated by spaces; got '1/0'. Write for example '0 1/2 0.25'.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    make, text = REFUSALS[case]
    with pytest.raises(TableauError) as caught:
        make()
    assert str(caught.value) == f"tableau 'toy': {text}"


def test_rounded_sums_are_accepted() -> None:
    assert record(b="1/2 0.500000000000000000000000000000000000001").num_stages == 2


@pytest.mark.parametrize(("last_row", "is_fsal"), [("0 1", True), ("1 0", False)])
def test_fsal_means_that_the_last_row_is_b(last_row: str, is_fsal: bool) -> None:
    method = record(c="0 1/2 1", a=f"1/2 | {last_row}", b="0 1 0")
    assert method.is_fsal is is_fsal
    assert method.num_solution_stages == 2
