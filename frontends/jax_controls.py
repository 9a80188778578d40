"""Helpers for controls on JAX pytrees: sample, smooth and refine them, diagnose their gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.arguments import check_parameters
from janode.core.controls import control_times, refine
from janode.core.diagnosis import Diagnosis, diagnose
from janode.core.errors import InputError
from janode.core.protocols import Array, Method, State
from janode.core.smoothing import smooth
from janode.core.tableaus import Tableau

from .jax_trees import named_leaves

__all__ = ["Diagnosis", "control_times", "diagnose_controls", "refine_controls", "sample_controls", "smooth_controls"]


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
    leaves, paths, structure = _flattened("refine_controls", controls)
    return jax.tree.unflatten(structure, refine(jnp, leaves, paths, times, new_times, order))


def sample_controls(function: Callable[[float], Any], times: Sequence[float]) -> Any:
    """The values function(t_k) stacked along a new leading axis: controls that are a function of time.

    Args:
        function: of a time, a Python float; returns any pytree of arrays, always of one structure.
        times: the times of the controls, from :func:`control_times`.

    Returns:
        The pytree of what it returns, with a leading axis of ``len(times)``.

    Raises:
        InputError: there are no times, or the results differ in structure or shape.

    Example:
        >>> import jax.numpy as jnp
        >>> import janode.jax as jo
        >>> times = jo.control_times("leapfrog", [0.0, 1.0], steps=2)
        >>> jo.sample_controls(lambda t: {"w": jnp.asarray([t, 1.0 - t])}, times)["w"].tolist()
        [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    if not len(times):
        raise InputError(
            "sample_controls: times must not be empty; got none. control_times(method, ts, ...) gives them."
        )
    made = [function(float(t)) for t in times]
    if len({(jax.tree.structure(one), *map(jnp.shape, jax.tree.leaves(one))) for one in made}) > 1:
        raise InputError(
            "sample_controls: function must return one structure and one shape for all times; got several. Return "
            "arrays of one shape."
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)


def smooth_controls(controls: Any, times: Sequence[float], *, degree: int = 3) -> Any:
    """The smooth controls nearest to given ones: for every entry a polynomial in time, by least squares.

    Training does not remove a sawtooth that is in the controls from the start, so start from smooth ones: these, or one
    value for all nodes, or few random values and what :func:`refine_controls` makes of them. Linear in the controls.

    Args:
        controls: any pytree of real or complex floating-point arrays with a leading axis of ``len(times)``, such as the
            layers of a trained network.
        times: the times that they belong to, from :func:`control_times`; strictly increasing or decreasing.
        degree: that of the polynomial, from 0 (the mean over time) to ``len(times) - 1``.

    Returns:
        The pytree of controls, of the same shapes. Of independent random ones it keeps about the share
        (degree + 1) / len(times) of their variance.

    Raises:
        InputError: the leading axis is not that of times, or an argument breaks a rule above.

    Cost: two matrix products with ``degree + 1`` rows.

    Example:
        >>> import jax.numpy as jnp
        >>> import janode.jax as jo
        >>> times = jo.control_times("leapfrog", [0.0, 1.0], steps=4)
        >>> rough = jnp.asarray([1.0, -1.0, 1.0, -1.0, 1.0]) + 3.0
        >>> jo.smooth_controls(rough, times, degree=0).tolist()
        [3.0, 3.0, 3.0, 3.0, 3.0]
    """
    leaves, paths, structure = _flattened("smooth_controls", controls)
    return jax.tree.unflatten(structure, smooth(jnp, leaves, paths, times, degree))


def _flattened(where: str, controls: Any) -> tuple[State, list[str], Any]:
    """(leaves, how a user writes them, structure) of controls that are arrays."""
    found, structure, paths = named_leaves(controls, "controls")
    leaves = tuple(map(jnp.asarray, found))
    check_parameters(where, leaves, jnp, paths)
    return leaves, paths, structure


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
