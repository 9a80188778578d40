"""The loss of the hare-lynx fit and its gradient, computed by janode on each array library."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.lynx_hare_model import Counts, field, field_vjp, log_loss, log_loss_vjp, unpack

Vector = NDArray[np.float64]
Gradient = Callable[[Vector], tuple[float, Vector]]

METHOD = {"method": "rk4", "adjoint": "symplectic"}


class Library(StrEnum):
    """The array libraries, by the name of their package."""

    NUMPY = "numpy"
    STRICT = "array_api_strict"
    TORCH = "torch"
    JAX = "jax"
    CUPY = "cupy"


@dataclass(frozen=True)
class Problem:
    """The fit on one library: `gradient` returns the loss and its gradient, `curves` the solution at given times."""

    device: str
    gradient: Gradient
    curves: Callable[[Vector, Vector], tuple[Vector, Vector]]


def absence(library: Library) -> str | None:
    """Return why the library cannot be used here, or None if it can."""
    if importlib.util.find_spec(library) is None:
        return "not installed"
    if library is Library.CUPY:
        cupy = importlib.import_module("cupy")
        try:
            cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            return f"no CUDA device: {error}"
    return None


def load(library: Library, counts: Counts, steps: int) -> Problem:
    """Return the problem with `steps` Runge-Kutta steps a year on an installed library, in float64."""
    if library is Library.TORCH:
        return _torch_problem(counts, steps)
    if library is Library.JAX:
        return _jax_problem(counts, steps)
    frontends = {Library.NUMPY: "janode.numpy", Library.CUPY: "janode.cupy", Library.STRICT: "janode.array"}
    return _manual_problem(importlib.import_module(frontends[library]), importlib.import_module(library), counts, steps)


def _observations(xp: Any, counts: Counts) -> tuple[Any, tuple[Any, Any]]:
    """Return the years and the logarithms of the counts as arrays of the library."""
    years, hare, lynx = (xp.asarray(column, dtype=xp.float64) for column in (counts.years, counts.hare, counts.lynx))
    return years, (xp.log(hare), xp.log(lynx))


def _manual_problem(jo: ModuleType, xp: Any, counts: Counts, steps: int) -> Problem:
    """Return the problem on a library without automatic differentiation, from the hand-written VJPs."""
    years, log_counts = _observations(xp, counts)
    lotka_volterra = jo.Field(field, field_vjp)

    def gradient(x: Vector) -> tuple[float, Vector]:
        y0, rates = unpack(xp, xp.asarray(x.tolist(), dtype=xp.float64))
        solution, pullback = jo.solve_vjp(lotka_volterra, y0, years, rates, steps=steps, **METHOD)
        loss = log_loss(xp, solution.ys, log_counts)
        grads = pullback(log_loss_vjp(xp, solution.ys, log_counts))
        natural_bar = (*grads.params, *grads.y0)
        return float(loss), np.array([float(bar) for bar in natural_bar]) * np.exp(x)

    def curves(x: Vector, ts: Vector) -> tuple[Vector, Vector]:
        y0, rates = unpack(xp, xp.asarray(x.tolist(), dtype=xp.float64))
        times = xp.asarray(ts.tolist(), dtype=xp.float64)
        hare, lynx = jo.solve(lotka_volterra, y0, times, rates, steps=1, **METHOD).ys
        return _to_numpy(hare), _to_numpy(lynx)

    return Problem("gpu" if xp.__name__ == "cupy" else "cpu", gradient, curves)


def _torch_problem(counts: Counts, steps: int) -> Problem:
    """Return the problem on PyTorch, through autograd."""
    import torch

    import janode.torch as jo

    years, log_counts = _observations(torch, counts)

    def gradient(x: Vector) -> tuple[float, Vector]:
        leaf = torch.tensor(x, requires_grad=True)
        y0, rates = unpack(torch, leaf)
        loss = log_loss(torch, jo.solve(field, y0, years, rates, steps=steps, **METHOD).ys, log_counts)
        (leaf_bar,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), leaf_bar.numpy()

    def curves(x: Vector, ts: Vector) -> tuple[Vector, Vector]:
        y0, rates = unpack(torch, torch.tensor(x))
        hare, lynx = jo.solve(field, y0, torch.tensor(ts), rates, steps=1, **METHOD).ys
        return _to_numpy(hare), _to_numpy(lynx)

    return Problem(str(years.device), gradient, curves)


def _jax_problem(counts: Counts, steps: int) -> Problem:
    """Return the problem on JAX, through jit and grad; switches JAX to float64."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import janode.jax as jo

    years, log_counts = _observations(jax.numpy, counts)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(x: Any) -> Any:
        y0, rates = unpack(jax.numpy, x)
        return log_loss(jax.numpy, jo.solve(field, y0, years, rates, steps=steps, **METHOD).ys, log_counts)

    def gradient(x: Vector) -> tuple[float, Vector]:
        loss, x_bar = loss_and_gradient(x)
        return float(loss), np.asarray(x_bar)

    def curves(x: Vector, ts: Vector) -> tuple[Vector, Vector]:
        y0, rates = unpack(jax.numpy, jax.numpy.asarray(x))
        hare, lynx = jo.solve(field, y0, jax.numpy.asarray(ts), rates, steps=1, **METHOD).ys
        return _to_numpy(hare), _to_numpy(lynx)

    return Problem(years.device.platform, gradient, curves)


def _to_numpy(array: Any) -> Vector:
    return np.array([float(value) for value in array])
