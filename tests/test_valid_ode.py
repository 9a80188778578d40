"""The study of valid ODEs: its data, its trainers, what its numbers mean, claims that can fail, and a tiny run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from examples.spheres import BANDS
from studies.valid_ode import monitored, search, study
from studies.valid_ode.__main__ import RESULTS, app
from studies.valid_ode.problems import Problem, batches, digits, spheres
from studies.valid_ode.search import ODE, TEST, TRAINED, Training
from studies.valid_ode.trainers import Library, Solver, Trainer, adaptive, fixed, make_trainer


@pytest.mark.parametrize("num_extra", [0, 1])
def test_spheres_lie_in_their_rings(num_extra: int) -> None:
    problem = spheres([0, 1], num_extra)
    assert problem.train.points.shape == (2, 2000, 2 + num_extra)
    assert problem.test.points.shape == (2, 1000, 2 + num_extra)
    radii = np.hypot(problem.train.points[..., 0], problem.train.points[..., 1])
    inside = [
        np.sum((least - 1e-6 <= radii) & (radii <= most + 1e-6) & (problem.train.labels == label), axis=1)
        for least, most, label, _ in BANDS
    ]
    assert np.array(inside).T.tolist() == [[500, 500, 1000]] * 2
    assert np.all(problem.train.points[..., 2:] == 0.0)
    assert not np.array_equal(problem.train.points[0], problem.train.points[1])


def test_digits_are_split_anew_for_each_seed() -> None:
    pytest.importorskip("sklearn")
    problem = digits([0, 1])
    assert (problem.train.points.shape, problem.test.points.shape) == ((2, 1437, 64), (2, 360, 64))
    assert 0.0 <= problem.train.points.min() <= problem.train.points.max() == 1.0
    both = np.concatenate([problem.train.points, problem.test.points], axis=1)
    assert np.array_equal(*(np.sort(run.sum(axis=1)) for run in both))
    assert not np.array_equal(problem.test.points[0], problem.test.points[1])


def trained(library: Library, problem: Problem, solver: Solver, iterations: int = 20) -> tuple[Trainer, int]:
    trainer = make_trainer(library, "cpu", problem, 1e-2)
    return trainer, trainer.train(solver, batches(problem, iterations, 64, seed=0))


@pytest.mark.parametrize("solver", [Solver("euler", 2), adaptive("dopri5", 1e-2)], ids=["fixed", "adaptive"])
def test_libraries_train_alike(solver: Solver) -> None:
    problem = spheres([0, 1], 1)
    scores, costs = [], []
    for library in Library:
        trainer, total = trained(library, problem, solver)
        right, _ = trainer.is_right(solver, problem.test.points, problem.test.labels)
        scores.append(np.mean(right, axis=1))
        costs.append(total)
    assert np.max(np.abs(scores[0] - scores[1])) <= 0.01
    assert costs[0] == costs[1]


@pytest.mark.parametrize("library", Library)
def test_runs_are_trained_independently(library: Library) -> None:
    problem, solver = spheres([0, 1], 1), fixed("euler", 0.5)
    both, _ = trained(library, problem, solver)
    indices = batches(problem, 20, 64, seed=0)
    alone = make_trainer(library, "cpu", problem.first(1), 1e-2)
    assert alone.train(solver, indices[:, 1:]) == 40
    together, num_field_evals = both.is_right(solver, problem.test.points, problem.test.labels)
    own, _ = alone.is_right(solver, problem.test.points[1:], problem.test.labels[1:])
    assert np.mean(np.array(together[1]) == np.array(own[0])) >= 0.99
    assert num_field_evals == 2


def part(steps: int, trained: list[float], better: list[float], cost: int = 100) -> dict[str, Any]:
    accuracies = {TRAINED: trained, TEST: better, ODE: trained, "euler x 2": [0.0] * len(trained), "rk4 x 1": trained}
    return {"steps": steps, "num_field_evals": cost * steps, "accuracies": accuracies}


def test_a_drop_is_that_of_the_worst_better_solver() -> None:
    assert search.drops(part(1, [0.9, 0.8], [0.5, 0.9])) == pytest.approx([0.4, 0.0])


GOOD = {
    "spheres/steps/1": part(1, [1.0, 1.0], [0.5, 0.7]),
    "spheres/steps/2": part(2, [1.0, 1.0], [0.95, 0.8]),
    "spheres/steps/4": part(4, [1.0, 1.0], [0.95, 0.95]),
    "spheres/steps/8": part(8, [1.0, 1.0], [0.99, 1.0]),
    "spheres/monitor/0": part(3, [1.0], [0.92]) | {"training_evals": 400, "monitor_evals": 100},
    "spheres/monitor/1": part(3, [1.0], [0.92]) | {"training_evals": 500, "monitor_evals": 100},
    "spheres/tolerance/0": part(3, [1.0], [0.95]),
}


def test_the_critical_steps_are_valid_for_all_runs_and_all_finer_ones() -> None:
    assert search.critical_steps(GOOD, "spheres") == 4
    assert search.critical_steps(GOOD | {"spheres/steps/8": part(8, [1.0, 1.0], [0.8, 1.0])}, "spheres") is None


def test_costs_are_those_of_training_and_of_checks() -> None:
    assert monitored.costs(GOOD, "spheres") == [1.25, 1.5]


SCALE = study.Scale(2, {"spheres": Training((1, 2, 4, 8), 10, 1e-3)}, {"spheres": monitored.Scale(5, 1e-2, 5, 10)})


def test_true_claims_hold() -> None:
    assert [claim.fault for claim in study.claims(GOOD, SCALE) if not claim.holds] == []
    assert len(study.claims(GOOD, SCALE)) == 5


@pytest.mark.parametrize(
    ("name", "false", "text"),
    [
        pytest.param("spheres/steps/1", part(1, [1.0, 1.0], [0.5, 0.85]), "spheres, 1 step", id="coarse"),
        pytest.param("spheres/steps/8", part(8, [1.0, 1.0], [0.97, 1.0]), "spheres, 8 steps", id="fine"),
        pytest.param(
            "spheres/monitor/0",
            part(3, [1.0], [0.89]) | {"training_evals": 1, "monitor_evals": 1},
            "step-size monitor: largest drop",
            id="invalid",
        ),
        pytest.param(
            "spheres/monitor/1",
            part(3, [1.0], [0.99]) | {"training_evals": 500, "monitor_evals": 110},
            "step-size monitor: field evaluations",
            id="costly",
        ),
        pytest.param("spheres/tolerance/0", part(3, [1.0], [0.8]), "tolerance monitor: largest drop", id="tolerance"),
    ],
)
def test_a_false_claim_fails(name: str, false: dict[str, Any], text: str) -> None:
    broken = [claim.name for claim in study.claims(GOOD | {name: false}, SCALE) if not claim.holds]
    assert len(broken) == 1
    assert text in broken[0]


def run_tiny(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(study, "QUICK", SCALE)
    return CliRunner().invoke(app, ["--quick", "--out", str(folder), *arguments])


def test_a_tiny_run_is_saved_and_says_which_claims_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_tiny(tmp_path, monkeypatch)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.output
    assert "FAILED spheres, 1 step(s): least drop" in result.output
    files = {path.name: path for path in (tmp_path / "quick").iterdir()}
    assert set(files) == {"results.json", "tables.md", "drop.png", "monitor.png"}
    stored = json.loads(files["results.json"].read_text())
    assert stored["settings"] == json.loads(json.dumps(study.settings(SCALE, Library.TORCH, "cpu")))
    names = [part.name for part in study.parts(SCALE, Library.TORCH, "cpu")]
    assert list(stored["parts"]) == names
    assert stored["parts"]["spheres/steps/4"]["num_field_evals"] == 40
    assert len(stored["parts"]["spheres/monitor/1"]["sizes"]) == 3
    monkeypatch.setattr(search, "make_trainer", None)
    monkeypatch.setattr(monitored, "make_trainer", None)
    assert "FAILED" in run_tiny(tmp_path, monkeypatch, "--resume").output


def test_without_scikit_learn_the_digits_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: object())
    assert list(study.installed(study.QUICK).training) == ["spheres", "digits"]
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    assert list(study.installed(study.QUICK).training) == ["spheres"]


def test_a_library_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.command.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["--library", "jax"])
    assert result.exit_code == 2
    assert "must be installed; got jax" in " ".join(result.output.split())


def test_stored_results_are_of_the_study_as_it_is() -> None:
    stored = json.loads((RESULTS / "quick" / "results.json").read_text())
    assert stored["settings"] == json.loads(json.dumps(study.settings(study.QUICK, Library.TORCH, "cpu")))
    assert [claim.fault for claim in study.claims(stored["parts"], study.QUICK) if not claim.holds] == []
