"""Every adjoint preset gives the gradient of the discrete solution, to rounding; broken methods are caught."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import janode.array as jo
from janode.core.adjoint import RECOVERIES
from janode.core.grids import FixedGrid
from janode.core.protocols import Carry, Linearization, Moment, StageReply
from janode.core.records import Carries, StageInputs
from janode.core.recovery import Kept
from janode.core.runge_kutta import RungeKutta, Sparse
from janode.core.tableaus import DOPRI5, RK4, TABLEAUS, Tableau

from .problems import (
    FIELD,
    NUMPY,
    TARGETS,
    TS,
    Y0,
    YS_BAR,
    A,
    B,
    Counted,
    Target,
    X,
    assert_close,
    gradient,
    outputs,
    pack,
    packed,
    params,
    push,
    to_numpy,
)

PRESETS = list(RECOVERIES)
METHODS = ["euler", "midpoint", "rk4", "dopri5", "dopri8"]


def solve_vjp(
    method: Any, adjoint: Any, target: Target = NUMPY, ts: Any = TS, steps: Any = 3, **options: Any
) -> tuple[jo.Solution[Any], Callable[[Any], jo.Gradients[Any]]]:
    y0 = target.array(Y0)
    return jo.solve_vjp(FIELD, y0, ts, params(target), method=method, adjoint=adjoint, steps=steps, **options)


# The gradient of the discrete solution.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_gradient_is_that_of_the_discrete_solution(method: str, preset: str) -> None:
    _, pullback = solve_vjp(method, preset)
    assert_close(packed(pullback(YS_BAR)), gradient(X, YS_BAR, TABLEAUS[method]))


@pytest.mark.parametrize("method", TABLEAUS)
def test_gradient_of_every_tableau(method: str) -> None:
    _, pullback = solve_vjp(method, "auto")
    assert_close(packed(pullback(YS_BAR)), gradient(X, YS_BAR, TABLEAUS[method]))


@pytest.mark.parametrize("preset", PRESETS)
def test_gradient_backward_in_time_with_ragged_steps(preset: str) -> None:
    ts = (1.5, 1.25, 0.25)
    _, pullback = solve_vjp("dopri5", preset, ts=ts, steps=None, step_size=0.3)
    x = pack(Y0, {"A": A, "b": B}, ts)
    assert_close(packed(pullback(YS_BAR)), gradient(x, YS_BAR, DOPRI5, (1, 4)))


@pytest.mark.parametrize("preset", PRESETS)
def test_gradient_of_one_step(preset: str) -> None:
    _, pullback = solve_vjp("rk4", preset, ts=TS[:2], steps=1)
    x = pack(Y0, {"A": A, "b": B}, TS[:2])
    assert_close(packed(pullback(YS_BAR[:2])), gradient(x, YS_BAR[:2], RK4, (1,)))


NUMBERS = st.floats(-2.0, 2.0).map(lambda x: round(x, 3))
VECTORS = st.lists(NUMBERS, min_size=10, max_size=10).map(np.array)
COTANGENTS = st.lists(NUMBERS, min_size=6, max_size=6).map(lambda entries: np.reshape(entries, (3, 2)))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20)
@given(direction=VECTORS, ys_bar=COTANGENTS)
def test_push_and_pull_are_adjoint(method: str, direction: np.ndarray, ys_bar: np.ndarray) -> None:
    _, pullback = solve_vjp(method, "symplectic")
    pushed, pulled = push(X, direction, TABLEAUS[method]), packed(pullback(ys_bar))
    scale = np.sum(np.abs(pushed * ys_bar)) + np.sum(np.abs(pulled * direction))
    assert abs(np.sum(pushed * ys_bar) - np.sum(pulled * direction)) <= 1e-14 * scale


@pytest.mark.parametrize("preset", PRESETS)
@settings(max_examples=20)
@given(left=COTANGENTS, right=COTANGENTS, a=NUMBERS, b=NUMBERS)
def test_pullback_is_linear(preset: str, left: np.ndarray, right: np.ndarray, a: float, b: float) -> None:
    _, pullback = solve_vjp("rk4", preset)
    pulled, parts = packed(pullback(a * left + b * right)), (a * packed(pullback(left)), b * packed(pullback(right)))
    scale = 1.0 + np.max(np.abs(parts))
    np.testing.assert_allclose(pulled, sum(parts), rtol=0.0, atol=1e-13 * scale)


@pytest.mark.parametrize("preset", PRESETS)
def test_times_of_an_autonomous_field_may_be_shifted(preset: str) -> None:
    field = jo.Field(lambda t, y: -y * y, lambda t, y, f_bar: (None, -2.0 * y * f_bar))
    _, pullback = jo.solve_vjp(field, np.abs(Y0), TS, method="dopri5", steps=2, adjoint=preset)
    ts_bar = pullback(YS_BAR).ts
    assert np.max(np.abs(ts_bar)) > 0.01
    assert abs(np.sum(ts_bar)) < 1e-15


# One gradient for all presets and libraries.


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "backprop"])
@pytest.mark.parametrize("target", TARGETS)
def test_presets_agree_bitwise(target: str, preset: str) -> None:
    ys_bar = TARGETS[target].array(YS_BAR)
    _, expected = solve_vjp("dopri5", "backprop", TARGETS[target], steps=2)
    _, pullback = solve_vjp("dopri5", preset, TARGETS[target], steps=2)
    np.testing.assert_array_equal(packed(pullback(ys_bar)), packed(expected(ys_bar)))


@pytest.mark.parametrize("target", TARGETS)
def test_libraries_agree(target: str) -> None:
    solution, pullback = solve_vjp("rk4", "auto", TARGETS[target])
    # The reference starts from the numbers the target can hold.
    x, ys_bar = (to_numpy(TARGETS[target].array(numbers)).astype(np.float64) for numbers in (X, YS_BAR))
    assert_close(solution.ys, outputs(x, RK4))
    assert_close(packed(pullback(TARGETS[target].array(YS_BAR))), gradient(x, ys_bar, RK4))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("target", TARGETS)
def test_library_device_and_dtype_are_kept(target: str, preset: str) -> None:
    owns = TARGETS[target].owns
    solution, pullback = solve_vjp("rk4", preset, TARGETS[target], steps=1)
    gradients = pullback(TARGETS[target].array(YS_BAR))
    assert owns(solution.ys)
    assert owns(gradients.y0)
    assert owns(gradients.ts)
    assert owns(gradients.params["A"])
    assert owns(gradients.params["b"])


# The pullback as an object.


@pytest.mark.parametrize("preset", PRESETS)
def test_pullback_can_be_called_again(preset: str) -> None:
    _, pullback = solve_vjp("rk4", preset)
    first = packed(pullback(YS_BAR))
    pullback(np.ones_like(YS_BAR))
    np.testing.assert_array_equal(packed(pullback(YS_BAR)), first)


@pytest.mark.parametrize("preset", PRESETS)
def test_arguments_are_never_changed(preset: str) -> None:
    y0, theta, ys_bar = Y0.copy(), {"A": A.copy(), "b": np.array(B)}, YS_BAR.copy()
    _, pullback = jo.solve_vjp(FIELD, y0, TS, theta, method="rk4", steps=3, adjoint=preset)
    gradients = pullback(ys_bar)
    gradients.y0[:] = gradients.params["A"][:] = gradients.ts[:] = np.nan
    np.testing.assert_array_equal(np.concatenate([pack(y0, theta, TS), ys_bar.ravel()]), [*X, *YS_BAR.ravel()])


@pytest.mark.parametrize("preset", PRESETS)
def test_solution_of_a_gradient_is_that_of_a_solve(preset: str) -> None:
    solution, _ = solve_vjp("dopri5", preset)
    plain = jo.solve(FIELD, Y0, TS, params(), method="dopri5", steps=3)
    np.testing.assert_array_equal(solution.ys, plain.ys)
    assert_close(solution.ys, outputs(X, DOPRI5))


# Methods, recoveries and grids broken on purpose: the checks above must see them.


def check(method: Any = "rk4", adjoint: Any = "symplectic", tableau: Tableau = RK4) -> None:
    solution, pullback = solve_vjp(method, adjoint)
    assert_close(solution.ys, outputs(X, tableau))
    assert_close(packed(pullback(YS_BAR)), gradient(X, YS_BAR, tableau))


class WrongSign(RungeKutta):
    def step_vjp(self, *args: Any) -> Generator[Any, StageReply, Any]:
        carry_bar, h_bar = yield from super().step_vjp(*args)
        return tuple(tuple(-leaf for leaf in state) for state in carry_bar), h_bar


class DroppedWeight(RungeKutta):
    @property
    def _columns(self) -> tuple[Sparse, ...]:
        return (Sparse((), ()), *super()._columns[1:])


class TransposedRows(RungeKutta):
    """The pullback with the coefficients of the step in place of their transpose."""

    @property
    def _columns(self) -> tuple[Sparse, ...]:
        b, s = self.tableau.floats.b, len(self.c)
        return tuple(
            Sparse((*row.coefficients, b[i]), (*(s - 1 - j for j in row.places), s)) if i else Sparse((b[0],), (s,))
            for i, row in enumerate(reversed(self._rows))
        )


class UnpairedStep(RungeKutta):
    def step_vjp(self, *args: Any) -> Generator[Any, StageReply, Any]:
        carry_bar, h_bar = yield from super().step_vjp(*args)
        return carry_bar, 0.0 * h_bar


class WrongNodes(RungeKutta):
    @property
    def c(self) -> tuple[float, ...]:
        return tuple(reversed(super().c))


class StaleStage(RungeKutta):
    """The first stage's slope in place of the last one's."""

    def step(self, ops: Any, carry: Carry, h: Any) -> Generator[Any, Any, Carry]:
        requests = super().step(ops, carry, h)
        y, slopes = next(requests), []
        try:
            while True:
                slopes.append((yield y))
                y = requests.send(slopes[0] if len(slopes) == len(self.c) else slopes[-1])
        except StopIteration as done:
            return done.value


MUTANTS = [WrongSign, DroppedWeight, TransposedRows, UnpairedStep, WrongNodes, StaleStage]


@pytest.mark.parametrize("adjoint", PRESETS)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_broken_methods_are_caught(mutant: type[RungeKutta], adjoint: str) -> None:
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(mutant(RK4), adjoint)


class LateCarries(Carries):
    """Keeps the carry after the step."""

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        after, _ = super().advance(sweep, carry, moment)
        return after, after


class SwappedStages(StageInputs):
    """Linearizes the stages in the wrong order."""

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        return super().linearizations(sweep, record[::-1], moment)


@pytest.mark.parametrize("record", [LateCarries, SwappedStages])
def test_broken_records_are_caught(record: type[Any]) -> None:
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(adjoint=Kept(record()))


def test_a_broken_grid_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = FixedGrid.place_vjp

    def broken(ops: Any, ts_bar: Any, step: Any, t_bar: Any, h_bar: Any) -> Any:
        return exact(ops, ts_bar, (step[0], 0.0, step[2]), t_bar, h_bar)

    monkeypatch.setattr(FixedGrid, "place_vjp", staticmethod(broken))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check()


def test_a_wrong_vjp_of_the_user_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(vjp=lambda t, y, p, f_bar: (None, p["A"] @ f_bar, None))
    monkeypatch.setitem(globals(), "FIELD", counted.field)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check()
    assert counted.num_vjps == 24


def test_an_unbroken_method_passes() -> None:
    check(RungeKutta(RK4))
    check(adjoint=Kept(StageInputs()))
