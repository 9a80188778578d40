"""The report for people: tables on the console at the end of a run."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .cells import ABSENT, FAILED, GAP, RAN, Cell
from .report import Report
from .targets import REFERENCE

_COLOURS = {RAN: "green", FAILED: "bold red", GAP: "yellow", ABSENT: "dim"}


def print_report(console: Console, report: Report) -> None:
    """Every target with its counts and worst error, every method on every target, then what is absent or failed."""
    console.print(_targets(report))
    libraries = [t.target for t in report.targets if t.status == RAN and t.target != REFERENCE]
    per_table = max(1, (console.width - 14) // (max(map(len, libraries), default=0) + 2))
    for start in range(0, len(libraries), per_table):
        console.print(_methods(report, libraries[start : start + per_table]))
    lines = [(ABSENT, f"{target.target}: {target.reason}") for target in report.targets if target.status == ABSENT]
    lines += [(GAP, f"{c.target}/{c.case}: {c.message}") for c in report.cells if c.status == GAP]
    lines += [(FAILED, line) for line in report.failures]
    for status, line in lines:
        console.print(f"[{_COLOURS[status]}]{status}[/] {escape(line)}", soft_wrap=True, highlight=False)


def _targets(report: Report) -> Table:
    """One row for each target; the worst error is the one nearest to what is allowed."""
    table = Table(title=f"janode conformance, level {report.level}", title_justify="left", box=None)
    for heading in ("target", "status", RAN, FAILED, GAP, "worst eps", "allowed"):
        table.add_column(heading, justify="left" if heading in ("target", "status") else "right", no_wrap=True)
    for target in report.targets:
        counts = report.counts(target.target)
        status = FAILED if counts[FAILED] else target.status
        numbers = [str(counts[key]) for key in (RAN, FAILED, GAP)] if counts else []
        worst = report.worst(cell for cell in report.cells if cell.target == target.target and cell.status == RAN)
        errors = [] if worst is None else [f"{worst.error:.3g}", f"{worst.tolerance:.3g}"]
        table.add_row(target.target, f"[{_COLOURS[status]}]{status}[/]", *numbers, *errors)
    return table


def _methods(report: Report, targets: list[str]) -> Table:
    """The largest error of every method on some targets, over all problems and presets."""
    table = Table(title="\nlargest error in eps", title_justify="left", box=None)
    table.add_column("method", no_wrap=True)
    for target in targets:
        table.add_column(target, justify="right", no_wrap=True)
    worst: dict[str, dict[str, Cell]] = {}
    for cell in report.cells:
        if cell.target in targets:
            row = worst.setdefault(cell.case.split("/")[1], {})
            row[cell.target] = max(row.get(cell.target, cell), cell, key=lambda c: (c.status == FAILED, c.error))
    for method, row in worst.items():
        table.add_row(method, *(_error(row.get(target)) for target in targets))
    return table


def _error(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"[{_COLOURS[cell.status]}]{cell.status}[/]" if cell.status != RAN else f"{cell.error:.2g}"
