"""Each invariant, what is read inside steps, and each look into a library can fail: faults put in on purpose."""

from __future__ import annotations

from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import optree
import pytest

from janode.backends import registry
from janode.backends.eager import EagerBackend
from janode.backends.jax import JaxBackend
from janode.backends.torch import TorchBackend, xp
from janode.conformance.cases import INVARIANTS
from janode.core import knots, taps
from janode.core.adaptive import AdaptiveSweep
from janode.core.grids import FixedGrid
from janode.manual_taps import Taps

from .test_conformance_faults import Entry, Fault, Patch, change_backend, check_caught, check_clean, runs_of
from .test_conformance_more_faults import MORE

FOUND: dict[str, Entry] = {}
STRICT, NUMPY = "--target strict-cpu-f64", "--target numpy-cpu-f64"


def fault(arguments: str, cell: str, told: str, selected: str = "") -> Any:
    def add(function: Fault) -> Fault:
        case = selected or cell.partition("/")[2]
        FOUND[function.__name__] = (function, f"{arguments} --select {case}", f"{cell}: {told}")
        return function

    return add


def invariant(name: str, target: str = "strict-cpu-f64") -> str:
    """The first case of an invariant."""
    problem, method = INVARIANTS[name][0]
    return f"{target}/{problem}/{method}/symplectic/{name}"


@fault(STRICT, invariant("dot_product"), "dot_product: ts_bar: differs")
def wrong_inner_product(patch: Patch) -> None:
    class Negates(EagerBackend):
        def pair(self, left: Any, right: Any) -> Any:
            return -super().pair(left, right)

    change_backend(patch, "array_api_strict", Negates)


@fault(STRICT, invariant("splitting"), "splitting: ys: differs")
def first_step_of_another_size(patch: Patch) -> None:
    right = FixedGrid.place

    def place(ts: Any, k: Any, start: Any, share: Any) -> Any:
        t, h = right(ts, k, start, share)
        return t, h * (1 + 1e-9 * (k == 0 and start == 0.0))

    patch.setattr(FixedGrid, "place", staticmethod(place))


@fault(STRICT, invariant("time_reversal"), "time_reversal: ys: differs")
def times_without_their_sign(patch: Patch) -> None:
    class Unsigned(EagerBackend):
        def time(self, t: Any, like: Any) -> Any:
            return super().time(abs(t), like)

    change_backend(patch, "array_api_strict", Unsigned)


@fault(STRICT, invariant("batch_mates"), "batch_mates: ys: differs")
def rows_that_see_each_other(patch: Patch) -> None:
    class Mixes(EagerBackend):
        def linear_combination(self, base: Any, scale: Any, coefficients: Any, terms: Any) -> Any:
            leaves = super().linear_combination(base, scale, coefficients, terms)
            return tuple(leaf + 1e-9 * array_api_strict.mean(leaf) for leaf in leaves)

    change_backend(patch, "array_api_strict", Mixes)


@fault(
    "--target torch-cpu-f32", invariant("precision", "torch-cpu-f32"), "precision: dtypes: no array may be of double"
)
def double_precision_inside_a_step_of_torch(patch: Patch) -> None:
    class Widens(TorchBackend):
        def linear_combination(self, base: Any, scale: Any, coefficients: Any, terms: Any) -> Any:
            leaves = super().linear_combination(base, scale, coefficients, terms)
            return tuple(leaf.double().to(leaf.dtype) for leaf in leaves)

    patch.setitem(registry._registered, "torch", Widens(xp, "torch"))


@fault(
    "--target jax-jit-cpu-f32", invariant("precision", "jax-jit-cpu-f32"), "precision: dtypes: no array may be of do"
)
def double_precision_inside_a_step_of_jax(patch: Patch) -> None:
    class Widens(JaxBackend):
        def linear_combination(self, base: Any, scale: Any, coefficients: Any, terms: Any) -> Any:
            leaves = super().linear_combination(base, scale, coefficients, terms)
            return tuple(leaf.astype(jnp.float64).astype(leaf.dtype) for leaf in leaves)

    patch.setitem(registry._registered, "jax", Widens())


