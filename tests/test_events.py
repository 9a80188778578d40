"""Events: found, ordered, refused, and differentiated like the solution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax
import janode.numpy as jo
import janode.torch

from .event_problem import (
    PARAMS,
    PLACE,
    TS,
    WEIGHTS,
    Y0,
    differences,
    jax_loss,
    jax_solve,
    loss,
    numpy_gradient,
    numpy_solve,
    torch_gradient,
    torch_solve,
)


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """Differences of the solve itself: at these tolerances its grid hardly matters."""

    def value(y0: Any = Y0, params: Any = PARAMS, ts: Any = TS, place: Any = PLACE) -> float:
        return float(loss(numpy_solve(y0, params, ts)[0], float(place), np.asarray(WEIGHTS)))

    return [
        differences(lambda y0: value(y0=y0), Y0),
        differences(lambda params: value(params=params), PARAMS),
        differences(lambda ts: value(ts=ts), TS),
        differences(lambda place: value(place=place[0]), [PLACE])[0],
    ]


def check(found: list[Any], expected: list[Any]) -> None:
    for bar, difference in zip(found, expected, strict=True):
        np.testing.assert_allclose(bar, difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("adjoint", ["symplectic", "backprop", "stages", "aca", "restart"])
def test_gradient_by_numpy(adjoint: str, expected: list[Any]) -> None:
    check(numpy_gradient(adjoint), expected)


@pytest.mark.parametrize("adjoint", ["symplectic", "backprop", "stages", "aca", "restart"])
def test_gradient_by_torch(adjoint: str, expected: list[Any]) -> None:
    check(torch_gradient(adjoint), expected)


@pytest.mark.parametrize("adjoint", ["symplectic", "backprop", "stages", "aca", "restart"])
def test_gradient_by_jax(adjoint: str, expected: list[Any]) -> None:
    arguments = [jnp.asarray(value) for value in (Y0, PARAMS, TS, PLACE)]
    check(list(jax.grad(lambda *args: jax_loss(adjoint, *args), argnums=range(4))(*arguments)), expected)


SOLVES: dict[str, Callable[[], Any]] = {
    "numpy": lambda: numpy_solve()[0],
    "torch": lambda: torch_solve(*(torch.tensor(value, dtype=torch.float64) for value in (Y0, PARAMS, TS))),
    "jax": lambda: jax_solve(*map(jnp.asarray, (Y0, PARAMS, TS))),
}


@pytest.mark.parametrize("library", SOLVES)
def test_the_solution_ends_at_the_event(library: str) -> None:
    solution = SOLVES[library]()
    t, y = float(solution.event.t), np.asarray(solution.event.y)
    assert int(solution.event.index) == 0
    assert 0.5 < t < 5.0
    assert abs(y[0] - PARAMS[2] * t) < 1e-14
    assert not np.isfinite(np.asarray(solution.ys[2])).any()
    assert np.isfinite(np.asarray(solution.ys[:2])).all()
    np.testing.assert_allclose(solution.interpolant(t), y, rtol=1e-12, atol=1e-14)
    assert solution.interpolant.t1 == t


def oscillator(t: Any, y: Any) -> Any:
    return np.stack([y[1], -y[0]])


DIRECTIONS = {0: 0.5 * np.pi, -1: 0.5 * np.pi, 1: 1.5 * np.pi}


@pytest.mark.parametrize(("direction", "time"), DIRECTIONS.items(), ids=map(str, DIRECTIONS))
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["forwards", "backwards"])
def test_direction(direction: int, time: float, sign: float) -> None:
    event = jo.Event(lambda t, y: y[0], direction=direction)
    solution = jo.solve(oscillator, np.asarray([1.0, 0.0]), [0.0, sign * 10.0], rtol=1e-9, atol=1e-9, event=event)
    assert abs(solution.event.t - sign * time) < 1e-6


def test_the_first_of_several_events_ends_the_solve() -> None:
    events = [lambda t, y: y[0] + 0.5, lambda t, y: y[0] - 0.5, lambda t, y: t - 1.2]
    solution = jo.solve(oscillator, np.asarray([1.0, 0.0]), [0.0, 10.0], rtol=1e-9, atol=1e-9, event=events)
    assert solution.event.index == 1
    assert abs(solution.event.t - np.pi / 3) < 1e-7


def test_an_event_that_is_zero_at_the_start_has_not_happened() -> None:
    solution = jo.solve(oscillator, np.asarray([0.0, 1.0]), [0.0, 10.0], rtol=1e-9, atol=1e-9, event=lambda t, y: y[0])
    assert abs(solution.event.t - np.pi) < 1e-6


def test_two_crossings_in_one_step_are_seen_where_samples_lie_between() -> None:
    def bump(t: Any, y: Any) -> Any:
        return (t - 0.4) * (t - 0.6)

    controller = jo.PIController(first_step=1.0)
    options: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3, "controller": controller}
    still = np.zeros(1), [0.0, 1.0]
    assert jo.solve(lambda t, y: 0 * y, *still, event=jo.Event(bump, samples=1), **options).event is None
    found = jo.solve(lambda t, y: 0 * y, *still, event=jo.Event(bump, samples=2), **options).event
    assert abs(found.t - 0.4) < 1e-12


def test_no_event_is_none() -> None:
    solution = jo.solve(oscillator, np.asarray([1.0, 0.0]), [0.0, 1.0], event=lambda t, y: y[0] + 2.0)
    assert solution.event is None
    assert np.isfinite(solution.ys).all()


def test_lanes_of_jax_have_events_of_their_own() -> None:
    def run(y0: Any) -> Any:
        return janode.jax.solve(
            lambda t, y: jnp.stack([y[1], -y[0]]), y0, [0.0, 2.0], event=lambda t, y: y[0], rtol=1e-9, atol=1e-9
        ).event

    def time(y0: Any) -> Any:
        event = run(y0)
        return jnp.where(event.index >= 0, event.t, 0.0)

    starts = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = jax.vmap(run)(starts)
    assert found.index.tolist() == [0, -1, -1]
    np.testing.assert_allclose(found.t, [0.5 * np.pi, np.nan, np.nan], rtol=1e-7)
    np.testing.assert_allclose(jax.vmap(jax.grad(time))(starts), [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], atol=1e-6)


def test_second_derivatives_of_an_event_are_refused_by_jax() -> None:
    arguments = [jnp.asarray(value) for value in (PARAMS, TS, PLACE)]
    gradient = jax.grad(lambda y0: jax_loss("backprop", y0, *arguments))
    with pytest.raises(janode.jax.InputError, match="events must be differentiated once"):
        jax.jacrev(gradient)(jnp.asarray(Y0))


def test_second_derivatives_of_an_event_are_refused_by_torch() -> None:
    y0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
    solution = janode.torch.solve(lambda t, y: -y, y0, [0.0, 2.0], event=lambda t, y: y - 0.5, adjoint="backprop")
    (y0_bar,) = torch.autograd.grad(solution.event.t, y0, create_graph=True)
    with pytest.raises(janode.torch.InputError, match="second derivatives"):
        torch.autograd.grad(y0_bar.sum(), y0)


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "not callable": (3, {}, "Event: fn must be callable; got int"),
    "empty": ([], {}, "event must hold at least one event; got none"),
    "many numbers": (lambda t, y: y, {}, r"an event must return one real number; got shape \(2,\)"),
    "fixed steps": (lambda t, y: y[0], {"steps": 3}, "event and dense must come with adaptive steps; got fixed ones"),
}


@pytest.mark.parametrize(("event", "options", "text"), BAD.values(), ids=BAD)
def test_bad_events_are_refused(event: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.solve(oscillator, np.asarray([1.0, 0.0]), [0.0, 1.0], event=event, **options)


OUT_OF_RANGE = {"direction": (2, "direction must be -1, 0 or 1; got 2"), "samples": (0, "samples must be at least 1")}


@pytest.mark.parametrize(("name", "value", "text"), [(k, *v) for k, v in OUT_OF_RANGE.items()], ids=OUT_OF_RANGE)
def test_an_event_out_of_range_is_refused(name: str, value: int, text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.Event(lambda t, y: y, **{name: value})


def test_an_event_without_vjp_has_no_cotangent() -> None:
    field = jo.Field(lambda t, y: -y, lambda t, y, f_bar: (None, -f_bar))
    solution, pullback = jo.solve_vjp(field, np.ones(1), [0.0, 2.0], event=lambda t, y: y[0] - 0.5)
    with pytest.raises(jo.InputError, match="an event must bring its vjp; got one without"):
        pullback(np.zeros_like(solution.ys), event_bar=(1.0, np.zeros(1)))
