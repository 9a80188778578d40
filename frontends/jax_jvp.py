"""Forward mode in JAX by one call, as every frontend has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.errors import InputError
from janode.core.knots import Knots
from janode.core.protocols import Array
from janode.core.solution import Solution

from .jax_refusals import FORWARD
from .jax_solve import solve
from .jax_trees import with_values


def solve_jvp(
    field: Callable[..., Any],
    y0: Any,
    ts: Sequence[float] | Array,
    params: Any = None,
    *,
    y0_dot: Any = None,
    params_dot: Any = None,
    ts_dot: Any = None,
    controls_dot: Any = None,
    controls: Any = None,
    **options: Any,
) -> tuple[Solution[Any], Any]:
    """The solution, and the derivative of its states along the tangents of y0, params, ts and controls.

    It is exact for the discrete solution, to rounding: ``jax.jvp`` of ``solve(..., adjoint="forward")``.

    Args:
        y0_dot, params_dot, controls_dot: the tangents, with the structure, shapes and dtypes of y0, params and
            controls (of the values of ``Knots``); any leaf of them may be None for zero, and so may they.
        ts_dot: how fast each of ts moves, ``len(ts)`` numbers; or None for zero. With it ts counts as traced.
        field, y0, ts, params, controls, options: as for :func:`solve`, without adjoint, correction and checkpoints.

    Returns:
        ``(solution, ys_dot)``, ``ys_dot`` with the structure and shapes of ``solution.ys``.

    Raises:
        InputError, SolveError: as for :func:`solve`; a tangent does not fit its argument.

    Cost: per step of s stages, s field evaluations and s JVPs; nothing is kept of a step.

    Example:
        >>> import jax.numpy as jnp
        >>> import janode.jax as jo
        >>> k, one = jnp.asarray(0.5), jnp.asarray(1.0)
        >>> _, ys_dot = jo.solve_jvp(
        ...     lambda t, y, k: -k * y, jnp.ones(1), [0.0, 1.0], k, params_dot=one, method="rk4", steps=20
        ... )
        >>> bool(abs(ys_dot[-1, 0] + jnp.exp(-0.5)) < 1e-5)
        True
    """
    for name in ("adjoint", "correction", "checkpoints"):
        if name in options:
            raise InputError(f"solve_jvp: {name} must not be given, for it is about gradients; got it. Leave it out.")
    values = controls.values if isinstance(controls, Knots) else controls
    trees = [_split(*given) for given in ((y0, y0_dot, "y0"), (params, params_dot, "params"))]
    trees.append(_split(values, controls_dot, "controls"))
    moves = [] if ts_dot is None else [jnp.asarray(ts, jnp.result_type(float))]
    speeds = [] if ts_dot is None else [jnp.asarray(ts_dot, jnp.result_type(float))]
    if any(a.shape != b.shape for a, b in zip(moves, speeds, strict=True)):
        raise InputError(f"solve_jvp: ts_dot must be one number for each of ts; got shape {speeds[0].shape}. Give 0.0.")

    def run(leaves: list[list[Array]], times: list[Array]) -> tuple[Any, Any]:
        y0, params, values = (build(part) for (_, _, build), part in zip(trees, leaves, strict=True))
        own = replace(controls, values=values) if isinstance(controls, Knots) else values
        found = solve(field, y0, times[0] if times else ts, params, controls=own, adjoint=FORWARD, **options)
        return found.ys, found

    primals, tangents = [leaves for leaves, _, _ in trees], [dots for _, dots, _ in trees]
    _, ys_dot, solution = jax.jvp(run, (primals, moves), (tangents, speeds), has_aux=True)
    return solution, ys_dot


def _split(tree: Any, dot: Any, name: str) -> tuple[list[Array], list[Array], Callable[[list[Array]], Any]]:
    """(inexact leaves, their tangents, the tree of such leaves and the rest)."""
    structure: Any
    leaves, structure = jax.tree.flatten(tree)
    try:
        given = [None] * len(leaves) if dot is None else structure.flatten_up_to(dot)
        if any(isinstance(tangent, list | tuple | dict) for tangent in given):
            raise ValueError
    except ValueError as error:
        raise InputError(
            f"solve_jvp: {name}_dot must have the structure of {name}, {structure}; got {jax.tree.structure(dot)}. "
            "Give one tangent for each array, or None for zero."
        ) from error
    places = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    primals = [jnp.asarray(leaves[i]) for i in places]
    tangents: list[Any] = [
        jnp.zeros_like(leaf) if given[i] is None else given[i] for i, leaf in zip(places, primals, strict=True)
    ]
    for leaf, tangent in zip(primals, tangents, strict=True):
        if jnp.shape(tangent) != leaf.shape or jnp.result_type(tangent) != leaf.dtype:
            raise InputError(
                f"solve_jvp: {name}_dot must have the shapes and dtypes of {name}; got shape {jnp.shape(tangent)} and "
                f"dtype {jnp.result_type(tangent)} for {leaf.shape} and {leaf.dtype}. Cast it, or give None for zero."
            )

    return primals, tangents, partial(with_values, structure, leaves, places)
