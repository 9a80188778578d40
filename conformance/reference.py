"""The NumPy float64 reference, and what it is itself held against: true solutions, and solves by the book."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from janode import numpy as jo
from janode.core.methods import find_method
from janode.core.tableaus import TABLEAUS

from .cases import Case
from .comparison import EPS, Comparison, Difference, Found, measure
from .frozen import accepted_steps, integrate_frozen
from .offers import CORRECTIONS
from .problem import Inputs, Problem, draw_inputs
from .problems import PROBLEMS
from .runtimes import ReadOnlyNumPy, pulled, solve_options
from .textbook import CENTRAL_LOSS, Read, derivative, integrate, read_knots

Tree = Any
Values = dict[str, Tree]
"""What is read of the solution (``ys``, ``event_t``, ``event_y``, ``between``), and the gradients ``y0_bar``,
``params_bar``, ``ts_bar`` and, with controls, ``controls_bar``."""
_NUMPY = ReadOnlyNumPy(jo, np, "f64", "cpu", "numpy")

# Steps between times for the order of a method, in units of a problem's own: where its error shows its order.
_REFINEMENT = {1: 32, 2: 8, 3: 4, 4: 2, 5: 4, 8: 2}
_LARGEST_ERROR = 0.05
_ORDER_LOST = 0.7
_TIGHTER, _ERROR_PER_TOLERANCE, _MORE_STEPS = 64.0, 400.0, 1.5
_HIGHEST_CORRECTED = 4
"""Corrected gradients between the ends of steps are interpolated: none is asked to be of a higher order."""


def reference_values(
    problem: Problem, inputs: Inputs, method: str, preset: str = "stages", correction: str = "none"
) -> Values:
    """The NumPy float64 solution and gradients, all stage states kept unless the preset says otherwise."""
    return _NUMPY.run(problem, inputs, solve_options(problem, method, preset, correction)).got


class ReferenceCheck:
    """Holds the reference against the true solution, and against the textbook solver and its complex steps."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """No settings."""
        return contextlib.nullcontext()

    def facts(self) -> dict[str, str]:
        """NumPy's version."""
        return {"numpy": np.__version__, "device": "cpu"}

    def run(self, case: Case) -> Found:
        """One of the checks."""
        problem = PROBLEMS[case.problem]
        if case.preset == "order":
            check = _check_correction if case.aspect in CORRECTIONS else _check_approximate
            return {case.aspect: check(problem, case.method, case.aspect)}
        run = {"exact": _check_order, "textbook": _check_textbook, "tolerance": _check_tolerance}[case.preset]
        return {case.preset: run(problem, case.method)}


def _flat(tree: Tree) -> Any:
    return np.concatenate([np.ravel(leaf) for leaf in optree.tree_leaves(tree)])


def _order_shows(
    where: str, order: int, steps: int, condition: float, errors: Callable[[int], float]
) -> list[Difference]:
    """Twice the steps must lower an error, in eps, by an order, less _ORDER_LOST, unless it is at rounding."""
    coarse, fine = errors(steps), errors(2 * steps)
    tolerance = max(coarse / 2 ** (order - _ORDER_LOST), Comparison(condition).tolerance)
    if coarse * EPS["f64"] <= _LARGEST_ERROR:
        return [Difference(where, fine, tolerance)]
    fault = f"must be near what is exact; got a relative error of {coarse * EPS['f64']:.3g}"
    return [Difference(where, math.inf, tolerance, fault)]


def _refined(problem: Problem, method: str, steps: int) -> tuple[Problem, Inputs]:
    fine = dataclasses.replace(problem, steps=steps)
    return fine, draw_inputs(fine, method, single=False)


