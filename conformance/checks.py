"""What a case is compared with: a library with the NumPy float64 reference, the reference with what is exact."""

from __future__ import annotations

import contextlib
import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import optree

from janode import numpy as jo
from janode.core.tableaus import TABLEAUS

from .cases import Case
from .comparison import EPS, Comparison, Difference, measure
from .problem import Inputs, Problem, draw_inputs
from .problems import PROBLEMS
from .runtimes import Outcome, Runtime
from .textbook import CENTRAL_LOSS, derivative, integrate

Tree = Any
Found = dict[str, list[Difference]]
"""Differences by oracle: what the outcome was compared with."""


class Values(NamedTuple):
    """The solution and its gradients as NumPy arrays, by the names of ``runtimes.Outcome``."""

    ys: Tree
    y0_bar: Tree
    params_bar: Tree
    ts_bar: Tree


class Check(Protocol):
    """Runs a case and says how far its outcome is from each oracle's."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """The settings under which every case runs."""

    def facts(self) -> dict[str, str]:
        """Versions and the device."""

    def run(self, case: Case) -> Found:
        """The differences by oracle."""


def reference_values(problem: Problem, inputs: Inputs, method: str) -> Values:
    """The NumPy float64 solution and gradients, all stage states kept."""
    start = (inputs.y0, inputs.ts, inputs.params)
    solution, pullback = jo.solve_vjp(problem.field, *start, method=method, steps=problem.steps, adjoint="stages")
    bars = pullback(inputs.ys_bar)
    return Values(solution.ys, bars.y0, bars.params, bars.ts)


class LibraryCheck:
    """Compares a library with the reference, and its presets with its own backprop, which is autodiff where it has it.

    A problem's inputs are rounded to the target's precision first, for the reference too.
    """

    def __init__(self, runtime: Runtime, precision: str) -> None:
        self.runtime, self.precision = runtime, precision
        self._references: dict[tuple[str, str], Values] = {}
        self._backprops: dict[tuple[str, str], Values] = {}

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Those of the library."""
        return self.runtime.active()

    def facts(self) -> dict[str, str]:
        """Those of the library."""
        return self.runtime.facts()

    def run(self, case: Case) -> Found:
        """Compare with the reference, and with backprop if that has run before."""
        problem, pair = PROBLEMS[case.problem], (case.problem, case.method)
        inputs = draw_inputs(problem, single=self.precision == "f32")
        if pair not in self._references:
            self._references[pair] = reference_values(problem, inputs, case.method)
        outcome = self.runtime.run(problem, inputs, case.method, case.preset)
        found = {"reference": self._compare(problem, outcome, self._references[pair])}
        if case.preset == "backprop":
            if all(difference.is_ok for difference in found["reference"]):
                self._backprops[pair] = Values(
                    *(optree.tree_map(self.runtime.to_numpy, outcome.got[name]) for name in Values._fields)
                )
        elif pair in self._backprops:
            found["backprop"] = self._compare(problem, outcome, self._backprops[pair])
        return found

    def _compare(self, problem: Problem, outcome: Outcome, expected: Values) -> list[Difference]:
        comparison = Comparison(problem.condition, EPS[self.precision], self.runtime.to_numpy)
        return [
            difference
            for name, values in zip(Values._fields, expected, strict=True)
            for difference in comparison.trees(name, outcome.got[name], outcome.like[name], values)
        ]


# Steps between times for the order of a method, in units of a problem's own: where its error shows its order.
_REFINEMENT = {1: 32, 2: 8, 3: 4, 4: 2, 5: 4, 8: 2}
_LARGEST_ERROR = 0.05
_ORDER_LOST = 0.7


