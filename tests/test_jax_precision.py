"""Dtypes in JAX: kept with 64 bits on and off and under strict promotion; and the memory that a gradient takes."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import janode.jax as jo
from janode.core.adjoint import RECOVERIES

from .jax_reference import PARAMS, TS, Y0, Tree, assert_close, equations, field, jit, loss, textbook

PRESETS = list(RECOVERIES)


@pytest.fixture
def strict() -> Iterator[None]:
    """JAX refuses every implicit promotion of dtypes and ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def mixed(t: Any, y: Tree, p: Tree) -> Tree:
    """A field on leaves of every precision."""
    return {name: p[name] * leaf * jnp.cos(t).astype(leaf.dtype) for name, leaf in y.items()}


DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
MIXED = {dtype: jnp.array([0.5, -0.25], dtype) for dtype in DTYPES}
RATES = {dtype: jnp.array([0.75, -0.5], dtype) for dtype in DTYPES}


def differentiated(y0: Tree, ts: Any, params: Tree, adjoint: str) -> Tree:
    def total(y0: Tree, ts: Any, params: Tree) -> Any:
        ys = jo.solve(mixed, y0, ts, params, method="rk4", adjoint=adjoint, steps=2).ys
        return sum(jnp.sum(leaf.real).astype(jnp.float64) for leaf in jax.tree.leaves(ys)), ys

    return jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(y0, ts, params)


# Half precision: of steps near 1 with 8 or 11 bits, and of sums of them.
ACCURACY = {"float16": 0.01, "bfloat16": 0.1, "float32": 1e-5, "float64": 1e-12, "complex64": 1e-5, "complex128": 1e-12}


def widened(dtype: str) -> str:
    """The double precision of the same kind."""
    return "complex128" if "complex" in dtype else "float64"


@functools.cache
def exact(dtype: str) -> Tree:
    """(states, gradient) of a leaf of double precision alone."""
    (_, ys), gradient = differentiated({dtype: MIXED[dtype]}, TS, {dtype: RATES[dtype]}, "symplectic")
    return ys, gradient


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("preset", PRESETS)
def test_leaves_of_every_precision_in_one_state(preset: str) -> None:
    (_, ys), (y0_bar, ts_bar, params_bar) = differentiated(MIXED, TS, RATES, preset)
    assert ts_bar.dtype == TS.dtype
    for dtype in DTYPES:
        wide = widened(dtype)
        wanted_ys, (wanted_y0, _, wanted_params) = exact(wide)
        for got, wanted in ((ys, wanted_ys), (y0_bar, wanted_y0), (params_bar, wanted_params)):
            assert got[dtype].dtype == dtype
            np.testing.assert_allclose(got[dtype].astype(wide), wanted[wide], atol=ACCURACY[dtype], err_msg=dtype)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "complex64"])
def test_a_state_keeps_its_dtype(dtype: str, preset: str) -> None:
    (_, ys), (y0_bar, ts_bar, params_bar) = differentiated({dtype: MIXED[dtype]}, TS, {dtype: RATES[dtype]}, preset)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((ys, y0_bar, params_bar))} == {dtype}
    assert ts_bar.dtype == TS.dtype
    np.testing.assert_allclose(ts_bar, exact(widened(dtype))[1][1], atol=ACCURACY[dtype])


@pytest.mark.usefixtures("strict")
def test_a_solve_under_strict_promotion_outside_jit() -> None:
    def objective(y0: Tree) -> Any:
        solution = jo.solve(mixed, y0, [0.0, 1.0], {"float32": RATES["float32"]}, method="dopri5", step_size=0.5)
        return jnp.sum(solution.ys["float32"])

    assert jax.grad(objective)({"float32": MIXED["float32"]})["float32"].dtype == "float32"


def wide_shapes(jaxpr: Any) -> set[tuple[int, ...]]:
    """The shapes of all double-precision results of a computation."""
    variables = [variable for eqn in equations(jaxpr) for variable in eqn.outvars]
    return {v.aval.shape for v in variables if v.aval.dtype in (jnp.float64, jnp.complex128)}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
