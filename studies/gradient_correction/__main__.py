"""The command: ``python -m studies.gradient_correction --quick | --full [--library L] [--resume]``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from studies.command import Study, run_study

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
    scale = study.FULL if full else study.QUICK
    made = Study(
        study.parts(scale, library),
        study.settings(scale, library),
        lambda results: study.tables(results, scale),
        lambda results: study.claims(results, scale),
        lambda folder, results: save_all(folder, results, scale),
    )
    run_study(made, resume, out / ("full" if full else "quick"))


if __name__ == "__main__":
    app(prog_name="python -m studies.gradient_correction")
