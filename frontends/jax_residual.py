"""Residual stacks of JAX functions, differentiated without keeping activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from janode.core import arguments
from janode.core.errors import InputError
from janode.core.protocols import Array, State
from janode.core.residual import check_stack

from .jax_field import ClosedField, close
from .jax_stack import WHERE, Program
from .jax_trees import named_leaves


def residual_stack(
    block: Callable[..., Any] | Sequence[Callable[..., Any]],
    params: Any,
    x: Any,
    *extra: Any,
    scheme: str = "euler",
    adjoint: str = "reconstruct",
    step: float | None = None,
) -> Any:
    """The output of a stack of residual blocks, x_{n+1} = x_n + step f_n(x_n), at memory that need not grow with depth.

    f_n(x) is ``block(x, params_n, *extra)``, the residual function alone, without the sum. N blocks take N steps;
    ``"heun"`` evaluates block n at the start of step n and at the end of step n - 1, and the last block at the end of
    the last step as well.

    Args:
        block: a function that returns the pytree of x, its shapes and dtypes; or a list of N of them.
        params: a list (not a tuple) with the parameters of each block, of any structures, whose loop is unrolled; or
            any other pytree, whose leaves have a leading axis of N, for a ``lax.scan``.
        x: any pytree of real or complex floating-point arrays.
        extra: pytrees that every block gets; gradients reach their inexact arrays, and arrays that a block closes over.
        scheme: ``"euler"``, the residual network; ``"heun"``, of second order, two evaluations a block; ``"leapfrog"``,
            x_{n+1} = x_{n-1} + 2 step f_n(x_n) after one Euler step: reversible, one evaluation a block.
        adjoint: ``"reconstruct"`` keeps the last state (leapfrog: the last two) and goes back from it: exact to
            rounding for leapfrog, else with an error that falls with the depth and that
            :func:`residual_errors` measures; ``"predict"``, for Euler, does so with one evaluation a block instead of
            two, at a predicted state: more accurate where f_n changes little with n, else less; ``"symplectic"`` keeps
            one state a block and is exact; ``"backprop"`` leaves it to JAX, which keeps every activation.
        step: h > 0; 1 / N by default.

    Raises:
        InputError: an argument breaks a rule above; a block of a list is named by its index.

    Cost with N blocks, e evaluations per block of the forward pass (2 for Heun, else 1): ``"reconstruct"`` 2 e N more
    evaluations (leapfrog N, Heun 5 N) and e N VJPs; ``"predict"`` N + 1 and N; ``"symplectic"`` N (Heun 3 N)
    and e N.
    Source: Sander, Ablin, Peyre 2022, arXiv 2205.14612, section 4.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import janode.jax as jo
        >>> weights = 0.1 * jax.random.normal(jax.random.key(0), (100, 4, 4))
        >>> def loss(weights):
        ...     block = lambda x, w: jnp.tanh(x @ w)
        ...     return jnp.sum(jo.residual_stack(block, weights, jnp.ones((2, 4)), scheme="leapfrog"))
        >>> jax.grad(loss)(weights).shape
        (100, 4, 4)
    """
    program, arrays, tree = pose_stack(block, params, x, extra, scheme, adjoint, step)
    run = program.run if adjoint == "backprop" else program.differentiable()
    return jax.tree.unflatten(tree, run(*arrays))


def pose_stack(
    block: Any, params: Any, x: Any, extra: Any, scheme: str, adjoint: str, step: float | None
) -> tuple[Program, tuple[Any, ...], Any]:
    """(the program, its arrays, the structure of x)."""
    state, tree, paths = _arrays(x, "x")
    if not state:
        raise InputError(f"{WHERE}: x must have at least one array; got none. Give the input of the first block.")
    is_listed = isinstance(params, list)
    if isinstance(block, list) and not (is_listed and len(block) == len(params)):
        got = f"{len(params)} entries" if is_listed else "stacked params"
        raise InputError(
            f"{WHERE}: a list of {len(block)} blocks must come with a list of as many params; got {got}. Give one "
            "entry for each block, None for one without parameters."
        )
    leaves, _, params_paths = _arrays(params, "params")
    count = len(params) if is_listed else _depth(leaves, params_paths)
    h = check_stack(WHERE, count, scheme, adjoint, step)

    def closed(n: int, stacked: Any) -> tuple[State, ClosedField, State]:
        fn = block[n] if isinstance(block, list) else block
        where = f"{WHERE}, block {n}" if is_listed else WHERE

        def field(t: Array, y: Any, extra: Any, control: Any = None) -> Any:
            return fn(y, control, *extra)

        return close(field, jnp.zeros(2), state, tree, paths, extra, stacked, 0, where)

    if not is_listed:
        shared, field, constants = closed(0, params)
        return Program(scheme, adjoint, h, count, (field,), False), (state, shared, constants, leaves), tree
    found = [closed(n, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], entry)) for n, entry in enumerate(params)]
    size = found[0][1].num_params
    rows = tuple(
        shared[size:] + tuple(jnp.asarray(leaf) for leaf in jax.tree.leaves(entry))
        for (shared, _, _), entry in zip(found, params, strict=True)
    )
    fields, constants = tuple(field for _, field, _ in found), tuple(others for *_, others in found)
    return Program(scheme, adjoint, h, count, fields, True), (state, found[0][0][:size], constants, rows), tree


def _arrays(given: Any, name: str) -> tuple[State, Any, list[str]]:
    """(leaves as arrays, structure, path of each leaf) of an argument that has a gradient."""
    found, tree, paths = named_leaves(given, name)
    leaves = tuple(map(jnp.asarray, found))
    arguments.check_parameters(WHERE, leaves, jnp, paths)
    return leaves, tree, paths


def _depth(leaves: State, paths: Sequence[str]) -> int:
    """The leading axis that all stacked leaves must have in common."""
    depths = {leaf.shape[0] if leaf.ndim else None: path for leaf, path in zip(leaves, paths, strict=True)}
    if len(depths) != 1 or None in depths:
        listed = ", ".join(f"{path}: {depth}" for depth, path in depths.items()) or "no array"
        raise InputError(
            f"{WHERE}: stacked params must be arrays with one leading axis, an entry for each block; got {listed}. "
            "Stack them, or give a list with the parameters of each block."
        )
    (depth,) = depths
    return depth or 0
