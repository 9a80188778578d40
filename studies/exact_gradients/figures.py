"""The study's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from studies.colors import BLUE, GREEN, ORANGE, RED

from . import comparisons, study
from .solvers import DOUBLE_SUMS, PRESETS

COLORS = {"dopri5": BLUE, "dopri8": RED, "rk4": GREEN}
LINES = {"symplectic": BLUE, DOUBLE_SUMS: GREEN, "backsolve": RED, "aca": ORANGE, "backprop": GREEN}
STYLES = dict(zip(comparisons.SIZES, ("o-", "s--", "^:"), strict=True))


def draw_all(results: Mapping[str, Any], scale: study.Scale) -> dict[str, Figure]:
    """Every figure by its name."""
    return {
        "presets": draw_presets(results, scale),
        "precision": draw_precision(results, scale),
        "float32": draw_rounding(results, scale),
        "growth": draw_growth(results, scale),
    }


def draw_presets(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """Peak memory and time of every preset, a column for each problem."""
    names, places = list(scale.settings), np.arange(len(PRESETS))
    figure = Figure(figsize=(3.8 * len(names), 6.4), dpi=140, layout="constrained")
    panels = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey="row")
    for column, name in zip(panels.T, names, strict=True):
        column[0].set_title(study.TITLES[name], fontsize=10)
        for shift, method in enumerate(study.METHODS):
            entries = [results[f"{name}/{method}"][preset] for preset in PRESETS]
            where = places + 0.26 * (shift - 1)
            column[0].bar(where, [entry["bytes"] / 1e6 for entry in entries], 0.24, color=COLORS[method], label=method)
            column[1].bar(where, [entry["times"] for entry in entries], 0.24, color=COLORS[method])
        column[0].set_yscale("log")
        column[1].set_xticks(places, PRESETS, rotation=60, ha="right", fontsize=8)
    panels[0, 0].set_ylabel("peak memory [MB]")
    panels[1, 0].set_ylabel("time, of backpropagation's")
    panels[0, -1].legend(frameon=False, fontsize=8)
    return _tidy(figure)


def draw_precision(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """The error of the gradient against the time it takes: that against backpropagation, and that of the continuous."""
    figure, panels = _row(list(scale.settings))
    for ax, name in panels:
        for rival in comparisons.RIVALS:
            found = results[f"{name}/precision"][rival]
            for kind, style in (("errors", "o-"), ("distances", "s--")):
                label = f"{rival}, {'against backprop' if kind == 'errors' else 'against the continuous problem'}"
                ax.loglog(1e3 * np.array(found["seconds"]), np.maximum(found[kind], 1e-17), style,
                          color=LINES[rival], markersize=4, linewidth=1.2, label=label)  # fmt: skip
        ax.set_xlabel("time [ms]")
    figure.axes[0].set_ylabel("relative error of the gradient")
    figure.legend(handles=figure.axes[0].get_legend_handles_labels()[0], loc="outside lower center", ncols=2,
                  fontsize=8.5, frameon=False)  # fmt: skip
    return _tidy(figure)


def draw_rounding(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """The error of gradients in float32 against the number of steps."""
    figure, panels = _row(list(scale.settings))
    for ax, name in panels:
        steps = scale.settings[name].single_steps
        for rival in comparisons.SINGLE:
            ax.loglog(steps, results[f"{name}/float32"][rival], "o-", color=LINES[rival], markersize=4, label=rival)
        ax.set_xlabel("steps")
        ax.set_xticks(steps, [str(count) for count in steps])
        ax.minorticks_off()
    figure.axes[0].set_ylabel("error in float32")
    figure.axes[0].legend(frameon=False, fontsize=8.5)
    return _tidy(figure)


def draw_growth(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """Peak memory against the number of steps."""
    figure = Figure(figsize=(5.6, 5.0), dpi=140, layout="constrained")
    ax = figure.subplots()
    for size, style in STYLES.items():
        for name in comparisons.GROWN:
            peaks = np.array(results["growth"][size][name]) / 1e6
            label = f"{name}, {size}" if style == "o-" or name == comparisons.GROWN[0] else None
            ax.loglog(scale.growth_steps, peaks, style, color=LINES[name], markersize=4, linewidth=1.2, label=label)
    ax.set_xlabel("steps")
    ax.set_ylabel("peak memory [MB]")
    ax.set_xticks(scale.growth_steps, [str(count) for count in scale.growth_steps])
    ax.minorticks_off()
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _tidy(figure)


def _row(names: Sequence[str]) -> tuple[Figure, list[tuple[Any, str]]]:
    figure = Figure(figsize=(3.8 * len(names), 3.6), dpi=140, layout="constrained")
    panels = list(zip(figure.subplots(1, len(names), squeeze=False, sharey=True)[0], names, strict=True))
    for ax, name in panels:
        ax.set_title(study.TITLES[name], fontsize=10)
    return figure, panels


def _tidy(figure: Figure) -> Figure:
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure
