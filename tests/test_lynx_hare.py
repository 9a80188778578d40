"""The example on real data: its counts, the model's VJP, the gradient of the fit, and the command."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from examples.lynx_hare import app, failures
from examples.lynx_hare_libraries import Library, load
from examples.lynx_hare_model import field, field_vjp, log_loss, log_loss_vjp, read_counts, start, unpack
from examples.lynx_hare_report import Outcome, make_table, save_figure

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def run_command(*arguments: str):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})


def random_point() -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """A state, rates and a cotangent, each entry of shape (3,)."""
    draw = np.random.default_rng(0)
    return tuple(tuple(draw.uniform(0.5, 2.0, size=(n, 3))) for n in (2, 4, 2))  # type: ignore[return-value]


def test_counts_are_21_years_of_both_species():
    counts = read_counts()
    assert counts.years == tuple(float(year) for year in range(1900, 1921))
    assert (counts.hare[3], counts.lynx[4]) == (77.4, 59.4)
    assert sum(counts.hare) == pytest.approx(715.7)
    assert sum(counts.lynx) == pytest.approx(423.5)


def test_start_is_the_equilibrium_of_the_mean_counts():
    counts = read_counts()
    (hare, lynx), (birth, predation, death, growth) = unpack(np, np.asarray(start(counts)))
    assert (hare, lynx) == pytest.approx((30.0, 4.0))
    assert (death / growth, birth / predation) == pytest.approx((np.mean(counts.hare), np.mean(counts.lynx)))
    assert np.sqrt(birth * death) == pytest.approx(2.0 * np.pi / 10.0)


def test_field_vjp_is_the_transpose_of_its_complex_step_derivative():
    y, rates, f_bar = random_point()
    _, y_dot, rates_dot = field_vjp(None, y, rates, f_bar)
    direction = np.random.default_rng(1).normal(size=(6, 3))
    moved = [a + 1e-30j * d for a, d in zip((*y, *rates), direction, strict=True)]
    tangent = [f.imag / 1e-30 for f in field(None, (moved[0], moved[1]), tuple(moved[2:]))]
    pushed = sum(np.sum(bar * f) for bar, f in zip(f_bar, tangent, strict=True))
    pulled = sum(np.sum(bar * d) for bar, d in zip((*y_dot, *rates_dot), direction, strict=True))
    assert pulled == pytest.approx(pushed, rel=1e-13)


def test_log_loss_vjp_is_the_complex_step_derivative():
    y, _, direction = random_point()
    targets = (np.zeros(3), np.ones(3))
    moved = tuple(a + 1e-30j * d for a, d in zip(y, direction, strict=True))
    pushed = log_loss(np, moved, targets).imag / 1e-30
    pulled = sum(np.sum(bar * d) for bar, d in zip(log_loss_vjp(np, y, targets), direction, strict=True))
    assert pulled == pytest.approx(pushed, rel=1e-13)


def test_gradient_is_the_central_difference_of_the_loss():
    counts = read_counts()
    gradient = load(Library.NUMPY, counts, steps=4).gradient
    x0, width = np.asarray(start(counts)), 1e-4
    moves = width * np.eye(6)
    # of fourth order: 8 (f(h) - f(-h)) - (f(2h) - f(-2h))
    difference = [
        (8.0 * (gradient(x0 + e)[0] - gradient(x0 - e)[0]) - gradient(x0 + 2 * e)[0] + gradient(x0 - 2 * e)[0])
        / (12.0 * width)
        for e in moves
    ]
    np.testing.assert_allclose(gradient(x0)[1], difference, rtol=1e-9)


def test_command_fits_and_saves_the_figure(tmp_path: Path):
    out = tmp_path / "deep" / "fit.png"
    result = run_command("--library", "numpy", "--steps", "4", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert out.read_bytes()[:8] == PNG_HEAD
    assert f"figure: {out}" in result.output
    # the known optimum of this fit, to the accuracy of four steps a year
    assert "0.0480" in result.output
    assert "0.540" in result.output


def test_command_fails_when_the_fit_is_cut_short(tmp_path: Path):
    result = run_command(
        "--library", "numpy", "--steps", "2", "--max-iterations", "3", "--out", str(tmp_path / "a.png")
    )
    assert result.exit_code == 1
    assert "FAILED numpy: gradient left at the optimum" in result.output


def test_command_refuses_an_unknown_library():
    result = run_command("--library", "mxnet")
    assert result.exit_code == 2
    assert "'mxnet' is not one of 'numpy'" in result.output


def test_command_refuses_zero_steps():
    result = run_command("--steps", "0")
    assert result.exit_code == 2
    assert "'--steps'" in result.output


def test_command_reports_an_absent_library_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("examples.lynx_hare.absence", lambda name: "not installed" if name is Library.CUPY else None)
    result = run_command("--library", "cupy", "--steps", "2", "--out", str(tmp_path / "a.png"))
    assert result.exit_code == 1
    assert "absent: cupy (not installed)" in result.output
    assert "FAILED cupy: asked for, but absent (not installed)." in result.output


GOOD = Outcome("cpu", 1, 3, 1.0, np.zeros(6), 0.1, 0.0, np.ones(6), np.zeros(6))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        pytest.param({"slope": 2e-6}, "gradient left at the optimum", id="slope"),
        pytest.param({"slope": float("nan")}, "gradient left at the optimum", id="slope-nan"),
        pytest.param(
            {"at_start": np.ones(6) + 2e-10 * np.eye(6)[5]},
            "relative distance of the start gradient",
            id="start-gradient",
        ),
        pytest.param({"x": 2e-6 * np.eye(6)[0]}, "relative distance of the optimum", id="optimum"),
        pytest.param({"loss": 0.1 + 2e-7}, "relative distance of the optimum", id="loss"),
    ],
)
def test_disagreement_is_a_failure(bad: dict[str, object], text: str):
    lines = failures({Library.NUMPY: GOOD, Library.TORCH: replace(GOOD, **bad)})  # type: ignore[arg-type]
    assert len(lines) == 1
    assert lines[0].startswith(f"torch: {text}")


def test_agreement_is_no_failure():
    close = replace(GOOD, x=np.full(6, 5e-7), at_start=np.ones(6) - 5e-11, slope=5e-7)
    assert failures({Library.NUMPY: GOOD, Library.TORCH: close}) == []


def test_table_of_all_libraries_fits_80_columns():
    console = Console(width=80, file=StringIO())
    console.print(make_table(dict.fromkeys(Library, replace(GOOD, x=np.full(6, np.log(0.0271653639)))), "title"))
    assert console.file.getvalue().count(5 * "  0.02716536") == 6


def test_figure_holds_every_library(tmp_path: Path):
    times = np.linspace(1900.0, 1920.0, 5)
    curves = {library: (np.full(5, 30.0), np.full(5, 10.0)) for library in Library}
    save_figure(tmp_path / "all.png", read_counts(), times, curves)
    assert (tmp_path / "all.png").read_bytes()[:8] == PNG_HEAD
