"""Two reports beside each other: what differs, and both as one."""

from __future__ import annotations

from collections.abc import Sequence

from janode.core.errors import InputError

from .cells import ABSENT, FAILED, Cell, TargetReport
from .report import Report

_GROWN = 4.0
"""By how much an error must have changed to be told, unless it is below an eps."""


def merge(reports: Sequence[Report]) -> Report:
    """One report of runs on several machines; of a target that ran in more than one the last is taken.

    Raises:
        InputError: they are of different versions of janode or of different levels.
    """
    first = reports[0]
    for report in reports[1:]:
        for what, got, expected in (
            ("janode", report.head["janode"], first.head["janode"]),
            ("level", report.level, first.level),
        ):
            if got != expected:
                raise InputError(f"conformance: merged reports must be of one {what}; got {expected!r} and {got!r}.")
    merged = Report(first.level, head=first.head)
    merged.asked = "; ".join(dict.fromkeys(report.asked for report in reports if report.asked))
    found: dict[str, tuple[TargetReport, Report]] = {}
    for report in reports:
        for target in report.targets:
            if target.target not in found or target.status != ABSENT:
                found[target.target] = (target, report)
    for name, (target, report) in found.items():
        head = report.head
        machine = f"{head['platform']}, Python {head['python']}, commit {(head['commit'] or 'unknown')[:12]}"
        facts = target.facts if target.status == ABSENT else {**target.facts, "machine": machine}
        merged.targets.append(target._replace(facts=facts))
        merged.cells += [cell for cell in report.cells if cell.target == name]
    merged.is_complete = all(report.is_complete for report in reports)
    merged.seconds = sum(report.seconds for report in reports)
    merged.loads = [load for report in reports for load in report.loads]
    return merged


def diff(old: Report, new: Report) -> tuple[list[str], bool]:
    """(what differs between two reports, one line each; whether something failed that had not)."""
    before, after = ({(cell.target, cell.case): cell for cell in report.cells} for report in (old, new))
    lines, is_worse = [], False
    for key in dict.fromkeys([*before, *after]):
        a, b = before.get(key), after.get(key)
        told = _changed(a, b)
        if told:
            lines.append(f"{'/'.join(key)}: {told}")
        is_worse |= b is not None and b.status == FAILED and (a is None or a.status != FAILED)
    targets = {target.target: target for target in old.targets}
    for target in new.targets:
        was = targets.get(target.target)
        if was is not None and was.status != target.status:
            lines.append(f"{target.target}: was {was.status}, is {target.status} {target.reason}".rstrip())
            is_worse |= target.status == FAILED
    return lines, is_worse


def _changed(old: Cell | None, new: Cell | None) -> str:
    """What became of a cell, or ""."""
    if old is None or new is None:
        return "only in the first" if new is None else f"only in the second, {new.status}"
    if old.status != new.status:
        return f"was {old.status}, is {new.status} {new.message}".rstrip()
    low, high = sorted((old.error, new.error))
    if high > 1.0 and high > _GROWN * low:
        return f"was {old.error:.3g} eps, is {new.error:.3g} eps of {new.tolerance:.3g} allowed"
    return ""
