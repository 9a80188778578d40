"""The verdict on a trained model: its numbers against closed forms on every library, its words, its faults."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib import import_module
from io import StringIO
from typing import Any

import array_api_strict
import numpy as np
import pytest
from rich.console import Console

import janode.array
import janode.numpy as jo
from janode.core.errors import InputError
from janode.core.verdict import Discrepancies, Entry, Validity
from janode.core.verdict_sizes import StepSizes

RATE = 3.0
FACTORS = (4, 2, 1, 0.5, 0.25, 0.125)
PROBLEM: dict[str, Any] = {"trained_with": ("euler", 0.25), "factors": FACTORS, "threshold": 0.02}
GROWTH = {
    "euler": lambda x: 1 - x,
    "midpoint": lambda x: 1 - x + x**2 / 2,
    "rk4": lambda x: 1 - x + x**2 / 2 - x**3 / 6 + x**4 / 24,
}
STAGES = {"euler": 1, "midpoint": 2, "rk4": 4}


def manual(xp: Any, library: Any, **options: Any) -> Validity:
    field = library.Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -xp.sum(y * f_bar)))
    y0, k = xp.asarray([1.0, 2.0], dtype=xp.float64), xp.asarray(RATE, dtype=xp.float64)
    return library.validate(field, y0, [0.0, 1.0], k, metric=lambda ys: ys[-1, 0], metric_range=(-3, 3), **options)


def on_torch(**options: Any) -> Validity:
    torch, library = import_module("torch"), import_module("janode.torch")
    y0, k = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor(RATE, dtype=torch.float64)
    return library.validate(
        lambda t, y, k: -k * y, y0, [0.0, 1.0], k, metric=lambda ys: ys[-1, 0], metric_range=(-3, 3), **options
    )


def on_jax(**options: Any) -> Validity:
    jnp, library = import_module("jax.numpy"), import_module("janode.jax")
    return library.validate(
        lambda t, y, k: -k * y,
        jnp.asarray([1.0, 2.0]),
        [0.0, 1.0],
        RATE,
        metric=lambda ys: ys[-1, 0],
        metric_range=(-3, 3),
        **options,
    )


LIBRARIES: dict[str, Callable[..., Validity]] = {
    "numpy": lambda **options: manual(np, jo, **options),
    "strict": lambda **options: manual(array_api_strict, janode.array, **options),
    "torch": on_torch,
    "jax": on_jax,
}
everywhere = pytest.mark.parametrize("library", LIBRARIES)


def end(method: str, steps: int, rate: float = RATE) -> float:
    """The last state of y' = -rate y, y(0) = 1."""
    return GROWTH[method](rate / steps) ** steps


def gradient(method: str, steps: int) -> np.ndarray:
    """The gradient of (y_1^2 + y_2^2) / 2 at the end, y(0) = (1, 2): with respect to both, and to the rate."""
    last = end(method, steps)
    slope = (end(method, steps, RATE + 1e-5) - end(method, steps, RATE - 1e-5)) / 2e-5
    return np.array([last**2, 2 * last**2, 5 * last * slope])


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@everywhere
def test_the_table_is_that_of_the_closed_form(library: str) -> None:
    found = LIBRARIES[library](**PROBLEM)
    table = {(entry.method, entry.factor): entry for entry in found.entries}
    expected = {(method, factor): end(method, round(4 / factor)) for method in GROWTH for factor in FACTORS}
    assert {place: entry.metric for place, entry in table.items()} == pytest.approx(expected, rel=1e-9)
    assert {place: entry.num_field_evals for place, entry in table.items()} == {
        (method, factor): STAGES[method] * round(4 / factor) for method, factor in expected
    }
    trained = end("euler", 4)
    assert (found.method, found.size, found.metric) == ("euler", 0.25, pytest.approx(trained))
    assert table["rk4", 2].difference == pytest.approx(abs(end("rk4", 2) - trained), rel=1e-9)
    assert {place for place, entry in table.items() if not entry.is_better} == {
        (method, factor) for method in GROWTH for factor in (2, 4)
    }


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_controls_on_knots_are_those_of_every_solver(library: str) -> None:
    module = import_module(f"janode.{library}")
    asarray = import_module({"jax": "jax.numpy"}.get(library, library)).asarray
    knots = module.Knots([0.0, 1.0], asarray([RATE, RATE]))
    field: Any = lambda t, y, k: -k * y  # noqa: E731
    if library == "numpy":
        field = jo.Field(field, lambda t, y, k, f_bar: (None, -k * f_bar, -np.sum(y * f_bar)))
    found = module.validate(
        field,
        asarray([1.0, 2.0]),
        [0.0, 1.0],
        controls=knots,
        metric=lambda ys: ys[-1, 0],
        metric_range=(-3, 3),
        **PROBLEM,
    )
    metrics = {(entry.method, entry.factor): entry.metric for entry in found.entries}
    expected = {(method, factor): end(method, round(4 / factor)) for method in GROWTH for factor in FACTORS}
    assert metrics == pytest.approx(expected, rel=1e-5)
    first, halved, swapped = (gradient(*place)[:2] for place in (("euler", 4), ("euler", 8), ("midpoint", 4)))
    assert found.gradient is not None
    assert found.gradient.finer == pytest.approx(distance(first, halved), rel=1e-4)
    assert found.gradient.swap == pytest.approx(distance(first, swapped), rel=1e-4)


