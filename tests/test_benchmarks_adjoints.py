"""The suite of adjoints counts, compares and draws what it says; no time is asserted."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from benchmarks import adjoints_theory as theory
from benchmarks import adjoints_torch
from benchmarks.adjoints_figures import front
from benchmarks.fields import SMALL, TINY, WIDE
from benchmarks.measure import Case, Race
from benchmarks.suites import adjoints
from benchmarks.worker import launch

OWN = [f"janode {preset}" for preset in theory.PRESETS]
PEERS = {
    "torch": [
        *("torchdiffeq odeint", "torchdiffeq odeint_adjoint"),
        *("TorchDiffEqPack odesolve", "TorchDiffEqPack odesolve_adjoint_sym12"),
    ],
    "jax": [f"diffrax {name}" for name in ("RecursiveCheckpointAdjoint", "RecursiveCheckpointAdjoint(N)",
                                           "DirectAdjoint", "BacksolveAdjoint")],
    "numpy": [],
}  # fmt: skip
TASKS = {
    "torch": [
        *(("gradient", 2), ("memory", 2), ("memory", 3), ("evaluations", 3), ("VJPs", 3), ("passes", 3)),
        *(("error", 2), ("error", 4)) * 2,
        *(("error", 3), ("hessian", adjoints_torch.HESSIAN_STEPS), ("auto peak", 3)),
    ],
    "jax": [("gradient", 2), ("memory", 2)],
    "numpy": [("gradient", 2), ("memory", 2), ("error", 2), ("error", 4)],
}


@pytest.mark.parametrize("library", adjoints.LIBRARIES)
def test_a_small_run_stores_every_contestant_of_every_task(library: str) -> None:
    found = launch("adjoints", library, "smoke", "cpu")
    races = [Race.from_json(one) for one in found["races"]]
    assert set(found["absent"]) <= {"TorchDiffEqPack"}
    peers = [name for name in PEERS[library] if name.split()[0] not in found["absent"]]
    assert [(one.case.task, one.case.steps) for one in races] == TASKS[library]
    assert [list(one.samples) for one in races if one.case.task in ("gradient", "memory")] == [
        [*OWN, *peers] for one in races if one.case.task in ("gradient", "memory")
    ]
    values = [value for one in races for samples in one.samples.values() for part in samples.values() for value in part]
    assert all(value >= 0.0 for value in values)
    assert len(list(adjoints.tables(races, "cpu"))) > 0  # every task has a unit
    read = adjoints.verdicts(races, "cpu")
    assert all(verdict.is_met for verdict in read)
    assert bool(read) == (library != "jax")


# Counts.


@pytest.mark.parametrize(("method", "steps"), [("rk4", 25), ("dopri5", 3), ("dopri8", 2)])
@pytest.mark.parametrize("preset", theory.PRESETS)
def test_a_gradient_evaluates_and_pulls_back_as_often_as_by_theory(preset: str, method: str, steps: int) -> None:
    found = adjoints_torch.count(f"janode {preset}", method, steps, absent=adjoints.PEERS["torch"])
    assert found == theory.counts(preset, method, steps)


@functools.cache
def fewest(steps: int, checkpoints: int) -> int:
    """The fewest steps forwards before the pullbacks of so many steps, one checkpoint standing at their start."""
    if steps == 1:
        return 0
    if checkpoints == 1:
        return steps * (steps - 1) // 2
    return min(m + fewest(steps - m, checkpoints - 1) + fewest(m, checkpoints) for m in range(1, steps))


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5])
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 41])
def test_the_steps_taken_again_are_the_fewest(steps: int, checkpoints: int) -> None:
    assert theory.steps_again(steps, checkpoints) == fewest(steps, checkpoints) - (steps - 1)


def test_the_steps_taken_again_of_the_manual() -> None:
    found = [round(theory.steps_again(1000, checkpoints) / 1000, 1) for checkpoints in (1, 2, 5, 10, 20, 50)]
    assert found == [498.5, 27.8, 5.3, 2.6, 1.7, 0.9]


# Targets.


def made(task: str, times: str, problem: Any, steps: int, kind: str, **values: float) -> Race:
    samples = {f"janode {preset}": {kind: [value]} for preset, value in values.items()}
    return Race(Case("torch", problem if isinstance(problem, str) else problem.name, steps, times, task), samples)


def test_targets_of_time_are_ratios_to_backpropagation() -> None:
    found = made("gradient", "rk4", SMALL, 1000, "cpu", backprop=2.0, stages=2.8, symplectic=3.6, revolve=5.0)
    read = {row.text.split()[2]: (row.value.median, row.limit, row.is_met) for row in adjoints.verdicts([found], "cpu")}
    assert read == {"stages": (1.4, 1.5, True), "symplectic": (1.8, 1.75, False), "revolve": (2.5, 2.6, True)}


def test_few_steps_are_no_target_of_checkpoints() -> None:
    found = made("gradient", "rk4", SMALL, 50, "cpu", backprop=2.0, stages=2.8, symplectic=3.6, revolve=9.0)
    assert ["revolve" in row.text for row in adjoints.verdicts([found], "cpu")] == [False, False]


def test_targets_of_memory() -> None:
    sizes = {"aca": 11.0, "symplectic": 8.0, "revolve": 1.0, "reversible": 1.0, "reconstruct": 1.2, "backsolve": 1.0}
    found = [
        made("memory", "rk4", WIDE, 1000, "bytes", backprop=1000.0, **sizes),
        made("memory", "rk4", WIDE, 100, "bytes", backprop=100.0, **dict.fromkeys(sizes, 1.0)),
    ]
    read = [(row.text.split()[2].strip(","), row.is_met) for row in adjoints.verdicts(found, "cpu")]
    assert read == [
        *(("aca", False), ("symplectic", True), ("revolve", True)),
        *(("reversible", True), ("reconstruct", False), ("backsolve", True)),
    ]


@pytest.mark.parametrize("off", [-1, 1])
def test_one_count_that_is_not_that_of_theory_misses_the_target(off: int) -> None:
    right = {preset: float(theory.counts(preset, "rk4", 30).vjps) for preset in theory.PRESETS}
    wrong = right | {"aca": right["aca"] + off}
    (row,) = adjoints.verdicts([made("VJPs", "rk4", "any", 30, "VJPs", **right)], "cpu")
    assert row.is_met
    (row,) = adjoints.verdicts([made("VJPs", "rk4", "any", 30, "VJPs", **wrong)], "cpu")
    assert not row.is_met


def test_an_error_of_one_exact_preset_misses_the_target() -> None:
    errors = dict.fromkeys(theory.PRESETS, 1e-16) | {"backsolve": 1e-3}
    (row,) = adjoints.verdicts([made("error", "rk4, float64", TINY, 8, "error", **errors)], "cpu")
    assert row.is_met
    wrong = errors | {"restart": 2e-12}
    races = [made("error", "rk4, float64", TINY, steps, "error", **both) for steps, both in ((8, wrong), (16, errors))]
    (row,) = adjoints.verdicts(races, "cpu")
    assert not row.is_met
    assert (row.case.steps, row.value.median) == (8, 2e-12)


PLANNED = "rk4, 3000 bytes: states for 3 steps; graphs for 4"


def planned(took: float, peak: float) -> list[Race]:
    """A plan whose peak is foreseen at 2000 bytes, beside two presets of which the faster takes 2 s."""
    return [
        Race(Case("torch", SMALL.name, 7, PLANNED, "auto peak"), {
            "janode auto": {"bytes": [peak]}, "predicted": {"bytes": [2000.0]},
        }),
        made("auto time", PLANNED, SMALL, 7, "cpu", auto=took, aca=2.0, symplectic=3.0),
    ]  # fmt: skip


def test_all_plans_stand_in_one_table() -> None:
    (table,) = adjoints.tables(planned(2.5, 1900.0), "cpu")
    where = f"{SMALL.name}, rk4, N = 7"
    assert table.rows == [
        (where, "3", "states for 3 steps; graphs for 4", "2", "2", "2.5e+03", "aca", "1.25"),
    ]


@pytest.mark.parametrize(
    ("took", "peak", "expected"),
    [(2.1, 1800.0, (True, True)), (2.3, 1800.0, (True, False)), (2.1, 1700.0, (False, True))],
)
def test_a_plan_is_judged_by_its_peak_and_its_time(took: float, peak: float, expected: tuple[bool, bool]) -> None:
    assert tuple(verdict.is_met for verdict in adjoints.verdicts(planned(took, peak), "cpu")) == expected


# Figures.


def test_the_front_is_what_nothing_beats_in_both() -> None:
    assert front([(1.0, 9.0), (2.0, 9.0), (3.0, 4.0), (4.0, 5.0), (5.0, 1.0)]) == [(1.0, 9.0), (3.0, 4.0), (5.0, 1.0)]


def results() -> list[Race]:
    both = dict.fromkeys(theory.PRESETS, 2.0)
    return [
        made("gradient", "rk4", SMALL, 100, "cpu", **both),
        *(made("memory", "rk4", SMALL, steps, "bytes", **both) for steps in (10, 100)),
        *(made("error", "rk4, float64", TINY, steps, "error", **both) for steps in (4, 8)),
    ]


@pytest.mark.parametrize("name", adjoints.figures())
def test_a_figure_is_drawn_of_what_was_measured(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert not adjoints.figures()[name]([], path)
    assert not path.exists()
    assert adjoints.figures()[name](results(), path)
    assert path.read_bytes()[1:4] == b"PNG"
