"""The suite proves itself: every fault put in on purpose fails the run, and the cell that shows it is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import array_api_strict
import numpy as np
import pytest
from typer.testing import CliRunner

from janode.backends import registry
from janode.backends.eager import EagerBackend
from janode.conformance.command import app
from janode.conformance.problems import PROBLEMS
from janode.core.adjoint import RECOVERIES
from janode.core.grids import FixedGrid
from janode.core.records import Carries
from janode.core.recovery import Kept
from janode.core.runge_kutta import RungeKutta
from janode.core.tableaus import TABLEAUS

Patch = pytest.MonkeyPatch
Fault = Callable[[Patch], None]
Entry = tuple[Fault, str, str]
"""What breaks janode, the arguments of the run, the cell and the words that must be in its output."""
FAULTS: dict[str, Entry] = {}
"""By name."""


def fault(arguments: str, told: str) -> Callable[[Fault], Fault]:
    def add(function: Fault) -> Fault:
        FAULTS[function.__name__] = (function, arguments, told)
        return function

    return add


def run(arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--jobs", "0", *arguments.split()])
    return result.exit_code, " ".join(result.output.split())


def runs_of(faults: dict[str, Entry]) -> list[str]:
    """The arguments of all their runs."""
    return sorted({arguments for _, arguments, _ in faults.values()})


def check_caught(entry: Entry, patch: Patch) -> None:
    """The fault fails the run by the cell that must show it."""
    breaks, arguments, told = entry
    breaks(patch)
    code, output = run(arguments)
    assert code == 1, output
    assert f"failed {told}" in output


def check_clean(arguments: str) -> None:
    """Without a fault the run passes."""
    code, output = run(arguments)
    assert code == 0, output
    assert " ran " in output


def change_field(patch: Patch, problem: str, change: Callable[..., Any]) -> None:
    """Replaces what a field's vjp returns by change(t, y, params, f_bar, cotangents)."""
    right = PROBLEMS[problem]

    def vjp(*arguments: Any) -> Any:
        return change(*arguments, right.field.vjp(*arguments))

    patch.setitem(PROBLEMS, problem, dataclasses.replace(right, field=dataclasses.replace(right.field, vjp=vjp)))


def change_backend(patch: Patch, name: str, backend: type[EagerBackend]) -> None:
    """Replaces the backend of NumPy or array-api-strict."""
    xp = array_api_strict if name == "array_api_strict" else registry.find_backend(name).xp  # type: ignore[attr-defined]
    patch.setitem(registry._registered, name, backend(xp, name))


RK4_AFFINE = "--problem affine --method rk4 --preset symplectic"


@fault(f"--target numpy-cpu-f64 {RK4_AFFINE}", "reference/affine/rk4/textbook: textbook: params_bar['m']: differs")
def wrong_sign_in_a_vjp(patch: Patch) -> None:
    def change(t: Any, y: Any, params: Any, f_bar: Any, bars: Any) -> Any:
        return bars[0], bars[1], {**bars[2], "m": -bars[2]["m"]}

    change_field(patch, "affine", change)


@fault(
    "--target torch-cpu-f64 --problem linear --method rk4 --preset symplectic",
    "torch-cpu-f64/linear/rk4/symplectic: reference: y0_bar: differs",
)
def transposed_jacobian(patch: Patch) -> None:
    change_field(patch, "linear", lambda t, y, matrix, f_bar, bars: (bars[0], matrix @ f_bar, bars[2]))


@fault(f"--target numpy-cpu-f64 {RK4_AFFINE}", "reference/affine/rk4/textbook: textbook: ts_bar: differs")
def missing_time_cotangent_of_a_field(patch: Patch) -> None:
    change_field(patch, "affine", lambda t, y, params, f_bar, bars: (None, *bars[1:]))


@fault(f"--target numpy-cpu-f64 {RK4_AFFINE}", "reference/affine/rk4/textbook: textbook: ts_bar: differs")
def wrong_time_cotangent_of_a_step(patch: Patch) -> None:
    right = FixedGrid.place_vjp

    def place_vjp(ops: Any, ts_bar: Any, step: Any, t_bar: Any, h_bar: Any) -> Any:
        k, start, share = step
        return right(ops, ts_bar, (k, start + share, share), t_bar, h_bar)

    patch.setattr(FixedGrid, "place_vjp", staticmethod(place_vjp))


@fault(
    f"--target numpy-cpu-f64 {RK4_AFFINE}", "numpy-cpu-f64/affine/rk4/symplectic: ValueError: output array is read-only"
)
def inputs_written_to(patch: Patch) -> None:
    right = PROBLEMS["affine"]

    def fn(t: Any, y: Any, params: Any) -> Any:
        y += 0.0
        return right.field.fn(t, y, params)

    patch.setitem(PROBLEMS, "affine", dataclasses.replace(right, field=dataclasses.replace(right.field, fn=fn)))