@everywhere
def test_discrepancies_are_those_of_the_closed_form(library: str) -> None:
    found = LIBRARIES[library](**PROBLEM)
    first, halved, swapped = (np.array([1.0, end(*place)]) for place in (("euler", 4), ("euler", 8), ("midpoint", 4)))
    assert found.trajectory.finer == pytest.approx(distance(first, halved), rel=1e-9)
    assert found.trajectory.swap == pytest.approx(distance(first, swapped), rel=1e-9)
    first, halved, swapped = (gradient(*place) for place in (("euler", 4), ("euler", 8), ("midpoint", 4)))
    assert found.gradient is not None
    assert found.gradient.finer == pytest.approx(distance(first, halved), rel=1e-6)
    assert found.gradient.swap == pytest.approx(distance(first, swapped), rel=1e-6)


@everywhere
def test_the_critical_step_and_the_verdict(library: str) -> None:
    found = LIBRARIES[library](**PROBLEM)
    assert found.critical_size == (0.0625, 0.125)
    assert not found.is_valid
    assert found.verdict == (
        "Not an ODE, but a network tied to 'euler' with step 0.25: its metric is 0.003906 there, and with 'midpoint' "
        "and step 0.25 it is 0.07965."
    )


@everywhere
def test_a_model_trained_with_small_steps_is_an_ode(library: str) -> None:
    found = LIBRARIES[library](trained_with=("euler", 1 / 32), factors=(1,), threshold=0.02)
    assert found.is_valid
    assert found.verdict == "An ODE: no better solver changes its metric 0.04285 by more than 0.0072."
    assert found.critical_size == (1 / 32, None)
    assert {entry.factor for entry in found.entries} == {1.0, 0.5}


def test_a_metric_may_agree_where_the_states_do_not() -> None:
    found = jo.validate(
        lambda t, y: 6.0 * y, np.ones(1), [0.0, 1.0], trained_with=("euler", 0.25), metric=lambda ys: ys[-1] > 1.0
    )
    change = distance(np.array([1.0, 2.5**4]), np.array([1.0, 1.75**8]))
    assert found.is_valid
    assert found.verdict == (
        "An ODE as far as its metric shows: no better solver changes its metric 1 by more than 0; but its states "
        f"change by {change:.2g} with half the step."
    )


def test_steps_beyond_the_interval_are_left_out() -> None:
    found = manual(np, jo, trained_with=("euler", 0.5), factors=(4, 2, 1))
    assert [entry.size for entry in found.entries if entry.method == "rk4"] == [1.0, 0.5, 0.25]


def test_time_may_run_backwards() -> None:
    found = jo.validate(
        lambda t, y: y, np.ones(1), [1.0, 0.0], trained_with=("euler", 0.25), metric=lambda ys: ys[-1, 0]
    )
    assert found.metric == pytest.approx(0.75**4)
    assert found.gradient is None


def test_methods_can_be_chosen() -> None:
    found = manual(np, jo, trained_with=("heun2", 0.25), methods=["rk4", "leapfrog"])
    assert list(dict.fromkeys(entry.method for entry in found.entries)) == ["heun2", "rk4", "leapfrog"]


@pytest.mark.parametrize(
    ("method", "chain"),
    [("midpoint", ["midpoint", "rk4", "dopri8"]), ("dopri5", ["dopri5", "dopri8"]), ("dopri8", ["dopri8"])],
)
def test_methods_are_chained(method: str, chain: list[str]) -> None:
    found = manual(np, jo, trained_with=(method, 0.25))
    assert list(dict.fromkeys(entry.method for entry in found.entries)) == chain


