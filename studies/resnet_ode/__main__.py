"""The command: ``python -m studies.resnet_ode --quick | --full [--library L] [--device D] [--resume]``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from studies.command import Study, run_study

from . import study
from .figures import save_all
from .study import Library

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
RESULTS = Path(__file__).parents[1] / "results" / "resnet_ode"


@app.command()
def main(
    full: Annotated[bool, typer.Option("--full/--quick", help="All depths and seeds, or a minute's worth.")] = False,
    library: Annotated[Library, typer.Option(help="The array library whose stacks are measured.")] = Library.TORCH,
    device: Annotated[str, typer.Option(help="The device of PyTorch.")] = "cpu",
    resume: Annotated[bool, typer.Option(help="Reuse the finished parts of a run with the same settings.")] = False,
    out: Annotated[Path, typer.Option(help="The folder of the results.", file_okay=False)] = RESULTS,
) -> None:
    """Measure how near residual stacks are to ODEs, and what they learn without memory; fail if a claim does."""
    if find_spec(library) is None:
        raise typer.BadParameter(f"--library must be installed; got {library}. Install janode[{library}].")
    scale = study.FULL if full else study.QUICK
    made = Study(
        study.parts(scale, library, device),
        study.settings(scale, library, device),
        lambda results: study.tables(results, scale),
        lambda results: study.claims(results, scale),
        lambda folder, results: save_all(folder, results, scale),
    )
    run_study(made, resume, out / ("full" if full else "quick"))


if __name__ == "__main__":
    app(prog_name="python -m studies.resnet_ode")
