"""The verdict on a trained model: is it an ODE, or does what it computes depend on the solver it was trained with?

It is an ODE as far as its metric is the same under every solver whose error is not larger than that of training.

Source: Ott, Katiyar, Hennig, Tiemann 2021, arXiv 2007.15386; the discrepancies of trajectories and gradients are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import array_api_compat

from .errors import InputError
from .knots import Knots
from .methods import find_method
from .protocols import Method, State
from .validity_checks import AnyMethod
from .validity_metrics import Comparison, summary
from .verdict import Discrepancies, Entry, Validity, relative_distance
from .verdict_sizes import Sizes, read_training

RESOLVED = 0.1
"""Where a finer solver changes the states by more, relatively, they are not those of the ODE."""


class Run(NamedTuple):
    """One solve of the model: its states as a pytree and as leaves, its gradient if asked for, and what it cost."""

    ys: Any
    leaves: State
    gradient: State | None
    num_field_evals: int


Solve = Callable[[AnyMethod, dict[str, Any], bool], Run]
"""``solve(method, options, with_gradient)``; the options say the step size, or the tolerances."""


class _Solved(NamedTuple):
    """One solver of the table: its metric, None where the solution is not finite; its run, if it is compared."""

    metric: Any
    run: Run | None
    num_field_evals: int


Place = tuple[str, float]
"""A solver of the table: method and factor of the size."""


def judge(
    solve: Solve,
    metric: Callable[[Any], Any],
    trained_with: Any,
    times: Sequence[float],
    controls: Any,
    methods: Sequence[AnyMethod] | None,
    factors: Sequence[float] | None,
    threshold: float,
    comparison: Comparison,
    with_gradient: bool,
) -> Validity:
    """The verdict, from solves of the model; each solver is run once."""
    _check(threshold, controls)
    sizes, size, tests, shares, compared = _laid_out(trained_with, abs(times[-1] - times[0]), methods, factors)
    training = tests[0]

    def solved_at(one: Method, share: float) -> _Solved:
        place = one.name, share
        run = solve(one, sizes.options(share * size), with_gradient and place in compared)
        return _Solved(_read(metric, run, comparison, place), run if place in compared else None, run.num_field_evals)

    solved = {(one.name, share): solved_at(one, share) for one, share in product(tests, shares)}
    reference = solved[compared[0]].metric
    if reference is None:
        raise InputError(
            "validate: the solution must be finite under the training solver; got infinite or NaN states with "
            f"{training.name!r} and {sizes.name} {size:g}. Check the model and trained_with."
        )

    def gap(value: Any, other: Any) -> float:
        return math.inf if value is None or other is None else comparison.gap("validate", value, other).value

    entries = []
    for one, share in product(tests, shares):
        value, _, cost = solved[one.name, share]
        is_better = share <= 1.0 and one.order >= training.order
        entries.append(Entry(one.name, share, share * size, _shown(value), gap(reference, value), is_better, cost))
    best = solved[max(tests, key=lambda one: one.order).name, shares[-1]].metric
    flat = [all(gap(solved[one.name, share].metric, best) <= threshold for one in tests) for share in shares]
    runs = [kept for place in compared if (kept := solved[place].run) is not None]
    gradients = [run.gradient for run in runs if run.gradient is not None]
    worst = max((entry for entry in entries if entry.is_better), key=lambda entry: entry.difference)
    trajectory = _discrepancies([run.leaves for run in runs])
    return Validity(
        sizes,
        training.name,
        size,
        _shown(reference),
        threshold,
        tuple(entries),
        trajectory,
        _discrepancies(gradients) if with_gradient else None,
        _critical([share * size for share in shares], flat),
        worst.difference <= threshold,
        _verdict(sizes, training.name, size, _shown(reference), worst, threshold, trajectory.finer),
    )


class _Layout(NamedTuple):
    """The solvers of a table."""

    sizes: Sizes
    size: float
    """That of training."""
    tests: list[Method]
    """That of training first."""
    shares: list[float]
    """The sizes as multiples of that of training, the largest first."""
    compared: list[Place]
    """The training solver, a finer one, and one of higher order if there is one."""


def _laid_out(
    trained_with: Any, duration: float, methods: Sequence[AnyMethod] | None, factors: Sequence[float] | None
) -> _Layout:
    sizes, given, size = read_training(trained_with, duration)
    shares = _factors(sizes, size, factors)
    tests = _tests(sizes, given, size, methods)
    training = tests[0]
    higher = [(one.name, 1.0) for one in tests if one.order > training.order][:1]
    return _Layout(sizes, size, tests, shares, [(training.name, 1.0), (training.name, sizes.refined[0]), *higher])


def _factors(sizes: Sizes, size: float, factors: Sequence[float] | None) -> list[float]:
    """The sizes of the table as multiples of that of training, the largest first."""
    given = sizes.factors if factors is None else factors
    for factor in given:
        if not 0.0 < factor < math.inf:
            raise InputError(
                f"validate: factors must be positive finite numbers; got {factor!r}. They multiply the step size or "
                "the tolerances."
            )
    shares = sorted({1.0, sizes.refined[0], *map(float, given)}, reverse=True)
    return [share for share in shares if sizes.fits(share * size)]


def _check(threshold: float, controls: Any) -> None:
    if not 0.0 < threshold < math.inf:
        raise InputError(f"validate: threshold must be a positive number; got {threshold!r}. 0.1 is the paper's.")
    if not (controls is None or isinstance(controls, Knots)):
        raise InputError(
            f"validate: controls must be Knots, which suit any steps; got {type(controls).__name__}. Values at the "
            "nodes of one solver's steps fit no other solver: put them on Knots."
        )


def _tests(sizes: Sizes, given: AnyMethod, size: float, methods: Sequence[AnyMethod] | None) -> list[Method]:
    """The methods of the table, that of training first."""
    training = find_method(given)
    if methods is None:
        second = sizes.better(given, size)
        methods = second, sizes.better(second, size)
    found = {training.name: training}
    for one in map(find_method, methods):
        found.setdefault(one.name, one)
    for one in found.values():
        sizes.check(one)
    return list(found.values())


def _read(metric: Callable[[Any], Any], run: Run, comparison: Comparison, place: Place) -> Any:
    """The metric of a solve, None where the solution is not finite."""
    for leaf in run.leaves:
        xp = array_api_compat.array_namespace(leaf)
        if not bool(xp.all(xp.isfinite(leaf))):
            return None
    return comparison.read("validate", metric(run.ys), f"{place[0]!r} with factor {place[1]:g}")


def _shown(metric: Any) -> float:
    """The metric as a number: its mean over samples, NaN where there is none."""
    number = None if metric is None else summary(metric)
    return math.nan if number is None else number


def _discrepancies(found: Sequence[State]) -> Discrepancies:
    """From what the training solver gives: to the finer one, and to the one of higher order if there is one."""
    first, finer, *swapped = found
    swap = relative_distance(first, swapped[0]) if swapped else None
    return Discrepancies(relative_distance(first, finer), swap)


def _critical(sizes: Sequence[float], flat: Sequence[bool]) -> tuple[float | None, float | None]:
    """The neighbouring sizes between which the table stops being flat, seen from the smallest, which is the last."""
    low = None
    for size, is_flat in zip(reversed(sizes), reversed(flat), strict=True):
        if not is_flat:
            return low, size
        low = size
    return low, None


def _verdict(
    sizes: Sizes, method: str, size: float, metric: float, worst: Entry, threshold: float, change: float
) -> str:
    if worst.difference <= threshold:
        found = f"no better solver changes its metric {metric:.4g} by more than {worst.difference:.2g}"
        if change <= RESOLVED:
            return f"An ODE: {found}."
        doubt = f"but its states change by {change:.2g} with {sizes.refined[1]}"
        return f"An ODE as far as its metric shows: {found}; {doubt}."
    found = "its solution is no longer finite" if math.isnan(worst.metric) else f"it is {worst.metric:.4g}"
    return (
        f"Not an ODE, but a network tied to {method!r} with {sizes.name} {size:.4g}: its metric is {metric:.4g} there, "
        f"and with {worst.method!r} and {sizes.name} {worst.size:.4g} {found}."
    )