def test_losses_are_compared_relatively() -> None:
    found = jo.validate(
        lambda t, y: -y,
        np.ones(1),
        [0.0, 1.0],
        trained_with=("euler", 0.5),
        metric=lambda ys: 100 * ys[-1, 0],
        compare="relative",
    )
    worst = max(entry.difference for entry in found.entries if entry.is_better)
    assert worst == pytest.approx(1 - 0.25 / 0.625**2)


def test_the_table_can_be_per_sample() -> None:
    found = jo.validate(
        lambda t, y: -y, np.ones((4, 2)), [0.0, 1.0], trained_with=("rk4", 0.1), metric=lambda ys: ys[-1, :, 0] > 0.3
    )
    assert found.metric == 1.0


def test_the_loss_is_the_one_given() -> None:
    field = jo.Field(lambda t, y: -y * y, lambda t, y, f_bar: (None, -2 * y * f_bar))

    def bar(ys: np.ndarray) -> np.ndarray:
        return np.stack([np.zeros(1), np.ones(1)])

    arguments = {"trained_with": ("euler", 0.5), "metric": lambda ys: ys[-1, 0]}
    found = jo.validate(field, np.ones(1), [0.0, 1.0], loss_bar=bar, **arguments)
    _, pull = jo.solve_vjp(field, np.ones(1), [0.0, 1.0], method="euler", steps=2)
    _, pull_halved = jo.solve_vjp(field, np.ones(1), [0.0, 1.0], method="euler", steps=4)
    one, other = pull(bar(np.ones(1))).y0, pull_halved(bar(np.ones(1))).y0
    assert found.gradient is not None
    assert found.gradient.finer == pytest.approx(distance(one, other))


# Adaptive steps.

COARSE: dict[str, Any] = {"trained_with": ("fehlberg2", 0.3, 0.03), "factors": (2, 0.01), "threshold": 1e-3}
ADAPTIVE = ("fehlberg2", "dopri5", "dopri8")


def by_tolerance(method: str, factor: float) -> tuple[np.ndarray, np.ndarray, int]:
    """(states, gradient as in ``gradient``, field evaluations), by a solve of its own."""
    field = jo.Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -np.sum(y * f_bar)))
    tolerances: dict[str, Any] = {"rtol": factor * 0.3, "atol": factor * 0.03}
    y0, k = np.array([1.0, 2.0]), np.asarray(RATE)
    solution, pullback = jo.solve_vjp(field, y0, [0.0, 1.0], k, method=method, **tolerances)
    count = solution.stats.num_field_evals
    pulled = pullback(np.stack([np.zeros(2), solution.ys[-1]]))
    return solution.ys, np.append(pulled.y0, pulled.params), count


@everywhere
def test_tolerances_make_a_table_of_their_own(library: str) -> None:
    found = LIBRARIES[library](**COARSE)
    table = {(entry.method, entry.factor): entry for entry in found.entries}
    expected = {place: by_tolerance(*place) for place in ((m, f) for m in ADAPTIVE for f in (2, 1, 0.1, 0.01))}
    assert {place: entry.metric for place, entry in table.items()} == pytest.approx(
        {place: ys[-1, 0] for place, (ys, _, _) in expected.items()}, rel=1e-9
    )
    assert {place: entry.num_field_evals for place, entry in table.items()} == {
        # Of pairs whose last stage is not the next step's first JAX evaluates the slope at the end as well.
        place: count + (library == "jax" and place[0] != "dopri5")
        for place, (_, _, count) in expected.items()
    }
    assert (found.method, found.size, table["dopri5", 0.01].size) == ("fehlberg2", 0.3, pytest.approx(0.003))
    assert {place for place, entry in table.items() if not entry.is_better} == {(method, 2) for method in ADAPTIVE}
    first, finer, swapped = (expected[place] for place in (("fehlberg2", 1), ("fehlberg2", 0.1), ("dopri5", 1)))
    assert found.trajectory.finer == pytest.approx(distance(first[0], finer[0]), rel=1e-6)
    assert found.trajectory.swap == pytest.approx(distance(first[0], swapped[0]), rel=1e-6)
    assert found.gradient is not None
    assert found.gradient.finer == pytest.approx(distance(first[1], finer[1]), rel=1e-6)
    assert found.gradient.swap == pytest.approx(distance(first[1], swapped[1]), rel=1e-6)


