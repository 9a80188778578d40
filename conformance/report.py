"""The results of a run: counted, written as JSON while it goes on, and read again."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from janode.core.errors import InputError

from .cells import ABSENT, FAILED, Cell, TargetReport
from .targets import REFERENCE

SCHEMA = 2
_SECONDS_BETWEEN_WRITES = 1.0


def machine() -> dict[str, Any]:
    """What a run is of: versions, the commit and the machine."""
    return {
        "janode": importlib.metadata.version("janode"),
        # A script that installs a checkout knows the commit that the installed files do not tell.
        "commit": os.environ.get("JANODE_COMMIT") or find_commit(Path(__file__)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


@dataclass
class Report:
    """The cells and targets of a run.

    Attributes:
        level: how much of the product was asked for.
        asked: what part of the level, as options of the command; all of it if empty.
        required: the ids of targets that must not be absent.
        cells: one for each case of each target.
        targets: what became of each target.
        head: versions, the commit and the machine.
        is_complete: whether the run went to its end.
        seconds: how long it took, in all its parts.
        loads: the load average when each of its parts began and ended.
    """

    level: str
    required: frozenset[str] = frozenset()
    cells: list[Cell] = field(default_factory=list)
    targets: list[TargetReport] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=machine)
    is_complete: bool = False
    seconds: float = 0.0
    loads: list[float] = field(default_factory=list)
    asked: str = ""

    def add(self, result: Cell | TargetReport) -> None:
        """One more result; a later one takes the place of an earlier one of the same id."""
        if isinstance(result, Cell):
            self.cells.append(result)
            return
        if result.status == ABSENT and result.target in self.required:
            result = result._replace(status=FAILED, reason=f"was asked for by name, but is absent: {result.reason}")
        self.targets = [target for target in self.targets if target.target != result.target] + [result]

    def counts(self, target: str) -> Counter[str]:
        """The cells of a target by status."""
        return Counter(cell.status for cell in self.cells if cell.target == target)

    def worst(self, cells: Iterable[Cell]) -> Cell | None:
        """The cell with the largest error for its tolerance."""
        return max((c for c in cells if c.tolerance), key=lambda cell: cell.error / cell.tolerance, default=None)

    @property
    def failures(self) -> list[str]:
        """What failed, one line each, the cell or the target first."""
        lines = [f"{t.target}: {t.reason}" for t in self.targets if t.status == FAILED]
        lines += [f"{c.target}/{c.case}: {c.message}" for c in self.cells if c.status == FAILED]
        libraries = {target.status for target in self.targets if target.target != REFERENCE}
        if libraries == {ABSENT}:
            lines.append("nothing ran: every target is absent")
        return lines

    def as_json(self) -> str:
        """The report as JSON text, one cell a line."""
        head = {
            "schema": SCHEMA,
            **self.head,
            "level": self.level,
            "asked": self.asked,
            "complete": self.is_complete,
            "seconds": round(self.seconds, 1),
            "loads": self.loads,
            "targets": {t.target: self._target(t) for t in self.targets},
        }
        cells = ",\n".join("  " + json.dumps(_cell(cell)) for cell in self.cells)
        return json.dumps(head, indent=1)[:-2] + f',\n "cells": [\n{cells}\n ]\n}}\n'

    def _target(self, target: TargetReport) -> dict[str, Any]:
        counts = self.counts(target.target)
        return {"status": target.status, "reason": target.reason, **target.facts, "cells": dict(counts)}


def _cell(cell: Cell) -> dict[str, Any]:
    told: dict[str, Any] = {"target": cell.target, "case": cell.case, "status": cell.status}
    if cell.tolerance:
        told |= {"eps": _rounded(cell.error), "allowed": _rounded(cell.tolerance), "where": cell.where}
    if cell.message:
        told["message"] = cell.message
    return told | {"seconds": _rounded(cell.seconds)}


def _rounded(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None


def read_report(path: Path) -> Report:
    """The report that a file holds.

    Raises:
        InputError: the file is no report of this version.
    """
    try:
        told = json.loads(path.read_text())
        if told["schema"] != SCHEMA:
            raise InputError(
                f"conformance: {path} must be a report of schema {SCHEMA}; got schema {told['schema']}. Run the suite "
                "again."
            )
        report = Report(told["level"], is_complete=told["complete"], seconds=told["seconds"], loads=told["loads"])
        report.asked = told.get("asked", "")
        report.head = {key: told[key] for key in report.head}
        report.targets = [_read_target(name, dict(target)) for name, target in told["targets"].items()]
        report.cells = [_read_cell(cell) for cell in told["cells"]]
    except OSError as error:
        raise InputError(f"conformance: {path} must be a report; got {error}. Give a file that --json wrote.") from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise InputError(f"conformance: {path} must be a report; got {got}. Give a file that --json wrote.") from None
    return report


def _read_target(name: str, told: dict[str, Any]) -> TargetReport:
    del told["cells"]
    return TargetReport(name, told.pop("status"), told.pop("reason"), told)


def _read_cell(told: dict[str, Any]) -> Cell:
    error, allowed = told.get("eps", 0.0), told.get("allowed", 0.0)
    error = math.inf if error is None else error
    names = told["target"], told["case"], told["status"]
    return Cell(*names, error, allowed or 0.0, told.get("where", ""), told.get("message", ""), told["seconds"])


class ReportFile:
    """The file of a run: written again and again while it goes on, so that at any time it holds a valid report."""

    def __init__(self, path: Path) -> None:
        self.path, self._last = path, -math.inf
        check_writable(path)

    def write(self, report: Report, is_last: bool = False) -> None:
        """The report so far, unless one was written just now; the old file stays until the new one is whole."""
        if not is_last and time.monotonic() - self._last < _SECONDS_BETWEEN_WRITES:
            return
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(report.as_json())
        part.replace(self.path)
        self._last = time.monotonic()


def check_writable(path: Path) -> None:
    """Refuse a path that nothing can be written to."""
    try:
        if path.is_dir():
            raise IsADirectoryError(f"Is a directory: '{path}'")
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(
            f"conformance: the report must be written to a file in a folder that is there; got '{path}' ({error}). "
            "Give another path."
        ) from None


def find_commit(file: Path) -> str | None:
    """The commit of the checkout that tracks a file, "+" behind it if it has changes; None outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
