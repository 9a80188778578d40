"""Outside jit an equal JAX solve is compiled once, and what has changed is never answered from what was."""

import functools
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.xla_metadata import set_xla_metadata

import janode.jax as jo
from janode import jax_cache
from janode.core.adjoint import RECOVERIES
from janode.core.runge_kutta import RungeKutta
from janode.core.tableaus import EULER, RK4, alpha2

Y0 = jnp.array([0.5, -1.0])
TS = [0.0, 0.5, 1.0]
Run = Callable[..., Any]


class Count:
    """How many programs were compiled while it was looked at."""

    def __init__(self) -> None:
        self.num_compiled = 0
        self.is_on = False

    def note(self, event: str, duration: float, **rest: Any) -> None:
        self.num_compiled += self.is_on and event == "/jax/core/compile/backend_compile_duration"

    def of(self, run: Callable[[], Any]) -> int:
        """The number of programs that a call compiles."""
        self.num_compiled, self.is_on = 0, True
        try:
            jax.block_until_ready(run())
        finally:
            self.is_on = False
        return self.num_compiled


@pytest.fixture(scope="module")
def count() -> Iterator[Count]:
    found = Count()
    jax.monitoring.register_event_duration_secs_listener(found.note)
    yield found
    jax.monitoring.unregister_event_duration_listener(found.note)


def solved(field: Callable[..., Any], y0: Any = Y0, params: Any = None, **options: Any) -> Any:
    return jo.solve(field, y0, TS, params, **{"method": "midpoint", "steps": 2, **options}).ys


def once(field: Callable[..., Any]) -> Any:
    return solved(field)


def gradient(field: Callable[..., Any]) -> Any:
    return jax.grad(lambda y0: jnp.sum(solved(field, y0)))(Y0)


def batch(field: Callable[..., Any]) -> Any:
    return jax.vmap(lambda y0: solved(field, y0))(jnp.stack([Y0, Y0]))


def gradient_of_gradient(field: Callable[..., Any]) -> Any:
    return jax.grad(lambda y0: jnp.sum(jax.grad(lambda y0: jnp.sum(solved(field, y0)))(y0)))(Y0)


def plain() -> Callable[..., Any]:
    rates = jnp.array([0.3, 0.4])
    return lambda t, y: -rates * jnp.sin(y) + 0.5


def rectified() -> Callable[..., Any]:
    return lambda t, y: jax.nn.relu(y) - jax.nn.softplus(y)


def noisy() -> Callable[..., Any]:
    return lambda t, y: y * jax.random.normal(jax.random.key(0), (2,))


def branching() -> Callable[..., Any]:
    return lambda t, y: jax.lax.cond(t > 0.4, jnp.sin, jnp.cos, y) + jax.lax.fori_loop(0, 2, lambda i, z: z * y, y)


def linear_algebra() -> Callable[..., Any]:
    return lambda t, y: jnp.linalg.solve(jnp.eye(2) + jnp.outer(y, y), y)[jnp.array([1, 0])]


@pytest.mark.parametrize("run", [once, gradient, batch, gradient_of_gradient])
@pytest.mark.parametrize("make", [plain, rectified, noisy, branching, linear_algebra])
def test_an_equal_field_is_compiled_once(make: Callable[[], Callable[..., Any]], run: Run, count: Count) -> None:
    assert count.of(lambda: run(make())) > 0
    assert count.of(lambda: run(make())) == 0


def test_params_of_other_values_are_compiled_once(count: Count) -> None:
    def run(k: float) -> Any:
        return solved(lambda t, y, p: -p[0] * p[1] * y, params=(k, jnp.array([k, 2 * k])))

    count.of(lambda: run(0.5))
    assert count.of(lambda: run(0.7)) == 0
    np.testing.assert_allclose(run(0.7), solved(lambda t, y: -0.7 * jnp.array([0.7, 1.4]) * y), rtol=1e-14)


def test_other_times_on_an_equal_grid_are_compiled_once(count: Count) -> None:
    def run(end: float) -> Any:
        return jo.solve(lambda t, y: -t * y, Y0, [0.0, end], method="midpoint", steps=3).ys

    count.of(lambda: run(1.0))
    assert count.of(lambda: run(2.0)) == 0


# Nothing stale.


def of_float(value: Any) -> Callable[..., Any]:
    return lambda t, y: value * y


def of_array(value: Any) -> Callable[..., Any]:
    captured = jnp.array([value, 0.5])
    return lambda t, y: captured * y


def of_numpy(value: Any) -> Callable[..., Any]:
    captured = np.array([value, 0.5])
    return lambda t, y: captured * y


def of_array_within_jit(value: Any) -> Callable[..., Any]:
    captured = jnp.array([value, 0.5])
    return jax.jit(lambda t, y: captured * y)