@everywhere
def test_a_model_tied_to_its_tolerance_is_no_ode(library: str) -> None:
    found = LIBRARIES[library](**COARSE)
    assert not found.is_valid
    assert found.verdict.startswith("Not an ODE, but a network tied to 'fehlberg2' with tolerance 0.3: its metric is ")
    lines = str(found).splitlines()
    assert lines[0].split() == ["tolerance", "factor", *ADAPTIVE]
    assert lines[-2].startswith("critical tolerance: ")
    assert "by a tenth of the tolerance, " in lines[-3]
    assert LIBRARIES[library](trained_with=("dopri5", 1e-4, 1e-6), threshold=1e-3).is_valid


def test_the_method_of_the_highest_order_is_tested_by_itself() -> None:
    found = manual(np, jo, trained_with=("dopri8", 1e-4, 1e-4))
    assert {(entry.method, entry.factor) for entry in found.entries} == {("dopri8", f) for f in (10, 1, 0.1, 0.01)}
    assert found.trajectory.swap is None
    assert "by a higher order" not in str(found)


def test_tolerances_of_one_or_more_are_left_out() -> None:
    found = manual(np, jo, trained_with=("dopri5", 0.2, 0.2), factors=(10, 2))
    assert {entry.factor for entry in found.entries} == {2.0, 1.0, 0.1}


# Torch.


def test_a_module_is_left_as_it_is_and_its_parameters_count() -> None:
    torch, library = import_module("torch"), import_module("janode.torch")

    class Decay(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(RATE, dtype=torch.float64))

        def forward(self, t: Any, y: Any) -> Any:
            return -self.k * y

    model, y0 = Decay(), torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    before = library.checksum(model)
    seen: list[bool] = []

    def metric(ys: Any) -> Any:
        seen.append(ys.requires_grad or torch.is_grad_enabled())
        return ys[-1, 0]

    found = library.validate(model, y0, [0.0, 1.0], metric=metric, metric_range=(-3, 3), **PROBLEM)
    assert found == on_torch(**PROBLEM)
    assert not any(seen)
    assert (model.k.grad, y0.grad, model.training, library.checksum(model)) == (None, None, True, before)


def test_a_solution_that_is_not_finite_is_no_ode() -> None:
    torch, library = import_module("torch"), import_module("janode.torch")

    def field(t: Any, y: Any) -> Any:
        return torch.where(t == 0.125, torch.nan, -y)

    found = library.validate(
        field, torch.ones(1), [0.0, 1.0], trained_with=("euler", 0.25), metric=lambda ys: ys[-1, 0]
    )
    places = {(entry.method, entry.factor): entry for entry in found.entries}
    assert math.isnan(places["midpoint", 1.0].metric)
    assert places["midpoint", 1.0].difference == math.inf
    assert found.verdict.endswith("step 0.125 its solution is no longer finite.")
    with pytest.raises(InputError, match="solution must be finite under the training solver; got infinite or NaN st"):
        library.validate(field, torch.ones(1), [0.0, 1.0], trained_with=("euler", 0.125), metric=lambda ys: ys[-1, 0])


# Faults.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(
            {"trained_with": "euler"}, r"trained_with must be \(method, step size\), .* got 'euler'", id="name"
        ),
        pytest.param(
            {"trained_with": ("euler", 0.0)}, r"the step size in \(0, 1\], .* got \('euler', 0.0\)", id="zero"
        ),
        pytest.param(
            {"trained_with": ("euler", 1.5)}, r"the step size in \(0, 1\], .* got \('euler', 1.5\)", id="long"
        ),
        pytest.param({"trained_with": ("euler", math.nan)}, r"the step size in \(0, 1\]", id="nan-step"),
        pytest.param({"trained_with": ("dopri5", None)}, r"'dopri5', None\). .* for adaptive steps", id="adaptive"),
        pytest.param({"trained_with": ("dopri5", 1.5, 1e-6)}, r"rtol < 1; got \('dopri5', 1.5, 1e-06\)", id="coarse"),
        pytest.param({"trained_with": ("dopri5", 1e-3, 0.0)}, r"both > 0 .*; got \('dopri5', 0.001, 0.0\)", id="atol"),
        pytest.param({"trained_with": ("rk4", 1e-3, 1e-3)}, "method must have an error estimate; got 'rk4'", id="pair"),
        pytest.param({"controls": np.ones(5)}, "controls must be Knots, .*; got ndarray. .* on Knots", id="nodes"),
        pytest.param({"trained_with": ("oiler", 0.5)}, "method must be one of: euler", id="method"),
        pytest.param({"factors": (1, 0)}, "factors must be positive finite numbers; got 0", id="factor"),
        pytest.param({"threshold": -1.0}, "threshold must be a positive number; got -1.0", id="threshold"),
        pytest.param({"metric": lambda ys: math.nan}, "metric must be finite; got nan from 'euler' with", id="nan"),
        pytest.param({"metric": lambda ys: 1.5}, r"metric must lie in \[0, 1\]; got 1.5 from 'euler'", id="range"),
        pytest.param({"compare": "percent"}, 'compare must be "absolute", "relative"', id="compare"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], text: str) -> None:
    given = {"trained_with": ("euler", 0.5), "metric": lambda ys: 0.5} | arguments
    with pytest.raises(InputError, match=text):
        jo.validate(lambda t, y: -y, np.ones(1), [0.0, 1.0], **given)


