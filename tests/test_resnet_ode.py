"""The study of residual networks as ODEs: its problems, a tiny run, its stored results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from studies.resnet_ode import digits, linear, problem, study
from studies.resnet_ode.__main__ import RESULTS, app
from studies.resnet_ode.study import Library

TINY_DIGITS = digits.Scale(depth=2, factor=2, epochs=1, tuning_epochs=1, seeds=1)
TINY = study.Scale((16, 32), 1, (8, 16), (20, 40), 200, (2, 16), (20, 4, 5), TINY_DIGITS)
FIGURES = ("distance", "linear", "gradient", "memory", "digits")


def test_gradient_of_the_linear_network_is_that_of_its_loss() -> None:
    theta = np.random.default_rng(0).normal(size=(5, 2, 2))
    _, gradient = linear._gradient(theta)
    for place in np.ndindex(theta.shape):
        there, back = theta.copy(), theta.copy()
        there[place] += 1e-6
        back[place] -= 1e-6
        slope = (linear._gradient(there)[0] - linear._gradient(back)[0]) / 2e-6
        assert gradient[place] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_smooth_weights_are_samples_of_the_same_functions() -> None:
    few, many = problem.weights("smooth", 10), problem.weights("smooth", 20)
    for name, values in few.items():
        np.testing.assert_allclose(values, many[name][::2], rtol=1e-14)


def test_neighbouring_signs_are_opposite_and_grow_with_depth() -> None:
    v = problem.weights("signs", 16)["v"]
    np.testing.assert_array_equal(v[::2], -v[1::2])
    np.testing.assert_allclose(np.abs(v[0]), 2.0 * np.abs(problem.weights("signs", 4)["v"][0]))


@pytest.mark.parametrize("library", [Library.TORCH, Library.JAX])
def test_stacks_of_both_libraries_agree(library: Library) -> None:
    from studies.resnet_ode import torch_stack

    stacks = __import__(f"studies.resnet_ode.{library}_stack", fromlist=["gap"])
    given = problem.weights("smooth", 8), problem.start()
    gap, expected = stacks.gap(*given, "cpu"), torch_stack.gap(*given, "cpu")
    assert gap.distances == pytest.approx(expected.distances, rel=1e-9)
    assert gap.bound == pytest.approx(expected.bound, rel=1e-6)
    assert gap.doubling == pytest.approx(expected.doubling, rel=1e-9)
    assert gap.smoothness == pytest.approx(expected.smoothness, rel=1e-12)


def run_tiny(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str):
    monkeypatch.setattr(study, "QUICK", TINY)
    return CliRunner().invoke(app, ["--quick", "--out", str(folder), *arguments], env={"TERM": "dumb"})


def test_tiny_run_writes_everything_and_fails_where_a_claim_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_tiny(tmp_path, monkeypatch)
    assert result.exit_code == 1  # from 2 to 16 layers memory does not grow fourfold
    assert "FAILED peak memory, backpropagation: largest depth over smallest must be at least 4" in result.output
    (held, all_claims) = map(int, re.search(r"(\d+) of (\d+) claims hold", result.output).groups())  # type: ignore[union-attr]
    assert (held >= 10, all_claims) == (True, 16)
    names = {path.name for path in (tmp_path / "quick").iterdir()}
    assert names == {"results.json", "tables.md", *(f"{name}.png" for name in FIGURES)}
    before = (tmp_path / "quick" / "results.json").read_bytes()
    run_tiny(tmp_path, monkeypatch, "--resume")
    assert (tmp_path / "quick" / "results.json").read_bytes() == before


@pytest.mark.parametrize(("folder", "scale"), [("quick", study.QUICK), ("full", study.FULL)])
def test_stored_results_are_of_the_study_as_it_is(folder: str, scale: study.Scale) -> None:
    stored = json.loads((RESULTS / folder / "results.json").read_text())
    assert stored["settings"] == json.loads(json.dumps(study.settings(scale, Library.TORCH, "cpu")))
    assert list(stored["parts"]) == [part.name for part in study.parts(scale, Library.TORCH, "cpu")]
    assert [claim.fault for claim in study.claims(stored["parts"], scale) if not claim.holds] == []


@pytest.mark.parametrize(
    ("part", "key", "value", "text"),
    [
        ("gap/smooth", "relative", [1e-2] * 4, "smooth weights: order"),
        ("gap/signs", "relative", [0.8, 0.4, 0.2, 0.1], "random signs: order"),
        ("gradient/euler", "errors", [1e-2] * 5, "Euler: order"),
        ("gradient/euler, predicted", "errors", [16e-2, 8e-2, 4e-2, 2e-2, 1e-2], "Euler, predicted: order"),
        ("gradient/heun", "errors", [16e-2, 8e-2, 4e-2, 2e-2, 1e-2], "Heun: order"),
        ("linear/200", "smoothness", [1.5], "largest jump times N in training"),
    ],
)
def test_false_claim_fails(part: str, key: str, value: list[float], text: str) -> None:
    stored = json.loads((RESULTS / "quick" / "results.json").read_text())["parts"]
    stored[part][key] = value
    broken = [claim.name for claim in study.claims(stored, study.QUICK) if not claim.holds]
    assert len(broken) == 1
    assert text in broken[0]
