"""Layers for JAX whose forward pass is a solve: pytrees that are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.errors import InputError
from janode.core.protocols import Array, Method
from janode.core.tableaus import Tableau

from .jax_controls import control_times, refine_controls
from .jax_solve import solve

Block = Callable[[Array, Any], Any]
"""A pytree that is called as block(t, y): a module of Equinox, or ``jax.tree_util.Partial(function, parameters)``."""


@dataclass(frozen=True)
class _Plan:
    """What of a block is no parameter; as a field it is called with those of its node."""

    structure: Any
    rest: tuple[Any, ...]
    """Its leaves, None for every parameter."""

    def build(self, parameters: Sequence[Array]) -> Any:
        """The block with these parameters."""
        given = iter(parameters)
        leaves = [next(given) if leaf is None else leaf for leaf in self.rest]
        return jax.tree.unflatten(self.structure, leaves)

    def __call__(self, t: Array, y: Any, parameters: Sequence[Array]) -> Any:
        return self.build(parameters)(t, y)


@jax.tree_util.register_pytree_node_class
class ControlledODE:
    """A stack of equal blocks as one ODE, dy/dt = block(t, y): maps the state at the first time to that at the last.

    The block's parameters depend on time: each gets a leading axis, one entry per node of the solve. A pytree, whose
    leaves are these parameters: differentiate, transform and update it as any other.

    Args:
        block: a pytree called as ``block(t, y)``, such as a module of Equinox or ``jax.tree_util.Partial(function,
            parameters)``, with whose floating-point arrays every node starts; or a list of such, one for each node,
            that differ in these arrays alone.
        ts: the start and the end, and times between them that the solve is to step on.
        method, steps, sampling, adjoint, correction: as for :func:`solve`.

    Raises:
        InputError: the blocks are not as many as the nodes or not alike, or an argument breaks a rule of the solve.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import janode.jax as jo
        >>> block = jax.tree_util.Partial(lambda p, t, y: jnp.tanh(p["W"] @ y), {"W": 0.1 * jnp.eye(2)})
        >>> layer = jo.ControlledODE(block, method="leapfrog", steps=10)
        >>> jax.tree.map(jnp.shape, layer.block.args)
        ({'W': (11, 2, 2)},)
        >>> loss = lambda layer, y0: (layer(y0) ** 2).sum()
        >>> slopes = jax.jit(jax.grad(loss))(layer, jnp.ones(2))
        >>> layer = jax.tree.map(lambda p, g: p - 0.1 * g, layer, slopes)
    """

    def __init__(
        self,
        block: Block | Sequence[Block],
        ts: Sequence[float] = (0.0, 1.0),
        *,
        method: str | Tableau | Method = "leapfrog",
        steps: int,
        sampling: str = "nodes",
        adjoint: Any = "auto",
        correction: str = "auto",
    ) -> None:
        self._options = (tuple(map(float, ts)), method, steps, sampling, adjoint, correction)
        num_nodes = len(self.times)
        blocks = list(block) if isinstance(block, list | tuple) else [block] * num_nodes
        if len(blocks) != num_nodes:
            raise InputError(
                f"ControlledODE: block must be one block, or {num_nodes} of them, one for each node; got "
                f"{len(blocks)}. control_times(method, ts, ...) gives the time of each node."
            )
        parts = [_split(block) for block in blocks]
        self._plan = parts[0][0]
        shapes = [[(leaf.shape, leaf.dtype) for leaf in leaves] for _, leaves in parts]
        for n, (plan, _) in enumerate(parts):
            if plan != self._plan or shapes[n] != shapes[0]:
                raise InputError(
                    f"ControlledODE: all blocks must be one pytree of one set of shapes; got another in block {n} than "
                    "in block 0. Give blocks that differ in the values of their parameters only."
                )
        self._parameters = tuple(jnp.stack(rows) for rows in zip(*(leaves for _, leaves in parts), strict=True))

    @property
    def block(self) -> Any:
        """The block whose parameters have a leading axis of nodes."""
        return self._plan.build(self._parameters)

    @property
    def times(self) -> list[float]:
        """The time of every node."""
        ts, method, steps, sampling, *_ = self._options
        return control_times(method, ts, steps=steps, sampling=sampling)

    def __call__(self, y0: Any) -> Any:
        """The state at the last time: the pytree of y0."""
        ts, method, steps, sampling, adjoint, correction = self._options
        ys = solve(
            self._plan,
            y0,
            ts,
            controls=self._parameters,
            sampling=sampling,
            method=method,
            steps=steps,
            adjoint=adjoint,
            correction=correction,
        ).ys
        return jax.tree.map(lambda leaf: leaf[-1], ys)

    def refined(self, steps: int, *, order: int = 4) -> ControlledODE:
        """The layer that takes other steps, its parameters interpolated from these: see :func:`refine_controls`."""
        ts, method, _, *rest = self._options
        finer = self.tree_unflatten((self._plan, (ts, method, steps, *rest)), ())
        finer._parameters = refine_controls(self._parameters, self.times, finer.times, order=order)
        return finer

    def tree_flatten(self) -> tuple[tuple[Array, ...], Any]:
        """The parameters, and all else."""
        return self._parameters, (self._plan, self._options)

    @classmethod
    def tree_unflatten(cls, rest: Any, parameters: Sequence[Any]) -> ControlledODE:
        """The layer with these parameters."""
        made = object.__new__(cls)
        made._plan, made._options = rest
        made._parameters = tuple(parameters)
        return made


def _split(block: Any) -> tuple[_Plan, list[Array]]:
    """A block without its parameters, and these."""
    leaves, structure = jax.tree.flatten(block)
    is_array = [hasattr(leaf, "dtype") for leaf in leaves]
    for leaf, is_one in zip(leaves, is_array, strict=True):
        if is_one and not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise InputError(
                f"ControlledODE: the arrays of a block must be floating-point; got {leaf.dtype}. Keep others out of "
                "the pytree, in static fields."
            )
    if not any(is_array):
        raise InputError(
            "ControlledODE: block must be a pytree with at least one array; got none. Give a module of Equinox, or "
            "jax.tree_util.Partial(function, parameters)."
        )
    rest = tuple(None if is_one else leaf for leaf, is_one in zip(leaves, is_array, strict=True))
    return _Plan(structure, rest), [jnp.asarray(leaf) for leaf, is_one in zip(leaves, is_array, strict=True) if is_one]