# Helpers for monitors.

ARRAYS: dict[str, tuple[str, Callable[[list[float]], Any]]] = {
    "numpy": ("janode.numpy", np.asarray),
    "strict": ("janode.array", lambda entries: array_api_strict.asarray(entries)),
    "torch": ("janode.torch", lambda entries: import_module("torch").tensor(entries, requires_grad=True)),
    "torch-bfloat16": (
        "janode.torch",
        lambda entries: import_module("torch").tensor(entries).to(import_module("torch").bfloat16),
    ),
    "jax": ("janode.jax", lambda entries: import_module("jax.numpy").asarray(entries)),
}
of_every_array = pytest.mark.parametrize(("library", "make"), ARRAYS.values(), ids=list(ARRAYS))


@of_every_array
def test_relative_distance(library: str, make: Callable[[list[float]], Any]) -> None:
    between = import_module(library).relative_distance
    a, b = [make([3.0]), {"w": make([4.5, 0.0])}], [make([3.0]), {"w": make([4.0, 0.0])}]
    assert between(a, b) == pytest.approx(0.1, rel=1e-2)
    assert between(b, b) == 0.0
    zero = make([0.0])
    assert (between(zero, zero), between(make([1.0]), zero)) == (0.0, math.inf)
    with pytest.raises(InputError, match=r"one structure and the same shapes; got \[\(1,\), \(2,\)\] and \[\(1,\)\]"):
        between(a, make([3.0]))


def test_relative_distance_neither_overflows_nor_vanishes() -> None:
    assert jo.relative_distance(np.array([1e-200]), np.array([2e-200])) == 0.5
    assert jo.relative_distance(np.array([1e200]), np.array([2e200])) == 0.5


@of_every_array
def test_checksum(library: str, make: Callable[[list[float]], Any]) -> None:
    of = import_module(library).checksum
    assert of([make([1.0, 2.0])]) == of([make([1.0, 2.0])])
    others = [[make([1.0, 2.015625])], [make([2.0, 1.0])], [make([1.0]), make([2.0])], [make([-1.0, 2.0])]]
    assert of([make([1.0, 2.0])]) not in map(of, others)


@pytest.mark.parametrize("what", ["gradient", "trajectory"])
def test_a_monitor_may_compare_gradients_or_trajectories(what: str) -> None:
    field = jo.Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -np.sum(y * f_bar)))

    def evaluate(method: str, step: float) -> Any:
        arguments = field, np.array([1.0, 2.0]), [0.0, 0.5, 1.0], np.array(RATE)
        solution, pullback = jo.solve_vjp(*arguments, method=method, step_size=step)
        return solution.ys if what == "trajectory" else pullback(np.ones((3, 2))).params

    monitor = jo.StepSizeMonitor(T=1.0, h=0.25, compare=jo.relative_distance, threshold=0.05)
    for _ in range(8):
        monitor.update(evaluate)
    first, last = monitor.history[0], evaluate(*monitor.test_solvers[0])
    distances = [jo.relative_distance(evaluate("euler", step), last) for step in (monitor.h, 0.25)]
    assert distances[0] <= 0.05 < distances[1]
    assert first.after == 0.125
    test = evaluate("midpoint", (0.25 / 50) ** 0.5)
    assert first.difference == jo.relative_distance(evaluate("euler", 0.25), test)


# What is shown.


@pytest.fixture
def found() -> Validity:
    return manual(np, jo, **PROBLEM)


