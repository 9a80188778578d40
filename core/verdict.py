"""The verdict on a trained model: is it an ODE, or does what it computes depend on the solver it was trained with?

It is an ODE as far as its metric is the same under every solver whose error is not larger than that of training.

Source: Ott, Katiyar, Hennig, Tiemann 2021, arXiv 2007.15386; the discrepancies of trajectories and gradients are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import array_api_compat

from .errors import InputError
from .knots import Knots
from .methods import find_method
from .protocols import Array, State
from .validity_checks import AnyMethod
from .validity_metrics import Comparison, summary
from .validity_pairs import paired_steps

RESOLVED = 0.1
"""Where halving the step changes the states by more, relatively, they are not those of the ODE."""


class Run(NamedTuple):
    """One solve of the model: its states as a pytree and as leaves, its gradient if asked for, and what it cost."""

    ys: Any
    leaves: State
    gradient: State | None
    num_field_evals: int


Solve = Callable[[AnyMethod, float, bool], Run]
"""``solve(method, step_size, with_gradient)``."""


@dataclass(frozen=True)
class Entry:
    """One solver of the table.

    Attributes:
        method: its name.
        factor: its step size as a multiple of that of training.
        step: its step size.
        metric: the metric under it; NaN if the solution is not finite.
        difference: how far the metric is from that of training, in the measure of the comparison; infinite for NaN.
        is_better: whether its error is not larger than that of the training solver, by order and step size.
        num_field_evals: of one solve.
    """

    method: str
    factor: float
    step: float
    metric: float
    difference: float
    is_better: bool
    num_field_evals: int


@dataclass(frozen=True)
class Discrepancies:
    """Relative distances ||a - b|| / ||b|| of what the training solver gives from what a better one gives, b.

    Attributes:
        halving: b is the same method with half the step.
        swap: b is the method of higher order that tests it, with the same step.
    """

    halving: float
    swap: float


@dataclass(frozen=True)
class Validity:
    """What ``validate`` found.

    Attributes:
        method, step: the training solver.
        metric: the metric under it.
        threshold: the largest difference of a valid model.
        entries: the table, method by method, the largest step first.
        trajectory: discrepancies of the states at all times.
        gradient: those of the gradient of the loss with respect to y0 and params, or None if it was not taken.
        critical_step: (the largest step of the table from which on down all solvers agree with the best one, the next
            larger step of the table), each None if there is none: the critical step lies between the two.
        is_valid: whether no better solver of the table differs from training by more than the threshold.
        verdict: what follows, in one line.
    """

    method: str
    step: float
    metric: float
    threshold: float
    entries: tuple[Entry, ...]
    trajectory: Discrepancies
    gradient: Discrepancies | None
    critical_step: tuple[float | None, float | None]
    is_valid: bool
    verdict: str

    def __str__(self) -> str:
        """The table as text, and the verdict."""
        columns, rows = self.table()
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)).rstrip() for row in (columns, *rows)]
        return "\n".join([*lines, *self.remarks(), self.verdict])

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(names of the columns, rows): the metric by step and method; better solvers that differ have a star."""
        methods = list(dict.fromkeys(entry.method for entry in self.entries))
        found = {(entry.method, entry.factor): entry for entry in self.entries}
        rows = []
        for factor in sorted({entry.factor for entry in self.entries}, reverse=True):
            cells = [found.get((method, factor)) for method in methods]
            rows.append([f"{factor * self.step:.4g}", f"{factor:.4g}", *map(self._cell, cells)])
        return ["step", "factor", *methods], rows

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
                lines.append(f"{name}: {found.halving:.2g} by halving the step, {found.swap:.2g} by a higher order")
        low, high = self.critical_step
        if low is not None and high is not None:
            lines.append(f"critical step: between {low:.4g} and {high:.4g}")
        elif low is not None:
            lines.append(f"critical step: above {low:.4g}, the largest in the table")
        else:
            lines.append("critical step: below the table")
        return lines


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


def chain(method: AnyMethod, step: float, duration: float) -> list[AnyMethod]:
    """The method, the one that tests it, and the one that tests that."""
    methods = [method]
    for _ in range(2):
        following = paired_steps(methods[-1], step, duration)[0]
        if find_method(following).name == find_method(methods[-1]).name:
            break
        methods.append(following)
    return methods


class _Solved(NamedTuple):
    """One solver of the table: its metric, None where the solution is not finite; its run, if it is compared."""

    metric: Any
    run: Run | None
    num_field_evals: int


Place = tuple[str, float]
"""A solver of the table: method and step factor."""


