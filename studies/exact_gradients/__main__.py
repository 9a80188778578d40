"""The command: ``python -m studies.exact_gradients --quick | --full [--library L] [--device D] [--resume]``."""

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
RESULTS = Path(__file__).parents[1] / "results" / "exact_gradients"


@app.command()
def main(
    full: Annotated[bool, typer.Option("--full/--quick", help="Finer and larger, or a minute's worth.")] = False,
    library: Annotated[Library, typer.Option(help="The array library whose gradients are measured.")] = Library.TORCH,
    device: Annotated[str, typer.Option(help="The device, as the library calls it.")] = "cpu",
    resume: Annotated[bool, typer.Option(help="Reuse the finished parts of a run with the same settings.")] = False,
    out: Annotated[Path, typer.Option(help="The folder of the results.", file_okay=False)] = RESULTS,
) -> None:
    """Measure what every adjoint preset costs and how exact it is; fail if a claim does not hold."""
    if find_spec(library) is None:
        raise typer.BadParameter(f"--library must be installed; got {library}. Install janode[{library}].")
    wanted = study.FULL if full else study.QUICK
    scale = study.installed(wanted)
    for name in wanted.settings.keys() - scale.settings.keys():
        typer.echo(f"left out: {name}, for scikit-learn is not installed")
    made = Study(
        study.parts(scale, library, device),
        study.settings(scale, library, device),
        lambda results: study.tables(results, scale, library),
        lambda results: study.claims(results, scale, library),
        lambda folder, results: save_all(folder, results, scale),
    )
    run_study(made, resume, out / ("full" if full else "quick"))


if __name__ == "__main__":
    app(prog_name="python -m studies.exact_gradients")
