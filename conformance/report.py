"""The results of a run: counted, and written as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cells import ABSENT, FAILED, Cell, TargetReport
from .targets import REFERENCE

SCHEMA = 1


@dataclass
class Report:
    """The cells and targets of a run.

    Attributes:
        level: how much of the product was asked for.
        required: the ids of targets that must not be absent.
        cells: one for each case of each target.
        targets: what became of each target.
    """

    level: str
    required: frozenset[str] = frozenset()
    cells: list[Cell] = field(default_factory=list)
    targets: list[TargetReport] = field(default_factory=list)

    def add(self, result: Cell | TargetReport) -> None:
        """One more result."""
        if isinstance(result, Cell):
            self.cells.append(result)
            return
        if result.status == ABSENT and result.target in self.required:
            result = result._replace(status=FAILED, reason=f"was asked for by name, but is absent: {result.reason}")
        self.targets.append(result)

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
            "janode": importlib.metadata.version("janode"),
            "commit": find_commit(Path(__file__)),
            "level": self.level,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
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
