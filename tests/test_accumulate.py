"""Sums of parameter cotangents in double precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.array
import janode.jax
import janode.numpy as jo
import janode.torch

from .jax_reference import jit
from .problems import FIELD, TARGETS, TS, Y0, YS_BAR, Target, packed, params
from .torch_oracle import one_thread

__all__ = ["one_thread"]

STEPS = 3000
RATE = np.float32(0.3)
WIDE: dict[str, Any] = {
    "symplectic": jo.Symplectic(accumulate="float64"),
    "revolve": jo.Revolve(accumulate="float64"),
}
PLAIN = ["symplectic", "revolve", "stages"]


def by_numpy(adjoint: Any) -> Any:
    """The gradient of y(1), dy/dt = k, with respect to k: 1, summed from N terms h."""
    field = jo.Field(lambda t, y, k: np.ones_like(y) * k, lambda t, y, k, f_bar: (None, None, np.sum(f_bar)))
    _, pullback = jo.solve_vjp(
        field, np.ones(1, np.float32), (0.0, 1.0), np.asarray(RATE), method="euler", steps=STEPS, adjoint=adjoint
    )
    return pullback(np.array([[0.0], [1.0]], np.float32)).params


def by_torch(adjoint: Any) -> Any:
    k = torch.tensor(RATE, requires_grad=True)
    y0 = torch.ones(1)
    field = lambda t, y, k: k * torch.ones_like(y)  # noqa: E731
    janode.torch.solve(field, y0, (0.0, 1.0), k, method="euler", steps=STEPS, adjoint=adjoint).ys[-1].sum().backward()
    assert k.grad is not None
    return k.grad.numpy()


def by_jax(adjoint: Any) -> Any:
    def loss(k: Any) -> Any:
        return janode.jax.solve(
            lambda t, y, k: k * jnp.ones_like(y),
            jnp.ones(1, jnp.float32),
            (0.0, 1.0),
            k,
            method="euler",
            steps=STEPS,
            adjoint=adjoint,
        ).ys[-1, 0]

    return np.asarray(jit(jax.grad(loss))(jnp.asarray(RATE)))


LIBRARIES = {"numpy": by_numpy, "torch": by_torch, "jax": by_jax}
EPS = float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("adjoint", WIDE)
def test_a_sum_of_many_terms_is_rounded_once(adjoint: str, library: str) -> None:
    found = LIBRARIES[library](WIDE[adjoint])
    assert found.dtype == np.float32
    assert abs(float(found) - 1.0) <= EPS


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("adjoint", PLAIN)
def test_without_it_the_sum_drifts(adjoint: str, library: str) -> None:
    assert abs(float(LIBRARIES[library](adjoint)) - 1.0) > 10 * EPS


@pytest.mark.parametrize("adjoint", WIDE)
@pytest.mark.parametrize("target", [name for name in TARGETS if "no_float64" not in name])
def test_in_double_precision_it_changes_nothing_else(target: str, adjoint: str) -> None:
    """But the last bits of the parameters' cotangents, in single precision."""
    library: Target = TARGETS[target]
    y0, ys_bar = library.array(Y0), library.array(YS_BAR)
    found, expected = (
        janode.array.solve_vjp(FIELD, y0, TS, params(library), method="rk4", steps=4, adjoint=chosen)[1](ys_bar)
        for chosen in (WIDE[adjoint], "symplectic")
    )
    assert library.owns(found.params["A"])
    assert library.owns(found.params["b"])
    eps = float(np.finfo(np.dtype(library.dtype)).eps)
    np.testing.assert_allclose(packed(found), packed(expected), rtol=16 * eps)


def test_complex_parameters_are_summed_in_complex_numbers() -> None:
    field = jo.Field(lambda t, y, k: k * np.ones_like(y), lambda t, y, k, f_bar: (None, None, np.sum(f_bar)))
    k = np.asarray(0.3 + 0.2j, np.complex64)
    _, pullback = jo.solve_vjp(
        field, np.ones(1, np.complex64), (0.0, 1.0), k, method="euler", steps=STEPS, adjoint=WIDE["symplectic"]
    )
    found = pullback(np.array([[0.0], [1.0 + 2.0j]], np.complex64)).params
    assert found.dtype == np.complex64
    assert abs(complex(found) - (1.0 + 2.0j)) <= 3 * EPS


