"""The suite of adaptive steps counts and compares what it says; no time is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import adaptive_torch, work_precision
from benchmarks.adaptive_figures import work_precision as draw
from benchmarks.detest import PROBLEMS
from benchmarks.fields import TINY
from benchmarks.measure import Case, Race
from benchmarks.suites import adaptive
from benchmarks.torch_problem import TorchProblem
from benchmarks.work_precision import PAIRS, Run, work_race
from benchmarks.worker import launch

FORWARD = [adaptive.FIELD, "janode", "janode per sample", "torchdiffeq odeint", "torchode"]
GRADIENT = [
    *(adaptive.FIELD, adaptive.PULLBACK),
    *(f"janode {preset}" for preset in adaptive_torch.PRESETS),
    *("janode per sample", "torchdiffeq odeint", "torchdiffeq odeint_adjoint", "torchode"),
]
CONTESTANTS = {
    "torch": [("forward", FORWARD), ("gradient", GRADIENT)],
    "jax": [
        ("forward", ["janode", "diffrax"]),
        ("gradient", [adaptive.SYMPLECTIC, adaptive.RECURSIVE]),
        ("compile", [adaptive.SYMPLECTIC, adaptive.RECURSIVE]),
    ],
    "numpy": [("evaluations", [f"janode {pair.method}", pair.peer]) for pair in PAIRS],
}


@pytest.mark.parametrize("library", adaptive.LIBRARIES)
def test_a_small_run_stores_every_contestant_of_every_task(library: str) -> None:
    found = launch("adaptive", library, "smoke", "cpu")
    races = [Race.from_json(one) for one in found["races"]]
    assert found["absent"] == {}
    assert [(one.case.task, list(one.samples)) for one in races] == CONTESTANTS[library]
    values = [value for one in races for samples in one.samples.values() for part in samples.values() for value in part]
    assert all(value > 0.0 for value in values)
    assert all(difference < 1e-4 for one in races for difference in one.differences.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torchode's own imports
@pytest.mark.parametrize("name", [name for name in GRADIENT if not name.startswith("field")])
def test_torch_solves_take_six_evaluations_a_step_and_two_before(name: str) -> None:
    bench = TorchProblem(TINY, "cpu")
    contestant = adaptive_torch.contestants(bench, 1.0, ())[name]
    count = adaptive_torch.evaluations(bench, contestant)
    assert count % 6 == 2
    assert contestant.steps(count) == count // 6


@pytest.mark.parametrize("tolerance", ["1e-3", "1e-6"])
@pytest.mark.parametrize("problem", [PROBLEMS[0], PROBLEMS[18]], ids=lambda problem: problem.name)
def test_the_evaluations_of_diffrax_are_counted(problem: Any, tolerance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def note(_: Any) -> None:
        nonlocal count
        count += 1

    def counted(t: Any, y: Any, xp: Any) -> Any:
        if xp is jax.numpy:
            jax.debug.callback(note, t)
        return problem.field(t, y, xp)

    monkeypatch.setattr(work_precision, "PROBLEMS", (problem._replace(name="counted", field=counted),))
    run = work_precision._diffrax(problem._replace(name="counted"), work_precision.TOLERANCES[tolerance])
    jax.effects_barrier()
    work_precision._diffrax_program.cache_clear()
    assert run.evaluations == count


def test_equal_work_is_equal_efficiency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the evaluations and an error 2^8 times smaller is as good."""
    ends = {"A1": 1.0, "A2": 1.0}
    monkeypatch.setattr(work_precision, "end_value", lambda name: np.array([ends[name]]))
    monkeypatch.setattr(work_precision, "_janode", lambda *_: Run(200, np.array([1.0 + 1e-3 / 256])))
    monkeypatch.setitem(work_precision._PEERS, "scipy DOP853", lambda *_: Run(100, np.array([1.0 + 1e-3])))
    race = work_race(PAIRS[2], "1e-6", PROBLEMS[:2])
    assert race.samples["scipy DOP853"]["evaluations"] == [100.0, 100.0]
    assert race.samples["scipy DOP853"]["error"] == pytest.approx([1e-3, 1e-3])
    assert race.samples["janode dopri8"]["work"] == pytest.approx(race.samples["scipy DOP853"]["work"])
    rows = {one.text: one for one in adaptive.verdicts([race], "cpu")}
    prefix = "janode dopri8 / scipy DOP853"
    assert rows[f"{prefix}: evaluations at equal error"].value.median == pytest.approx(1.0)
    assert rows[f"{prefix}: evaluations at equal error"].limit == 1.3
    assert rows[f"{prefix}: evaluations"].value.median == 2.0
    assert rows[f"{prefix}: error at the end"].value.median == pytest.approx(1 / 256)


