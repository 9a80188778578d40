"""A run survives cases that hang or kill their process, and an interrupted one is taken up where it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from janode.conformance.cases import Case
from janode.conformance.cells import FAILED, RAN, Cell, TargetReport
from janode.conformance.command import app
from janode.conformance.report import Report, ReportFile, read_report
from janode.conformance.runner import run as run_plan
from janode.core.errors import InputError

GOOD = Case("affine", "rk4", "aca")


class Rogue(Case):
    """A case that hangs, or ends its process, when its turn comes: every process asks for its id first."""

    @property
    def id(self) -> str:
        return "/".join(self[:3])

    @property
    def correction(self) -> str:
        if self.aspect == "hang":
            time.sleep(60)
        os._exit(3)


def rogue(does: str) -> Any:
    return Rogue("affine", "rk4", "stages", does)


def told(plan: Any, **options: Any) -> tuple[list[tuple[str, str]], list[TargetReport]]:
    results = list(run_plan(plan, (), **options))
    cells = [(cell.status, cell.message) for cell in results if isinstance(cell, Cell)]
    return cells, [result for result in results if isinstance(result, TargetReport)]


def test_a_case_that_hangs_fails_and_the_others_run() -> None:
    start = time.monotonic()
    cells, targets = told({"numpy-cpu-f64": [GOOD, rogue("hang"), GOOD]}, jobs=1, timeout=2.0)
    assert cells == [(RAN, ""), (FAILED, "took longer than 2 s, and was stopped"), (RAN, "")]
    assert [target.status for target in targets] == [RAN]
    assert time.monotonic() - start < 40


def test_a_case_that_ends_its_process_fails_and_the_others_run() -> None:
    cells, targets = told({"numpy-cpu-f64": [rogue("exit"), GOOD]}, jobs=2)
    assert cells == [(FAILED, "its process ended early, with exit code 3"), (RAN, "")]
    assert [target.status for target in targets] == [RAN]


def test_a_target_whose_processes_keep_ending_is_given_up() -> None:
    cells, targets = told({"numpy-cpu-f64": [rogue("exit")] * 3 + [GOOD]}, jobs=1)
    assert [status for status, _ in cells] == [FAILED] * 3
    assert (targets[-1].status, targets[-1].reason) == (FAILED, "3 of its processes ended early; 1 cases were not run")


ARGUMENTS = ("--target", "numpy-cpu-f64", "--problem", "affine", "--method", "rk4")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--jobs", "0", *ARGUMENTS, *arguments])


def cut(out: Path) -> dict[str, Any]:
    """The report as it would be if the run had been interrupted after its first two cells."""
    told = json.loads(out.read_text())
    told["cells"], told["complete"] = told["cells"][:2], False
    out.write_text(json.dumps(told))
    return told


def ids(out: Path) -> list[tuple[str, str]]:
    return sorted((cell["target"], cell["case"]) for cell in json.loads(out.read_text())["cells"])


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run("--json", str(out)).exit_code == 0
    whole = ids(out)
    kept = cut(out)["cells"]
    assert run("--json", str(out), "--resume").exit_code == 0
    assert ids(out) == whole
    resumed = json.loads(out.read_text())
    assert resumed["complete"]
    # Backprop runs again, as its presets are compared with it; the other cell is the one that was there.
    assert [cell for cell in kept if not cell["case"].endswith("backprop")] == resumed["cells"][:1]
    assert [cell["case"] for cell in resumed["cells"]].count("affine/rk4/backprop") == 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"level": "smoke"}, "must be resumed at level 'smoke'"),
        ({"janode": "0.0.1"}, "must be resumed at janode '0.0.1'"),
        ({"commit": "abc"}, "must be resumed at commit 'abc'"),
        ({"schema": 1}, "must be a report of schema 2; got schema 1"),
    ],
    ids=["level", "version", "commit", "schema"],
)
def test_a_run_of_something_else_is_not_resumed(change: dict[str, Any], rule: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    run("--json", str(out), "--preset", "aca")
    out.write_text(json.dumps(json.loads(out.read_text()) | change))
    result = run("--json", str(out), "--preset", "aca", "--resume")
    assert result.exit_code == 2
    assert rule in result.output


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 2}', "[1]"], ids=["empty", "object", "head", "list"])
def test_what_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text(text)
    with pytest.raises(InputError, match=r"out\.json must be a report; got"):
        read_report(out)


def test_a_report_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json must be a report; got .*No such file"):
        read_report(tmp_path / "nowhere.json")


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    run("--json", str(out), "--target", "torch-cuda-*")
    report = read_report(out)
    assert report.as_json() == out.read_text()
    assert {target.status for target in report.targets} >= {"ran"}


def test_the_file_of_a_run_is_valid_at_any_time(tmp_path: Path) -> None:
    file = ReportFile(tmp_path / "out.json")
    report = Report("smoke")
    file.write(report)
    assert read_report(file.path).is_complete is False
    report.add(Cell("numpy-cpu-f64", "affine/rk4/aca", RAN, 1.0, 64.0, "ys", "", 0.1))
    file.write(report)
    assert read_report(file.path).cells == []  # not a second ago
    file.write(report, is_last=True)
    assert len(read_report(file.path).cells) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_an_interrupt_leaves_a_valid_report(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "janode.conformance", "--target", "strict-cpu-f64", "--json", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (out.exists() and read_report(out).cells):
            assert process.poll() is None
            time.sleep(0.1)
        for _ in range(3):  # an interrupt inside a finalizer is ignored by Python
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
                break
        assert process.poll() not in (None, 0)
    finally:
        process.kill()
    report = read_report(out)
    assert report.cells
    assert not report.is_complete
