"""Tables of a study: the same for the terminal and for a Markdown file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table as RichTable

from .claims import Claim


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> RichTable:
        """The table for the terminal; columns of numbers are flush right."""
        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name, cells in zip(self.columns, zip(*self.rows, strict=True), strict=True):
            table.add_column(name, justify="right" if _are_numbers(cells) else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """The table in Markdown."""
        marks = ["---:" if _are_numbers(cells) else "---" for cells in zip(*self.rows, strict=True)]
        lines = [" | ".join(row) for row in (self.columns, marks, *self.rows)]
        return f"### {self.title}\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"


def claims_table(claims: Sequence[Claim]) -> Table:
    """All claims, with what was measured."""
    rows = [[claim.name, f"{claim.value:.4g}", claim.rule, "holds" if claim.holds else "FAILS"] for claim in claims]
    return Table("Claims", ("claim", "measured", "must be", ""), rows)


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(cell[:1] in "-0123456789" for cell in cells)
