"""Takes up a run that was interrupted where its report ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from janode.core.errors import InputError

from .cases import Case
from .report import Report, read_report
from .runner import Plan


def resume(path: Path, plan: Plan, level: str, required: frozenset[str]) -> tuple[Report, Plan]:
    """(the report as far as it goes, what is left of the plan).

    Raises:
        InputError: the file is no report, or one of another level, version, commit or machine.
    """
    report = read_report(path)
    now = Report(level)
    for what, found, expected in [("level", report.level, level)] + [
        (key, report.head[key], now.head[key]) for key in now.head
    ]:
        if found != expected:
            raise InputError(
                f"conformance: a run must be resumed at {what} {found!r}, as it began; got {expected!r}. Begin a new "
                "one."
            )
    report.required = required
    left = {}
    for target, cases in plan.items():
        done = {cell.case for cell in report.cells if cell.target == target}
        if missing := [case for case in cases if case.id not in done]:
            left[target] = _with_backprop(cases, missing)
    again = {(target, case.id) for target, cases in left.items() for case in cases}
    report.cells = [cell for cell in report.cells if (cell.target, cell.case) not in again]
    report.is_complete = False
    return report, left


def _with_backprop(cases: Sequence[Case], missing: Sequence[Case]) -> list[Case]:
    """The missing cases, and the backprop that their presets are compared with."""
    pairs = {case.pair for case in missing}
    return [case for case in cases if case in missing or (case.preset == "backprop" and case.pair in pairs)]
