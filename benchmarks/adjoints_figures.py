"""The figures of the suite `adjoints`, made from stored results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .adjoints_theory import PRESETS
from .measure import Race, spread

MARKS = "os^vDP<>X"
APPROXIMATE = ("reconstruct", "backsolve")


def time_against_memory(races: Sequence[Race], path: Path) -> bool:
    """Draw the time of a PyTorch gradient against its peak of memory, a panel per problem; False if none was measured.

    A line joins what nothing exact beats in both: the Pareto front.
    """
    times = _by_problem(races, "gradient", "rk4")
    peaks = _by_problem(races, "memory", "rk4")
    panels = []
    for key in times.keys() & peaks.keys():
        points = {
            preset: (
                peaks[key].samples[f"janode {preset}"]["bytes"][0] / 1e6,
                1e3 * spread(times[key].samples[f"janode {preset}"]["cpu"]).median,
            )
            for preset in PRESETS
            if f"janode {preset}" in times[key].samples and f"janode {preset}" in peaks[key].samples
        }
        if len(points) > 2:
            panels.append((key, points))
    if not panels:
        return False
    figure, axes = _figure(len(panels))
    for (key, points), ax in zip(sorted(panels), axes, strict=True):
        for preset, (x, y) in points.items():
            ax.loglog(x, y, MARKS[PRESETS.index(preset)], color=f"C{PRESETS.index(preset)}", label=preset)
        exact = sorted(point for preset, point in points.items() if preset not in APPROXIMATE)
        ax.loglog(*zip(*front(exact), strict=True), "k-", linewidth=0.8, zorder=0)
        _finish(ax, f"{key[0]}, N = {key[1]}", "peak of live tensors, MB", "CPU time, ms")
    return _save(figure, axes, path)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of the sorted points that no other one is below in both coordinates."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def memory_against_steps(races: Sequence[Race], path: Path) -> bool:
    """Draw the peak of memory of a PyTorch gradient against N, a panel per problem."""
    return _against_steps(races, path, "memory", "bytes", 1e-6, PRESETS, "peak of live tensors, MB", ("rk4",))


def error_against_steps(races: Sequence[Race], path: Path) -> bool:
    """Draw the errors of the two approximate gradients against N, a panel per method."""
    methods = ("rk4, float64", "dopri5, float64", "dopri8, float64")
    return _against_steps(races, path, "error", "error", 1.0, APPROXIMATE, "relative error of the gradient", methods)


def _against_steps(
    races: Sequence[Race],
    path: Path,
    task: str,
    kind: str,
    scale: float,
    presets: Sequence[str],
    label: str,
    kinds: Sequence[str],
) -> bool:
    panels: dict[tuple[str, str], list[Race]] = {}
    for one in races:
        if (one.case.library, one.case.task) == ("torch", task) and one.case.times in kinds:
            panels.setdefault((one.case.times, one.case.problem), []).append(one)
    panels = {key: sorted(found, key=lambda one: one.case.steps) for key, found in panels.items() if len(found) > 1}
    if not panels:
        return False
    figure, axes = _figure(len(panels))
    for (key, found), ax in zip(panels.items(), axes, strict=True):
        for preset in presets:
            name, place = f"janode {preset}", PRESETS.index(preset)
            points = [(one.case.steps, scale * one.samples[name][kind][0]) for one in found if name in one.samples]
            if points:
                ax.loglog(*zip(*points, strict=True), MARKS[place] + "-", color=f"C{place}", label=preset, ms=4)
        _finish(ax, ", ".join(key), "steps N", label)
    return _save(figure, axes, path)


def _by_problem(races: Sequence[Race], task: str, method: str) -> dict[tuple[str, int], Race]:
    return {
        (one.case.problem, one.case.steps): one
        for one in races
        if (one.case.library, one.case.task, one.case.times) == ("torch", task, method)
    }


def _figure(num_panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * num_panels, 3.8), dpi=150)
    return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


def _finish(ax: Any, title: str, x: str, y: str) -> None:
    from matplotlib.ticker import NullFormatter

    ax.xaxis.set_minor_formatter(NullFormatter())  # whose labels would overlap
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(alpha=0.3)


def _save(figure: Any, axes: Sequence[Any], path: Path) -> bool:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    axes[0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return True
