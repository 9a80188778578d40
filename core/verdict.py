"""The verdict on a trained model, as data and as text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import array_api_compat

from .protocols import Array, State
from .verdict_sizes import Sizes


@dataclass(frozen=True)
class Entry:
    """One solver of the table.

    Attributes:
        method: its name.
        factor: its size as a multiple of that of training.
        size: its step size, or its tolerance.
        metric: the metric under it; NaN if the solution is not finite.
        difference: how far the metric is from that of training, in the measure of the comparison; infinite for NaN.
        is_better: whether its error is not larger than that of the training solver, by order and size.
        num_field_evals: of one solve.
    """

    method: str
    factor: float
    size: float
    metric: float
    difference: float
    is_better: bool
    num_field_evals: int


@dataclass(frozen=True)
class Discrepancies:
    """Relative distances ||a - b|| / ||b|| of what the training solver gives from what a better one gives, b.

    Attributes:
        finer: b is the same method with half the step, or a tenth of the tolerance.
        swap: b is the method of higher order that tests it, of the same size; None if there is none.
    """

    finer: float
    swap: float | None


@dataclass(frozen=True)
class Validity:
    """What ``validate`` found.

    Attributes:
        sizes: what sizes are: step sizes, or tolerances.
        method, size: the training solver.
        metric: the metric under it.
        threshold: the largest difference of a valid model.
        entries: the table, method by method, the largest size first.
        trajectory: discrepancies of the states at all times.
        gradient: those of the gradient of the loss with respect to y0 and params, or None if it was not taken.
        critical_size: (the largest size of the table from which on down all solvers agree with the best one, the next
            larger size of the table), each None if there is none: the critical one lies between the two.
        is_valid: whether no better solver of the table differs from training by more than the threshold.
        verdict: what follows, in one line.
    """

    sizes: Sizes
    method: str
    size: float
    metric: float
    threshold: float
    entries: tuple[Entry, ...]
    trajectory: Discrepancies
    gradient: Discrepancies | None
    critical_size: tuple[float | None, float | None]
    is_valid: bool
    verdict: str

    def __str__(self) -> str:
        """The table as text, and the verdict."""
        columns, rows = self.table()
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)).rstrip() for row in (columns, *rows)]
        return "\n".join([*lines, *self.remarks(), self.verdict])

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(names of the columns, rows): the metric by size and method; better solvers that differ have a star."""
        methods = list(dict.fromkeys(entry.method for entry in self.entries))
        found = {(entry.method, entry.factor): entry for entry in self.entries}
        rows = []
        for factor in sorted({entry.factor for entry in self.entries}, reverse=True):
            cells = [found.get((method, factor)) for method in methods]
            rows.append([f"{factor * self.size:.4g}", f"{factor:.4g}", *map(self._cell, cells)])
        return [self.sizes.name, "factor", *methods], rows

    def _cell(self, entry: Entry | None) -> str:
        if entry is None:
            return ""
        is_off = entry.is_better and not entry.difference <= self.threshold
        return f"{entry.metric:.4g}{'*' if is_off else ' '}({entry.num_field_evals})"

    def remarks(self) -> list[str]:
        """The other findings, a line each."""
        lines = ["metric (field evaluations); *: a better solver that differs from training"]
        for name, found in (("trajectory", self.trajectory), ("gradient", self.gradient)):
            if found is not None:
                swap = "" if found.swap is None else f", {found.swap:.2g} by a higher order"
                lines.append(f"{name}: {found.finer:.2g} by {self.sizes.refined[1]}{swap}")
        low, high = self.critical_size
        if low is not None and high is not None:
            place = f"between {low:.4g} and {high:.4g}"
        else:
            place = "below the table" if low is None else f"above {low:.4g}, the largest in the table"
        return [*lines, f"critical {self.sizes.name}: {place}"]


def relative_distance(left: State, right: State) -> float:
    """||a - b|| / ||b|| over all leaves; 0 if both are zero."""
    # Scaled, so that squares neither overflow nor vanish.
    scale = max([_largest(leaf) for leaf in (*left, *right)], default=0.0)
    scale = scale if 0.0 < scale < math.inf else 1.0
    total = sum(_square(a - b, scale) for a, b in zip(left, right, strict=True))
    size = sum(_square(b, scale) for b in right)
    if size == 0.0:
        return 0.0 if total == 0.0 else math.inf
    return math.sqrt(total / size)


def _largest(leaf: Array) -> float:
    xp = array_api_compat.array_namespace(leaf)
    return float(xp.max(xp.abs(leaf))) if math.prod(leaf.shape) else 0.0


def _square(leaf: Array, scale: float) -> float:
    xp = array_api_compat.array_namespace(leaf)
    return float(xp.sum(xp.abs(leaf / scale) ** 2))
