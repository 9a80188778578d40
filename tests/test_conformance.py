"""``python -m janode.conformance``: every target that is here conforms, and each way a run can end is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from click.testing import Result
from typer.testing import CliRunner

from janode.conformance import evidence, report
from janode.conformance.cases import Case
from janode.conformance.cells import FAILED, Cell, TargetReport
from janode.conformance.checks import LibraryCheck
from janode.conformance.command import app
from janode.conformance.runner import run as run_plan
from janode.conformance.runtimes import Absent
from janode.conformance.targets import TARGETS, Target
from janode.core.errors import InputError

CHEAP = ("--problem", "affine", "--method", "rk4", "--preset", "symplectic")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--jobs", "0", *arguments])


def absence(target: Target) -> str:
    """Why a target cannot run here, or ""."""
    try:
        target.load(target.device, target.precision)
    except Absent as absent:
        return str(absent)
    return ""


ABSENT = {name: absence(target) for name, target in TARGETS.items()}
EAGER = [name for name in TARGETS if not ABSENT[name] and not name.startswith("jax")]
COMPILED = [name for name in TARGETS if not ABSENT[name] and name.startswith("jax")]


def assert_conforms(result: Result, target: str) -> None:
    assert result.exit_code == 0, result.output
    row = next(line.split() for line in result.output.splitlines() if line.split()[:1] == [target])
    assert row[1] == "ran"
    assert int(row[2]) > 0
    assert row[3:5] == ["0", "0"]


@pytest.mark.parametrize("target", EAGER)
def test_an_eager_target_conforms(target: str) -> None:
    assert_conforms(run("--target", target, "--level", "smoke"), target)


@pytest.mark.parametrize("target", COMPILED)
def test_a_compiled_target_conforms(target: str) -> None:
    problems = ("--problem", "rotation", "--problem", "network", "--problem", "knotted")
    presets = ("--preset", "backprop", "--preset", "aca")
    assert_conforms(run("--target", target, *problems, "--method", "rk4", *presets), target)


@pytest.mark.parametrize(
    ("target", "dtype"),
    [("jax-jit-cpu-f32", "float64"), ("jax-x32-cpu-f32", "float32"), ("jax-eager-cpu-f64", "float64")],
)
def test_64_bit_types_are_on_or_off(target: str, dtype: str) -> None:
    runtime = TARGETS[target].load("cpu", TARGETS[target].precision)
    with runtime.active():
        assert jax.numpy.asarray(1.0).dtype == dtype


@pytest.mark.parametrize(("error", "is_ok"), [(0.0, True), (1e-10, False)])
def test_presets_are_compared_with_backprop_of_the_same_library(error: float, is_ok: bool) -> None:
    target = TARGETS["torch-cpu-f64"]
    check = LibraryCheck(target.load(target.device, target.precision), target.precision)
    assert set(check.run(Case("affine", "rk4", "backprop"))) == {"reference"}
    ((pair, values),) = check._backprops.items()
    check._backprops[pair] = {**values, "y0_bar": values["y0_bar"] * (1 + error)}
    found = check.run(Case("affine", "rk4", "aca"))
    assert set(found) == {"reference", "backprop"}
    assert all(difference.is_ok for difference in found["backprop"]) is is_ok


def test_the_cpu_targets_are_here() -> None:
    assert {name for name, target in TARGETS.items() if target.device != "cuda"} <= {*EAGER, *COMPILED}


@pytest.mark.parametrize("name", TARGETS)
def test_an_id_says_what_the_target_is(name: str) -> None:
    target = TARGETS[name]
    assert name == target.id
    assert name.startswith(target.library.removeprefix("array_api_"))
    assert name.endswith(f"{target.device}-{target.precision}")


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.device == "cuda" and ABSENT[name]])
def test_an_absent_target_is_named_with_its_reason(name: str) -> None:
    result = run("--target", "numpy-cpu-f64", "--target", f"{name[:-1]}*", *CHEAP)
    assert result.exit_code == 0, result.output
    assert f"absent {name}: {ABSENT[name]}" in result.output


def absent_target(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load(device: str, precision: str) -> Any:
        raise error

    monkeypatch.setitem(TARGETS, "toy-cpu-f64", Target("toy-cpu-f64", "toy", "cpu", "f64", load))


def test_a_target_asked_for_by_name_must_be_here(monkeypatch: pytest.MonkeyPatch) -> None:
    absent_target(monkeypatch, Absent("toy is not installed"))
    result = run("--target", "numpy-cpu-f64", "--target", "toy-cpu-f64", *CHEAP)
    assert result.exit_code == 1
    assert "failed toy-cpu-f64: was asked for by name, but is absent: toy is not installed" in result.output
    told = next(line for line in result.output.splitlines() if line.startswith("here are: "))
    assert "torch-cpu-f64" in told
    assert "toy-cpu-f64" not in told


def test_a_library_that_breaks_when_loaded_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    absent_target(monkeypatch, ImportError("no libtoy.so"))
    result = run("--target", "toy-*", *CHEAP)
    assert result.exit_code == 1
    assert "failed toy-cpu-f64: cannot be loaded: ImportError: no libtoy.so" in result.output


def test_a_run_of_absent_targets_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    absent_target(monkeypatch, Absent("toy is not installed"))
    result = run("--target", "toy-*", *CHEAP)
    assert result.exit_code == 1
    assert "failed nothing ran: every target is absent" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--target", "tensorflow"], "conformance: target must be one of: .*; got 'tensorflow'"),
        (["--target", "torch-cpu-f46"], "conformance: target must be one of: torch-cpu-f64, .*; got 'torch-cpu-f46'"),
        (["--device", "tpu"], "conformance: device must be one of: .*cuda.*; got 'tpu'"),
        (["--dtype", "f16"], "conformance: dtype must be one of: .*; got 'f16'"),
        (["--problem", "lorentz"], "conformance: problem must be one of: lorenz, .*; got 'lorentz'"),
        (["--method", "rk5"], "conformance: method must be one of: rk4, .*; got 'rk5'"),
        (["--preset", "adjoint"], "conformance: preset must be one of: .*; got 'adjoint'"),
        (["--level", "some"], "conformance: level must be one of: .*; got 'some'"),
        (["--target", "numpy-*", "--device", "cuda"], "conformance: target, device and dtype must leave a target"),
        (["--level", "smoke", "--method", "tsit5"], "conformance: level 'smoke' must hold a case that is asked for"),
        (["--json", "/nowhere/out.json"], "must be written to a file in a folder that is there; got '/nowhere/"),
        (["--json", "/"], "the report must be written to a file .*; got '/' .Is a directory: '/'"),
        (["--resume"], "conformance: --resume must come with --json; got none"),
        (["--select", "affine/rk5/*"], "conformance: level 'full' must hold a case that is asked for"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_refused_before_the_run(arguments: list[str], told: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert re.search(told, result.output), result.output


def test_targets_run_side_by_side_in_processes_of_their_own(tmp_path: Path) -> None:
    """From the command line, as a user would; the results are those of the console."""
    out = tmp_path / "out.json"
    targets = ("--target", "numpy-cpu-f64", "--target", "strict-cpu-f64")
    command = [sys.executable, "-W", "error", "-m", "janode.conformance", *targets, *CHEAP, "--json", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = json.loads(out.read_text())
    assert {name: target["cells"] for name, target in written["targets"].items()} == {
        "reference": {"ran": 2},
        "numpy-cpu-f64": {"ran": 1},
        "strict-cpu-f64": {"ran": 1},
    }


class Bomb:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def test_a_crash_fails_its_target_and_no_other() -> None:
    bomb: Any = Bomb()
    plan: Any = {"numpy-cpu-f32": [bomb], "numpy-cpu-f64": [Case("affine", "rk4", "aca")]}
    results = list(run_plan(plan, (), jobs=2))
    crashed, cell, ran = sorted(results, key=lambda result: (result.target, isinstance(result, TargetReport)))
    assert (crashed.target, crashed.status) == ("numpy-cpu-f32", FAILED)
    assert isinstance(crashed, TargetReport)
    assert crashed.reason == "its process ended early, with exit code 3"
    assert (cell.status, ran.status) == ("ran", "ran")


def test_json_tells_versions_devices_and_every_cell(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run("--target", "torch-cpu-f32", "--target", "torch-cuda-*", *CHEAP, "--json", str(out)).exit_code == 0
    written = json.loads(out.read_text())
    assert {"schema", "janode", "commit", "level", "python", "platform", "processor", "cores"} < set(written)
    target = written["targets"]["torch-cpu-f32"]
    assert (target["status"], target["device"], target["cells"]) == ("ran", "cpu", {"ran": 1})
    assert target["torch"]
    (cell,) = (cell for cell in written["cells"] if cell["target"] == "torch-cpu-f32")
    assert (cell["case"], cell["status"], cell["allowed"]) == ("affine/rk4/symplectic", "ran", 64.0)
    assert 0 < cell["eps"] < 64


def test_json_keeps_what_could_not_be_measured_valid() -> None:
    broken = report.Report("smoke")
    broken.add(Cell("numpy-cpu-f64", "affine/rk4/aca", FAILED, float("inf"), 64.0, "ys", "must be finite", 0.1))
    (cell,) = json.loads(broken.as_json())["cells"]
    assert (cell["eps"], cell["message"]) == (None, "must be finite")


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    file = tmp_path / "report.py"
    file.touch()
    assert report.find_commit(file) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit = report.find_commit(file)
    assert commit is not None
    assert re.fullmatch("[0-9a-f]{40}", commit)
    file.write_text("changed")
    assert report.find_commit(file) == f"{commit}+"


def test_list_names_cases_and_runs_nothing() -> None:
    result = run("--target", "numpy-cpu-f64", *CHEAP, "--list")
    assert result.exit_code == 0
    assert result.output.split() == [
        "numpy-cpu-f64/affine/rk4/symplectic",
        "reference/affine/rk4/exact",
        "reference/affine/rk4/textbook",
    ]


@pytest.mark.parametrize("module", ["rich", "typer"])
def test_without_the_cli_extra_the_command_says_so(module: str) -> None:
    run_module = "runpy.run_module('janode.conformance', run_name='__main__')"
    code = f"import runpy, sys; sys.modules[{module!r}] = None; {run_module}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("janode.conformance: the cli extra must be installed; got ")
    assert "pip install janode[cli]" in ended.stderr


EVIDENCE = sorted(evidence.FOLDER.glob("*.json"))
MANUAL = Path(__file__).parents[1] / "docs" / "conformance.md"


def test_the_manual_shows_the_evidence() -> None:
    assert evidence.written(MANUAL.read_text()) == MANUAL.read_text()


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(InputError, match="evidence: the page must hold"):
        evidence.written("# Conformance")


@pytest.mark.parametrize("path", EVIDENCE, ids=lambda path: path.name)
def test_the_evidence_is_of_a_whole_run_without_failures_at_a_commit(path: Path) -> None:
    found = report.read_report(path)
    assert re.fullmatch("[0-9a-f]{40}", found.head["commit"])
    assert {cell.status for cell in found.cells} <= {"ran", "gap"}
    assert found.is_complete
    assert found.level in ("standard", "full")


def test_the_script_for_machines_without_network_says_how_it_is_used(tmp_path: Path) -> None:
    script = Path(evidence.__file__).with_name("gpu.sh")
    ended = subprocess.run(["bash", script, tmp_path / "no", tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "WHEELS must be a folder of wheels; got" in ended.stderr
    assert list(tmp_path.iterdir()) == []
