"""The command: `python -m benchmarks --suite fixed [--json F] [--library L] [--main | --quick]`, or `--render`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .machine import ROOT, facts
from .measure import Race
from .page import PAGE, RESULTS, fill_readme, page, tables
from .suites import find_suite
from .worker import launch

app = typer.Typer(add_completion=False)


def measure(suite_name: str, libraries: list[str], scale: str, device: str) -> dict[str, Any]:
    """Run a suite, one process per library, and return all of it as plain data."""
    result: dict[str, Any] = {"suite": suite_name, "scale": scale, "device": device, "machine": facts()}
    found = {library: launch(suite_name, library, scale, device) for library in libraries}
    result["load_average_after"] = [round(load, 2) for load in os.getloadavg()]
    result["absent"] = {name: reason for one in found.values() for name, reason in one["absent"].items()}
    result["races"] = [race for one in found.values() for race in one["races"]]
    return result


def write(result: dict[str, Any], path: Path) -> None:
    """Save as JSON, one race a line."""
    races = ",\n".join(json.dumps(Race.from_json(race).as_json()) for race in result["races"])
    head = json.dumps({name: value for name, value in result.items() if name != "races"}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head[:-2]},\n "races": [\n{races}\n]}}\n')


@app.command()
def main(
    suite: Annotated[str, typer.Option(help="Which suite to run.")] = "fixed",
    out: Annotated[Path | None, typer.Option("--json", help="Where to save all samples, as JSON.")] = None,
    library: Annotated[list[str] | None, typer.Option(help="Measure only this library; repeatable.")] = None,
    main_field: Annotated[bool, typer.Option("--main", help="Measure only the field of the targets.")] = False,
    quick: Annotated[bool, typer.Option(help="Measure little, in a minute: no result to quote.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    render: Annotated[bool, typer.Option(help="Write the pages from the stored results instead of measuring.")] = False,
) -> None:
    """Compare janode with its peers, side by side in one process per library."""
    console = Console()
    if not console.is_terminal:
        console.width = 140
    if render:
        results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
        PAGE.write_text(page(results))
        console.print(f"written: {PAGE.relative_to(ROOT)}")
        for result in results:
            races = [Race.from_json(race) for race in result["races"]]
            for name, draw in find_suite(result["suite"]).figures().items():
                figure = RESULTS / f"{result['suite']}-{name}.png"
                if draw(races, figure):
                    console.print(f"written: {figure.relative_to(ROOT)}")
        console.print(fill_readme(results), markup=False, highlight=False)
        return
    known = find_suite(suite).LIBRARIES
    for name in library or ():
        if name not in known:
            raise typer.BadParameter(f"--library must be one of {', '.join(known)}; got {name}.")
    scale = "quick" if quick else "main" if main_field else "full"
    result = measure(suite, list(library or known), scale, device)
    if out is not None:  # before anything else may fail: what was measured is not lost
        write(result, out)
        console.print(f"samples: {out}", highlight=False)
    for table in tables(result):
        console.print(table.rich())
    for name, reason in result["absent"].items():
        console.print(f"absent: {name} ({reason})", highlight=False)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
