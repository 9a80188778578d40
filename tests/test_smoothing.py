"""Controls as functions of time: sampled, and smoothed, on every library."""

from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.array
import janode.jax
import janode.numpy as jo
import janode.torch

FRONTENDS = {
    "numpy": (jo, np),
    "torch": (janode.torch, torch),
    "jax": (janode.jax, jnp),
    "array": (janode.array, array_api_strict),
}
each_frontend = pytest.mark.parametrize(("frontend", "xp"), FRONTENDS.values(), ids=FRONTENDS)
TIMES = jo.control_times("midpoint", [0.0, 0.5, 2.0], steps=10)  # of two step sizes


def weights() -> np.ndarray:
    gaps = np.diff(TIMES) / 2
    return np.append(gaps, 0.0) + np.append(0.0, gaps)


@each_frontend
def test_samples_are_the_values_at_the_times(frontend: Any, xp: Any) -> None:
    made = frontend.sample_controls(lambda t: {"a": xp.asarray([t, 1.0]), "b": (xp.asarray(t * t),)}, TIMES)
    np.testing.assert_allclose(np.asarray(made["a"]), np.stack([TIMES, np.ones(40)], axis=1), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(made["b"][0]), np.array(TIMES) ** 2, rtol=1e-6)


@each_frontend
def test_smoothing_keeps_polynomials_and_is_a_projection(frontend: Any, xp: Any) -> None:
    t = np.array(TIMES)
    rough = np.random.default_rng(0).standard_normal((len(t), 2, 3))
    cubic = 1.0 - t + 0.5 * t**3
    given = {"rough": xp.asarray(rough), "cubic": xp.asarray(cubic)}
    once = frontend.smooth_controls(given, TIMES)
    np.testing.assert_allclose(np.asarray(once["cubic"]), cubic, rtol=0.0, atol=1e-14)
    twice = frontend.smooth_controls(once, TIMES)
    np.testing.assert_allclose(np.asarray(twice["rough"]), np.asarray(once["rough"]), rtol=0.0, atol=1e-14)
    powers, root = np.polynomial.polynomial.polyvander(t, 3), np.sqrt(weights())[:, None]
    coefficients = np.linalg.lstsq(powers * root, rough.reshape(len(t), -1) * root, rcond=None)[0]
    expected = (powers @ coefficients).reshape(rough.shape)
    np.testing.assert_allclose(np.asarray(once["rough"]), expected, rtol=0.0, atol=1e-12)


def test_a_sawtooth_is_gone() -> None:
    times = jo.control_times("leapfrog", [0.0, 1.0], steps=100)
    sawtooth = (-1.0) ** np.arange(101)
    assert np.max(np.abs(jo.smooth_controls(sawtooth, times))) < 0.05
    assert np.max(np.abs(jo.smooth_controls(sawtooth[::-1], times[::-1], degree=0))) < 1e-14


def test_times_may_run_backward() -> None:
    u = np.random.default_rng(1).standard_normal(len(TIMES))
    backward = jo.smooth_controls(u[::-1], TIMES[::-1])
    np.testing.assert_allclose(backward[::-1], jo.smooth_controls(u, TIMES), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex128])
def test_dtypes_stay(dtype: Any) -> None:
    found = janode.torch.smooth_controls(torch.ones(len(TIMES), 2, dtype=dtype), TIMES)
    assert found.dtype == dtype
    assert torch.allclose(found, torch.ones_like(found))


def test_smoothing_and_sampling_are_differentiable() -> None:
    factors = np.random.default_rng(2).standard_normal(len(TIMES))
    leaf = torch.zeros(len(TIMES), dtype=torch.float64, requires_grad=True)
    (janode.torch.smooth_controls(leaf, TIMES) * torch.tensor(factors)).sum().backward()
    units = [jo.smooth_controls(unit, TIMES) @ factors for unit in np.eye(len(TIMES))]
    np.testing.assert_allclose(leaf.grad, units, rtol=0.0, atol=1e-14)
    found = jax.jit(jax.grad(lambda u: (janode.jax.smooth_controls(u, TIMES) * factors).sum()))(jnp.zeros(len(TIMES)))
    np.testing.assert_allclose(found, units, rtol=0.0, atol=1e-14)
    rate = torch.tensor(1.0, requires_grad=True)
    janode.torch.sample_controls(lambda t: rate * t, [1.0, 2.0]).sum().backward()
    assert rate.grad == 3.0


@each_frontend
def test_refusals_of_samples(frontend: Any, xp: Any) -> None:
    with pytest.raises(jo.InputError, match="sample_controls: times must not be empty; got none"):
        frontend.sample_controls(lambda t: xp.asarray(t), [])
    with pytest.raises(jo.InputError, match="sample_controls: function must return one structure and one shape"):
        frontend.sample_controls(lambda t: xp.ones(1 if t else 2), [0.0, 1.0])
    with pytest.raises(jo.InputError, match="sample_controls: function must return one structure and one shape"):
        frontend.sample_controls(lambda t: [xp.ones(1)] * (1 if t else 2), [0.0, 1.0])


@each_frontend
@pytest.mark.parametrize(
    ("length", "degree", "text"),
    [
        (
            3,
            2,
            r"smooth_controls: controls\['u'\] must have a leading axis of 40, the number of times; got shape \(3,\)",
        ),
        (40, -1, "smooth_controls: degree must be an integer from 0 to 39, less than the number of times; got -1"),
        (40, 40, "smooth_controls: degree must be an integer from 0 to 39, less than the number of times; got 40"),
    ],
)
def test_refusals_of_smoothing(frontend: Any, xp: Any, length: int, degree: int, text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        frontend.smooth_controls({"u": xp.ones(length)}, TIMES, degree=degree)
