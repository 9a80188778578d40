"""The command: ``python -m studies.exact_gradients --quick | --full [--library L] [--device D] [--resume]``."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.command import Device, Out, Resume, Study, check_installed, results_of, run_study, tell_left_out

from . import study
from .figures import draw_all
from .study import Library

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
RESULTS = results_of("exact_gradients")


@app.command()
def main(
    full: Annotated[bool, typer.Option("--full/--quick", help="Finer and larger, or a minute's worth.")] = False,
    library: Annotated[Library, typer.Option(help="The array library whose gradients are measured.")] = Library.TORCH,
    device: Device = "cpu",
    resume: Resume = False,
    out: Out = RESULTS,
) -> None:
    """Measure what every adjoint preset costs and how exact it is; fail if a claim does not hold."""
    check_installed(library)
    wanted = study.FULL if full else study.QUICK
    scale = study.installed(wanted)
    tell_left_out(wanted.settings, scale.settings)
    made = Study(
        study.parts(scale, library, device),
        study.settings(scale, library, device),
        lambda results: study.tables(results, scale, library),
        lambda results: study.claims(results, scale, library),
        lambda results: draw_all(results, scale),
    )
    run_study(made, resume, full, out)


if __name__ == "__main__":
    app(prog_name="python -m studies.exact_gradients")
