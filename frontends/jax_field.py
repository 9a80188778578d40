"""A JAX field as the core sees it: closed over nothing, differentiated by ``jax.vjp``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from janode.core import arguments
from janode.core.protocols import Array, Cotangent, State


class ClosedField(NamedTuple):
    """A field as a pure function of its arrays.

    ``jaxpr`` takes (constants it closed over, t, leaves of y, leaves of params). Inexact constants are differentiated:
    theta is (leaves of params, inexact constants); the other constants stay apart.
    """

    jaxpr: Any
    num_params: int
    is_inexact: tuple[bool, ...]

    def __call__(self, t: Array, y: State, theta: State, others: State) -> State:
        """The leaves of f(t, y, theta)."""
        inexact, rest = iter(theta[self.num_params :]), iter(others)
        constants = [next(inexact) if is_inexact else next(rest) for is_inexact in self.is_inexact]
        return tuple(jax.core.eval_jaxpr(self.jaxpr, constants, t, *y, *theta[: self.num_params]))


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is an array that can have a gradient."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def close(
    field: Callable[..., Any], state: State, tree: Any, paths: Sequence[str], params: Any, clock: int
) -> tuple[State, ClosedField, State]:
    """(theta, field closed over nothing, constants without gradient); checks the field's output. Evaluates nothing."""
    leaves, params_tree = jax.tree.flatten(params)
    places = [i for i, leaf in enumerate(leaves) if is_inexact(leaf) or isinstance(leaf, float | complex)]
    inexact = [jnp.asarray(leaves[i], dtype=jnp.result_type(leaves[i])) for i in places]

    def flat(t: Array, y: list[Array], values: list[Array]) -> Any:
        if params is None:
            return field(t, jax.tree.unflatten(tree, y))
        filled = list(leaves)
        for place, value in zip(places, values, strict=True):
            filled[place] = value
        return field(t, jax.tree.unflatten(tree, y), jax.tree.unflatten(params_tree, filled))

    t = jax.ShapeDtypeStruct((), state[clock].real.dtype)
    closed, shapes = jax.make_jaxpr(flat, return_shape=True)(t, list(state), inexact)
    slopes, slopes_tree = jax.tree.flatten(shapes)
    arguments.check_structure("solve", slopes_tree, tree)
    arguments.check_slope("solve", tuple(slopes), state, paths, devices=False)
    kinds = tuple(is_inexact(constant) for constant in closed.consts)
    hoisted = [jnp.asarray(c) for c, inexact_ in zip(closed.consts, kinds, strict=True) if inexact_]
    others = [c for c, inexact_ in zip(closed.consts, kinds, strict=True) if not inexact_]
    return (*inexact, *hoisted), ClosedField(closed.jaxpr, len(inexact), kinds), tuple(others)


class _Linearization(NamedTuple):
    f: State
    pullback: Callable[[State], tuple[Any, ...]]

    def pull(self, f_bar: State) -> tuple[Array | None, State, Cotangent]:
        """The cotangents of the field's arguments."""
        y_bar, theta_bar, *t_bar = self.pullback(f_bar)
        return (t_bar[0] if t_bar else None), y_bar, theta_bar


class JaxField:
    """The field for one set of constants and one choice of wanted cotangents."""

    def __init__(self, closed: ClosedField, constants: State, needs_time: bool, wanted: Sequence[bool]) -> None:
        self.closed, self.constants = closed, constants
        self.needs_time, self._wanted = needs_time, tuple(wanted)

    def __call__(self, t: Array, y: State, theta: State) -> State:
        """The value of the field."""
        return self.closed(t, y, theta, self.constants)

    def linearize(self, t: Array, y: State, theta: State) -> _Linearization:
        """The value and the pullback, traced into the surrounding computation."""

        def partial(y: State, some: State, *time: Array) -> State:
            rest = iter(some)
            full = tuple(next(rest) if w else leaf for w, leaf in zip(self._wanted, theta, strict=True))
            return self.closed(time[0] if time else t, y, full, self.constants)

        return _Linearization(*jax.vjp(partial, y, self.wanted(theta), *((t,) if self.needs_time else ())))

    def wanted(self, theta: State) -> State:
        """The leaves of theta that carry a tangent."""
        return tuple(leaf for wanted, leaf in zip(self._wanted, theta, strict=True) if wanted)
