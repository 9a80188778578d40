"""A thrown ball with drag, and a floor that rises: the same problem for every library, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

import janode.jax
import janode.numpy
import janode.torch

Y0, PARAMS, TS = (1.0, 3.0), (9.81, 0.1, 0.05), (0.0, 0.5, 5.0)
OPTIONS: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12, "dense": True}
WEIGHTS = (0.3, 0.7)
PLACE = 0.3


def field(xp: Any) -> Callable[..., Any]:
    """The ball falls with gravity p[0] and drag p[1]; p[2] is the event's alone."""
    return lambda t, y, p: xp.stack([y[1], -p[0] - p[1] * y[1]])


def height(t: Any, y: Any, p: Any) -> Any:
    """The height above the floor."""
    return y[0] - p[2] * t


def field_vjp(t: Any, y: Any, p: Any, f_bar: Any) -> Any:
    y_bar = np.stack([0.0 * f_bar[0], f_bar[0] - p[1] * f_bar[1]])
    return None, y_bar, np.stack([-f_bar[1], -f_bar[1] * y[1], 0.0 * f_bar[0]])


def height_vjp(t: Any, y: Any, p: Any, bar: Any) -> Any:
    return -p[2] * bar, np.stack([bar, 0.0 * bar]), np.stack([0.0 * bar, 0.0 * bar, -t * bar])


def numpy_solve(y0: Any = Y0, params: Any = PARAMS, ts: Any = TS, **options: Any) -> Any:
    """(solution, pullback)."""
    event = janode.numpy.Event(height, direction=-1, vjp=height_vjp)
    arguments = np.asarray(y0), list(ts), np.asarray(params)
    return janode.numpy.solve_vjp(
        janode.numpy.Field(field(np), field_vjp), *arguments, event=event, **{**OPTIONS, **options}
    )


def loss(solution: Any, place: Any, weights: Any) -> Any:
    """A number that depends on the event, on the solution between steps and on a saved state."""
    at_event = solution.event.t + (solution.event.y * weights).sum()
    return at_event + (solution.interpolant(place) * weights).sum() + solution.ys[1].sum()


def numpy_gradient(adjoint: str) -> list[Any]:
    """Of y0, params, ts and place."""
    solution, pullback = numpy_solve(adjoint=adjoint)
    weights = np.asarray(WEIGHTS)
    place_bar, dense_bar = solution.interpolant.vjp(PLACE, (weights,))
    ys_bar = np.asarray([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = pullback(ys_bar, event_bar=(1.0, weights), dense_bar=dense_bar)
    return [found.y0, found.params, found.ts, place_bar]


def torch_solve(y0: Any, params: Any, ts: Any, adjoint: str = "auto") -> Any:
    event = janode.torch.Event(height, direction=-1)
    return janode.torch.solve(field(torch), y0, ts, params, event=event, adjoint=adjoint, **OPTIONS)


def torch_gradient(adjoint: str) -> list[Any]:
    inputs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (Y0, PARAMS, TS, PLACE)]
    solution = torch_solve(*inputs[:3], adjoint=adjoint)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    return [bar.numpy() for bar in torch.autograd.grad(loss(solution, inputs[3], weights), inputs)]


def jax_solve(y0: Any, params: Any, ts: Any, adjoint: str = "auto") -> Any:
    event = janode.jax.Event(height, direction=-1)
    given: Any = {"event": event, "adjoint": adjoint, "max_steps": 64, "checkpoints": 6, **OPTIONS}
    return janode.jax.solve(field(jnp), y0, ts, params, **given)


def jax_loss(adjoint: str, y0: Any, params: Any, ts: Any, place: Any) -> Any:
    solution = jax_solve(y0, params, ts, adjoint)
    return loss(solution, place, jnp.asarray(WEIGHTS))


def differences(function: Callable[[Any], float], at: Sequence[float], step: float = 1e-5) -> list[float]:
    """Central differences."""
    found = []
    for direction in np.eye(len(at)):
        moved = step * direction
        found.append((function(np.asarray(at) + moved) - function(np.asarray(at) - moved)) / (2 * step))
    return found
