"""More faults put in on purpose, each of which must fail the run by its id: steps, nodes, precision, gradients."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction
from typing import Any

import array_api_strict
import numpy as np
import pytest

from janode.backends.eager import EagerBackend
from janode.backends.numpy import NumpyBackend
from janode.conformance.problems import PROBLEMS
from janode.core import corrected
from janode.core.controls import NodeLayout
from janode.core.grids import FixedGrid
from janode.core.reversible import ReversibleCoupling
from janode.core.tableaus import TABLEAUS

from .test_conformance_faults import FAILED as STRICT_CELL
from .test_conformance_faults import (
    FAULTS,
    RK4_AFFINE,
    STRICT,
    Entry,
    Fault,
    Patch,
    change_backend,
    change_field,
    check_caught,
    check_clean,
    runs_of,
)

MORE: dict[str, Entry] = {}
NUMPY = "--target numpy-cpu-f64"


def fault(arguments: str, told: str) -> Any:
    def add(function: Fault) -> Fault:
        MORE[function.__name__] = (function, arguments, told)
        return function

    return add


@fault(STRICT, f"{STRICT_CELL}params_bar['c']: differs")
def single_precision_totals(patch: Patch) -> None:
    class Narrows(EagerBackend):
        def accumulate(self, total: Any, addends: Any) -> Any:
            xp = array_api_strict
            totals = super().accumulate(total, addends)
            return tuple(xp.astype(xp.astype(leaf, xp.float32), leaf.dtype) for leaf in totals)

    change_backend(patch, "array_api_strict", Narrows)


@fault(
    f"{NUMPY} --problem steered --method rk4 --preset symplectic --select steered/rk4/symplectic",
    "reference/steered/rk4/textbook: textbook: ys: differs",
)
def wrong_node_shared(patch: Patch) -> None:
    right = NodeLayout.places

    def places(self: NodeLayout, phase: Any, c: Any = None) -> Any:
        """The end of a step reads the node of its start."""
        return tuple(0 if place is None else place for place in right(self, phase, c))

    patch.setattr(NodeLayout, "places", places)


@fault(STRICT, f"{STRICT_CELL}ys: differs")
def states_saved_one_time_too_early(patch: Patch) -> None:
    class Early(EagerBackend):
        def put(self, buffer: Any, index: Any, row: Any, where: Any = True) -> Any:
            return super().put(buffer, max(0, index - 1), row, where)

    change_backend(patch, "array_api_strict", Early)


@fault(f"{NUMPY} {RK4_AFFINE}", "reference/affine/rk4/exact: exact: ys: must be near what is exact")
def time_reversed(patch: Patch) -> None:
    def place(ts: Any, k: Any, start: Any, share: Any) -> Any:
        interval = ts[k + 1] - ts[k]
        return ts[k + 1] - start * interval, share * interval

    patch.setattr(FixedGrid, "place", staticmethod(place))


@fault(f"{NUMPY} {RK4_AFFINE}", "numpy-cpu-f64/affine/rk4/symplectic: reference: ys: differs")
def field_that_is_not_deterministic(patch: Patch) -> None:
    right, calls = PROBLEMS["affine"], itertools.count()

    def fn(*arguments: Any) -> Any:
        return right.field.fn(*arguments) + 1e-9 * np.sin(next(calls))

    patch.setitem(PROBLEMS, "affine", dataclasses.replace(right, field=dataclasses.replace(right.field, fn=fn)))


@fault(f"{NUMPY} {RK4_AFFINE}", "reference/affine/rk4/textbook: textbook: ys: differs")
def aliased_buffer(patch: Patch) -> None:
    class Reuses(NumpyBackend):
        """All sums of a shape lie in the same memory."""

        _made: dict[Any, Any] = {}  # noqa: RUF012

        def linear_combination(self, base: Any, scale: Any, coefficients: Any, terms: Any) -> Any:
            leaves = super().linear_combination(base, scale, coefficients, terms)
            if base is None:
                return leaves
            shared = [self._made.setdefault((leaf.shape, leaf.dtype), np.array(leaf)) for leaf in leaves]
            for buffer, leaf in zip(shared, leaves, strict=True):
                np.copyto(buffer, leaf)
            return tuple(shared)

    change_backend(patch, "numpy", Reuses)


@fault(f"{NUMPY} {RK4_AFFINE}", "reference/affine/rk4/textbook: textbook: params_bar['c']: differs")
def missing_parameter_gradient(patch: Patch) -> None:
    change_field(patch, "affine", lambda t, y, params, f_bar, bars: (*bars[:2], {**bars[2], "c": None}))


@fault(f"{NUMPY} --select steered/leapfrog/symplectic", "reference/steered/leapfrog/textbook: textbook: controls_bar['")
def corrected_where_exact_was_asked(patch: Patch) -> None:
    def controls(self: Any, backward: Any, sent: Any) -> Any:
        legal = corrected._corrections(backward.sweep.method)
        return legal["filter"].controls(backward, sent)

    patch.setattr(corrected.NoCorrection, "controls", controls)


@fault(f"--target numpy-cpu-f32 {RK4_AFFINE}", "numpy-cpu-f32/affine/rk4/symplectic: InputError: solve_vjp: the field")
def times_of_another_dtype(patch: Patch) -> None:
    class Widens(NumpyBackend):
        def time(self, t: Any, like: Any) -> Any:
            return np.full(like.shape, t, dtype=np.float64)

    change_backend(patch, "numpy", Widens)


@fault(
    f"{NUMPY} --select adaptive/dopri5/symplectic", "reference/adaptive/dopri5/tolerance: tolerance: number of steps:"
)
def wrong_error_estimate(patch: Patch) -> None:
    right, slip = TABLEAUS["dopri5"], Fraction(1, 100)
    assert right.b_error is not None
    first, second, third, *others = right.b_error
    wrong = dataclasses.replace(right, b_error=(first + slip, second, third - slip, *others))
    patch.setitem(TABLEAUS, "dopri5", wrong)


HOST = "affine/dopri5/symplectic/host_reads"


@fault(
    f"--target strict-cpu-f64 --select {HOST}", f"strict-cpu-f64/{HOST}: host_reads: reads: must not read numbers in"
)
def number_read_in_every_step(patch: Patch) -> None:
    class Reads(EagerBackend):
        def time(self, t: Any, like: Any) -> Any:
            return super().time(t + 0.0 * float(like[0]), like)

    change_backend(patch, "array_api_strict", Reads)


NARROW = "network/dopri5/symplectic/precision"


@fault(
    f"--target numpy-cpu-f32 --select {NARROW}", f"numpy-cpu-f32/{NARROW}: precision: dtypes: no array may be of double"
)
def double_precision_inside_a_step(patch: Patch) -> None:
    class Widens(NumpyBackend):
        def linear_combination(self, base: Any, scale: Any, coefficients: Any, terms: Any) -> Any:
            wide = [tuple(leaf.astype(np.float64) for leaf in term) for term in terms]
            leaves = super().linear_combination(base, scale, coefficients, wide)
            return tuple(leaf.astype(like.dtype) for leaf, like in zip(leaves, terms[0], strict=True))

    change_backend(patch, "numpy", Widens)


LINEAR = "lotka_volterra/dopri5/symplectic/linearity"


@fault(f"--target strict-cpu-f64 --select {LINEAR}", f"strict-cpu-f64/{LINEAR}: linearity: y0_bar: differs")
def totals_that_do_not_start_at_zero(patch: Patch) -> None:
    class Offset(EagerBackend):
        def zeros(self, like: Any, wide: bool = False) -> Any:
            return tuple(leaf + 1e-6 for leaf in super().zeros(like, wide))

    change_backend(patch, "array_api_strict", Offset)


BACK = "affine/reversible(tsit5)/reversible"


@fault(f"{NUMPY} --select {BACK}", f"numpy-cpu-f64/{BACK}: reference: params_bar['k']: differs")
def inverse_that_is_not_one(patch: Patch) -> None:
    right = ReversibleCoupling.step_back

    def step_back(self: Any, ops: Any, carry: Any, h: Any) -> Any:
        y, z = yield from right(self, ops, carry, h)
        return ops.linear_combination(y, 1.0, (1e-6,), (z,)), z

    patch.setattr(ReversibleCoupling, "step_back", step_back)


@pytest.mark.parametrize("name", MORE)
def test_a_fault_is_caught(name: str, monkeypatch: Patch) -> None:
    check_caught(MORE[name], monkeypatch)


@pytest.mark.parametrize("arguments", runs_of(MORE))
def test_without_the_fault_the_same_run_passes(arguments: str) -> None:
    check_clean(arguments)


def test_no_fault_stands_twice() -> None:
    assert not set(MORE) & set(FAULTS)
