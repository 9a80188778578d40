"""The command: ``python -m studies.resnet_ode --quick | --full [--library L] [--device D] [--resume]``."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.command import Out, Resume, Study, check_installed, results_of, run_study

from . import study
from .figures import draw_all
from .study import Library

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
RESULTS = results_of("resnet_ode")


@app.command()
def main(
    full: Annotated[bool, typer.Option("--full/--quick", help="All depths and seeds, or a minute's worth.")] = False,
    library: Annotated[Library, typer.Option(help="The array library whose stacks are measured.")] = Library.TORCH,
    device: Annotated[str, typer.Option(help="The device of PyTorch.")] = "cpu",
    resume: Resume = False,
    out: Out = RESULTS,
) -> None:
    """Measure how near residual stacks are to ODEs, and what they learn without memory; fail if a claim does."""
    check_installed(library)
    scale = study.FULL if full else study.QUICK
    made = Study(
        study.parts(scale, library, device),
        study.settings(scale, library, device),
        lambda results: study.tables(results, scale),
        lambda results: study.claims(results, scale),
        lambda results: draw_all(results, scale),
    )
    run_study(made, resume, full, out)


if __name__ == "__main__":
    app(prog_name="python -m studies.resnet_ode")
