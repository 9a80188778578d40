"""A JAX field as the core sees it: closed over nothing, differentiated by ``jax.vjp``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from janode.core import arguments
from janode.core.errors import InputError
from janode.core.protocols import Array, Cotangent, State

from .jax_trees import with_values


class ClosedField(NamedTuple):
    """A field as a pure function of its arrays.

    ``jaxpr`` takes (constants it closed over, t, leaves of y, of params, of the control). Inexact constants are
    differentiated: theta is (leaves of params, inexact constants, leaves of the control); other constants stay apart.
    """

    jaxpr: Any
    num_params: int
    is_inexact: tuple[bool, ...]
    num_controls: int

    def __call__(self, t: Array, y: State, theta: State, others: State) -> State:
        """The leaves of f(t, y, theta)."""
        shared = len(theta) - self.num_controls
        inexact, rest = iter(theta[self.num_params : shared]), iter(others)
        constants = [next(inexact) if is_inexact else next(rest) for is_inexact in self.is_inexact]
        slopes = jax.core.eval_jaxpr(self.jaxpr, constants, t, *y, *theta[: self.num_params], *theta[shared:])
        # What does not depend on the arguments comes back as a number or a NumPy array.
        return tuple(jnp.asarray(k, dtype=leaf.dtype) for k, leaf in zip(slopes, y, strict=True))


def _places(leaves: Sequence[tuple[Any, Any]]) -> list[int]:
    """Which leaves of params are differentiated: inexact arrays, and numbers that may stand for them."""
    places = []
    for place, (path, leaf) in enumerate(leaves):
        is_array = isinstance(leaf, jax.Array | np.ndarray | np.generic)
        if hasattr(leaf, "__dlpack__") and not is_array:
            raise InputError(
                f"solve: all arrays must come from JAX or NumPy; got {type(leaf).__module__}.{type(leaf).__name__} for "
                f"params{jax.tree_util.keystr(path)}. Convert it with jax.numpy.asarray."
            )
        if jnp.issubdtype(leaf.dtype, jnp.inexact) if is_array else isinstance(leaf, float | complex):
            places.append(place)
    return places


def _stage_time(times: Array, like: Array) -> Array:
    return times[0].astype(like.real.dtype)


def _first(controls: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], controls)


def close(
    field: Callable[..., Any],
    times: Array,
    state: State,
    tree: Any,
    paths: Sequence[str],
    params: Any,
    controls: Any,
    clock: int,
    where: str = "solve",
) -> tuple[State, ClosedField, State]:
    """(shared theta, field closed over nothing, constants without gradient); checks the field's output.

    Evaluates nothing.
    """
    found, params_tree = jax.tree.flatten_with_path(params)
    leaves, places = [leaf for _, leaf in found], _places(found)
    inexact = [jnp.asarray(leaves[i]) for i in places]  # Python numbers stay weak: they do not widen a state

    def flat(t: Array, y: list[Array], values: list[Array], control: Any) -> Any:
        args = []
        if params is not None:
            args.append(with_values(params_tree, leaves, places, values))
        if controls is not None:
            args.append(control)
        return field(t, jax.tree.unflatten(tree, y), *args)

    t = jax.eval_shape(_stage_time, times, state[clock])
    control = jax.eval_shape(_first, controls)
    closed, shapes = jax.make_jaxpr(flat, return_shape=True)(t, list(state), inexact, control)
    slopes, slopes_tree = jax.tree.flatten(shapes)
    arguments.check_structure(where, slopes_tree, tree)
    arguments.check_slope(where, tuple(slopes), state, paths, devices=False)
    kinds = tuple(jnp.issubdtype(jax.typeof(constant).dtype, jnp.inexact) for constant in closed.consts)
    hoisted = [jnp.asarray(c) for c, is_inexact in zip(closed.consts, kinds, strict=True) if is_inexact]
    others = [c for c, is_inexact in zip(closed.consts, kinds, strict=True) if not is_inexact]
    num_controls = len(jax.tree.leaves(control))
    return (*inexact, *hoisted), ClosedField(closed.jaxpr, len(inexact), kinds, num_controls), tuple(others)


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

        shared = theta[: len(self._wanted)]

        def partial(y: State, some: State, *time: Array) -> State:
            rest = iter(some)
            full = tuple(next(rest) if w else leaf for w, leaf in zip(self._wanted, shared, strict=True))
            return self.closed(time[0] if time else t, y, (*full, *rest), self.constants)

        some = (*self.wanted(shared), *theta[len(self._wanted) :])
        return _Linearization(*jax.vjp(partial, y, some, *((t,) if self.needs_time else ())))

    def wanted(self, theta: State) -> State:
        """The shared leaves of theta that carry a tangent."""
        return tuple(leaf for wanted, leaf in zip(self._wanted, theta, strict=True) if wanted)
