"""The command: ``python -m studies.gradient_correction --quick | --full [--library L] [--resume]``."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.command import Out, Resume, Study, check_installed, results_of, run_study

from . import study
from .figures import draw_all
from .gradients import Library

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
RESULTS = results_of("gradient_correction")


@app.command()
def main(
    full: Annotated[
        bool, typer.Option("--full/--quick", help="All step sizes and 400 training steps, or a minute's worth.")
    ] = False,
    library: Annotated[Library, typer.Option(help="The array library that solves.")] = Library.NUMPY,
    resume: Resume = False,
    out: Out = RESULTS,
) -> None:
    """Measure raw and corrected gradients of time-dependent parameters, and fail if a claim does."""
    check_installed(library)
    scale = study.FULL if full else study.QUICK
    made = Study(
        study.parts(scale, library),
        study.settings(scale, library),
        lambda results: study.tables(results, scale),
        lambda results: study.claims(results, scale),
        lambda results: draw_all(results, scale),
    )
    run_study(made, resume, full, out)


if __name__ == "__main__":
    app(prog_name="python -m studies.gradient_correction")
