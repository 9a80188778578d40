"""The problems are what they say, and the levels cover what they say."""

import numpy as np
import optree
import pytest

from janode.conformance.cases import INVARIANTS, LEVELS, Case, Selection, all_cases, demoted, reference_cases, select
from janode.conformance.cells import RAN, run_cell
from janode.conformance.offers import CORRECTIONS, METHODS, presets, refusal
from janode.conformance.problem import Problem, draw_inputs
from janode.conformance.problems import PROBLEMS
from janode.conformance.reference import ReferenceCheck
from janode.conformance.textbook import derivative, integrate
from janode.core.corrected import _corrections
from janode.core.methods import find_method
from janode.core.tableaus import DOPRI8

UNCONTROLLED = [problem for problem in PROBLEMS.values() if problem.controls is None]
EVERY_PROBLEM = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda problem: problem.name)


@pytest.mark.parametrize("problem", UNCONTROLLED, ids=lambda problem: problem.name)
def test_the_solution_is_met_by_a_fine_textbook_solve(problem: Problem) -> None:
    inputs = draw_inputs(problem, "dopri8", single=False)
    found = integrate(problem.value or problem.field, inputs.y0, inputs.ts, inputs.params, DOPRI8, 12 * problem.steps)
    assert problem.solution is not None
    errors = optree.tree_map(
        lambda a, b: np.max(np.abs(a - b)) / np.max(np.abs(b)),
        found,
        problem.solution(inputs.y0, inputs.params, inputs.ts),
    )
    assert max(optree.tree_leaves(errors)) < 1e-13


@EVERY_PROBLEM
def test_inputs_in_single_precision_are_exact_in_it(problem: Problem) -> None:
    inputs = draw_inputs(problem, "dopri5", single=True)
    trees = (inputs.y0, inputs.params, inputs.ys_bar, inputs.controls, list(map(np.asarray, problem.ts)))
    leaves = optree.tree_leaves(trees)
    assert {leaf.dtype.itemsize // (1 + np.iscomplexobj(leaf)) for leaf in leaves} == {8}
    narrow = [leaf.astype(np.complex64 if np.iscomplexobj(leaf) else np.float32) for leaf in leaves]
    assert all(np.array_equal(a, b) for a, b in zip(leaves, narrow, strict=True))


@EVERY_PROBLEM
def test_inputs_are_the_same_every_time(problem: Problem) -> None:
    first, second = (optree.tree_leaves(draw_inputs(problem, "rk4", single=False).ys_bar) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@EVERY_PROBLEM
def test_methods_of_equal_steps_get_the_times_that_are_equally_spaced(problem: Problem) -> None:
    gaps = np.diff(problem.times("leapfrog"))
    assert np.all(gaps == gaps[0])
    assert problem.times("leapfrog") == problem.ts[: len(gaps) + 1]
    assert problem.times("rk4") == problem.ts


def checks_of_the_reference() -> list[Case]:
    """At level standard all that compare with the textbook, which is quick, and at level smoke the others too."""
    smoke, standard = (reference_cases(select(level, Selection())) for level in ("smoke", "standard"))
    return list(dict.fromkeys([*smoke, *(case for case in standard if case.preset == "textbook")]))


@pytest.mark.parametrize("case", checks_of_the_reference(), ids=lambda case: case.id)
def test_the_reference_holds(case: Case) -> None:
    cell = run_cell("reference", ReferenceCheck(), case, None)
    assert (cell.status, cell.message) == (RAN, "")


def test_complex_steps_are_exact_to_rounding() -> None:
    assert derivative(lambda e: np.exp(1.0 + e), is_analytic=True) == pytest.approx(np.e, rel=1e-15)


def test_central_differences_are_of_order_8() -> None:
    assert derivative(lambda e: np.exp(1.0 + e), is_analytic=False) == pytest.approx(np.e, rel=1e-13)


@pytest.mark.parametrize(
    ("level", "part", "names"),
    [
        ("smoke", "problem", set(PROBLEMS)),
        ("smoke", "preset", set(presets())),
        ("smoke", "aspect", {"", "consistent", "filter", *INVARIANTS}),
        ("standard", "problem", set(PROBLEMS)),
        ("standard", "method", set(METHODS)),
        ("standard", "preset", set(presets())),
        ("standard", "aspect", {"", *CORRECTIONS, *INVARIANTS}),
    ],
)
def test_a_level_covers(level: str, part: str, names: set[str]) -> None:
    assert {getattr(case, part) for case in select(level, Selection())} == names


def test_the_corrections_are_those_of_the_core() -> None:
    assert {name for method in METHODS for name in _corrections(find_method(method))} - {"none"} == set(CORRECTIONS)


def test_standard_has_every_preset_on_every_problem() -> None:
    offered = {(case.problem, case.preset) for case in all_cases() if case.method == "dopri5" and not case.refusal}
    assert {(case.problem, case.preset) for case in select("standard", Selection())} >= offered


def test_full_is_all_that_is_offered() -> None:
    assert select("full", Selection()) == [case for case in all_cases() if not case.refusal]


@pytest.mark.parametrize(("lower", "upper"), [("smoke", "standard"), ("standard", "full")])
def test_a_level_holds_the_one_below(lower: str, upper: str) -> None:
    assert set(select(lower, Selection())) < set(select(upper, Selection()))


@pytest.mark.parametrize(
    ("level", "levels", "found"), [("full", 1, "standard"), ("smoke", 1, "least"), ("smoke", 2, "least")]
)
def test_demoted(level: str, levels: int, found: str) -> None:
    assert level in LEVELS
    assert demoted(level, levels) == found
    assert select(found, Selection())


@pytest.mark.parametrize(
    ("method", "preset", "correction", "sampling", "told"),
    [
        ("rk4", "symplectic", "", "", ""),
        ("leapfrog", "reversible", "", "", ""),
        ("rk4", "reversible", "", "", "adjoint 'reversible' must have a method whose steps have an exact inverse"),
        ("rk4", "symplectic", "adjoint_average", "nodes", "correction for method 'rk4' must be one of"),
        ("leapfrog", "symplectic", "filter", "steps", "must have controls at nodes"),
    ],
)
def test_what_the_core_refuses_by_name_is_not_offered(
    method: str, preset: str, correction: str, sampling: str, told: str
) -> None:
    found = refusal(method, preset, correction, sampling)
    assert told in found
    assert bool(told) == bool(found)


@pytest.mark.parametrize(
    ("patterns", "target", "held"),
    [
        (("steered/*/filter",), "", True),
        (("torch-*/steered/*",), "torch-cpu-f64", True),
        (("torch-*/steered/*",), "jax-jit-cpu-f64", False),
        (("steered/*/divide",), "", False),
        ((), "", True),
    ],
)
def test_patterns_match_ids_with_and_without_the_target(patterns: tuple[str, ...], target: str, held: bool) -> None:
    case = Case("steered", "leapfrog", "symplectic", "filter")
    assert Selection(patterns=patterns).holds(case, target) is held
