"""The parts of a study: computed one after the other, each kept as soon as it is finished, and found again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Tick = Callable[[], None]
"""Says that one of a part's ticks has passed."""


@dataclass(frozen=True)
class Part:
    """A piece of a study; ``compute`` gets the results of the parts before it and returns its own, as plain data."""

    name: str
    ticks: int
    compute: Callable[[Mapping[str, Any], Tick], Any]


def run_parts(
    parts: Sequence[Part], path: Path, settings: Mapping[str, Any], is_resumed: bool, console: Console
) -> dict[str, Any]:
    """Compute all parts, with a bar of their progress, and save each in a JSON file when it is finished.

    Args:
        parts: what to compute; names differ.
        path: the file.
        settings: what the results depend on, as plain data; kept in the file.
        is_resumed: take parts from the file instead of computing them, if it was written with the same settings.
        console: where the bar is drawn.

    Returns:
        The result of each part by its name, as the file has it.
    """
    found = _read(path, settings) if is_resumed else {}
    done = {part.name: found[part.name] for part in parts if part.name in found}
    columns = (
        TextColumn("{task.description:<40}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=sum(part.ticks for part in parts))
        for part in parts:
            progress.update(task, description=part.name)
            if part.name in done:
                progress.advance(task, part.ticks)
            else:
                done[part.name] = shortened(part.compute(done, lambda: progress.advance(task)))
                _write(path, settings, done)
        progress.update(task, description="done")
    results = {part.name: done[part.name] for part in parts}
    _write(path, settings, results)
    return results


def shortened(data: Any) -> Any:
    """Plain data with floats of 7 significant digits: enough for every claim, table and figure."""
    if isinstance(data, dict):
        return {key: shortened(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [shortened(value) for value in data]
    return float(f"{data:.7g}") if isinstance(data, float) else data


def _read(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    return stored["parts"] if stored["settings"] == json.loads(json.dumps(settings)) else {}


def _write(path: Path, settings: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Save as JSON, one part a line; an interrupted write leaves the file before it."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(result)}" for name, result in results.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(f'{{"settings": {json.dumps(settings)},\n "parts": {{\n{lines}\n}}}}\n')
    draft.replace(path)