@fault("--target torch-cpu-f64", invariant("host_reads", "torch-cpu-f64"), "host_reads: reads: must not read numbers")
def number_read_in_every_step_of_torch(patch: Patch) -> None:
    class Reads(TorchBackend):
        def time(self, t: Any, like: Any) -> Any:
            return super().time(t + 0.0 * float(like.detach()[0]), like)

    patch.setitem(registry._registered, "torch", Reads(xp, "torch"))


@fault(
    "--target jax-jit-cpu-f64", invariant("host_reads", "jax-jit-cpu-f64"), "host_reads: reads: must not read numbers"
)
def number_read_in_every_step_of_jax(patch: Patch) -> None:
    class Reads(JaxBackend):
        def time(self, t: Any, like: Any) -> Any:
            jax.debug.callback(lambda value: None, t)
            return super().time(t, like)

    patch.setitem(registry._registered, "jax", Reads())


def textbook(problem: str, told: str, method: str = "dopri5") -> Any:
    """A fault that the textbook's solve on the same steps must find."""
    case = f"{problem}/{method}"
    return fault(NUMPY, f"reference/{case}/textbook", f"textbook: {told}: differs", f"{case}/symplectic")


@textbook("adaptive", "ys['hare']")
def stale_slope_of_the_step_before(patch: Patch) -> None:
    """First same as last: the step after the third accepted one starts with the slope that the third one did."""
    right = AdaptiveSweep._accepted

    def accepted(self: AdaptiveSweep, record: Any, walk: Any, *rest: Any) -> Any:
        after = right(self, record, walk, *rest)
        return after._replace(first=walk.first) if after.num_accepted == 3 else after

    patch.setattr(AdaptiveSweep, "_accepted", accepted)


@textbook("adaptive", "ts_bar")
def time_cotangents_of_states_between_steps_dropped(patch: Patch) -> None:
    right = taps.drawn
    patch.setattr(taps, "drawn", lambda *given: right(*given[:-1], None))


@textbook("thrown", "params_bar")
def event_whose_time_has_no_gradient(patch: Patch) -> None:
    right = Taps.pull_event

    def pull_event(self: Taps, sweep: Any, happened: Any, event_bar: Any, theta: Any) -> Any:
        return right(self, sweep, happened, (0.0 * event_bar[0], event_bar[1]), theta)

    patch.setattr(Taps, "pull_event", pull_event)


@textbook("thrown", "params_bar")
def cotangents_of_dense_output_dropped(patch: Patch) -> None:
    def give(self: Any, sweep: Any, state: Any, place: Any, bars: Any, n: Any, step: Any, inside: Any) -> Any:
        return place, bars.ts, inside

    patch.setattr(taps.KeepDense, "give", give)


@textbook("knotted", "ts_bar", "rk4")
def controls_on_knots_without_slope(patch: Patch) -> None:
    right = knots.Weights.derivative
    patch.setattr(knots.Weights, "derivative", lambda self, t: 0.0 * right(self, t))


@textbook("held", "ys")
def wrong_side_of_a_jump(patch: Patch) -> None:
    patch.setattr(AdaptiveSweep, "_on_side", lambda self, time, step, c, like: time)


@textbook("clipped", "params_bar['k']")
def step_taken_again_from_another_state(patch: Patch) -> None:
    right = AdaptiveSweep.redone

    def redone(self: AdaptiveSweep, *given: Any) -> Any:
        carry, record = right(self, *given)
        return optree.tree_map(lambda leaf: leaf * (1 + 1e-9), carry), record

    patch.setattr(AdaptiveSweep, "redone", redone)


@pytest.mark.parametrize("name", FOUND)
def test_a_fault_is_caught(name: str, monkeypatch: Patch) -> None:
    check_caught(FOUND[name], monkeypatch)


@pytest.mark.parametrize("arguments", runs_of(FOUND))
def test_without_the_fault_the_same_run_passes(arguments: str) -> None:
    check_clean(arguments)


def test_every_invariant_has_a_fault() -> None:
    told = " ".join(arguments for _, arguments, _ in [*FOUND.values(), *MORE.values()])
    assert all(f"/{name}" in told for name in INVARIANTS)
