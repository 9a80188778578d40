"""Writes the results in docs/conformance.md from those in evidence/: ``python -m janode.conformance.evidence PAGE``.

Without a page it prints them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from janode.core.errors import InputError

from .cells import ABSENT, FAILED, GAP, RAN, Cell
from .comparison import EPS
from .offers import is_stepped_back
from .report import Report, read_report

FOLDER = Path(__file__).with_name("evidence")
CHAOTIC, POLYNOMIAL = ("lorenz",), ("lotka_volterra", "van_der_pol", "linear", "steered")
BEGIN, END = "<!-- evidence: begin -->", "<!-- evidence: end -->"


def table(report: Report) -> str:
    """What ran on which versions, in Markdown: for each target its cases, and its error nearest to what is allowed."""
    head = report.head
    loads = ", ".join(f"{load:g}" for load in report.loads)
    lines = [
        f"janode {head['janode']} at commit {head['commit'][:12]}, Python {head['python']}, {head['platform']}, "
        f"{head['cores']} cores, level {report.level}{f' of `{report.asked}`' if report.asked else ''}: "
        f"{report.seconds:.0f} s, load average at begin and end {loads}.",
        "",
        "| target | on | ran | failed | gap | seconds | worst eps | allowed | in |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for target in report.targets:
        if target.status != RAN:
            continue
        counts = report.counts(target.target)
        on = ", ".join(f"{key} {value}" for key, value in target.facts.items() if key != "device")
        cells = [cell for cell in report.cells if cell.target == target.target]
        worst = report.worst(cell for cell in cells if cell.status == RAN)
        numbers = [str(counts[key]) for key in (RAN, FAILED, GAP)] + [f"{sum(cell.seconds for cell in cells):.0f}"]
        errors = ["", "", ""] if worst is None else [f"{worst.error:.3g}", f"{worst.tolerance:.3g}", f"`{worst.case}`"]
        lines.append("| " + " | ".join([f"`{target.target}`", on, *numbers, *errors]) + " |")
    lines += ["", *_largest(report)]
    absent = [f"`{target.target}`" for target in report.targets if target.status == ABSENT]
    if absent:
        lines += ["", f"Absent on that machine, and so nothing is claimed of them: {', '.join(absent)}."]
    return "\n".join(lines)


def _part(cell: Cell, place: int) -> str:
    """A part of the id of its case: problem, method, adjoint, and what is checked besides, if anything."""
    return f"{cell.case}/".split("/")[place]


def _largest(report: Report) -> list[str]:
    """The largest errors between libraries in float64: of exact gradients, for polynomial fields, and of all."""
    cells = [cell for cell in report.cells if cell.status == RAN and cell.target.endswith("f64")]
    # Of differences that the suite takes itself the error says nothing about libraries.
    tame = [cell for cell in cells if _part(cell, 0) not in CHAOTIC and _part(cell, 3) != "dot_product"]
    exact = [cell for cell in tame if not _part(cell, 3) and not is_stepped_back(_part(cell, 2))]
    polynomial = [cell for cell in exact if _part(cell, 0) in POLYNOMIAL]
    lines = []
    for what, chosen in (
        ("of solutions and exact gradients", exact),
        ("of those where the field is polynomial", polynomial),
        ("with corrections, invariants and gradients by stepping back", tame),
    ):
        if chosen:
            worst = max(chosen, key=lambda cell: cell.error)
            size = worst.error * EPS["f64"]
            where = worst.where.partition(": ")[2]
            lines.append(f"- {what}: {worst.error:.3g} eps, {size:.2g} ({where} of `{worst.target}/{worst.case}`)")
    return ["Largest relative errors in float64 without chaos:", "", *lines] if lines else []


def results() -> str:
    """The tables of all files, one after the other."""
    return "\n\n".join(table(read_report(path)) for path in sorted(FOLDER.glob("*.json")))


def written(page: str) -> str:
    """The text of a page with the results between its two marks.

    Raises:
        InputError: the page lacks a mark.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"evidence: the page must hold {BEGIN} and {END}; got a page without. Add them.")
    return f"{before}{begin}\n{results()}\n{end}{after}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        target = Path(sys.argv[1])
        target.write_text(written(target.read_text()))
    else:
        print(results())