def of_array_within_scan(value: Any) -> Callable[..., Any]:
    captured = np.array([value, 0.5])
    return lambda t, y: jax.lax.scan(lambda c, _: (captured * c, None), y, None, length=1)[0]


def of_rectified(value: Any) -> Callable[..., Any]:
    return lambda t, y: value * jax.nn.relu(y + 2.0) + jax.nn.softplus(y) - jax.nn.softplus(y)


@pytest.mark.parametrize("run", [once, gradient])
@pytest.mark.parametrize(
    "make", [of_float, of_array, of_numpy, of_array_within_jit, of_array_within_scan, of_rectified]
)
def test_a_changed_capture_changes_the_result(make: Callable[[Any], Callable[..., Any]], run: Run) -> None:
    found = {value: run(make(value)) for value in (-0.5, 0.25)}
    jax_cache._program.cache_clear()
    assert not np.array_equal(found[-0.5], found[0.25])
    np.testing.assert_array_equal(found[0.25], run(make(0.25)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0.0, -0.0),  # equal, but 1 / y is not
        (np.float64(1.0), 1.0),  # strong and weak
        (1, True),
        (np.float32(0.1), np.float64(0.1)),
    ],
    ids=str,
)
def test_numbers_that_are_equal_to_python_are_told_apart(first: Any, second: Any) -> None:
    def key(value: Any) -> Any:
        return read(lambda y: y + jnp.sum(jnp.full(2, value)) + value)

    assert key(first) == key(first)
    assert key(first) != key(second)


@pytest.mark.parametrize(("first", "second"), [(1, True), (1, 1.0), (0.0, -0.0), ((1, 2), [1, 2])], ids=str)
def test_parameters_that_are_equal_to_python_are_told_apart(first: Any, second: Any) -> None:
    def key(value: Any) -> Any:
        return jax_cache._Reader().value({"parameter": value})

    assert key(first) == key(first)
    assert key(first) != key(second)


def read(f: Callable[[Any], Any], y: Any = Y0) -> Any:
    closed = jax.make_jaxpr(f)(y)
    return jax_cache._Reader().jaxpr(closed.jaxpr, closed.consts)


def difference(a: Any, b: Any, order: int = 1) -> Any:
    return jnp.subtract(*(a, b)[::order])


def marked_sine(y: Any) -> Any:
    with set_xla_metadata(note="sine"):
        return jnp.sin(y)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda y: difference(jnp.sin(y), jnp.cos(y)), lambda y: difference(jnp.sin(y), jnp.cos(y), -1)),
        (jnp.sin, jnp.cos),
        (jnp.sin, marked_sine),
        (lambda y: jnp.sum(y, axis=0), lambda y: jnp.prod(y, axis=0)),
        (lambda y: jnp.roll(y, 1), lambda y: jnp.roll(y, 0)),
        (lambda y: jax.lax.cond(y[0] > 0, jnp.sin, jnp.cos, y), lambda y: jax.lax.cond(y[0] > 0, jnp.cos, jnp.sin, y)),
        (
            lambda y: jax.lax.fori_loop(0, 2, lambda i, z: z * y, y),
            lambda y: jax.lax.fori_loop(0, 3, lambda i, z: z * y, y),
        ),
        (lambda y: y * jax.random.normal(jax.random.key(0)), lambda y: y * jax.random.normal(jax.random.key(1))),
        (lambda y: jnp.dot(y, y), lambda y: jnp.dot(y, y, precision="highest")),
        (lambda y: (y, 2 * y), lambda y: (2 * y, y)),
        (lambda y: y.astype("float32"), lambda y: y.astype("float16")),
    ],
    ids=[
        "order",
        "primitive",
        "metadata",
        "reduction",
        "shift",
        "branches",
        "trips",
        "key",
        "precision",
        "outputs",
        "dtype",
    ],
)
def test_programs_that_differ_are_told_apart(first: Callable[..., Any], second: Callable[..., Any]) -> None:
    assert read(first) == read(lambda y: first(y))
    assert read(first) != read(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"method": "euler"}, {"method": "midpoint"}),
        ({"method": alpha2("1/3")}, {"method": alpha2("2/3")}),
        ({"steps": 2}, {"steps": 3}),
        ({"steps": None, "step_size": 0.5}, {"steps": None, "step_size": 0.1}),
    ],
    ids=str,
)
def test_a_changed_option_changes_the_result(one: dict[str, Any], other: dict[str, Any]) -> None:
    def run(options: dict[str, Any]) -> Any:
        return solved(lambda t, y: -t * y * y, **options)

    first, second = run(one), run(other)
    jax_cache._program.cache_clear()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, run(other))


