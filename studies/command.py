"""What the command of a study does: compute its parts, print its tables, save, and fail if a claim does not hold."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from .claims import Claim
from .parts import Part, run_parts
from .tables import Table

Results = Mapping[str, Any]
Device = Annotated[str, typer.Option(help="The device, as the library calls it.")]
Resume = Annotated[bool, typer.Option(help="Reuse the finished parts of a run with the same settings.")]
Out = Annotated[Path, typer.Option(help="The folder of the results.", file_okay=False)]


def check_installed(library: str) -> None:
    """Refuse a library that is not there."""
    if find_spec(library) is None:
        raise typer.BadParameter(f"--library must be installed; got {library}. Install janode[{library}].")


def tell_left_out(wanted: Iterable[str], scale: Container[str]) -> None:
    """Say which of the wanted problems are not in the scale."""
    for name in wanted:
        if name not in scale:
            typer.echo(f"left out: {name}, for scikit-learn is not installed")


def results_of(study: str) -> Path:
    """The folder of a study's results, unless another is given."""
    return Path(__file__).parent / "results" / study


@dataclass(frozen=True)
class Study:
    """A study at one scale: its parts, what they depend on, and what is made of their results."""

    parts: Sequence[Part]
    settings: Mapping[str, Any]
    tables: Callable[[Results], Sequence[Table]]
    claims: Callable[[Results], Sequence[Claim]]
    figures: Callable[[Results], Mapping[str, Figure]]


def run_study(study: Study, is_resumed: bool, is_full: bool, out: Path) -> None:
    """Compute, print and save the study in the folder of its scale; exit with 1 if a claim does not hold."""
    folder = out / ("full" if is_full else "quick")
    console = Console()
    if not console.is_terminal:
        console.width = 160
    results = run_parts(study.parts, folder / "results.json", study.settings, is_resumed, console)
    tables = study.tables(results)
    for table in tables:
        console.print(table.rich())
    (folder / "tables.md").write_text("\n".join(table.markdown() for table in tables))
    for path in [folder / "results.json", folder / "tables.md", *_save(folder, study.figures(results))]:
        console.print(f"written: {path}", highlight=False, soft_wrap=True)
    claims = study.claims(results)
    broken = [claim for claim in claims if not claim.holds]
    for claim in broken:
        console.print(f"FAILED {claim.fault}", style="bold red", highlight=False, soft_wrap=True)
    console.print(f"{len(claims) - len(broken)} of {len(claims)} claims hold.")
    if broken:
        raise typer.Exit(1)


def _save(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Save every figure as PNG; return the paths."""
    paths = []
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], format="png", metadata={"Software": None})
    return paths
