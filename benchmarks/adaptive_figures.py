"""The figure of the suite `adaptive`, made from stored results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .measure import Race
from .work_precision import PAIRS

TICKS = (100, 200, 400, 800, 1600)


def work_precision(races: Sequence[Race], path: Path) -> bool:
    """Draw evaluations against error, geometric means over DETEST, one panel per pair of solvers; False if none ran."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    panels = [(pair, [race for race in races if race.case.times == pair.name]) for pair in PAIRS]
    panels = [(pair, found) for pair, found in panels if found]
    if not panels:
        return False
    figure = Figure(figsize=(4.2 * len(panels), 3.6), dpi=150)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)
    for (pair, found), ax in zip(panels, axes[0], strict=True):
        for name, style in ((f"janode {pair.method}", "o-"), (pair.peer, "s--")):
            points = [[_mean(race.samples[name][kind]) for kind in ("evaluations", "error")] for race in found]
            ax.loglog(*np.transpose(points), style, label=name)
        ax.set_xlabel("evaluations of the field")
        ax.set_xticks(TICKS, labels=list(map(str, TICKS)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    axes[0, 0].set_ylabel("largest error at the end")
    tolerances = ", ".join(race.case.problem.split()[-1] for race in panels[0][1])
    figure.suptitle(f"DETEST A1-E5, geometric means over the problems; rtol = atol = {tolerances}", fontsize=10)
    figure.tight_layout()
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return True


def _mean(samples: Sequence[float]) -> float:
    """The geometric mean."""
    return float(np.exp(np.mean(np.log(samples))))