def test_text(found: Validity) -> None:
    lines = str(found).splitlines()
    assert lines[0].split() == ["step", "factor", "euler", "midpoint", "rk4"]
    assert lines[3].split() == ["0.25", "1", "0.003906", "(4)", "0.07965*(8)", "0.05053*(16)"]
    assert lines[8] == "trajectory: 0.019 by half the step, 0.076 by a higher order"
    assert lines[10] == "critical step: between 0.0625 and 0.125"
    assert lines[11] == found.verdict


@pytest.mark.parametrize(
    ("critical", "line"),
    [
        ((0.25, None), "critical step: above 0.25, the largest in the table"),
        ((None, 0.25), "critical step: below the table"),
    ],
)
def test_a_critical_step_out_of_the_table(critical: tuple[float | None, float | None], line: str) -> None:
    entry = Entry("euler", 1.0, 0.25, 0.5, 0.0, True, 4)
    validity = Validity(
        *(StepSizes(1.0), "euler", 0.25, 0.5, 0.1, (entry,)),
        *(Discrepancies(0.1, 0.2), None, critical, True, "An ODE."),
    )
    assert validity.remarks()[-1] == line
    assert len(validity.remarks()) == 3


def test_rich_table(found: Validity) -> None:
    console = Console(file=StringIO(), width=200)
    jo.show_validity(found, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "trained with euler, step 0.25" in shown
    assert "0.07965*(8)" in shown
    assert found.verdict in shown


def test_figure(found: Validity) -> None:
    axes = jo.plot_validity(found)
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert list(lines) == ["euler", "midpoint", "rk4", "training"]
    assert lines["euler"].tolist() == [[e.size, e.metric] for e in found.entries if e.method == "euler"]
    assert lines["training"].tolist() == [[0.25, found.metric]]
    assert jo.plot_validity(found, axes) is axes


@pytest.mark.parametrize(
    ("show", "library", "extra"), [(jo.show_validity, "rich.table", "cli"), (jo.plot_validity, "matplotlib", "plot")]
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, found: Validity, show: Callable[..., Any], library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=rf"must be installed; got none. Run `pip install janode\[{extra}\]`"):
        show(found)


# The first step.


def starting(library: str, scale: float, ts: list[float], **options: Any) -> float:
    """The first step for y' = scale (1 + t) (y, 2 y) from (0.3, 0.6)."""
    make = ARRAYS[library][1]
    jo = import_module(ARRAYS[library][0])
    params = make([scale, 2.0 * scale])
    return jo.starting_step(lambda t, y, p: p * (1.0 + t) * y, make([0.3, 0.6]), ts, params, **options)


def hairer(scale: float, ts: list[float], order: int) -> float:
    """The same by the book, with errors in the unit of the state."""

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        return np.array([scale, 2 * scale]) * (1 + t) * y

    def norm(y: np.ndarray) -> float:
        return float(np.sqrt(np.mean(y**2)))

    y0 = np.array([0.3, 0.6])
    f0 = slope(ts[0], y0)
    h0 = 0.01 * norm(y0) / norm(f0)
    step = h0 if ts[1] > ts[0] else -h0
    change = norm(slope(ts[0] + step, y0 + step * f0) - f0) / h0
    return min(100 * h0, (0.01 / max(norm(f0), change)) ** (1 / (order + 1)))


@pytest.mark.parametrize("library", ["numpy", "strict", "torch", "jax"])
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rk4", 4), ("leapfrog", 2)])
@pytest.mark.parametrize("ts", [[0.0, 1.0], [1.0, 0.0]], ids=["forwards", "backwards"])
def test_the_first_step_is_hairers(library: str, method: str, order: int, ts: list[float]) -> None:
    assert starting(library, 3.0, ts, method=method) == pytest.approx(hairer(3.0, ts, order), rel=1e-5)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize(("scale", "expected"), [(0.0, 1 / 500), (1e9, 1 / 500), (1e-3, 1.0)])
def test_the_first_step_is_one_that_a_monitor_takes(library: str, scale: float, expected: float) -> None:
    h = starting(library, scale, [0.0, 1.0])
    assert h == expected
    assert jo.StepSizeMonitor(T=1.0, h=h).h == expected


def test_a_bad_number_of_steps_is_refused() -> None:
    with pytest.raises(InputError, match="max_steps must be an integer >= 1; got 0"):
        starting("numpy", 1.0, [0.0, 1.0], max_steps=0)
