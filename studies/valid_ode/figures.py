"""The study's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studies.colors import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED

from . import monitored, search, study

LINES = {
    search.TRAINED: (INK, "training solver"),
    "euler x 2": (ORANGE, "Euler, twice the step"),
    "euler x 0.5": (RED, "Euler, half the step"),
    "midpoint x 1": (BLUE, "midpoint, same step"),
    "rk4 x 1": (PURPLE, "rk4, same step"),
    search.ODE: (GREEN, "the ODE (rk4, 64 steps)"),
}
SEEDS = (BLUE, RED, GREEN, ORANGE, PURPLE)


def draw_all(results: Mapping[str, Any], scale: study.Scale) -> dict[str, Figure]:
    """Every figure by its name."""
    return {"drop": draw_drops(results, scale), "monitor": draw_monitors(results, scale)}


def draw_drops(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """Accuracy by test solver against the number of steps of training, a panel for each problem."""
    figure, panels = _panels(list(scale.training))
    for ax, name in panels:
        for solver, (color, text) in LINES.items():
            steps, values = study.series(results, name, solver)
            is_training = solver == search.TRAINED
            ax.plot(steps, values, "s-" if is_training else "o-", color=color, markersize=4, linewidth=1.4, label=text)
        ax.set_xscale("log", base=2)
        ax.set_title(study.TITLES[name], fontsize=11)
        ax.set_xlabel("steps of training")
        _tidy(ax)
    figure.axes[0].set_ylabel("accuracy, mean of all seeds")
    handles = figure.axes[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    figure.suptitle("A model trained with few steps is a network tied to its solver", fontsize=12, color=INK)
    return figure


def draw_monitors(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """The sizes that the monitors choose against the iteration, a line for each seed."""
    shown = [
        (name, kind)
        for name in scale.training
        for kind in ("monitor", "tolerance")
        if monitored.found(results, name, kind)
    ]
    figure, panels = _panels(shown)
    for ax, (name, kind) in panels:
        own = scale.monitored[name]
        interval = own.interval if kind == "monitor" else own.tol_interval
        for run, part in enumerate(monitored.found(results, name, kind)):
            sizes = part["sizes"]
            iterations = [interval * k for k in range(len(sizes))]
            ax.step(iterations, sizes, where="post", color=SEEDS[run % len(SEEDS)], linewidth=1.4, label=f"seed {run}")
        critical = search.critical_steps(results, name)
        if kind == "monitor" and critical is not None:
            ax.axhline(1 / critical, color=GREY, linestyle="--", linewidth=1.2, label="best fixed step")
        ax.set_yscale("log")
        ax.set_title(study.TITLES[name], fontsize=11)
        ax.set_xlabel("iteration")
        ax.set_ylabel("step size" if kind == "monitor" else "tolerance")
        ax.legend(fontsize=8, frameon=False)
        _tidy(ax)
    figure.suptitle("What the monitors choose", fontsize=12, color=INK)
    return figure


def _panels(shown: list[Any]) -> tuple[Figure, list[tuple[Axes, Any]]]:
    figure = Figure(figsize=(4.3 * len(shown), 4.2), dpi=140, layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    return figure, list(zip(axes, shown, strict=True))


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.93", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())
