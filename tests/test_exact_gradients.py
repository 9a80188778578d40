"""The study of exact gradients: its problems, what it measures, a tiny run, its stored results."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from studies.exact_gradients import cells, comparisons, problems, study
from studies.exact_gradients.__main__ import RESULTS, app
from studies.exact_gradients.solvers import CHECKPOINTS, DOUBLE_SUMS, MakeRuns, Solver, distance
from studies.exact_gradients.study import DENSITY, WAVES, Library

FIGURES = ("presets", "precision", "float32", "growth")


@pytest.mark.parametrize("make", [problems.density, problems.digits], ids=["density", "digits"])
def test_trace_of_the_flow_is_exact(make: Any) -> None:
    problem = make(3, 5)
    weights = {name: torch.tensor(leaf) for name, leaf in problem.weights.items()}
    t, points = torch.tensor(0.3), torch.tensor(problem.y0[0])

    def velocity(z: torch.Tensor) -> torch.Tensor:
        return problem.field(torch, t, (z[None], None), weights)[0][0]

    traces = [torch.func.jacrev(velocity)(z).trace() for z in points]
    torch.testing.assert_close(problem.field(torch, t, (points, None), weights)[1], torch.stack(traces))


def test_digits_are_principal_components() -> None:
    scores = problems.digits(1797, 2).y0[0]
    np.testing.assert_allclose(scores.T @ scores / 1797, np.eye(16), atol=1e-12)


def energy(u: np.ndarray, p: dict[str, np.ndarray]) -> Any:
    """The energy, term by term."""
    size = u.shape[-1]
    windows = np.stack([u[(np.arange(size) + shift) % size] for shift in (-1, 0, 1)])
    return np.sum(np.tanh(windows.T @ p["w"] + p["b"]) * p["v"])


def test_slope_of_the_energy_is_its_gradient_and_the_wave_keeps_it() -> None:
    problem = problems.waves(2, 4, points=12)
    u, p = problem.y0[0][0], problem.weights
    slope = problems.energy_slope(np, u, p)
    expected = [energy(u + 1e-20j * unit, p).imag / 1e-20 for unit in np.eye(12)]
    np.testing.assert_allclose(slope, expected, rtol=1e-12, atol=1e-12 * np.abs(slope).max())
    (velocity,) = problem.field(np, 0.0, (u,), p)
    assert abs(velocity @ slope) <= 1e-12 * np.linalg.norm(velocity) * np.linalg.norm(slope)


def test_learned_energy_is_that_of_the_equation_where_waves_are() -> None:
    setting = study.QUICK.settings[WAVES]
    problem = problems.waves(setting.batch, setting.width)
    expected = problem.data[0]
    module = import_module("janode.torch")
    weights = {name: torch.tensor(leaf) for name, leaf in problem.weights.items()}

    def field(t: Any, y: Any, p: Any) -> Any:
        return problem.field(torch, t, y, p)

    found = module.solve(field, (torch.tensor(problem.y0[0]),), problem.ts, weights, method="rk4", steps=2).ys[0]
    moved = np.linalg.norm(expected[-1] - expected[0])
    assert moved >= 0.3 * np.linalg.norm(expected[0])
    assert np.linalg.norm(found[-1].numpy() - expected[-1]) <= 0.1 * moved


def test_waves_of_the_data_travel_as_solitons() -> None:
    x = problems.SPACING * np.arange(200)
    soliton = 2.0 * 0.8**2 / np.cosh(0.8 * (x - 15.0)) ** 2
    velocity = problems._slopes(soliton)
    # Of u_t = -6 u u_x - u_xxx: it moves as a whole, at the speed 4 k^2; the grid is off by its width squared.
    expected = -4.0 * 0.8**2 * np.gradient(soliton, problems.SPACING)
    assert np.linalg.norm(velocity - expected) <= 0.1 * np.linalg.norm(expected)


def runs_of(library: Library) -> MakeRuns:
    return study.maker(library)


SMALL = {DENSITY: problems.density(4, 3), WAVES: problems.waves(1, 4, points=8)}
SOLVERS = (
    Solver("rk4", "revolve", 2),
    Solver("rk4", DOUBLE_SUMS, 2),
    Solver("rk4", "backsolve", 2),
    Solver("bosh3", "backprop", tol=1e-1),
)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: f"{s.method}-{s.adjoint}")
def test_libraries_agree(solver: Solver) -> None:
    torch_one, jax_one = (runs_of(library)(SMALL[DENSITY], "cpu", "float64").measure(solver) for library in Library)
    assert distance(jax_one.gradient, torch_one.gradient) <= 1e-12
    assert jax_one.peak > 0


def test_libraries_agree_on_waves() -> None:
    solver = Solver("dopri5", "aca", 1)
    torch_one, jax_one = (runs_of(library)(SMALL[WAVES], "cpu", "float64").measure(solver) for library in Library)
    assert distance(jax_one.gradient, torch_one.gradient) <= 1e-10


@pytest.mark.parametrize(
    ("adjoint", "evals"),
    [("backprop", 24), ("stages", 48), ("aca", 48), ("symplectic", 66), ("restart", 90), ("reconstruct", 90)],
)
def test_counts_are_those_of_the_manual(adjoint: str, evals: int) -> None:
    found = runs_of(Library.TORCH)(SMALL[DENSITY], "cpu", "float64").measure(Solver("rk4", adjoint, 6))
    assert (found.evals, found.vjps) == (evals, 24)


def test_revolve_keeps_few_states() -> None:
    options = Solver("rk4", "revolve", 6).options(import_module("janode.torch"))
    assert options["adjoint"].checkpoints == CHECKPOINTS


def test_both_precisions_are_given_the_same_numbers() -> None:
    problem = SMALL[WAVES].rounded()
    leaves = [*problem.y0, *problem.weights.values(), *problem.data]
    assert all(np.array_equal(leaf, leaf.astype(np.float32)) and leaf.dtype == float for leaf in leaves)
    assert not np.array_equal(problem.data[0], SMALL[WAVES].data[0])


@pytest.mark.parametrize(
    ("errors", "seconds", "expected"),
    [
        pytest.param([1e-2, 1e-3, 1e-6], [1.0, 2.0, 16.0], 4.0, id="between"),
        pytest.param([1e-3, 1e-5, 1e-2], [1.0, 4.0, 9.0], 2.0, id="behind-the-first"),
        pytest.param([1e-5, 1e-15], [1.0, 2.0], 1.0, id="the-loosest-is-enough"),
    ],
)
def test_time_for_an_error(errors: list[float], seconds: list[float], expected: float) -> None:
    assert comparisons._time_for(1e-4, errors, seconds) == pytest.approx(expected, rel=1e-12)


def test_no_time_for_an_error_that_is_not_reached() -> None:
    found = {"symplectic": {"errors": [1e-5], "seconds": [1.0]}, "backsolve": {"errors": [1e-3], "seconds": [2.0]}}
    assert np.isnan(comparisons.time_at_equal_error(found, "errors"))


TINY = study.Scale(
    {DENSITY: study.Setting(4, 3, {"dopri5": 2, "dopri8": 1, "rk4": 2}, (1e-3, 1e-6), (1,))},
    (4, 8),
    (2, 4),
    1,
)


def run_tiny(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(study, "QUICK", TINY)
    return CliRunner().invoke(app, ["--quick", "--out", str(folder), *arguments], env={"TERM": "dumb"})


def test_tiny_run_writes_everything_and_fails_where_a_claim_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "LESS", 0.0)  # no ratio is that small
    result = run_tiny(tmp_path, monkeypatch)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.output
    assert "FAILED density: peak memory, symplectic over aca, largest must be at most 0" in result.output
    assert "FAILED density: error of exact presets" not in result.output
    assert "4 of 8 claims hold." in result.output
    names = {path.name for path in (tmp_path / "quick").iterdir()}
    assert names == {"results.json", "tables.md", *(f"{name}.png" for name in FIGURES)}
    before = (tmp_path / "quick" / "results.json").read_bytes()
    monkeypatch.setattr(cells, "measured", None)
    monkeypatch.setattr(comparisons, "precision", None)
    assert "4 of 8 claims hold." in run_tiny(tmp_path, monkeypatch, "--resume").output
    assert (tmp_path / "quick" / "results.json").read_bytes() == before


def stored() -> Any:
    return json.loads((RESULTS / "quick" / "results.json").read_text())


def test_stored_results_are_of_the_study_as_it_is() -> None:
    found = stored()
    assert found["settings"] == json.loads(json.dumps(study.settings(study.QUICK, Library.TORCH, "cpu")))
    assert list(found["parts"]) == [part.name for part in study.parts(study.QUICK, Library.TORCH, "cpu")]
    assert [claim.fault for claim in study.claims(found["parts"], study.QUICK, Library.TORCH) if not claim.holds] == []


@pytest.mark.parametrize(
    ("part", "place", "value", "text"),
    [
        ("density/rk4", ("revolve", "error"), 1e-9, "density: error of exact presets"),
        ("digits/dopri8", ("symplectic", "bytes"), 10**9, "digits: peak memory, symplectic over aca"),
        ("waves/dopri5", ("backprop", "bytes"), 1, "waves: peak memory, aca over backprop"),
        ("waves/precision", ("symplectic", "seconds"), [1e3] * 4, "waves: time for a gradient error of 0.0001"),
        ("density/float32", ("backsolve",), [1e-9, 1e-9], "density: error in float32"),
        ("growth", ("twice the batch", "symplectic"), [1, 10**6], "memory of a further step, twice the state"),
        ("growth", ("four times the width", "symplectic"), [1, 10**6], "four times the network's width"),
        ("growth", ("four times the width", "backprop"), [1, 2], "backprop: memory of a further step"),
    ],
)
def test_false_claim_fails(part: str, place: tuple[str, ...], value: Any, text: str) -> None:
    results = stored()["parts"]
    entry = results[part]
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    broken = [claim.name for claim in study.claims(results, study.QUICK, Library.TORCH) if not claim.holds]
    assert len(broken) == 1
    assert text in broken[0]


def test_a_compiler_may_find_aca_and_symplectic_the_same() -> None:
    results = stored()["parts"]
    entry = results["density/rk4"]
    entry["aca"]["bytes"] = entry["symplectic"]["bytes"]
    broken = [[c.name for c in study.claims(results, study.QUICK, one) if not c.holds] for one in Library]
    assert broken == [["density: peak memory, symplectic over aca, largest"], []]


def test_without_scikit_learn_the_digits_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    assert list(study.installed(study.QUICK).settings) == [DENSITY, WAVES]


def test_library_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.command.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["--library", "jax"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 2
    assert "--library must be installed; got jax. Install janode[jax]." in result.output