def test_nothing_as_large_as_a_state_is_of_double_precision(dtype: str, preset: str) -> None:
    def objective(y0: Any, ts: Any, k: Any) -> Any:
        solution = jo.solve(lambda t, y, k: k * y * t, y0, ts, k, method="rk4", adjoint=preset, steps=2)
        return jnp.sum(solution.ys[-1].real)

    y0, k = jnp.ones((5, 7), dtype), jnp.ones(7, dtype)
    jaxpr = jax.make_jaxpr(jax.value_and_grad(objective, argnums=(0, 1, 2)))(y0, TS, k).jaxpr
    found = {shape for shape in wide_shapes(jaxpr) if 5 in shape or 7 in shape}
    assert found == set()
    assert () in wide_shapes(jaxpr)  # the times are


# Without 64 bits.


@pytest.fixture
def narrow() -> Iterator[None]:
    with jax.enable_x64(False):
        yield


def narrowed() -> Tree:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), (Y0, TS, PARAMS))


@functools.cache
def narrow_gradient() -> Tree:
    def by_the_book(*args: Tree) -> Any:
        return loss(textbook("rk4", field, *args, (2, 2)))

    return jit(jax.grad(by_the_book, argnums=(0, 1, 2)))(*narrowed())


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("preset", PRESETS)
def test_without_64_bits_all_is_of_single_precision(preset: str) -> None:
    def objective(*args: Tree) -> tuple[Any, Tree]:
        solution = jo.solve(field, *args, method="rk4", adjoint=preset, steps=2)
        return loss(solution.ys), solution

    (_, solution), gradient = jit(jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True))(*narrowed())
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves((solution.ts, solution.ys, gradient))}
    assert dtypes == {"float32", "complex64"}
    assert_close(gradient, narrow_gradient(), rtol=3e-6)


@pytest.mark.usefixtures("narrow")
def test_without_64_bits_double_precision_is_narrowed_in_silence_as_jax_does() -> None:
    solution = jo.solve(lambda t, y: -y * np.array([1.0, 2.0]), np.ones(2), np.linspace(0, 1, 3), method="rk4", steps=2)
    assert (solution.ys.dtype, solution.ts.dtype) == ("float32", "float32")


@pytest.mark.usefixtures("narrow")
def test_without_64_bits_times_that_coincide_are_refused() -> None:
    with pytest.raises(
        jo.InputError, match=r"ts must be strictly increasing .* got ts\[0\] = 100000000.0, ts\[1\] = 100000000.0"
    ):
        jo.solve(lambda t, y: -y, jnp.ones(2), [1e8, 1e8 + 1], method="rk4", steps=2)


# Memory.


def temporary_bytes(adjoint: str, steps: int, size: int, width: int) -> int:
    """The bytes a compiled gradient takes beyond its arguments and results."""

    def objective(y0: Any, W: Any) -> Any:
        def wide(t: Any, y: Any, W: Any) -> Any:
            return W.T @ jnp.tanh(W @ y)

        return jnp.sum(jo.solve(wide, y0, [0.0, 1.0], W, method="rk4", adjoint=adjoint, steps=steps).ys[-1])

    compiled = jax.jit(jax.grad(objective, argnums=(0, 1))).lower(jnp.ones(size), jnp.ones((width, size))).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def bytes_per_step(adjoint: str, size: int, width: int) -> float:
    return (temporary_bytes(adjoint, 1100, size, width) - temporary_bytes(adjoint, 100, size, width)) / 1000


@pytest.mark.parametrize(("preset", "num_states"), [("symplectic", 1), ("aca", 1), ("restart", 1), ("stages", 4)])
def test_memory_grows_by_what_the_preset_keeps_of_a_step(preset: str, num_states: int) -> None:
    assert bytes_per_step(preset, size=64, width=256) == num_states * 64 * 8


def test_memory_of_backprop_grows_with_the_network() -> None:
    assert bytes_per_step("backprop", size=64, width=256) >= 4 * 256 * 8
