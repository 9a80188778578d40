"""The study's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from studies.colors import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED

from . import comb, orders, study, training
from .problems import DURATION, Tanh

COLORS = {
    "none": RED,
    "filter": BLUE,
    "consistent": GREEN,
    "filter_descent": ORANGE,
    "adjoint_average": PURPLE,
    "divide": ORANGE,
    orders.MOMENTS: GREY,
}
NAMES = {"leapfrog": "leapfrog", "midpoint": "midpoint", "ralston": "Ralston", "heun2": "Heun"}


def draw_all(results: Mapping[str, Any], scale: study.Scale) -> dict[str, Figure]:
    """Every figure by its name."""
    return {
        "gradient": draw_gradient(results),
        "orders": draw_orders(results),
        "training": draw_training(results, scale.training),
        "comb": draw_comb(results, scale.comb),
    }


def draw_gradient(results: Mapping[str, Any]) -> Figure:
    """Raw and filtered gradients against time, with the exact curve."""
    figure = Figure(figsize=(11.0, 4.2), dpi=140, layout="constrained")
    fine = np.linspace(0.0, DURATION, 400)
    exact = Tanh().gradient(fine)[:, 0, 0]
    for ax, method in zip(figure.subplots(1, 3), study.CURVES, strict=True):
        curve = results[f"curve/{method}"]
        ax.plot(curve["times"], curve["none"], "o-", color=RED, markersize=3, linewidth=0.8, label="raw")
        ax.plot(fine, exact, color=INK, linewidth=2.6, label="exact")
        ax.plot(curve["times"], curve["filter"], "o", color=BLUE, markersize=3.6, label="filter", zorder=3)
        ax.set_title(f"{NAMES[method]}, N = {study.CURVE_STEPS}", fontsize=11)
        ax.set_xlabel("t")
        _tidy(ax)
    figure.axes[0].set_ylabel(r"gradient of $W_{11}(t)$ per time")
    _legend(figure, figure.axes[0].get_legend_handles_labels()[0], "The gradient of a control as a function of time")
    return figure


def draw_orders(results: Mapping[str, Any]) -> Figure:
    """Errors against the step size, one panel a method."""
    methods = list(dict.fromkeys(row.method for row in orders.ROWS))
    figure = Figure(figsize=(13.0, 6.6), dpi=140, layout="constrained")
    panels = figure.subplots(2, (len(methods) + 1) // 2, sharex=True, sharey=True, squeeze=False)
    for ax, method in zip(panels.flat, methods, strict=False):
        rows = [row for row in orders.ROWS if row.method == method]
        for row in rows:
            for problem, style in zip(orders.PROBLEMS, ("o-", "o--"), strict=True):
                result = results[orders.part_name(problem.name, row)]
                h = DURATION / np.array(result["steps"])
                color = COLORS[row.gradient]
                ax.loglog(h, result["errors"], style, color=color, markersize=2.6, linewidth=1.2)
        ax.set_title(_name(method), fontsize=11)
        _slope(ax, max(row.order for row in rows))
        _tidy(ax)
    for ax in panels[-1]:
        ax.set_xlabel("h")
    for ax in panels[:, 0]:
        ax.set_ylabel("largest relative error")
    panels[0, 0].set_ylim(1e-13, 1e3)
    words = {
        "none": "raw",
        orders.MOMENTS: "raw, moments",
        "filter": "filter",
        "consistent": "consistent",
        "filter_descent": "filter_descent (leapfrog), divide (Ralston)",
        "adjoint_average": "adjoint_average",
    }
    handles = [Line2D([], [], color=COLORS[key], linewidth=2, label=text) for key, text in words.items()]
    _legend(figure, handles, "Error of the gradient of controls (solid: affine problem, dashed: tanh)")
    return figure


def draw_training(results: Mapping[str, Any], scale: training.Scale) -> Figure:
    """The learned control, its total variation and its true loss."""
    figure = Figure(figsize=(11.0, 9.0), dpi=140, layout="constrained")
    panels = figure.subplots(3, len(training.GRADIENTS), sharex="row", sharey="row", squeeze=False)
    fine = results[training.REFERENCE]
    for (top, middle, bottom), (method, corrections) in zip(panels.T, training.GRADIENTS.items(), strict=True):
        top.set_title(NAMES[method], fontsize=11)
        for correction in corrections:
            color, size = COLORS[correction], {"none": 3.0, "filter": 4.5, "consistent": 2.0}[correction]
            curve = results[training.part_name(method, correction, scale.curve_steps)]["curve"]
            style = "o-" if correction == "none" else "o"
            top.plot(curve["times"], curve["values"][0], style, color=color, markersize=size, linewidth=0.8)
            for run, style in enumerate(("o-", "o--")):
                steps = scale.steps
                losses = training.series(results, method, correction, steps, "losses", run)
                variations = training.series(results, method, correction, steps, "variations", run)
                look: dict[str, Any] = {"color": color, "markersize": size, "linewidth": size / 2}
                middle.loglog(steps, variations, style, **look)
                bottom.loglog(steps, losses / fine["losses"][run], style, **look)
        values = np.array(fine["controls"])[:, 0, 0, 1]
        top.plot(fine["times"], values, color=INK, linewidth=0.8, zorder=3)
        for run, style in enumerate(("-", "--")):
            middle.axhline(fine["variations"][run], color=INK, linewidth=0.7, linestyle=style, zorder=3)
        bottom.axhline(1.0, color=INK, linewidth=0.7, zorder=3)
        top.set_xlabel("t")
        for ax in (middle, bottom):
            ax.set_xlabel("N")
            ax.set_xticks(scale.steps, [str(n) for n in scale.steps])
            ax.xaxis.set_minor_locator(NullLocator())
        for ax in (top, middle, bottom):
            _tidy(ax)
    panels[0, 0].set_ylabel(rf"learned $W_{{12}}(t)$, N = {scale.curve_steps}")
    panels[1, 0].set_ylabel("total variation of the learned control")
    panels[2, 0].set_ylabel("true loss / reference")
    words = {"raw": RED, "filter": BLUE, "consistent": GREEN, "reference": INK}
    handles = [Line2D([], [], color=color, linewidth=2, label=text) for text, color in words.items()]
    title = f"{scale.iterations} training steps (solid and top: gradient descent, dashed: Adam)"
    _legend(figure, handles, title)
    return figure


def draw_comb(results: Mapping[str, Any], scale: tuple[int, ...]) -> Figure:
    """The gradients of the knots, and their errors."""
    figure = Figure(figsize=(11.0, 6.6), dpi=140, layout="constrained")
    panels = figure.subplots(2, 3, sharex="row", sharey="row", height_ratios=(3, 2))
    styles = {"raw": (RED, 0.9), "chain": (ORANGE, 0.9), "function": (BLUE, 2.4)}
    for (top, bottom), method in zip(panels.T, comb.METHODS, strict=True):
        result = results[f"comb/{method}"]
        for way, (color, width) in styles.items():
            top.plot(comb.KNOTS, result[way]["curve"], color=color, linewidth=width, label=comb.WAYS[way])
            bottom.loglog(scale, result[way]["errors"], "o-", color=color, markersize=3)
        top.plot(comb.KNOTS, result["exact"], "--", color=INK, linewidth=1.2, label="exact")
        top.set_title(f"{NAMES[method]}, N = {comb.CURVE_STEPS}", fontsize=11)
        top.set_xlabel("t")
        bottom.set_xlabel("N")
        bottom.set_xticks(scale, [str(n) for n in scale], fontsize=8)
        bottom.xaxis.set_minor_locator(NullLocator())
        for ax in (top, bottom):
            _tidy(ax)
    panels[0, 0].set_ylabel(r"gradient of the knots of $W_{11}$ per time")
    panels[1, 0].set_ylabel("largest relative error")
    handles = panels[0, 0].get_legend_handles_labels()[0]
    _legend(figure, handles, f"A control on {comb.NUM_KNOTS} knots, steps that do not land on them")
    return figure


def _name(method: str) -> str:
    return NAMES.get(method, method)


def _slope(ax: Axes, order: int) -> None:
    """A line of the stated order."""
    h = np.array([DURATION / 320, DURATION / 40])
    start = {1: 3e-4, 2: 1e-7, 3: 1e-9, 4: 1e-12, 5: 3e-13}[order]
    y = start * (h / h[0]) ** order
    ax.loglog(h, y, color=INK, linewidth=1.0)
    ax.annotate(f"order {order}", (h[1], y[1]), textcoords="offset points", xytext=(4, -3), fontsize=8, color=INK)


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)


def _legend(figure: Figure, handles: list[Any], title: str) -> None:
    figure.legend(
        handles=handles, title=title, title_fontsize=12, loc="outside upper center", frameon=False, ncols=len(handles)
    )
