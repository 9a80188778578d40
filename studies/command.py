"""What the command of a study does: compute its parts, print its tables, save, and fail if a claim does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from .claims import Claim
from .parts import Part, run_parts
from .tables import Table

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A study at one scale: its parts, what they depend on, and what is made of their results."""

    parts: Sequence[Part]
    settings: Mapping[str, Any]
    tables: Callable[[Results], Sequence[Table]]
    claims: Callable[[Results], Sequence[Claim]]
    save_figures: Callable[[Path, Results], Sequence[Path]]


def run_study(study: Study, is_resumed: bool, folder: Path) -> None:
    """Compute, print and save the study; exit with 1 if a claim does not hold."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    results = run_parts(study.parts, folder / "results.json", study.settings, is_resumed, console)
    tables = study.tables(results)
    for table in tables:
        console.print(table.rich())
    (folder / "tables.md").write_text("\n".join(table.markdown() for table in tables))
    for path in [folder / "results.json", folder / "tables.md", *study.save_figures(folder, results)]:
        console.print(f"written: {path}", highlight=False, soft_wrap=True)
    claims = study.claims(results)
    broken = [claim for claim in claims if not claim.holds]
    for claim in broken:
        console.print(f"FAILED {claim.fault}", style="bold red", highlight=False, soft_wrap=True)
    console.print(f"{len(claims) - len(broken)} of {len(claims)} claims hold.")
    if broken:
        raise typer.Exit(1)