@fault(
    "--target torch-cpu-f64 --problem affine --method dopri5 --preset stages",
    "reference/affine/dopri5/textbook: textbook: ys: differs",
)
def stale_stage(patch: Patch) -> None:
    right = RungeKutta.step

    def step(self: RungeKutta, ops: Any, carry: Any, h: Any) -> Any:
        """Its fourth stage uses the slope of the second in place of that of the third."""
        requests, slopes = right(self, ops, carry, h), []
        y = next(requests)
        while True:
            slopes.append((yield y))
            try:
                y = requests.send(slopes[1] if len(slopes) == 3 else slopes[-1])
            except StopIteration as done:
                return done.value

    patch.setattr(RungeKutta, "step", step)


@fault(
    "--target numpy-cpu-f64 --problem affine --method dopri5 --preset symplectic",
    "reference/affine/dopri5/exact: exact: ys: differs",
)
def perturbed_tableau_coefficient(patch: Patch) -> None:
    right, slip = TABLEAUS["dopri5"], Fraction(1, 10**8)
    b = (right.b[0] + slip, right.b[1] - slip, *right.b[2:])
    patch.setitem(TABLEAUS, "dopri5", dataclasses.replace(right, b=b))


@fault(
    "--target numpy-cpu-f64 --problem lotka_volterra --method rk4 --preset symplectic",
    "numpy-cpu-f64/lotka_volterra/rk4/symplectic: reference: y0_bar['hare']: differs",
)
def recovery_at_a_wrong_step_size(patch: Patch) -> None:
    class Off(Carries):
        def linearizations(self, sweep: Any, record: Any, moment: Any) -> Any:
            return super().linearizations(sweep, record, moment._replace(h=moment.h * (1 + 1e-9)))

    patch.setitem(RECOVERIES, "symplectic", Kept(Off()))


STRICT = "--target strict-device1-f64 --problem affine --method rk4 --preset symplectic"
FAILED = "strict-device1-f64/affine/rk4/symplectic: reference: "


@fault(STRICT, f"{FAILED}ys: differs")
def dropped_stage_weight(patch: Patch) -> None:
    class Drops(EagerBackend):
        def linear_combination(self, base: Any, scale: Any, coefficients: Any, terms: Any) -> Any:
            kept = len(terms) - (base is not None and len(terms) == 4)
            return super().linear_combination(base, scale, coefficients[:kept], terms[:kept])

    change_backend(patch, "array_api_strict", Drops)


@fault(STRICT, f"{FAILED}ts_bar: differs")
def wrong_inner_product(patch: Patch) -> None:
    class Negates(EagerBackend):
        def pair(self, left: Any, right: Any) -> Any:
            return -super().pair(left, right)

    change_backend(patch, "array_api_strict", Negates)


@fault(STRICT, f"{FAILED}params_bar['c']: differs")
def parameters_of_the_last_step_only(patch: Patch) -> None:
    class Forgets(EagerBackend):
        def accumulate(self, total: Any, addends: Any) -> Any:
            return super().accumulate(self.zeros(total), addends)

    change_backend(patch, "array_api_strict", Forgets)


@fault(STRICT, f"{FAILED}ys: must have device")
def outputs_on_another_device(patch: Patch) -> None:
    class Moves(EagerBackend):
        def stack(self, buffer: Any) -> Any:
            return tuple(leaf.to_device(array_api_strict.Device("CPU_DEVICE")) for leaf in super().stack(buffer))

    change_backend(patch, "array_api_strict", Moves)


@fault(STRICT, f"{FAILED}ts_bar: must have namespace array_api_strict; got array_api_compat.numpy")
def time_cotangents_of_another_library(patch: Patch) -> None:
    class Leaks(EagerBackend):
        def stack(self, buffer: Any) -> Any:
            cpu = array_api_strict.Device("CPU_DEVICE")
            leaves = super().stack(buffer)
            return tuple(np.asarray(leaf.to_device(cpu)) if leaf.ndim == 1 else leaf for leaf in leaves)

    change_backend(patch, "array_api_strict", Leaks)


@fault(
    f"--target numpy-cpu-f32 {RK4_AFFINE}",
    "numpy-cpu-f32/affine/rk4/symplectic: reference: ts_bar: must have dtype float32; got float64",
)
def time_cotangents_of_another_dtype(patch: Patch) -> None:
    class Widens(EagerBackend):
        def stack(self, buffer: Any) -> Any:
            return tuple(leaf.astype(np.float64) if leaf.ndim == 1 else leaf for leaf in super().stack(buffer))

    change_backend(patch, "numpy", Widens)


@fault(
    STRICT, "strict-device1-f64/affine/rk4/symplectic: ZeroDivisionError: broken on purpose (test_conformance_faults"
)
def a_case_that_raises(patch: Patch) -> None:
    class Raises(EagerBackend):
        def stack(self, buffer: Any) -> Any:
            raise ZeroDivisionError("broken on purpose")

    change_backend(patch, "array_api_strict", Raises)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str, monkeypatch: Patch) -> None:
    check_caught(FAULTS[name], monkeypatch)


@pytest.mark.parametrize("arguments", runs_of(FAULTS))
def test_without_the_fault_the_same_run_passes(arguments: str) -> None:
    check_clean(arguments)
