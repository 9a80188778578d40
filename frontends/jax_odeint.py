"""JAX's own interface to ODEs: ``odeint`` with the arguments of ``jax.experimental.ode.odeint``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.controllers import PIDController
from janode.core.errors import InputError

from .jax_solve import solve

_MAX_STEPS = 2**16
"""Tries of a solve whose number of steps is not limited: what the buffer for the steps is made for."""
_CHECKPOINTS = 2**8
"""The states kept of them, and of those between two kept ones: 2^16 steps, each recomputed once at most."""


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    *args: Any,
    rtol: Any = 1.4e-8,
    atol: Any = 1.4e-8,
    mxstep: float = math.inf,
    hmax: float = math.inf,
) -> Any:
    """The solution y(t) of dy/dt = func(y, t, *args), y(t[0]) = y0, by ``"dopri5"``.

    Gradients reach y0, t and args, by the exact gradient of the discrete solution, not by an adjoint problem solved
    backwards.

    Args:
        func: ``func(y, t, *args)``: the state comes first; the output has the structure of y.
        y0: any pytree of real or complex floating-point arrays.
        t: times, strictly increasing or strictly decreasing.
        *args: pytrees of arrays.
        rtol, atol: > 0, numbers or pytrees like y0.
        mxstep: the most steps tried per entry of t; if infinite, 65536 for the whole solve.
        hmax: the largest step size, > 0.

    Returns:
        The states at all t, the pytree of y0 with a leading axis ``len(t)``.

    Raises:
        InputError: an argument breaks a rule.
        SolveError: the solve failed outside a traced computation; inside one the states are NaN from the failure on.

    Cost: as :func:`solve` with ``adjoint="symplectic"``; it keeps at most 256 states.
    Source: the interface is that of JAX 0.10.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from janode.jax import odeint
        >>> t = jnp.array([0.0, 1.0])
        >>> def loss(k):
        ...     return odeint(lambda y, t, k: -k * y, jnp.ones(2), t, k, rtol=1e-5, atol=1e-5)[-1].sum()
        >>> bool(abs(jax.grad(loss)(0.5) + 2 * jnp.exp(-0.5)) < 1e-3)
        True
    """
    if not callable(func):
        raise InputError(f"odeint: func must be callable as func(y, t, *args); got {type(func).__name__}. Give one.")
    num_times = len(t)
    if num_times == 1:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], y0)
    if math.isinf(mxstep):
        max_steps = _MAX_STEPS
    elif mxstep == int(mxstep) and mxstep >= 1:
        max_steps = int(mxstep) * (num_times - 1)
    else:
        raise InputError(f"odeint: mxstep must be an integer >= 1 or infinite; got {mxstep}. Give the most steps.")

    def field(t: Any, y: Any, args: Any) -> Any:
        return func(y, t, *args)

    return solve(
        field,
        y0,
        t,
        args,
        method="dopri5",
        rtol=rtol,
        atol=atol,
        controller=PIDController(proportional=0.0, integral=1.0, derivative=0.0, max_step=float(hmax)),
        max_steps=max_steps,
        checkpoints=_CHECKPOINTS,
    ).ys
