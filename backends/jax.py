"""The JAX backend: traced. Loops are ``lax.scan``, buffers are arrays, times are 0-d arrays of one dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.protocols import Array, Cotangent, State

from .host_memory import HostMeter, free_host_memory


class JaxBackend:
    """Every array it makes is derived from a given one, so that shardings and batch axes follow."""

    name = "jax"
    xp = jnp

    def scan(
        self, body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, reverse: bool = False
    ) -> tuple[Any, Any]:
        """``lax.scan``; lists of Python numbers become arrays."""
        xs = jax.tree.map(_row, xs, is_leaf=lambda part: isinstance(part, list))
        return jax.lax.scan(body, carry, xs, reverse=reverse)

    def while_loop(self, condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        """``lax.while_loop`` whose condition has no batch axis.

        With one, every pass would select the whole state, buffers included, between its old and its new value.
        """
        return jax.lax.while_loop(lambda state: _any(condition(state)), body, jax.tree.map(jnp.asarray, state))

    def scalar(self, value: Array) -> Array:
        """A 0-d array of the dtype of times, without gradient."""
        return jax.lax.stop_gradient(value).astype(jnp.result_type(float))

    def num_entries(self, state: State) -> int:
        """The number of entries of all leaves."""
        return sum(leaf.size for leaf in state)

    def may(self, condition: Any) -> bool:
        """Whatever is not known may be."""
        return condition is not False

    def choose(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """Both branches, selected: a conditional would become this under ``vmap`` anyway."""
        return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then(), otherwise())

    def buffer(self, length: int, row: State) -> Any:
        """Arrays with a leading axis."""
        return self.recorder(length, row)

    def recorder(self, capacity: int, row: Any) -> Any:
        """Arrays with a leading axis."""
        return jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf)[None], (capacity, *jnp.shape(leaf))), row)

    def put(self, buffer: Any, index: Any, row: Any, where: Any = True) -> Any:
        """One row replaced: in place inside a loop, where the compiler aliases the buffers."""

        def replaced(leaf: Array, value: Any) -> Array:
            if where is not True:
                value = jnp.where(where, value, jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False))
            return jax.lax.dynamic_update_index_in_dim(leaf, jnp.asarray(value, dtype=leaf.dtype), index, 0)

        return jax.tree.map(replaced, buffer, row)

    def take(self, buffer: Any, index: Any) -> Any:
        """One row."""
        return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), buffer)

    def stack(self, buffer: Any) -> State:
        """The buffer itself."""
        return tuple(buffer)

    def unstack(self, states: State) -> Any:
        """The stacked arrays are the buffer."""
        return states

    def linear_combination(
        self, base: State | None, scale: Any, coefficients: Sequence[float], terms: Sequence[State]
    ) -> State:
        """base + scale * sum_j c_j terms_j; the compiler fuses it into one pass."""
        if len(terms) == 1:
            scale, coefficients = scale * coefficients[0], (1.0,)
        leaves = []
        for place, first in enumerate(terms[0]):
            wide = jnp.float32 if first.dtype.itemsize == 2 else first.dtype
            total = _scaled(first.astype(wide), coefficients[0], wide)
            for coefficient, term in zip(coefficients[1:], terms[1:], strict=True):
                total = total + _scaled(term[place].astype(wide), coefficient, wide)
            total = _scaled(total, scale, wide)
            if base is not None:
                total = base[place].astype(wide) + total
            leaves.append(total.astype(first.dtype if base is None else base[place].dtype))
        return tuple(leaves)

    def accumulate(self, total: State, addends: Cotangent) -> State:
        """A new total."""
        return tuple(
            old if new is None else old + new.astype(old.dtype) for old, new in zip(total, addends, strict=True)
        )

    def zeros(self, like: State, wide: bool = False) -> State:
        """Zeros, if wide of at least single precision."""
        return tuple(
            jnp.zeros_like(leaf, dtype=jnp.float32 if wide and leaf.dtype.itemsize == 2 else None) for leaf in like
        )

    def time(self, t: Any, like: Array) -> Array:
        """t as a 0-d array of the state's real dtype."""
        return jnp.asarray(t).astype(like.real.dtype)

    def pair(self, left: State, right: State) -> Array:
        """Re sum left right: a gradient is dL/dx - i dL/dy here."""
        products = [_pair_leaf(a, b) for a, b in zip(left, right, strict=True)]
        widest = max((product.dtype for product in products), key=lambda dtype: dtype.itemsize)
        return sum((product.astype(widest) for product in products[1:]), start=products[0].astype(widest))

    def free_memory(self, like: Array) -> int | None:
        """That of JAX's default device; of the host, where the device is the CPU."""
        device = getattr(jax.config, "jax_default_device", None) or jax.devices()[0]
        stats = device.memory_stats() if isinstance(device, jax.Device) else None
        return stats["bytes_limit"] - stats["bytes_in_use"] if stats else free_host_memory()

    def meter(self) -> Any:
        """What Python holds: a traced computation has no arrays."""
        return HostMeter()

    def all_finite(self, states: State) -> Array:
        """A truth value on the device."""
        return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in states]).all()


@jax.custom_batching.custom_vmap
def _any(condition: Array) -> Array:
    """The condition, without a batch axis: whether it holds in any lane."""
    return condition


@_any.def_vmap
def _any_of_lanes(axis_size: int, is_batched: Sequence[bool], condition: Array) -> tuple[Array, bool]:
    return _any(jnp.any(condition, axis=0) if is_batched[0] else condition), False


def _pair_leaf(left: Array, right: Array) -> Array:
    if jnp.iscomplexobj(left):
        return jnp.sum(left.real * right.real) - jnp.sum(left.imag * right.imag)
    wide = jnp.float32 if left.dtype.itemsize == 2 else left.dtype
    return jnp.sum(left.astype(wide) * right.astype(wide))


def _scaled(leaf: Array, factor: Any, dtype: Any) -> Array:
    if isinstance(factor, float):
        return leaf if factor == 1.0 else factor * leaf
    return factor.astype(dtype) * leaf


def _row(part: Any) -> Any:
    if not isinstance(part, list):
        return part
    is_float = isinstance(part[0], float)
    return jnp.asarray(part, dtype=jnp.result_type(float) if is_float else None)


BACKEND = JaxBackend()
