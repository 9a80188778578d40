"""The studies: claims that can fail, parts that are found again, problems whose gradient is known, a tiny run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.integrate import solve_ivp
from typer.testing import CliRunner

from studies.claims import Claim, order_of
from studies.gradient_correction import agreement, comb, orders, study, training
from studies.gradient_correction.__main__ import RESULTS, app
from studies.gradient_correction.gradients import Library, node_times
from studies.gradient_correction.problems import DURATION, Affine, ClosedProblem, Ellipse, Problem, Tanh
from studies.parts import Part, run_parts
from studies.tables import claims_table

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        pytest.param(Claim("a", 2.1, 1.85, 2.15), True, id="inside"),
        pytest.param(Claim("a", 2.15, 1.85, 2.15), True, id="edge"),
        pytest.param(Claim("a", 2.16, 1.85, 2.15), False, id="above"),
        pytest.param(Claim("a", 1.84, 1.85, 2.15), False, id="below"),
        pytest.param(Claim("a", 1e9, low=2.0), True, id="no-upper-limit"),
        pytest.param(Claim("a", 1.99, low=2.0), False, id="under-the-least"),
        pytest.param(Claim("a", 0.11, high=0.1), False, id="over-the-most"),
        pytest.param(Claim("a", math.nan, low=2.0), False, id="nan-low"),
        pytest.param(Claim("a", math.nan, high=2.0), False, id="nan-high"),
    ],
)
def test_claim_holds_inside_its_interval(claim: Claim, holds: bool) -> None:
    assert claim.holds is holds
    assert claims_table([claim]).rows[0][-1] == ("holds" if holds else "FAILS")


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (Claim("slope", 1.5, 1.85, 2.15), "slope must be 1.85 to 2.15; got 1.5."),
        (Claim("growth", 1.5, low=2.0), "growth must be at least 2; got 1.5."),
        (Claim("error", 0.2, high=0.1), "error must be at most 0.1; got 0.2."),
    ],
)
def test_broken_claim_is_named_with_its_rule_and_its_value(claim: Claim, text: str) -> None:
    assert claim.fault == text


def test_order_is_the_slope_of_the_errors() -> None:
    steps = [10, 20, 40, 80]
    assert order_of(steps, [3.0 * n**-2.5 for n in steps]) == pytest.approx(2.5, abs=1e-12)


def counted(calls: list[str], name: str) -> Part:
    def compute(done: dict[str, object], tick: object) -> dict[str, object]:
        calls.append(name)
        return {"value": 1 / 3, "before": sorted(done)}

    return Part(name, 1, compute)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "is_resumed", "computed"),
    [
        pytest.param({"steps": (1, 2)}, True, ["b"], id="resumed"),
        pytest.param({"steps": (1, 3)}, True, ["a", "b"], id="other-settings"),
        pytest.param({"steps": (1, 2)}, False, ["a", "b"], id="anew"),
    ],
)
def test_finished_parts_are_found_again(
    tmp_path: Path, settings: dict[str, object], is_resumed: bool, computed: list[str]
) -> None:
    path, console, calls = tmp_path / "deep" / "results.json", Console(file=StringIO()), []
    run_parts([counted([], "a")], path, {"steps": (1, 2)}, False, console)
    results = run_parts([counted(calls, "a"), counted(calls, "b")], path, settings, is_resumed, console)
    assert calls == computed
    assert results == {"a": {"value": 0.3333333, "before": []}, "b": {"value": 0.3333333, "before": ["a"]}}
    assert json.loads(path.read_text())["parts"] == results


def test_interrupted_run_keeps_what_is_finished(tmp_path: Path) -> None:
    path, console, calls = tmp_path / "results.json", Console(file=StringIO()), []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_parts([counted(calls, "a"), Part("b", 1, interrupt)], path, {}, False, console)
    run_parts([counted(calls, "a"), counted(calls, "b")], path, {}, True, console)
    assert calls == ["a", "b"]


CLOSED = pytest.mark.parametrize("problem", [Affine(), Tanh()], ids=lambda problem: problem.name)


def last_loss(problem: ClosedProblem, size: complex, direction: np.ndarray) -> complex:
    """The loss with size exp(-t) direction added to the control, by SciPy's solver."""

    def slope(t: float, z: np.ndarray) -> np.ndarray:
        u = problem.controls(np.array([t]))[0] + size * np.exp(-t) * direction
        return problem.field(np, z.reshape(problem.start.shape), u).reshape(-1)

    start = problem.start.reshape(-1).astype(complex)
    end = solve_ivp(slope, (0.0, DURATION), start, method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    return np.sum(problem.shift.reshape(-1) * end)


@CLOSED
def test_closed_gradient_is_that_of_the_loss(problem: ClosedProblem) -> None:
    x, w = np.polynomial.legendre.leggauss(30)
    t, w = DURATION * (x + 1) / 2, DURATION * w / 2
    gradient = problem.gradient(t)
    direction = np.random.default_rng(0).normal(size=gradient.shape[1:])
    expected = np.sum((w * np.exp(-t)).reshape(-1, *[1] * direction.ndim) * gradient * direction)
    assert last_loss(problem, 1e-20j, direction).imag / 1e-20 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("problem", "z_shape", "u_shape"),
    [
        pytest.param(Affine(), (1,), (2,), id="affine"),
        pytest.param(Tanh(), (1, 3), (3, 4), id="tanh"),
        pytest.param(Ellipse(2), (2, 16, 2), (2, 2, 3), id="ellipse"),
    ],
)
def test_vjp_is_that_of_the_field(problem: Problem, z_shape: tuple[int, ...], u_shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    z, z_dot, f_bar = (draw.normal(size=z_shape) for _ in range(3))
    u, u_dot = (draw.normal(size=u_shape) for _ in range(2))
    pushed = problem.field(np, z + 1e-20j * z_dot, u + 1e-20j * u_dot).imag / 1e-20
    z_bar, u_bar = problem.vjp(z, u, f_bar)
    assert np.sum(z_bar * z_dot) + np.sum(u_bar * u_dot) == pytest.approx(np.sum(f_bar * pushed), rel=1e-12)


def test_true_loss_is_that_of_the_control_linear_between_its_nodes() -> None:
    times = node_times("midpoint", 20)
    sawtooth = Ellipse(2).first_controls(times) + 0.1 * (-1.0) ** np.arange(40)[:, None, None, None]
    middles, halves = (times[1:] + times[:-1]) / 2, (sawtooth[1:] + sawtooth[:-1]) / 2
    order = np.argsort([*times, *middles, DURATION])
    end = 2 * sawtooth[-1] - sawtooth[-2]  # continued from the last node, a gap before it
    finer = np.concatenate([sawtooth, halves, end[None]])[order]
    expected = training.true_losses(np.array([*times, *middles, DURATION])[order].tolist(), finer)
    assert training.true_losses(times.tolist(), sawtooth) == pytest.approx(expected, rel=1e-5)
    assert abs(training.true_losses(times.tolist(), Ellipse(2).first_controls(times)) / expected - 1).min() > 1e-3


def test_knot_integrals_are_exact_for_what_is_linear() -> None:
    times = node_times("ralston", 70)
    function = np.stack([3.0 - times, np.ones_like(times)], axis=1)
    found = comb.integrals(times.tolist(), function) / comb.HATS
    knots, gap = np.array(comb.KNOTS), comb.KNOTS[1]
    expected = 3.0 - knots
    expected[[0, -1]] += [-gap / 3, gap / 3]  # half a hat has its mean a third inside
    np.testing.assert_allclose(found, np.stack([expected, np.ones_like(knots)], axis=1), rtol=1e-12)


ROWS = (orders.Row("leapfrog", "none", 0), orders.Row("leapfrog", "filter", 2), orders.Row("leapfrog", "moments", 2))
TINY = study.Scale((80, 160), training.Scale((40, 80), 40, 40, 40), (150, 350), False)


def run_tiny(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: tuple[orders.Row, ...], *arguments: str):
    monkeypatch.setattr(study, "QUICK", TINY)
    monkeypatch.setattr(orders, "ROWS", rows)
    monkeypatch.setattr(training, "GRADIENTS", {"leapfrog": ("none", "filter")})
    return CliRunner().invoke(app, ["--quick", "--out", str(folder), *arguments], env={"TERM": "dumb"})


def test_tiny_run_holds_its_claims_and_a_false_claim_fails_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_tiny(tmp_path, monkeypatch, ROWS)
    assert result.exit_code == 0, result.output
    assert "27 of 27 claims hold." in result.output
    folder = tmp_path / "quick"
    assert {path.name: path.read_bytes()[:8] == PNG_HEAD for path in folder.iterdir()} == {
        "results.json": False,
        "tables.md": False,
        "gradient.png": True,
        "orders.png": True,
        "training.png": True,
        "comb.png": True,
    }
    stored = {path.name: path.read_bytes() for path in folder.iterdir()}

    false = (ROWS[0], replace(ROWS[1], order=3), ROWS[2])
    result = run_tiny(tmp_path, monkeypatch, false, "--resume")
    assert result.exit_code == 1
    assert "FAILED affine, leapfrog, filter: order must be 2.85 to 3.15; got 2.0" in result.output
    assert "25 of 27 claims hold." in result.output

    assert run_tiny(tmp_path, monkeypatch, ROWS, "--resume").exit_code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == stored


def test_library_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.command.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["--library", "jax"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 2
    assert "--library must be installed; got jax. Install janode[jax]." in result.output


@pytest.mark.parametrize("library", [Library.TORCH, Library.JAX])
def test_libraries_agree(library: Library) -> None:
    assert agreement.difference(library, ROWS[1]) < agreement.LIMIT


RAW = {"variations": [[10.0, 8.0], [20.0, 16.0], [40.0, 32.0]], "losses": [[0.5, 0.5]] * 3, "errors": [[1.0, 1.0]] * 3}
GOOD = {
    "variations": [[2.0, 2.0]] * 3,
    "losses": [[0.1, 0.1]] * 3,
    "errors": [[4e-2, 4e-2], [1e-2, 1e-2], [2.5e-3, 2.5e-3]],
}


def training_claims(monkeypatch: pytest.MonkeyPatch, raw: dict[str, object], good: dict[str, object]) -> list[Claim]:
    monkeypatch.setattr(training, "GRADIENTS", {"leapfrog": ("none", "filter")})
    scale = training.Scale((40, 80, 160), 1, 1, 40)
    results: dict[str, object] = {training.REFERENCE: {"variations": [2.0, 2.0], "losses": [0.1, 0.1]}}
    for correction, measured in {"none": raw, "filter": good}.items():
        for k, n in enumerate(scale.steps):
            results[training.part_name("leapfrog", correction, n)] = {key: value[k] for key, value in measured.items()}
    return training.claims(results, scale)


def test_training_as_claimed_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = training_claims(monkeypatch, RAW, GOOD)
    assert len(claims) == 9
    assert [claim.fault for claim in claims if not claim.holds] == []


@pytest.mark.parametrize(
    ("raw", "good", "text"),
    [
        pytest.param({"variations": [[10.0, 32.0], [19.0, 32.0], [40.0, 32.0]]}, {}, "growth", id="slow-growth"),
        pytest.param({"losses": [[0.15, 0.5]] * 3}, {}, "at the largest N", id="good-raw-loss"),
        pytest.param(
            {"variations": [[10.0, 9.0], [20.0, 9.0], [40.0, 9.0]]}, {}, "of the reference's", id="smooth-adam"
        ),
        pytest.param({}, {"errors": [[4e-2, 4e-2], [2e-2, 1e-2], [1e-2, 2.5e-3]]}, "order", id="order-1"),
        pytest.param({}, {"errors": [[1e-2, 1e-2]] * 3}, "order", id="order-0"),
        pytest.param({}, {"variations": [[2.0, 2.0], [2.3, 2.0], [2.0, 2.0]]}, "change", id="variation-moves"),
        pytest.param({}, {"losses": [[0.1, 0.1], [0.1, 0.1], [0.103, 0.1]]}, "distance", id="far-loss"),
    ],
)
def test_false_training_claim_fails(
    monkeypatch: pytest.MonkeyPatch, raw: dict[str, object], good: dict[str, object], text: str
) -> None:
    broken = [claim.name for claim in training_claims(monkeypatch, RAW | raw, GOOD | good) if not claim.holds]
    assert broken
    assert all(text in name for name in broken)


@pytest.mark.parametrize(("folder", "scale"), [("quick", study.QUICK), ("full", study.FULL)])
def test_stored_results_are_of_the_study_as_it_is(folder: str, scale: study.Scale) -> None:
    stored = json.loads((RESULTS / folder / "results.json").read_text())
    assert stored["settings"] == json.loads(json.dumps(study.settings(scale, Library.NUMPY)))
    assert list(stored["parts"]) == [part.name for part in study.parts(scale, Library.NUMPY)]
    assert [claim.fault for claim in study.claims(stored["parts"], scale) if not claim.holds] == []
