"""The study's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studies.colors import BLUE, GREEN, GREY, ORANGE, RED

from . import study
from .problem import KINDS

COLORS = {
    "smooth": BLUE,
    "random": ORANGE,
    "signs": RED,
    "euler": BLUE,
    "euler, predicted": RED,
    "heun": GREEN,
    "leapfrog": ORANGE,
}


def draw_all(results: Mapping[str, Any], scale: study.Scale) -> dict[str, Figure]:
    """Every figure by its name."""
    return {
        "distance": draw_distance(results, scale),
        "linear": draw_linear(results, scale),
        "gradient": draw_gradient(results, scale),
        "memory": draw_memory(results, scale),
        "digits": draw_digits(results, scale),
    }


def draw_distance(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """The distance to the ODE, its bound, and the smoothness of the weights, against depth."""
    figure = Figure(figsize=(11.0, 3.8), dpi=140, layout="constrained")
    keys = {"relative": "relative distance to the ODE", "bound": "bound on the distance",
            "smoothness": r"$N\,\max\|\theta_{n+1}-\theta_n\|$"}  # fmt: skip
    for ax, (key, label) in zip(figure.subplots(1, 3), keys.items(), strict=True):
        for kind in KINDS:
            ax.loglog(scale.depths, results[f"gap/{kind}"][key], "o-", color=COLORS[kind], markersize=4, label=kind)
        ax.set_ylabel(label)
        _tidy(ax, scale.depths)
    _slope(figure.axes[0], scale.depths, results["gap/smooth"]["relative"][-1] / 2.0, -1.0)
    figure.axes[0].legend(frameon=False, loc="center left")
    return figure


def draw_linear(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """Loss and smoothness in the course of training, and a learned weight against depth."""
    figure = Figure(figsize=(11.0, 3.8), dpi=140, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for depth, color in zip(scale.linear_depths, (BLUE, GREEN, ORANGE, RED), strict=False):
        run = results[f"linear/{depth}"]
        left.semilogy(run["times"], np.maximum(run["losses"], 1e-32), color=color, label=f"N = {depth}")
        middle.plot(run["times"], run["smoothness"], color=color)
        learned = np.array(run["weights"])
        right.plot(np.arange(depth) / depth, learned, color=color, linewidth=1.0)
    for ax, label in ((left, "loss"), (middle, r"$N\,\max\|\theta_{n+1}-\theta_n\|$"), (right, "learned entries")):
        ax.set_ylabel(label)
        ax.set_xlabel("step of gradient descent" if ax is not right else "n / N")
        ax.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    return figure


def draw_gradient(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """The error of the memory-free gradient against depth."""
    figure = Figure(figsize=(5.6, 4.2), dpi=140, layout="constrained")
    ax = figure.subplots()
    for name in study.GRADIENTS:
        errors = results[f"gradient/{name}"]["errors"]
        ax.loglog(scale.gradient_depths, errors, "o-", color=COLORS[name], markersize=4, label=name)
    ax.set_ylabel("relative error of the memory-free gradient")
    _tidy(ax, scale.gradient_depths)
    ax.legend(frameon=False)
    return figure


def draw_memory(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """Peak memory against depth."""
    figure = Figure(figsize=(5.6, 4.2), dpi=140, layout="constrained")
    ax = figure.subplots()
    for way, color in zip(study.MEMORY, (BLUE, ORANGE, GREEN, RED), strict=True):
        ax.loglog(scale.memory_depths, np.array(results[f"memory/{way}"]) / 1e6, "o-", color=color, label=way)
    ax.set_ylabel("peak memory [MB]")
    _tidy(ax, scale.memory_depths)
    ax.legend(frameon=False)
    return figure


def draw_digits(results: Mapping[str, Any], scale: study.Scale) -> Figure:
    """The training loss of both ways of fine-tuning."""
    figure = Figure(figsize=(5.6, 4.2), dpi=140, layout="constrained")
    ax = figure.subplots()
    for seed in range(scale.digits.seeds):
        for adjoint, color, style in (("backprop", RED, "o-"), ("reconstruct", BLUE, "s--")):
            losses = results[f"digits/{seed}"][adjoint]["losses"]
            label = {"backprop": "backpropagation", "reconstruct": "memory-free"}[adjoint] if not seed else None
            ax.plot(range(1, len(losses) + 1), losses, style, color=color, markersize=4, label=label)
    ax.set_xlabel("epoch of fine-tuning")
    ax.set_ylabel("training loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure


def _tidy(ax: Any, depths: tuple[int, ...]) -> None:
    ax.set_xlabel("N")
    ax.set_xticks(depths, [str(depth) for depth in depths])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.spines[["top", "right"]].set_visible(False)


def _slope(ax: Any, depths: tuple[int, ...], last: float, slope: float) -> None:
    """A dashed line of that slope that ends at ``last``."""
    line = last * (np.array(depths) / depths[-1]) ** slope
    ax.plot(depths, line, "--", color=GREY, linewidth=1.0)
    ax.annotate(f"slope {slope:g}", (depths[0], line[0] / 1.6), color=GREY, fontsize=9)
