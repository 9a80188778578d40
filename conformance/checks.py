"""Compares a library with the NumPy float64 reference, and its presets with its own backprop."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import optree

from .cases import INVARIANTS, Case
from .comparison import EPS, Comparison, Difference, Found
from .invariants import check_invariant
from .offers import is_approximate
from .problem import Inputs, Problem, draw_inputs
from .problems import PROBLEMS
from .reference import Values, reference_values
from .runtimes import Outcome, Runtime, solve_options

Tree = Any


class Check(Protocol):
    """Runs a case and says how far its outcome is from each oracle's."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """The settings under which every case runs."""

    def facts(self) -> dict[str, str]:
        """Versions and the device."""

    def run(self, case: Case) -> Found:
        """The differences by oracle."""


class LibraryCheck:
    """Compares a library with the reference, and its presets with its own backprop, which is autodiff where it has it.

    A problem's inputs are rounded to the target's precision first, for the reference too. An approximate gradient is
    compared with the same approximation by the reference.
    """

    def __init__(self, runtime: Runtime, precision: str) -> None:
        self.runtime, self.precision = runtime, precision
        self._references: dict[tuple[str, ...], Values] = {}
        self._backprops: dict[tuple[str, str], Values] = {}

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Those of the library."""
        return self.runtime.active()

    def facts(self) -> dict[str, str]:
        """Those of the library."""
        return self.runtime.facts()

    def run(self, case: Case) -> Found:
        """Check an invariant; or compare with the reference, and with backprop if that has run before."""
        problem = PROBLEMS[case.problem]
        inputs = draw_inputs(problem, case.method, single=self.precision == "f32")
        options = solve_options(problem, case.method, case.preset, case.correction)
        if case.aspect in INVARIANTS:
            return {case.aspect: check_invariant(case.aspect, self.runtime, problem, inputs, options)}
        outcome = self.runtime.run(problem, inputs, options)
        found = {"reference": self._compare(case, outcome, self._reference(case, problem, inputs))}
        if case.preset == "backprop":
            if all(difference.is_ok for difference in found["reference"]):
                to_numpy = self.runtime.to_numpy
                self._backprops[case.pair] = {
                    name: optree.tree_map(to_numpy, tree) for name, tree in outcome.got.items()
                }
        elif case.pair in self._backprops and not case.aspect and not is_approximate(case.method, case.preset):
            found["backprop"] = self._compare(case, outcome, self._backprops[case.pair])
        return found

    def _reference(self, case: Case, problem: Problem, inputs: Inputs) -> Values:
        preset = case.preset if is_approximate(case.method, case.preset) else "stages"
        key = (*case.pair, preset, case.correction)
        if key not in self._references:
            self._references[key] = reference_values(problem, inputs, case.method, preset, case.correction)
        return self._references[key]

    def _compare(self, case: Case, outcome: Outcome, expected: Values) -> list[Difference]:
        comparison = Comparison(case.condition, EPS[self.precision], self.runtime.to_numpy)
        return [
            difference
            for name, values in expected.items()
            if name not in outcome.lacks
            for difference in comparison.trees(name, outcome.got[name], outcome.like[name], values)
        ]
