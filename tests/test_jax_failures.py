"""What JAX solves refuse before any step, and how they say that a state became infinite or that times are wrong."""

from collections.abc import Callable
from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax as jo

RK4 = {"method": "rk4", "steps": 2}
Y0 = jnp.array([0.5, -1.0])
TS = [0.0, 0.5, 1.0]


def decay(t: Any, y: Any) -> Any:
    return -y


# Arguments.


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(jo.InputError) as caught:
        jo.solve(*args, **options)
    return str(caught.value)


class Opaque:
    """Not an array."""

    def __repr__(self) -> str:  # part of a test id, which must not change from run to run
        return "Opaque"


@pytest.mark.parametrize(
    ("y0", "text"),
    [
        (
            {"a": Y0, "b": "x"},
            "solve: y0['b'] must be an array of numbers; got str. Convert it with jax.numpy.asarray.",
        ),
        (Opaque(), "solve: y0 must be an array of numbers; got Opaque."),
        (torch.ones(2), "solve: y0 must be an array of numbers; got Tensor."),
        (array_api_strict.ones(2), "solve: y0 must be an array of numbers; got Array."),
        (jax.random.key(0), "solve: y0 must be an array of numbers; got PRNGKeyArray of dtype key<fry>."),
        (np.array(["x"]), "solve: y0 must be an array of numbers; got ndarray of dtype <U1."),
        (np.array([True]), "solve: y0 must be an array of numbers; got ndarray of dtype bool."),
        (True, "solve: y0 must be a real or complex floating-point array; got dtype bool."),
        ((Y0, jnp.arange(2)), "solve: y0[1] must be a real or complex floating-point array; got dtype int64."),
        (3, "solve: y0 must be a real or complex floating-point array; got dtype int64."),
        ({}, "solve: y0 must have at least one array; got none. Give the initial state."),
        (None, "solve: y0 must have at least one array; got none."),
        ([Y0, jnp.array([1.0, jnp.inf])], "solve: y0 must be finite; got an infinite or NaN entry."),
        (jnp.array(jnp.nan, jnp.bfloat16), "solve: y0 must be finite; got an infinite or NaN entry."),
    ],
    ids=str,
)
def test_states_that_are_refused(y0: Any, text: str) -> None:
    assert refusal(decay, y0, TS, **RK4).startswith(text)


def test_a_start_that_is_not_finite_is_refused_within_jit_where_it_is_known() -> None:
    bad = jnp.array([1.0, jnp.nan])
    with pytest.raises(jo.InputError, match="solve: y0 must be finite"):
        jax.jit(lambda k: jo.solve(lambda t, y, k: -k * y, bad, TS, k, **RK4).ys)(0.5)


@pytest.mark.parametrize(
    ("ts", "text"),
    [
        ([0.0], "solve: ts must have at least 2 entries; got 1."),
        (
            [0.0, 1.0, 1.0],
            "solve: ts must be strictly increasing or strictly decreasing; got ts[1] = 1.0, ts[2] = 1.0.",
        ),
        (jnp.array([0.0, 2.0, 1.0]), "solve: ts must be strictly increasing or strictly decreasing; got ts[1] = 2.0,"),
        ([0.0, np.inf], "solve: ts must be finite; got ts[1] = inf."),
        (1.0, "solve: ts must be a sequence of real numbers; got 1.0."),
        ("ab", "solve: ts must be a sequence of real numbers; got 'ab'."),
        ([0.0, 1j], "solve: ts must be a sequence of real numbers; got [0.0, 1j]."),
        (np.zeros((2, 2)), "solve: ts must be a sequence of real numbers; got array("),
    ],
    ids=str,
)
def test_times_that_are_refused(ts: Any, text: str) -> None:
    assert refusal(decay, Y0, ts, **RK4).startswith(text)


@pytest.mark.parametrize(
    ("ts", "got"),
    [
        (jnp.array([0.0]), "got shape (1,) and dtype float64"),
        (jnp.array(0.0), "got shape () and dtype float64"),
        (jnp.array([[0.0, 1.0], [2.0, 3.0]]), "got shape (2, 2) and dtype float64"),
        (jnp.array([0.0, 1j]), "got shape (2,) and dtype complex128"),
    ],
    ids=str,
)
def test_traced_times_that_are_refused(ts: Any, got: str) -> None:
    with pytest.raises(jo.InputError) as caught:
        jax.jit(lambda ts: jo.solve(decay, Y0, ts, **RK4).ys)(ts)
    wanted = f"solve: traced ts must be a sequence of at least 2 real numbers; {got}. Give the start and the end."
    assert str(caught.value) == wanted