def _check_order(problem: Problem, method: str) -> list[Difference]:
    """The solution against the true one."""

    def errors(steps: int) -> float:
        _, inputs = _refined(problem, method, steps)
        options: dict[str, Any] = {"method": method, "steps": steps}
        if inputs.controls is not None:
            options |= problem.given(inputs.controls) | ({"sampling": problem.sampling} if problem.is_sampled else {})
        ys = jo.solve(problem.field, inputs.y0, inputs.ts, inputs.params, **options).ys
        assert problem.solution is not None
        return measure(_flat(ys), _flat(problem.solution(inputs.y0, inputs.params, inputs.ts)), EPS["f64"])

    order = find_method(method).order
    # A multistep method needs finer steps than a one-step method of its order.
    steps = problem.steps * _REFINEMENT[order] * (1 if method in TABLEAUS else 4)
    return _order_shows("ys", order, steps, problem.condition, errors)


def _check_tolerance(problem: Problem, method: str) -> list[Difference]:
    """The error of adaptive steps is near their tolerance, and falls with it; the steps are as many as an order takes.

    An estimate of the error that is of a lower order than it should be shows in the number of steps.
    """
    inputs = draw_inputs(problem, method, single=False)
    assert problem.tolerances is not None
    assert problem.solution is not None
    expected = _flat(problem.states(problem.solution(inputs.y0, inputs.params, inputs.ts)))
    errors, counts = [], []
    for share in (1.0, 1.0 / _TIGHTER):
        rtol, atol = (share * tolerance for tolerance in problem.tolerances)
        options = {**problem.stepping(), **problem.given(inputs.controls), "rtol": rtol, "atol": atol}
        found = jo.solve(problem.field, inputs.y0, inputs.ts, inputs.params, method=method, **options)
        errors.append(measure(_flat(problem.states(found.ys)), expected, EPS["f64"]))
        counts.append(float(found.stats.num_accepted))
    order = (TABLEAUS[method].embedded_order or 0) + 1
    allowed = _ERROR_PER_TOLERANCE * problem.tolerances[0] / EPS["f64"]
    most = _MORE_STEPS * _TIGHTER ** (1 / order) * counts[0]
    return [
        Difference("ys", errors[0], allowed),
        Difference("ys at a tighter tolerance", errors[1], allowed / _TIGHTER),
        Difference("number of steps", counts[1], most),
    ]


def _check_correction(problem: Problem, method: str, correction: str) -> list[Difference]:
    """The corrected gradient of controls, over the trapezoid weights of its nodes, against that of the ODE."""

    def errors(steps: int) -> float:
        fine, inputs = _refined(problem, method, steps)
        times = np.asarray(jo.control_times(method, inputs.ts, steps=steps))
        bar = np.zeros_like(inputs.ys_bar)
        bar[-1] = 1.0
        inputs = dataclasses.replace(inputs, ys_bar=bar)
        got = reference_values(fine, inputs, method, correction=correction)["controls_bar"]
        gaps = np.concatenate([[0.0], np.diff(times), [0.0]])
        weights = (gaps[1:] + gaps[:-1]) / 2
        got = optree.tree_map(lambda leaf: leaf / weights.reshape(-1, *(1,) * (leaf.ndim - 1)), got)
        assert problem.slopes is not None
        return measure(_flat(got), _flat(problem.slopes(inputs.y0, inputs.params, times, inputs.ts)), EPS["f64"])

    order = min(find_method(method).order, _HIGHEST_CORRECTED, 1 if correction in ("divide", "filter_descent") else 9)
    steps = problem.steps * (4 if method in TABLEAUS else 16)
    return _order_shows("controls_bar", order, steps, steps * problem.condition, errors)  # divided by h


def _check_approximate(problem: Problem, method: str, preset: str) -> list[Difference]:
    """An approximate gradient against the exact one: as near as the method's order."""

    def errors(steps: int) -> float:
        fine, inputs = _refined(problem, method, steps)
        got, exact = (reference_values(fine, inputs, method, name)["y0_bar"] for name in (preset, "stages"))
        return measure(_flat(got), _flat(exact), EPS["f64"])

    order = find_method(method).order
    return _order_shows("y0_bar", order, problem.steps * _REFINEMENT[order], problem.condition, errors)


