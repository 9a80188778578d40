"""janode.jax's odeint against JAX's own, called with the same words."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.ode import odeint as jax_odeint

import janode.jax as jo

LIBRARIES = pytest.mark.parametrize("odeint", [jo.odeint, jax_odeint], ids=["janode", "jax"])


def func(y: Any, t: Any, rate: Any, drive: Any) -> Any:
    return {"u": -rate * y["u"] + jnp.sin(t) * drive["c"], "v": y["u"][:1] * y["v"]}


Y0 = {"u": jnp.array([1.0, 0.5]), "v": jnp.array([0.3])}
T = jnp.array([0.0, 0.4, 1.5])
ARGS = (0.7, {"c": jnp.array([0.2, -0.1])})


def value_and_bars(odeint: Callable[..., Any], **options: Any) -> Any:
    """(states, gradients with respect to y0, t and args)."""

    def loss(y0: Any, t: Any, rate: Any, drive: Any) -> Any:
        ys = odeint(func, y0, t, rate, drive, **options)
        return (jnp.cos(ys["u"]) * jnp.arange(1.0, 4.0)[:, None]).sum() + (ys["v"] ** 2).sum(), ys

    (_, ys), bars = jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(Y0, T, *ARGS)
    return ys, bars


@pytest.fixture(scope="module")
def expected() -> Any:
    return value_and_bars(jax_odeint, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_states_and_gradients_are_those_of_jax(wrap: Callable[..., Any], expected: Any) -> None:
    got = wrap(lambda: value_and_bars(jo.odeint))()
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_its_signature_is_that_of_jax() -> None:
    got, expected = (inspect.signature(odeint).parameters.values() for odeint in (jo.odeint, jax_odeint))
    assert [(p.name, p.kind, p.default) for p in got] == [(p.name, p.kind, p.default) for p in expected]


@LIBRARIES
def test_many_starts_at_once(odeint: Callable[..., Any]) -> None:
    starts = jnp.linspace(0.5, 2.0, 3)
    ys = jax.vmap(lambda y0: odeint(lambda y, t: -(y**2), y0, T, rtol=1e-8, atol=1e-8))(starts)
    assert np.allclose(ys, starts[:, None] / (1 + starts[:, None] * T), rtol=1e-6)


@LIBRARIES
def test_hmax_bounds_the_steps(odeint: Callable[..., Any]) -> None:
    """A pulse that long steps would not see."""

    def pulse(y: Any, t: Any) -> Any:
        return jnp.exp(-(((t - 5.0) / 0.05) ** 2)) * jnp.ones_like(y)

    t = jnp.array([0.0, 10.0])
    with_limit = odeint(pulse, jnp.zeros(1), t, rtol=1e-4, atol=1e-4, hmax=0.1)
    assert float(with_limit[-1, 0]) == pytest.approx(0.05 * np.sqrt(np.pi), rel=1e-2)


@LIBRARIES
def test_mxstep_bounds_their_number(odeint: Callable[..., Any]) -> None:
    solve = jax.jit(lambda: odeint(lambda y, t: jnp.cos(50.0 * t) * y, jnp.ones(1), T, mxstep=3))
    error = abs(float(solve()[-1, 0]) - float(jnp.exp(jnp.sin(75.0) / 50.0)))
    assert not error < 1e-3


def test_a_failure_is_raised() -> None:
    with pytest.raises(jo.MaxStepsReached):
        jo.odeint(lambda y, t: jnp.cos(50.0 * t) * y, jnp.ones(1), T, mxstep=3)


@LIBRARIES
def test_one_time_gives_the_start(odeint: Callable[..., Any]) -> None:
    got = odeint(func, Y0, T[:1], *ARGS)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b[None])), got, Y0))


def test_time_may_run_backwards() -> None:
    ys = jo.odeint(lambda y, t: -y, jnp.ones(1), jnp.array([1.0, 0.0]))
    assert float(ys[-1, 0]) == pytest.approx(np.e, rel=1e-6)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no function": ({"func": 1.0}, r"func must be callable as func\(y, t, \*args\); got float"),
    "no steps": ({"mxstep": 0}, "mxstep must be an integer >= 1 or infinite; got 0"),
    "half a step": ({"mxstep": 1.5}, "mxstep must be an integer >= 1 or infinite; got 1.5"),
    "a step of zero": ({"hmax": 0.0}, "max_step must be > 0"),
    "a tolerance of zero": ({"rtol": 0.0}, "rtol must be > 0"),
    "times that turn": ({"t": jnp.array([0.0, 1.0, 0.5])}, "strictly increasing or strictly decreasing"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_bad_arguments_are_refused(fault: str) -> None:
    arguments, text = REFUSED[fault]
    with pytest.raises(jo.InputError, match=text):
        jo.odeint(**{"func": lambda y, t: -y, "y0": jnp.ones(1), "t": T, **arguments})