@pytest.mark.parametrize("wrapped", [lambda t: t, lambda t: [0.0, t[1]]], ids=["array", "list"])
def test_a_step_size_for_traced_times_is_refused(wrapped: Callable[..., Any]) -> None:
    with pytest.raises(jo.InputError) as caught:
        jax.jit(lambda ts: jo.solve(decay, Y0, wrapped(ts), method="rk4", step_size=0.1).ys)(jnp.array([0.0, 1.0]))
    assert str(caught.value) == (
        "solve: step_size must come with ts known when the solve is traced; got traced ts. Use steps, which does not "
        "depend on the values of ts."
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "solve: exactly one of steps and step_size must be given; got neither."),
        ({"steps": 2, "step_size": 0.1}, "solve: exactly one of steps and step_size must be given; got both"),
        ({"steps": 0}, "solve: steps must be an integer >= 1; got 0."),
        ({"step_size": -0.1}, "solve: step_size must be a positive finite number; got -0.1."),
        ({"steps": 2, "method": "rk5"}, "solve: method must be one of: rk4, "),
        ({"steps": 2, "adjoint": "symplectics"}, "solve: adjoint must be one of: symplectic, "),
        ({"steps": 2, "on_failure": "stop"}, 'solve: on_failure must be "raise" or "return"; got \'stop\'.'),
    ],
    ids=str,
)
def test_options_that_are_refused(options: dict[str, Any], text: str) -> None:
    assert refusal(decay, Y0, TS, **{"method": "rk4", **options}).startswith(text)


def test_a_field_that_cannot_be_called_is_refused() -> None:
    text = "solve: field must be callable as field(t, y) or field(t, y, params); got ArrayImpl."
    assert refusal(Y0, Y0, TS, **RK4).startswith(text)


@pytest.mark.parametrize("foreign", [torch.ones(2), array_api_strict.ones(2)], ids=["torch", "strict"])
def test_params_of_another_library_are_refused(foreign: Any) -> None:
    kind = f"{type(foreign).__module__}.{type(foreign).__name__}"
    assert refusal(lambda t, y, p: y, Y0, TS, {"a": [foreign]}, **RK4) == (
        f"solve: all arrays must come from JAX or NumPy; got {kind} for params['a'][0]. Convert it with "
        "jax.numpy.asarray."
    )


# The field's output.


@pytest.mark.parametrize(
    ("bend", "text"),
    [
        (lambda y: (y,), "solve: the field must return the pytree of the state, PyTreeDef(*); got PyTreeDef((*,))."),
        (lambda y: y[:1], "solve: the field must return shape (2,) and dtype float64 for y0; got shape (1,) and dtype"),
        (lambda y: jnp.sum(y), "solve: the field must return shape (2,) and dtype float64 for y0; got shape () and"),
        (lambda y: y.astype("float32"), "for y0; got shape (2,) and dtype float32. Return dy/dt with the shape and"),
        (
            lambda y: 1j * y,
            "solve: the field must return shape (2,) and dtype float64 for y0; got shape (2,) and dtype c",
        ),
    ],
    ids=["structure", "shape", "rank", "precision", "kind"],
)
def test_a_field_that_returns_another_state_is_refused_before_it_is_evaluated(
    bend: Callable[[Any], Any], text: str
) -> None:
    evaluations = []

    def counted(t: Any, y: Any) -> Any:
        y = jax.pure_callback(lambda y: evaluations.append(y) or y, y, y)
        return bend(y)

    assert text in refusal(counted, Y0, TS, **RK4)
    assert evaluations == []


# States that become infinite.


def explosion(t: Any, y: Any) -> Any:
    return y * y


def explode(y0: Any, ts: Any = (0.0, 0.1, 50.0), **options: Any) -> jo.Solution[Any]:
    return jo.solve(explosion, y0, ts, method="euler", steps=30, **options)


TEXT = (
    "solve: the state must stay finite; it became infinite or NaN between t = 0.1 and t = 50.0, after step 30 of 60; "
    "Stats(num_steps=60, num_accepted=60, num_rejected=0, num_field_evals=60, num_vjps=0). "
    'Take smaller steps, or check the field there; on_failure="return" gives the solution as far as it went.'
)