def _reads(problem: Problem, method: str, inputs: Inputs) -> Read | None:
    """Which control a stage reads, by a search for its time; the times are found by a solve that notes them."""
    if inputs.controls is None:
        return None
    if problem.knots:
        return lambda n, t, controls: read_knots(problem, controls, t, float(np.real(t)))

    def row(controls: Tree, place: int) -> Tree:
        return optree.tree_map(lambda leaf: leaf[place], controls)

    if problem.sampling == "steps":
        return lambda n, t, controls: row(controls, n)
    noted: list[float] = []

    def note(n: int, t: Any, controls: Tree) -> Tree:
        noted.append(float(t))
        return row(controls, 0)

    value = problem.value or problem.field
    integrate(value, inputs.y0, inputs.ts, inputs.params, method, problem.steps, inputs.controls, note)
    # The last stage of some methods is not evaluated, as nothing depends on it: its node is not there.
    times = np.unique(np.round(noted, 9))[: len(optree.tree_leaves(inputs.controls)[0])]
    return lambda n, t, controls: row(controls, int(np.argmin(np.abs(times - np.real(t)))))


def _by_the_book(problem: Problem, method: str, inputs: Inputs) -> Callable[..., dict[str, Tree]]:
    """What is read of the solution as a function of (y0, params, ts, controls), on the same steps."""
    if problem.tolerances is not None:
        steps = accepted_steps(problem, inputs, method)
        return functools.partial(integrate_frozen, problem, method, steps)
    value, read = problem.value or problem.field, _reads(problem, method, inputs)

    def states(y0: Tree, params: Tree, ts: Any, controls: Tree) -> dict[str, Tree]:
        return {"ys": integrate(value, y0, list(ts), params, method, problem.steps, controls, read)}

    return states


def _check_textbook(problem: Problem, method: str) -> list[Difference]:
    """The same steps by the book; and the gradient along one random direction for each array of the inputs."""
    inputs = draw_inputs(problem, method, single=False)
    got, comparison = reference_values(problem, inputs, method), Comparison(problem.condition)
    states = _by_the_book(problem, method, inputs)
    names = ("y0", "params", "ts", "controls")
    start: Any = {name: getattr(inputs, name) for name in names} | {"ts": np.asarray(inputs.ts)}
    bars: Any = {name: got.get(f"{name}_bar") for name in names}
    found = [
        difference
        for name, tree in states(**start).items()
        for difference in comparison.trees(name, got[name], got[name], optree.tree_map(np.asarray, tree))
    ]
    leaves, spec = optree.tree_flatten(start)
    is_analytic = not any(np.iscomplexobj(leaf) for leaf in leaves)
    read: Any = pulled(problem, inputs.ys_bar, inputs.event_bar, inputs.place_bar)
    read_bars = optree.tree_leaves(read)
    rng = np.random.default_rng(7)
    for i, (path, bar) in enumerate(zip(spec.paths(), optree.tree_leaves(bars), strict=True)):
        direction = random_direction(rng, leaves[i])

        def loss(e: Any, i: int = i, direction: Any = direction) -> Any:
            moved = [leaf + e * direction if i == j else leaf for j, leaf in enumerate(leaves)]
            solved: Any = states(**spec.unflatten(moved))
            ys = optree.tree_leaves(solved)
            total = sum(np.sum(np.conj(read_bar) * y) for read_bar, y in zip(read_bars, ys, strict=True))
            return total if is_analytic else total.real

        products = np.real(np.conj(bar) * direction)
        scale = float(np.sum(np.abs(products)))
        error = measure(np.sum(products), derivative(loss, is_analytic), EPS["f64"], scale)
        tolerance = comparison.tolerance * (1 if is_analytic else CENTRAL_LOSS)
        name = f"{path[0]}_bar" + "".join(f"[{key!r}]" for key in path[1:])
        found.append(Difference(name, error, tolerance))
    return found


def random_direction(rng: np.random.Generator, leaf: Any) -> Any:
    """A direction with no small entry, and no real or imaginary one for a complex array."""
    direction = rng.uniform(0.5, 1.5, np.shape(leaf)) * rng.choice([-1.0, 1.0], np.shape(leaf))
    return direction * np.exp(1j) if np.iscomplexobj(leaf) else direction
