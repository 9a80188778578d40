"""The command: ``python -m studies.valid_ode --quick | --full [--library L] [--device D] [--resume]``."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.command import Device, Out, Resume, Study, check_installed, results_of, run_study, tell_left_out

from . import study
from .figures import draw_all
from .trainers import Library

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
RESULTS = results_of("valid_ode")


@app.command()
def main(
    full: Annotated[bool, typer.Option("--full/--quick", help="The paper's training, or a minute's worth.")] = False,
    library: Annotated[Library, typer.Option(help="The array library that trains.")] = Library.TORCH,
    device: Device = "cpu",
    resume: Resume = False,
    out: Out = RESULTS,
) -> None:
    """Train neural ODEs with coarse, fine and monitored steps, and test them with better solvers."""
    check_installed(library)
    wanted = study.FULL if full else study.QUICK
    scale = study.installed(wanted)
    tell_left_out(wanted.training, scale.training)
    made = Study(
        study.parts(scale, library, device),
        study.settings(scale, library, device),
        lambda results: study.tables(results, scale),
        lambda results: study.claims(results, scale),
        lambda results: draw_all(results, scale),
    )
    run_study(made, resume, full, out)


if __name__ == "__main__":
    app(prog_name="python -m studies.valid_ode")