def judge(
    solve: Solve,
    metric: Callable[[Any], Any],
    trained_with: tuple[AnyMethod, float],
    times: Sequence[float],
    controls: Any,
    methods: Sequence[AnyMethod] | None,
    factors: Sequence[float],
    threshold: float,
    comparison: Comparison,
    with_gradient: bool,
) -> Validity:
    """The verdict, from solves of the model; each solver is run once."""
    duration = abs(times[-1] - times[0])
    given, step = check_arguments(trained_with, factors, threshold, duration)
    if not (controls is None or isinstance(controls, Knots)):
        raise InputError(
            f"validate: controls must be Knots, which suit any steps; got {type(controls).__name__}. Values at the "
            "nodes of one solver's steps fit no other solver: put them on Knots."
        )
    training = find_method(given)
    tests = [find_method(one) for one in (chain(given, step, duration) if methods is None else methods)]
    tests = [training, *(one for one in tests if one.name != training.name)]
    sizes = sorted({1.0, 0.5, *(float(factor) for factor in factors)}, reverse=True)
    sizes = [size for size in sizes if size * step <= duration * (1 + 1e-9)]
    higher = next((one for one in tests if one.order > training.order), training)
    compared = ((training.name, 1.0), (training.name, 0.5), (higher.name, 1.0))
    solved: dict[Place, _Solved] = {}
    for one, size in product(tests, sizes):
        place = one.name, size
        run = solve(one, size * step, with_gradient and place in compared)
        found = _read(metric, run, comparison, place)
        solved[place] = _Solved(found, run if place in compared else None, run.num_field_evals)
    reference = solved[compared[0]].metric
    if reference is None:
        raise InputError(
            "validate: the solution must be finite under the training solver; got infinite or NaN states with "
            f"{training.name!r} and step {step:g}. Check the model and trained_with."
        )

    def gap(value: Any, other: Any) -> float:
        return math.inf if value is None or other is None else comparison.gap("validate", value, other).value

    entries = []
    for one, size in product(tests, sizes):
        value, _, cost = solved[one.name, size]
        is_better = size <= 1.0 and one.order >= training.order
        entries.append(Entry(one.name, size, size * step, _shown(value), gap(reference, value), is_better, cost))
    worst = max((entry for entry in entries if entry.is_better), key=lambda entry: entry.difference)
    best = solved[max(tests, key=lambda one: one.order).name, sizes[-1]].metric
    flat = [all(gap(solved[one.name, size].metric, best) <= threshold for one in tests) for size in sizes]
    runs = [kept for place in compared if (kept := solved[place].run) is not None]
    trajectory = _discrepancies([run.leaves for run in runs])
    gradients = [run.gradient for run in runs if run.gradient is not None]
    return Validity(
        training.name,
        step,
        _shown(reference),
        threshold,
        tuple(entries),
        trajectory,
        _discrepancies(gradients) if with_gradient else None,
        _critical([size * step for size in sizes], flat),
        worst.difference <= threshold,
        _verdict(training.name, step, _shown(reference), worst, threshold, trajectory.halving),
    )


def check_arguments(
    trained_with: tuple[AnyMethod, float], factors: Sequence[float], threshold: float, duration: float
) -> tuple[AnyMethod, float]:
    """(method, step) of training, checked."""
    is_pair = isinstance(trained_with, tuple | list) and len(trained_with) == 2
    step = trained_with[1] if is_pair else None
    if not isinstance(step, float | int) or not 0.0 < step <= duration * (1 + 1e-9):
        raise InputError(
            f"validate: trained_with must be (method, step size), the step size in (0, {duration:g}]; got "
            f'{trained_with!r}. Give for example ("euler", 0.1); for adaptive steps the mean length of those accepted, '
            "or keep the tolerance valid in training with a ToleranceMonitor."
        )
    for factor in factors:
        if not 0.0 < factor < math.inf:
            raise InputError(
                f"validate: factors must be positive finite numbers; got {factor!r}. They multiply the step size."
            )
    if not 0.0 < threshold < math.inf:
        raise InputError(f"validate: threshold must be a positive number; got {threshold!r}. 0.1 is the paper's.")
    return trained_with[0], float(step)


def _read(metric: Callable[[Any], Any], run: Run, comparison: Comparison, place: Place) -> Any:
    """The metric of a solve, None where the solution is not finite."""
    for leaf in run.leaves:
        xp = array_api_compat.array_namespace(leaf)
        if not bool(xp.all(xp.isfinite(leaf))):
            return None
    return comparison.read("validate", metric(run.ys), f"{place[0]!r} with step factor {place[1]:g}")


def _shown(metric: Any) -> float:
    """The metric as a number: its mean over samples, NaN where there is none."""
    number = None if metric is None else summary(metric)
    return math.nan if number is None else number


def _discrepancies(found: Sequence[State]) -> Discrepancies:
    """From what the training solver gives, the one with half the step, the one of higher order."""
    first, halved, swapped = found
    return Discrepancies(relative_distance(first, halved), relative_distance(first, swapped))


def _critical(steps: Sequence[float], flat: Sequence[bool]) -> tuple[float | None, float | None]:
    """The neighbouring steps between which the table stops being flat, seen from the smallest, which is the last."""
    low = None
    for step, is_flat in zip(reversed(steps), reversed(flat), strict=True):
        if not is_flat:
            return low, step
        low = step
    return low, None


def _verdict(method: str, step: float, metric: float, worst: Entry, threshold: float, change: float) -> str:
    if worst.difference <= threshold:
        found = f"no better solver changes its metric {metric:.4g} by more than {worst.difference:.2g}"
        if change <= RESOLVED:
            return f"An ODE: {found}."
        doubt = f"but its states change by {change:.2g} as the step is halved"
        return f"An ODE as far as its metric shows: {found}; {doubt}."
    found = "its solution is no longer finite" if math.isnan(worst.metric) else f"it is {worst.metric:.4g}"
    return (
        f"Not an ODE, but a network tied to {method!r} with step {step:.4g}: its metric is {metric:.4g} there, and "
        f"with {worst.method!r} and step {worst.step:.4g} {found}."
    )