class ReferenceCheck:
    """Holds the reference against the true solution, and against the textbook solver and its complex steps."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """No settings."""
        return contextlib.nullcontext()

    def facts(self) -> dict[str, str]:
        """NumPy's version."""
        return {"numpy": np.__version__, "device": "cpu"}

    def run(self, case: Case) -> Found:
        """One of the two checks."""
        problem = PROBLEMS[case.problem]
        inputs = draw_inputs(problem, single=False)
        run = {"exact": _check_order, "textbook": _check_textbook}[case.preset]
        return {case.preset: run(problem, inputs, case.method)}


def _check_order(problem: Problem, inputs: Inputs, method: str) -> list[Difference]:
    """Halving the step must lower the error by the method's order, less _ORDER_LOST, unless it is at rounding."""
    expected = _flat(problem.solution(inputs.y0, inputs.params, inputs.ts))
    order = TABLEAUS[method].order
    steps = problem.steps * _REFINEMENT[order]
    coarse, fine = (
        measure(
            _flat(jo.solve(problem.field, inputs.y0, inputs.ts, inputs.params, method=method, steps=n).ys),
            expected,
            EPS["f64"],
        )
        for n in (steps, 2 * steps)
    )
    tolerance = max(coarse / 2 ** (order - _ORDER_LOST), Comparison(problem.condition).tolerance)
    if coarse * EPS["f64"] <= _LARGEST_ERROR:
        return [Difference("ys", fine, tolerance)]
    fault = f"must be near the true solution; got a relative error of {coarse * EPS['f64']:.3g}"
    return [Difference("ys", math.inf, tolerance, fault)]


def _flat(tree: Tree) -> Any:
    return np.concatenate([np.ravel(leaf) for leaf in optree.tree_leaves(tree)])


def _check_textbook(problem: Problem, inputs: Inputs, method: str) -> list[Difference]:
    """The same steps by the book; and the gradient along one random direction for each array of the inputs."""
    got, comparison = reference_values(problem, inputs, method), Comparison(problem.condition)
    value = problem.value or problem.field

    def states(y0: Tree, params: Tree, ts: Any) -> Tree:
        return integrate(value, y0, list(ts), params, TABLEAUS[method], problem.steps)

    start: Any = {"y0": inputs.y0, "params": inputs.params, "ts": np.asarray(inputs.ts)}
    bars: Any = {"y0": got.y0_bar, "params": got.params_bar, "ts": got.ts_bar}
    found = comparison.trees("ys", got.ys, got.ys, states(**start))
    leaves, spec = optree.tree_flatten(start)
    is_analytic = not any(np.iscomplexobj(leaf) for leaf in leaves)
    ys_bars = optree.tree_leaves(inputs.ys_bar)
    rng = np.random.default_rng(7)
    for i, (path, bar) in enumerate(zip(spec.paths(), optree.tree_leaves(bars), strict=True)):
        direction = _direction(rng, leaves[i])

        def loss(e: Any, i: int = i, direction: Any = direction) -> Any:
            moved = [leaf + e * direction if i == j else leaf for j, leaf in enumerate(leaves)]
            ys = optree.tree_leaves(states(**spec.unflatten(moved)))
            total = sum(np.sum(np.conj(ys_bar) * y) for ys_bar, y in zip(ys_bars, ys, strict=True))
            return total if is_analytic else total.real

        products = np.real(np.conj(bar) * direction)
        scale = float(np.sum(np.abs(products)))
        error = measure(np.sum(products), derivative(loss, is_analytic), EPS["f64"], scale)
        tolerance = comparison.tolerance * (1 if is_analytic else CENTRAL_LOSS)
        name = f"{path[0]}_bar" + "".join(f"[{key!r}]" for key in path[1:])
        found.append(Difference(name, error, tolerance))
    return found


def _direction(rng: np.random.Generator, leaf: Any) -> Any:
    """A direction with no small entry, and no real or imaginary one for a complex array."""
    direction = rng.uniform(0.5, 1.5, np.shape(leaf)) * rng.choice([-1.0, 1.0], np.shape(leaf))
    return direction * np.exp(1j) if np.iscomplexobj(leaf) else direction