@pytest.mark.parametrize(
    "run",
    [
        explode,
        jax.grad(lambda y0: explode(y0).ys[-1]),
        lambda y0: jax.grad(lambda ts: explode(y0, ts).ys[-1])(jnp.array([0.0, 0.1, 50.0])),
        jax.grad(jax.grad(lambda y0: explode(y0).ys[-1])),
        lambda y0: jax.jvp(lambda y0: explode(y0, adjoint="backprop").ys, (y0,), (1.0,)),
    ],
    ids=["solve", "grad", "grad by ts", "grad of grad", "jvp"],
)
def test_a_state_that_explodes_is_an_error_outside_jit(run: Callable[..., Any]) -> None:
    with pytest.raises(jo.NonFiniteState) as caught:
        run(3.0)
    error = caught.value
    assert str(error) == TEXT
    assert (error.time, error.step, error.counts.num_field_evals) == (0.1, 30, 60)
    assert not isinstance(error.last_good, jax.core.Tracer)
    np.testing.assert_allclose(error.last_good, 4.264415430177197, rtol=1e-14)


def test_a_last_good_state_is_the_users_pytree() -> None:
    with pytest.raises(jo.NonFiniteState) as caught:
        jo.solve(lambda t, y: {"a": y["a"] ** 2}, {"a": jnp.array([3.0, 0.1])}, [0.0, 50.0], method="euler", steps=30)
    assert caught.value.last_good["a"].tolist() == [3.0, 0.1]


def test_a_field_with_a_random_key_can_fail_too() -> None:
    key = jax.random.key(0)
    with pytest.raises(jo.NonFiniteState):
        jo.solve(lambda t, y: jax.random.uniform(key) * jnp.exp(y), 30.0, [0.0, 50.0], method="euler", steps=30)


def test_a_failure_is_returned_if_asked_for() -> None:
    solution = explode(3.0, on_failure="return")
    assert (int(solution.status), solution.message) == (1, "the state became infinite or not a number")
    assert jnp.isfinite(solution.ys).tolist() == [True, True, False]


def test_a_failure_within_jit_is_an_array() -> None:
    solution = jax.jit(explode)(3.0)
    assert (solution.status.dtype, int(solution.status)) == (jnp.int32, 1)
    assert jnp.isfinite(solution.ys).tolist() == [True, True, False]


def test_a_failure_in_a_batch_is_of_one_lane() -> None:
    solution = jax.vmap(explode)(jnp.array([3.0, -0.01]))
    assert solution.status.tolist() == [1, 0]
    assert jnp.isfinite(solution.ys).tolist() == [[True, True, False], [True, True, True]]


# Traced times that are wrong.


@pytest.mark.parametrize("ts", [[0.0, 2.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.5], [0.0, jnp.nan, 1.0]], ids=str)
def test_traced_times_that_are_not_monotonic_give_nan(ts: list[float]) -> None:
    solution = jax.jit(lambda ts: jo.solve(decay, Y0, ts, **RK4))(jnp.array(ts))
    assert int(solution.status) == 2
    assert solution.message.startswith("ts was not strictly monotonic")
    assert jnp.isnan(solution.ys[1:]).all()
    np.testing.assert_array_equal(solution.ts, ts)


@pytest.mark.parametrize("ts", [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]], ids=str)
def test_traced_times_that_are_monotonic_give_the_solution(ts: list[float]) -> None:
    solution = jax.jit(lambda ts: jo.solve(decay, Y0, ts, **RK4))(jnp.array(ts))
    assert int(solution.status) == 0
    np.testing.assert_allclose(solution.ys, jo.solve(decay, Y0, ts, **RK4).ys, rtol=1e-15)


def test_traced_times_are_judged_lane_by_lane() -> None:
    ts = jnp.array([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])
    solution = jax.vmap(lambda ts: jo.solve(decay, Y0, ts, **RK4))(ts)
    assert solution.status.tolist() == [0, 2]
    assert jnp.isnan(solution.ys[:, -1, 0]).tolist() == [False, True]


def test_the_gradient_by_times_that_are_not_monotonic_is_nan() -> None:
    gradient = jax.jit(jax.grad(lambda ts: jnp.sum(jo.solve(decay, Y0, ts, **RK4).ys[-1])))
    assert jnp.isnan(gradient(jnp.array([0.0, 2.0, 1.0]))).all()


def test_times_that_are_differentiated_outside_jit_are_refused_by_value() -> None:
    with pytest.raises(jo.InputError, match=r"solve: ts must be strictly .* got ts\[1\] = 2.0, ts\[2\] = 1.0"):
        jax.grad(lambda ts: jnp.sum(jo.solve(decay, Y0, ts, **RK4).ys))(jnp.array([0.0, 2.0, 1.0]))
