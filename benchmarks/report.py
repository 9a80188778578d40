"""The races as tables: for the terminal, for the manual, for the README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.table import Table as RichTable

from .measure import Case, Race, Spread, ratio, spread


class Verdict(NamedTuple):
    """A measured ratio beside its target; no limit where it stands for comparison alone."""

    text: str
    case: Case
    value: Spread
    limit: float | None

    @property
    def is_met(self) -> bool:
        """Whether the median is at most the limit."""
        return self.limit is None or self.value.median <= self.limit


class Table(NamedTuple):
    """Cells of text; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """The table in Markdown, under its title."""
        rule = ("---", *("--:" for _ in self.header[1:]))
        lines = ["| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows)]
        lines[0] = lines[0].replace("\n", "<br>")
        return "\n".join([f"**{self.title}**", "", *lines, ""])

    def rich(self) -> RichTable:
        """The table for the terminal."""
        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for i, name in enumerate(self.header):
            table.add_column(name, justify="right" if i else "left")
        for row in self.rows:
            table.add_row(*row, style="bold red" if row[-1] == "no" else None)
        return table


def verdict_table(verdicts: Sequence[Verdict], title: str) -> Table:
    """All verdicts, misses included."""
    rows = []
    for verdict in verdicts:
        text, case, value, limit = verdict
        where = f"{case.library}, {case.task}, {text}"
        is_even = value.low == value.high
        measured = f"{value.median:.3g}" if is_even else f"{value.median:.3g} [{value.low:.3g}, {value.high:.3g}]"
        target = ("", "") if limit is None else (f"<= {limit:g}", "yes" if verdict.is_met else "no")
        steps = f"{case.steps}{', every' if 'every' in case.times else ''}" if case.steps else ""
        rows.append((where, case.problem, steps, measured, *target))
    return Table(title, ("ratio", "field", "N", "measured", "target", "met"), rows)


UNITS = {
    "forward": "ms",
    "gradient": "ms",
    "compile": "s",
    "memory": "kB",
    "import": "ms",
    "evaluations": "evaluations",
    "VJPs": "VJPs",
    "passes": "passes",
    "error": "relative",
    "hessian": "relative",
}
SCALES = {"ms": 1e3, "s": 1.0, "kB": 1e-3}
"""Of what is stored in another unit."""
RELATIVE = ("forward", "gradient", "import", "evaluations", "VJPs", "passes")


def race_tables(races: Sequence[Race], measure: str) -> Iterator[Table]:
    """One table for all races that differ in nothing but the problem and the number of steps."""
    kinds = {(race.case.library, race.case.task, race.case.times): None for race in races}
    for kind in kinds:
        group = [race for race in races if (race.case.library, race.case.task, race.case.times) == kind]
        library, task, times = kind
        unit = UNITS[task]
        scale = SCALES.get(unit, 1.0)
        is_relative = task in RELATIVE
        first = next(iter(group[0].samples))
        title = ", ".join(part for part in (library, task, times) if part) + f" [{unit}]"
        title += f" (times `{first}`)" if is_relative else ""
        header = tuple(_heading(race.case) for race in group)
        has_differences = any(race.differences for race in group)
        rows = []
        for name in {name: None for race in group for name in race.samples}:
            cells = [_cell(race, name, first if is_relative else None, measure, scale) for race in group]
            off = [race.differences[name] for race in group if name in race.differences]
            rows.append((name, *cells, *([f"{max(off):.0e}" if off else ""] if has_differences else [])))
        yield Table(title, ("", *header, *(["differs by"] if has_differences else [])), rows)


def _heading(case: Case) -> str:
    steps = [f"N = {case.steps}"] if case.steps else []
    return "\n".join([*case.problem.split(", "), *steps])


def _cell(race: Race, name: str, first: str | None, measure: str, scale: float) -> str:
    if name not in race.samples:
        return ""
    kind = measure if measure in race.samples[name] else next(iter(race.samples[name]))
    median = spread(race.samples[name][kind]).median * scale
    cell = f"{median:.0f}" if median >= 1000 else f"{median:.3g}"
    return cell if first in (None, name) else f"{cell} ({ratio(race, name, first, kind).median:.2f})"


def machine_line(result: dict[str, Any]) -> str:
    """One sentence on where, when and with which versions."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number)
    return (
        f"Measured on {machine['date'][:10]} at commit {machine['commit'][:12]}{_changes(machine['commit'])}, "
        f"{machine['cpu']} ({machine['cores']} cores, {machine['platform']}), load average "
        f"{machine['load_average'][0]} before and {result['load_average_after'][0]} after; device {result['device']}; "
        f"Python {machine['python']}, {versions}."
    )


def _changes(commit: str) -> str:
    return " with uncommitted changes" if commit.endswith("changes") else ""
