"""What the hare-lynx fit shows: the table of all libraries side by side and the figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from examples.lynx_hare_libraries import Library, Vector
from examples.lynx_hare_model import UNKNOWNS, Counts

INK = "#1f2430"
# Each library drawn narrower and darker than the one before it, so that equal curves stay visible as nested bands.
LINES: dict[Library, dict[str, Any]] = {
    Library.NUMPY: {"color": "#f2c14e", "linewidth": 11.0},
    Library.STRICT: {"color": "#7ec4a0", "linewidth": 8.0},
    Library.TORCH: {"color": "#e4572e", "linewidth": 5.2},
    Library.JAX: {"color": "#2e5eaa", "linewidth": 2.8},
    Library.CUPY: {"color": "#1b1b1b", "linewidth": 1.0},
}

NO_DISTANCE = 1e-16  # where the figure's logarithmic axis shows a distance of zero


@dataclass(frozen=True)
class Outcome:
    """What one library did.

    `x` is its optimum, `slope` the largest entry of the gradient there, relative to that at the start; `at_start` is
    the gradient at the start, `at_end` the gradient at NumPy's optimum.
    """

    device: str
    num_iterations: int
    num_gradients: int
    milliseconds: float
    x: Vector
    loss: float
    slope: float
    at_start: Vector
    at_end: Vector

    def start_difference(self, reference: Outcome) -> float:
        """Return the largest difference between the gradients at the start, relative entry by entry."""
        return float(np.max(np.abs(self.at_start / reference.at_start - 1.0)))

    def end_difference(self, reference: Outcome) -> float:
        """Return the largest difference at NumPy's optimum, relative to the start: at the optimum the gradient is 0."""
        return float(np.max(np.abs((self.at_end - reference.at_end) / reference.at_start)))

    def optimum_difference(self, reference: Outcome) -> float:
        """Return the largest relative difference between the losses and the unknowns at the optimum."""
        return float(max(abs(self.loss / reference.loss - 1.0), np.max(np.abs(np.expm1(self.x - reference.x)))))


def make_table(outcomes: Mapping[Library, Outcome], title: str) -> Table:
    """Return the table, one column a library, so that equal numbers stand side by side."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for library in outcomes:
        table.add_column(library.replace("array_api_", ""), justify="right")
    columns, reference = outcomes.values(), outcomes[Library.NUMPY]
    table.add_row("device", *(o.device for o in columns))
    table.add_row("iterations", *(str(o.num_iterations) for o in columns))
    table.add_row("gradients", *(str(o.num_gradients) for o in columns))
    table.add_row("ms per gradient", *(f"{o.milliseconds:.3g}" for o in columns), end_section=True)
    table.add_row("final loss", *(f"{o.loss:.8f}" for o in columns))
    for i, name in enumerate(UNKNOWNS):
        table.add_row(name, *(f"{np.exp(o.x[i]):#.7g}" for o in columns), end_section=i + 1 == len(UNKNOWNS))
    table.add_row("start gradient [1]", *(f"{o.start_difference(reference):.1e}" for o in columns))
    table.add_row("end gradient [2]", *(f"{o.end_difference(reference):.1e}" for o in columns))
    table.add_row("optimum [3]", *(f"{o.optimum_difference(reference):.1e}" for o in columns))
    return table


def save_figure(path: Path, counts: Counts, times: Vector, curves: Mapping[Library, tuple[Vector, Vector]]) -> None:
    """Draw the counts and every library's fit, and below them how far each fit is from NumPy's; save as PNG."""
    figure = Figure(figsize=(9.0, 8.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    hare_axes, lynx_axes, difference_axes = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    for species, (ax, name, column) in enumerate(
        ((hare_axes, "hares", counts.hare), (lynx_axes, "lynxes", counts.lynx)),
    ):
        for library, curve in curves.items():
            ax.plot(times, curve[species], label=library, **LINES[library])
        ax.plot(counts.years, column, "o", color=INK, markersize=7, markeredgecolor="white", label="counted pelts")
        ax.set_ylabel(f"{name} (thousands)")
        ax.set_ylim(bottom=0.0)
    _draw_differences(difference_axes, times, curves)
    difference_axes.set_xlabel("year")
    difference_axes.set_xticks(np.arange(counts.years[0], counts.years[-1] + 1.0, 2.0))
    for ax in (hare_axes, lynx_axes, difference_axes):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e6e6e6", linewidth=0.7)
        ax.set_axisbelow(True)
    figure.legend(
        *hare_axes.get_legend_handles_labels(),
        title="Hares and lynxes of the Hudson's Bay Company: Lotka-Volterra, fitted by each library",
        title_fontsize=12,
        loc="outside upper center",
        frameon=False,
        ncols=len(Library) + 1,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def _draw_differences(ax: Axes, times: Vector, curves: Mapping[Library, tuple[Vector, Vector]]) -> None:
    """Draw, for each library but NumPy, the larger relative distance of its two curves from NumPy's."""
    reference = curves[Library.NUMPY]
    for library, pair in curves.items():
        if library is not Library.NUMPY:
            distance = np.max([abs(c / r - 1.0) for c, r in zip(pair, reference, strict=True)], axis=0)
            ax.semilogy(times, np.maximum(distance, NO_DISTANCE), color=LINES[library]["color"], linewidth=2.0)
    ax.set_ylabel("relative distance\nfrom NumPy's fit")
    ax.set_ylim(NO_DISTANCE / 10.0, 1e-5)
    ax.set_yticks([NO_DISTANCE, 1e-13, 1e-10, 1e-7], ["equal", "$10^{-13}$", "$10^{-10}$", "$10^{-7}$"])
