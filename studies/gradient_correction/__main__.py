"""The command: ``python -m studies.gradient_correction --quick | --full [--library L] [--resume]``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from studies.parts import run_parts

from . import study
from .figures import save_all
from .gradients import Library

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
RESULTS = Path(__file__).parents[1] / "results" / "gradient_correction"


@app.command()
def main(
    full: Annotated[
        bool, typer.Option("--full/--quick", help="All step sizes and 400 training steps, or a minute's worth.")
    ] = False,
    library: Annotated[Library, typer.Option(help="The array library that solves.")] = Library.NUMPY,
    resume: Annotated[bool, typer.Option(help="Reuse the finished parts of a run with the same settings.")] = False,
    out: Annotated[Path, typer.Option(help="The folder of the results.", file_okay=False)] = RESULTS,
) -> None:
    """Measure raw and corrected gradients of time-dependent parameters, and fail if a claim does."""
    if find_spec(library) is None:
        raise typer.BadParameter(f"--library must be installed; got {library}. Install janode[{library}].")
    run(study.FULL if full else study.QUICK, library, resume, out / ("full" if full else "quick"))


def run(scale: study.Scale, library: Library, is_resumed: bool, folder: Path) -> None:
    """Compute, print and save the study; exit with 1 if a claim does not hold."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    parts, settings = study.parts(scale, library), study.settings(scale, library)
    results = run_parts(parts, folder / "results.json", settings, is_resumed, console)
    tables = study.tables(results, scale)
    for table in tables:
        console.print(table.rich())
    (folder / "tables.md").write_text("\n".join(table.markdown() for table in tables))
    for path in [folder / "results.json", folder / "tables.md", *save_all(folder, results, scale)]:
        console.print(f"written: {path}", highlight=False, soft_wrap=True)
    claims = study.claims(results, scale)
    broken = [claim for claim in claims if not claim.holds]
    for claim in broken:
        console.print(f"FAILED {claim.fault}", style="bold red", highlight=False, soft_wrap=True)
    console.print(f"{len(claims) - len(broken)} of {len(claims)} claims hold.")
    if broken:
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m studies.gradient_correction")
