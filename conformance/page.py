"""The report as one HTML page that needs nothing else: heat maps of errors and times, targets, failures and gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from .cells import ABSENT, FAILED, GAP, RAN, Cell
from .report import Report
from .targets import REFERENCE

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 100rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .text { text-align: left; }
.text { white-space: normal; min-width: 16rem; }
.map th { font-weight: 500; white-space: normal; } .map td { color: #111; border: 1px solid #fff8; min-width: 3.2rem; }
.map td.none { background: none; }
.failed { background: #d33; color: #fff !important; } .gap { background: #fc6; } .absent { opacity: .6; }
.status-failed { color: #d33; font-weight: 600; } .status-ran { color: #2a7; }
.legend span { display: inline-block; padding: 0 .7rem; color: #111; }
li { overflow-wrap: anywhere; } code { font-size: .92em; }
"""
_LEFT = ' class="text"'


def as_html(report: Report) -> str:
    """The page."""
    failures = report.failures
    verdict = f"{len(failures)} failed" if failures else "nothing failed"
    if not report.is_complete:
        verdict += ", the run was interrupted"
    head = report.head
    lines = [
        f"{f'level {report.level} {report.asked}'.rstrip()}; janode {head['janode']}, commit "
        f"{(head['commit'] or 'unknown')[:12]}",
        f"Python {head['python']}, {head['platform']}, {head['cores']} cores; {report.seconds:.0f} s",
    ]
    names = [t.target for t in report.targets if t.status == RAN]
    libraries = [name for name in names if name != REFERENCE]
    parts = [
        f"<h1>janode conformance: {escape(verdict)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in lines),
        _section("Targets", _targets(report)),
        _section("Largest error in eps (ulps of 1), by method and target", _legend() + _map(report, libraries, _error)),
        _section("Seconds per case, by method and target", _map(report, libraries, _time)),
        _section("Checks of the reference", _map(report, [n for n in names if n == REFERENCE], _error)),
        _listed("Failures", failures),
        _listed("Declared gaps", [f"{c.target}/{c.case}: {c.message}" for c in report.cells if c.status == GAP]),
        _listed("Absent", [f"{t.target}: {t.reason}" for t in report.targets if t.status == ABSENT]),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>janode conformance</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _section(heading: str, content: str) -> str:
    return f'<section><h2>{escape(heading)}</h2>\n<div class="wide">{content}</div></section>'


def _listed(heading: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li><code>{escape(line)}</code></li>" for line in lines)
    return _section(f"{heading}: {len(lines)}", f"<ul>{items}</ul>" if lines else "<p>None.</p>")


def _targets(report: Report) -> str:
    rows = []
    for target in report.targets:
        counts, cells = report.counts(target.target), [c for c in report.cells if c.target == target.target]
        status = FAILED if counts[FAILED] else target.status
        worst = report.worst(cell for cell in cells if cell.status == RAN)
        told = [] if worst is None else [f"{worst.error:.3g}", f"{worst.tolerance:.3g}"]
        on = ", ".join(f"{key} {value}" for key, value in target.facts.items()) or target.reason
        texts = [str(counts[key]) for key in (RAN, FAILED, GAP)] + (told or ["", ""])
        numbers = "".join(f"<td>{text}</td>" for text in [*texts, f"{sum(c.seconds for c in cells):.1f}"])
        rows.append(
            f'<tr class="{target.status}"><td>{escape(target.target)}</td><td class="text">{escape(on)}</td>'
            f'<td class="status-{status}">{status}</td>{numbers}</tr>'
        )
    headings = ("target", "on", "status", RAN, FAILED, GAP, "worst eps", "allowed", "seconds")
    return _table("", headings, rows)


def _table(kind: str, headings: Iterable[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th{_LEFT if heading == 'on' else ''}>{escape(heading)}</th>" for heading in headings)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _map(report: Report, targets: Sequence[str], show: Callable[[Sequence[Cell]], tuple[str, str, str]]) -> str:
    """Methods by targets; ``show`` gives (style or class, text, what it says under the mouse)."""
    found: dict[str, dict[str, list[Cell]]] = {}
    for cell in report.cells:
        if cell.target in targets:
            found.setdefault(cell.case.split("/")[1], {}).setdefault(cell.target, []).append(cell)
    rows = []
    for method, row in found.items():
        tiles = []
        for target in targets:
            look, text, title = show(row[target]) if target in row else ('class="none"', "", "")
            tiles.append(f'<td {look} title="{escape(title)}">{escape(text)}</td>')
        rows.append(f"<tr><td>{escape(method)}</td>{''.join(tiles)}</tr>")
    return _table("map", ["method", *targets], rows)


def _colour(share: float) -> str:
    """From green at 0 to red at 1."""
    return f"hsl({130 * (1 - min(1.0, max(0.0, share))):.0f} 65% 75%)"


def _error(cells: Sequence[Cell]) -> tuple[str, str, str]:
    failed = [cell for cell in cells if cell.status == FAILED]
    if failed:
        return 'class="failed"', f"{len(failed)} failed", "\n".join(f"{c.case}: {c.message}" for c in failed[:5])
    ran = [cell for cell in cells if cell.status == RAN and cell.tolerance]
    if not ran:
        return 'class="gap"', "gap", "\n".join(f"{c.case}: {c.message}" for c in cells[:5])
    worst = max(ran, key=lambda cell: cell.error / cell.tolerance)
    # On a logarithmic scale: what is allowed is red, a thousandth of it green.
    share = 1 + math.log10(max(1e-3, worst.error / worst.tolerance)) / 3
    title = f"{worst.case}, {worst.where}: {worst.error:.3g} eps, {worst.tolerance:.3g} allowed; {len(cells)} cases"
    return f'style="background:{_colour(share)}"', f"{worst.error:.2g}", title


def _time(cells: Sequence[Cell]) -> tuple[str, str, str]:
    mean = sum(cell.seconds for cell in cells) / len(cells)
    slowest = max(cells, key=lambda cell: cell.seconds)
    share = (math.log10(max(mean, 1e-3)) + 3) / 4  # a millisecond is green, ten seconds are red
    title = f"{len(cells)} cases; the slowest is {slowest.case} with {slowest.seconds:.3g} s"
    return f'style="background:{_colour(share)}"', f"{mean:.2g}", title


def _legend() -> str:
    steps = (("0.001 of what is allowed, or less", 0.0), ("0.03", 0.5), ("all that is allowed", 1.0))
    spans = "".join(f'<span style="background:{_colour(share)}">{text}</span>' for text, share in steps)
    return f'<p class="legend">{spans}</p>'