class Rule:
    """A function y -> 2 y whose derivative is said to be ``slope``, whatever that is when it is asked for."""

    def __init__(self, mode: str) -> None:
        self.slope = 1.0
        if mode == "jvp":
            self.f = jax.custom_jvp(lambda y: 2.0 * y)
            self.f.defjvp(lambda ys, tangents: (2.0 * ys[0], self.slope * tangents[0]))
        else:
            self.f = jax.custom_vjp(lambda y: 2.0 * y)
            self.f.defvjp(lambda y: (2.0 * y, None), lambda _, bar: (self.slope * bar,))


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
def test_a_changed_rule_changes_the_gradient(mode: str, count: Count) -> None:
    rule = Rule(mode)

    def run() -> Any:
        return gradient(lambda t, y: rule.f(y))

    first = run()
    assert count.of(run) == 0
    rule.slope = 3.0
    second = run()
    jax_cache._program.cache_clear()
    np.testing.assert_array_equal(second, run())
    assert not np.array_equal(first, second)


def test_a_changed_rule_within_a_rule_changes_the_second_derivative() -> None:
    inner = Rule("jvp")
    outer = jax.custom_jvp(lambda y: y * y)
    outer.defjvp(lambda ys, tangents: (ys[0] * ys[0], inner.f(ys[0]) * tangents[0]))

    def run() -> Any:
        return gradient_of_gradient(lambda t, y: outer(y))

    first = run()
    inner.slope = 3.0
    second = run()
    jax_cache._program.cache_clear()
    np.testing.assert_array_equal(second, run())
    assert not np.array_equal(first, second)


# What cannot be known by its value is compiled for each call.


def test_a_callback_is_compiled_for_each_call(count: Count) -> None:
    factor = [1.0]

    def run() -> Any:
        return solved(lambda t, y: jax.pure_callback(lambda y: np.asarray(factor[0] * y), y, y))

    first = run()
    factor[0] = 2.0
    assert count.of(run) > 0
    assert not np.array_equal(first, run())


class Changing:
    """A method object that acts as another from one call to the next."""

    def become(self, method: RungeKutta) -> None:
        names = [name for name in dir(method) if not name.startswith("__")]
        vars(self).update({name: getattr(method, name) for name in names})


def test_a_method_that_may_change_is_compiled_for_each_call() -> None:
    method = Changing()
    method.become(RungeKutta(RK4))

    def run() -> Any:
        return solved(lambda t, y: -y, method=method)

    first = run()
    method.become(RungeKutta(EULER))
    np.testing.assert_array_equal(run(), solved(lambda t, y: -y, method="euler"))
    assert not np.array_equal(first, run())


class Noted:
    """A recovery that notes when it is traced."""

    def __init__(self) -> None:
        self.inner, self.num_traced = RECOVERIES["stages"], 0

    def forward(self, sweep: Any, y0: Any) -> Any:
        self.num_traced += 1
        return self.inner.forward(sweep, y0)

    def backward(self, sweep: Any, tape: Any, bars: Any) -> Any:
        return self.inner.backward(sweep, tape, bars)


def test_a_recovery_that_may_change_is_compiled_for_each_call() -> None:
    recovery: Any = Noted()

    def run() -> Any:
        return jax.grad(lambda y0: jnp.sum(solved(lambda t, y: -y, y0, adjoint=recovery)))(Y0)

    run()
    once = recovery.num_traced
    run()
    assert recovery.num_traced == 2 * once > 0


def test_a_field_without_a_pullback_can_be_batched_with_a_rule() -> None:
    def loop(t: Any, y: Any) -> Any:
        return jax.lax.while_loop(lambda z: jnp.sum(z) > 1.0, lambda z: 0.5 * z, jax.nn.relu(y))

    np.testing.assert_array_equal(batch(loop)[0], once(loop))


# Within a jit the surrounding program is compiled, and nothing is kept.


def test_within_jit_nothing_is_looked_up() -> None:
    before = jax_cache._program.cache_info()
    jax.jit(lambda y0: solved(lambda t, y: -0.125 * y, y0))(Y0)
    assert jax_cache._program.cache_info() == before


# The cache is bounded.


def test_programs_that_were_not_used_for_long_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def noted(entry: Any) -> Any:
        made.append(weakref.ref(entry.problem))
        return jax.jit(entry.problem.run)

    assert jax_cache._program.cache_info().maxsize == jax_cache.MAX_PROGRAMS == 128
    monkeypatch.setattr(jax_cache, "_program", functools.lru_cache(maxsize=2)(noted))
    for value in (0.1, 0.2, 0.3, 0.4):
        gradient(of_float(value))
    gc.collect()
    assert [problem() is not None for problem in made] == [False, False, True, True]