def test_tolerances_are_pooled() -> None:
    races = []
    for tolerance, ours in (("1e-3", [1.0, 2.0]), ("1e-6", [3.0])):
        race = Race(Case("numpy", f"DETEST, tolerance {tolerance}", 0, PAIRS[0].name, "evaluations"))
        kinds = ("work", "evaluations", "error")
        race.samples = {
            "janode dopri5": dict.fromkeys(kinds, ours),
            "scipy RK45": dict.fromkeys(kinds, [1.0] * len(ours)),
        }
        races.append(race)
    assert adaptive.verdicts(races, "cpu")[0].value == (1.5, 2.0, 2.5)


TORCH = Case("torch", "2-64-64-2, batch 128", 20, "[0, 40]", "forward")


def test_overhead_is_what_a_step_takes_beyond_its_evaluations() -> None:
    samples = {
        adaptive.FIELD: {"cpu": [10.0], "evaluations": [100.0]},
        "janode": {"cpu": [14.0], "evaluations": [120.0], "steps": [20.0]},
        "torchdiffeq odeint": {"cpu": [13.0], "evaluations": [50.0], "steps": [8.0]},
    }
    rows = {one.text: one for one in adaptive.verdicts([Race(TORCH, samples)], "cpu")}
    row = rows["overhead per step, janode / torchdiffeq odeint"]
    assert row.value.median == pytest.approx(((14.0 - 12.0) / 20) / ((13.0 - 5.0) / 8))
    assert row.limit == 0.5
    assert rows["janode / torchdiffeq odeint"].value.median == pytest.approx(14.0 / 13.0)


def test_per_sample_steps_are_compared_step_by_step() -> None:
    samples = {"janode per sample": {"cpu": [14.0], "steps": [20.0]}, "torchode": {"cpu": [13.0], "steps": [8.0]}}
    (row,) = adaptive.verdicts([Race(TORCH, samples)], "cpu")
    assert (row.text, row.limit) == ("time per step, janode per sample / torchode", 1.2)
    assert row.value.median == pytest.approx((14.0 / 20) / (13.0 / 8))


def test_the_fastest_preset_is_named() -> None:
    samples = {"janode aca": {"cpu": [3.0]}, "janode stages": {"cpu": [2.0]}, adaptive.RECURSIVE: {"cpu": [4.0]}}
    (row,) = adaptive.verdicts([Race(Case("jax", adaptive.TURNING, 18, "[0, 2]", "gradient"), samples)], "cpu")
    assert (row.text, row.value.median) == (f"fastest of janode (stages) / {adaptive.RECURSIVE}", 0.5)


@pytest.mark.parametrize("target", adaptive.TARGETS, ids=lambda one: f"{one.library}-{one.task}-{one.over}-{one.limit}")
def test_every_target_is_read_from_its_race(target: adaptive.Target) -> None:
    problem = target.problems[0] if target.problems else adaptive.MAIN.name
    case = Case(target.library, problem, max(target.least_steps, 18), "", target.task)
    over = "janode aca" if target.over == adaptive.FASTEST else target.over
    found = Race(case, {over: {"cpu": [3.0]}, target.under: {"cpu": [2.0]}})
    assert (1.5, target.limit) in {(row.value.median, row.limit) for row in adaptive.verdicts([found], "cpu")}


def test_targets_of_many_steps_are_not_read_from_few() -> None:
    found = Race(
        Case("jax", adaptive.TURNING, 199, "", "gradient"),
        {
            adaptive.SYMPLECTIC: {"cpu": [3.0]},
            adaptive.RECURSIVE: {"cpu": [2.0]},
        },
    )
    assert [row.limit for row in adaptive.verdicts([found], "cpu")] == []


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    race = Race(Case("numpy", "DETEST, tolerance 1e-3", 0, PAIRS[0].name, "evaluations"))
    race.samples = {name: {"evaluations": [9.0, 16.0], "error": [0.1, 0.2]} for name in ("janode dopri5", "scipy RK45")}
    assert draw([race], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert not draw([], tmp_path / "b.png")
