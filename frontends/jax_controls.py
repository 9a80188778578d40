"""Helpers for controls on JAX pytrees: prolong them to a finer grid, diagnose their gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.arguments import check_parameters
from janode.core.controls import control_times, refine
from janode.core.diagnosis import Diagnosis, diagnose
from janode.core.protocols import Array, Method
from janode.core.tableaus import Tableau

__all__ = ["Diagnosis", "control_times", "diagnose_controls", "refine_controls"]


def refine_controls(controls: Any, times: Sequence[float], new_times: Sequence[float], *, order: int = 4) -> Any:
    """The controls on another grid: for each new time the polynomial through the nearest controls.

    Linear in the controls; works under ``jit``, ``vmap`` and ``grad``.

    Args:
        controls: any pytree of real or complex floating-point arrays with a leading axis of ``len(times)``.
        times: the times that they belong to, from :func:`control_times`; strictly increasing or decreasing.
        new_times: the times that they are wanted at; beyond the ends of ``times`` the polynomials are continued.
        order: how many controls each polynomial goes through, from 2 to ``len(times)``: 2 is linear, 4 cubic; the
            error for smooth controls is O(h^order).

    Returns:
        The pytree of controls with a leading axis of ``len(new_times)``.

    Raises:
        InputError: the leading axis is not that of times, or an argument breaks a rule above.

    Cost: order products of the new controls.

    Example:
        >>> import jax.numpy as jnp
        >>> import janode.jax as jo
        >>> old, new = (jo.control_times("leapfrog", [0.0, 1.0], steps=n) for n in (4, 8))
        >>> refined = jo.refine_controls({"w": jnp.asarray(old) ** 3}, old, new)
        >>> bool(jnp.allclose(refined["w"], jnp.asarray(new) ** 3))
        True
    """
    found, structure = jax.tree.flatten_with_path(controls)
    paths = ["controls" + jax.tree_util.keystr(path) for path, _ in found]
    leaves = tuple(jnp.asarray(leaf) for _, leaf in found)
    check_parameters("refine_controls", leaves, jnp, paths)
    return jax.tree.unflatten(structure, refine(jnp, leaves, paths, times, new_times, order))


def diagnose_controls(
    gradient: Callable[[str], Any],
    method: str | Tableau | Method,
    ts: Sequence[float] | Array,
    *,
    steps: int | None = None,
    step_size: float | None = None,
    correction: str = "auto",
) -> Diagnosis[Any]:
    """Whether the exact gradient of controls oscillates from node to node, and what a correction makes of it.

    Args:
        gradient: a function of the name of a correction; returns the gradient of controls at nodes, from a solve with
            that correction. It is called for ``"none"`` and for ``correction``, outside any ``jit``.
        method, ts, steps, step_size: those of the solve.
        correction: the correction to compare with.

    Returns:
        Both gradients, as functions of time, with their oscillation ||g - local mean|| / ||g|| and a verdict.

    Raises:
        InputError: an argument breaks a rule of the solve, there are fewer than 3 nodes, or a gradient has another
            leading axis than the nodes.

    Cost: two gradients, and some reads of their norms.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import janode.jax as jo
        >>> u = jnp.sin(jnp.asarray(jo.control_times("leapfrog", [0.0, 1.0], steps=20)))
        >>> def gradient(correction):
        ...     def loss(u):
        ...         return jo.solve(
        ...             lambda t, y, u: u * y, jnp.ones(1), [0.0, 1.0], controls=u, method="leapfrog", steps=20,
        ...             correction=correction,
        ...         ).ys[-1].sum()
        ...     return jax.grad(loss)(u)
        >>> found = jo.diagnose_controls(gradient, "leapfrog", [0.0, 1.0], steps=20)
        >>> found.verdict
        'The exact gradient oscillates from node to node and the corrected one does not (...): use correction="auto".'
    """
    times = control_times(method, ts, steps=steps, step_size=step_size)
    raw, structure = jax.tree.flatten(gradient("none"))
    corrected = jax.tree.leaves(gradient(correction))
    gradients = (tuple(raw), tuple(corrected))
    return diagnose(jnp, lambda leaves: jax.tree.unflatten(structure, leaves), method, ts, times, gradients, correction)