@pytest.mark.parametrize("make", [jo.Symplectic, jo.Revolve])
def test_other_dtypes_are_refused(make: Any) -> None:
    with pytest.raises(jo.InputError, match=f"{make.__name__}: accumulate must be \"float64\" or None; got 'float16'"):
        make(accumulate="float16")


def test_jax_without_float64_refuses() -> None:
    with jax.enable_x64(False), pytest.raises(jo.InputError, match='accumulate must not be "float64" where JAX has no'):
        by_jax(WIDE["symplectic"])


# States of half precision.

HALF_STEPS = 1500
HALF: dict[str, Any] = {
    **{preset: (preset, "euler") for preset in ("stages", "aca", "symplectic", "restart", "revolve", "reconstruct")},
    "reversible": ("reversible", "leapfrog"),  # a coupling rounds the cotangents of its states in every step
    "backsolve": ("backsolve", "euler"),
}


def half_by_numpy(preset: str, method: str, dtype: str) -> float:
    field = jo.Field(lambda t, y, k: np.ones_like(y) * k, lambda t, y, k, f_bar: (None, None, np.sum(f_bar)))
    half = np.dtype(dtype)
    _, pullback = jo.solve_vjp(
        field, np.ones(1, half), (0.0, 1.0), np.asarray(0.5, half), method=method, steps=HALF_STEPS, adjoint=preset
    )
    found = pullback(np.array([[0.0], [1.0]], half)).params
    assert found.dtype == half
    return float(found)


def half_by_torch(preset: str, method: str, dtype: str) -> float:
    half = getattr(torch, dtype)
    k = torch.tensor(0.5, dtype=half, requires_grad=True)
    options: dict[str, Any] = {"method": method, "steps": HALF_STEPS, "adjoint": preset}
    field = lambda t, y, k: k * torch.ones_like(y)  # noqa: E731
    janode.torch.solve(field, torch.ones(1, dtype=half), (0.0, 1.0), k, **options).ys[-1].sum().backward()
    assert k.grad is not None
    assert k.grad.dtype == half
    return float(k.grad)


def half_by_jax(preset: str, method: str, dtype: str) -> float:
    half = jnp.dtype(dtype)

    def loss(k: Any) -> Any:
        options: dict[str, Any] = {"method": method, "steps": HALF_STEPS, "adjoint": preset}
        field = lambda t, y, k: k * jnp.ones_like(y)  # noqa: E731
        return janode.jax.solve(field, jnp.ones(1, half), (0.0, 1.0), k, **options).ys[-1, 0]

    found = jit(jax.grad(loss))(jnp.asarray(0.5, half))
    assert found.dtype == half
    return float(found)


HALVES = {"numpy": half_by_numpy, "torch": half_by_torch, "jax": half_by_jax}
DTYPES = [
    ("numpy", "float16"),
    *((library, dtype) for library in ("torch", "jax") for dtype in ("float16", "bfloat16")),
]


@pytest.mark.filterwarnings("ignore:the backward pass missed")  # by a rounding of bfloat16 per step
@pytest.mark.parametrize(("library", "dtype"), DTYPES)
@pytest.mark.parametrize(("preset", "method"), HALF.values(), ids=HALF)
def test_cotangents_of_half_precision_are_summed_in_single(preset: str, method: str, library: str, dtype: str) -> None:
    """Summed in bfloat16, terms of 1/1500 are lost as soon as the sum is 1/4 or so, and 1/3 of all in float16."""
    eps = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    assert HALVES[library](preset, method, dtype) == pytest.approx(1.0, abs=2 * eps)


def test_a_sum_in_half_precision_would_stagnate() -> None:
    total = torch.zeros((), dtype=torch.bfloat16)
    for _ in range(HALF_STEPS):
        total += torch.tensor(1.0 / HALF_STEPS, dtype=torch.bfloat16)
    assert float(total) < 0.5
