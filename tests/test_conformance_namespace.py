"""Any library of the Array API conforms: a toy namespace goes through the suite with no line of janode changed.

It is named on the command line or by an entry point of its package, and what it cannot do stands in a file of its own.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from janode.conformance.cases import Case, Selection, select
from janode.conformance.cells import RAN, run_cell
from janode.conformance.checks import LibraryCheck
from janode.conformance.command import app
from janode.conformance.namespaces import namespace_targets
from janode.conformance.targets import TARGETS, Target

from .toy_namespace import toy

NAME = "tests.toy_namespace:toy"
TOY = {target.precision: target for target in namespace_targets(NAME)}
CASES = [("f64", "smoke"), ("f32", "least")]


@pytest.mark.parametrize(
    ("precision", "case"),
    [(p, case) for p, level in CASES for case in select(level, Selection()) if TOY[p].can_show(case)],
    ids=lambda value: value.id if isinstance(value, Case) else value,
)
def test_a_toy_library_conforms(precision: str, case: Case) -> None:
    check = LibraryCheck(TOY[precision].load("cpu", precision), precision)
    cell = run_cell(TOY[precision].id, check, case, None)
    assert (cell.status, cell.message) == (RAN, "")


@pytest.mark.parametrize("other", [np.ones(2), np.float64(1.0)], ids=["array", "scalar"])
def test_the_toy_refuses_numpy(other: object) -> None:
    with pytest.raises(TypeError, match="NumPy"):
        toy.asarray([1.0, 2.0]) + other


@pytest.fixture(autouse=True)
def targets() -> Iterator[None]:
    """What a test adds goes again."""
    before = dict(TARGETS)
    yield
    TARGETS.clear()
    TARGETS.update(before)


CHEAP = ("--problem", "affine", "--method", "rk4", "--preset", "aca")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--jobs", "0", *CHEAP, *arguments])


def test_a_namespace_is_named_on_the_command_line() -> None:
    result = run("--namespace", NAME)
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:3] for line in result.output.splitlines() if line.split()}
    assert rows["toy-cpu-f64"] == rows["toy-cpu-f32"] == ["ran", "1"]
    assert "numpy-cpu-f64" not in rows


def test_a_namespace_runs_in_a_process_of_its_own() -> None:
    result = CliRunner().invoke(app, [*CHEAP, "--namespace", NAME, "--dtype", "f64"])
    assert result.exit_code == 0, result.output
    assert "toy-cpu-f64" in result.output


@pytest.mark.parametrize("name", ["tests.toy_namespace:nothing", "no_such_module"])
def test_a_namespace_that_is_not_there_is_refused(name: str) -> None:
    result = run("--namespace", name)
    assert result.exit_code == 2
    assert f"namespace must be a module, or module:attribute; got {name} cannot be imported" in result.output


class EntryPoint:
    """An entry point of a package that is installed."""

    name = "toy"

    def __init__(self, found: Any) -> None:
        self.found = found

    def load(self) -> Any:
        return self.found


def declare(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [EntryPoint(found)])


@pytest.mark.parametrize("is_list", [True, False])
def test_a_package_adds_targets_by_an_entry_point(is_list: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("mine-cpu-f64", "mine", "cpu", "f64", TOY["f64"].load)
    declare(monkeypatch, [target] if is_list else target)
    result = run("--target", "mine-*")
    assert result.exit_code == 0, result.output
    assert "mine-cpu-f64" in result.output


def test_an_entry_point_that_names_no_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, ["mine"])
    result = run("--target", "numpy-cpu-f64")
    assert result.exit_code == 2
    assert "entry point 'toy' of janode.targets must name a Target or several; got str" in result.output


def test_gaps_of_a_namespace_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    gaps = tmp_path / "gaps.toml"
    gaps.write_text('[[gap]]\ntarget = "toy-*"\ncase = "affine/*"\nreason = "none"\nlink = "none"\n')
    result = run("--namespace", NAME, "--gaps", str(gaps))
    assert result.exit_code == 1
    assert "toy-cpu-f64/affine/rk4/aca: passes, but is declared as a gap: none" in " ".join(result.output.split())


@pytest.mark.parametrize("text", [None, "[["], ids=["missing", "broken"])
def test_a_file_of_gaps_that_cannot_be_read_is_refused(text: str | None, tmp_path: Path) -> None:
    gaps = tmp_path / "gaps.toml"
    if text is not None:
        gaps.write_text(text)
    result = run("--target", "numpy-cpu-f64", "--gaps", str(gaps))
    assert result.exit_code == 2
    assert "must be a TOML file; got" in result.output
