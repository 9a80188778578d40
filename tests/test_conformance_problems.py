"""The problems are what they say, and the levels cover what they say."""

import numpy as np
import optree
import pytest

from janode.conformance.cases import LEVELS, PRESETS, Case, Selection, demoted, select
from janode.conformance.checks import ReferenceCheck
from janode.conformance.problem import Problem, draw_inputs
from janode.conformance.problems import PROBLEMS
from janode.conformance.textbook import derivative, integrate
from janode.core.tableaus import DOPRI8, TABLEAUS

EVERY_PROBLEM = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda problem: problem.name)


@EVERY_PROBLEM
def test_the_solution_is_met_by_a_fine_textbook_solve(problem: Problem) -> None:
    inputs = draw_inputs(problem, single=False)
    found = integrate(problem.value or problem.field, inputs.y0, inputs.ts, inputs.params, DOPRI8, 12 * problem.steps)
    errors = optree.tree_map(
        lambda a, b: np.max(np.abs(a - b)) / np.max(np.abs(b)),
        found,
        problem.solution(inputs.y0, inputs.params, inputs.ts),
    )
    assert max(optree.tree_leaves(errors)) < 1e-13


@EVERY_PROBLEM
def test_inputs_in_single_precision_are_exact_in_it(problem: Problem) -> None:
    inputs = draw_inputs(problem, single=True)
    leaves = optree.tree_leaves((inputs.y0, inputs.params, inputs.ys_bar, list(map(np.asarray, problem.ts))))
    assert {leaf.dtype.itemsize // (1 + np.iscomplexobj(leaf)) for leaf in leaves} == {8}
    narrow = [leaf.astype(np.complex64 if np.iscomplexobj(leaf) else np.float32) for leaf in leaves]
    assert all(np.array_equal(a, b) for a, b in zip(leaves, narrow, strict=True))


@EVERY_PROBLEM
def test_inputs_are_the_same_every_time(problem: Problem) -> None:
    first, second = (optree.tree_leaves(draw_inputs(problem, single=False).ys_bar) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("method", TABLEAUS)
@EVERY_PROBLEM
def test_the_reference_holds(problem: Problem, method: str) -> None:
    check = ReferenceCheck()
    found = {**check.run(Case(problem.name, method, "exact")), **check.run(Case(problem.name, method, "textbook"))}
    assert [str(d) for differences in found.values() for d in differences if not d.is_ok] == []


def test_complex_steps_are_exact_to_rounding() -> None:
    assert derivative(lambda e: np.exp(1.0 + e), is_analytic=True) == pytest.approx(np.e, rel=1e-15)


def test_central_differences_are_of_order_8() -> None:
    assert derivative(lambda e: np.exp(1.0 + e), is_analytic=False) == pytest.approx(np.e, rel=1e-13)


@pytest.mark.parametrize(
    ("level", "part", "names"),
    [
        ("smoke", "problem", set(PROBLEMS)),
        ("smoke", "preset", set(PRESETS)),
        ("standard", "problem", set(PROBLEMS)),
        ("standard", "method", set(TABLEAUS)),
        ("standard", "preset", set(PRESETS)),
    ],
)
def test_a_level_covers(level: str, part: str, names: set[str]) -> None:
    assert {getattr(case, part) for case in select(level, Selection())} == names


def test_standard_has_every_preset_on_every_problem() -> None:
    pairs = {(case.problem, case.preset) for case in select("standard", Selection()) if case.method == "dopri5"}
    assert len(pairs) == len(PROBLEMS) * len(PRESETS)


def test_full_is_the_product() -> None:
    assert len(select("full", Selection())) == len(PROBLEMS) * len(TABLEAUS) * len(PRESETS)


@pytest.mark.parametrize(("lower", "upper"), [("smoke", "standard"), ("standard", "full")])
def test_a_level_holds_the_one_below(lower: str, upper: str) -> None:
    assert set(select(lower, Selection())) < set(select(upper, Selection()))


@pytest.mark.parametrize(
    ("level", "levels", "found"), [("full", 1, "standard"), ("smoke", 1, "smoke"), ("full", 0, "full")]
)
def test_demoted(level: str, levels: int, found: str) -> None:
    assert level in LEVELS
    assert demoted(level, levels) == found
