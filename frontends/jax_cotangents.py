"""What a ``custom_vjp`` gets and returns where it asks which cotangents are wanted, and which are zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from janode.core.protocols import Array, State


@jax.tree_util.register_static
class Wanted(tuple[Any, ...]):
    """Which cotangents are wanted. Static, so that residuals can carry it."""

    @classmethod
    def of(cls, primals: Iterable[Any]) -> Wanted:
        """Those of the primals, as they come to the way forward, that are differentiated."""
        return cls(leaf.perturbed for leaf in primals)


def values(primals: Any) -> Any:
    """The arrays of the primals, as they come to the way forward."""
    return jax.tree.map(lambda leaf: leaf.value, primals, is_leaf=lambda leaf: hasattr(leaf, "perturbed"))


def filled(bars: Any) -> Any:
    """The cotangents with zeros for symbolic ones."""
    return jax.tree.map(
        lambda bar: jnp.zeros(bar.shape, bar.dtype) if isinstance(bar, SymbolicZero) else bar,
        bars,
        is_leaf=lambda bar: isinstance(bar, SymbolicZero),
    )


def in_places(totals: Iterable[Array], wanted: Iterable[bool], leaves: State) -> tuple[Array | None, ...]:
    """The sums of the wanted cotangents, each in the dtype of its leaf, and None for the others."""
    found = iter(totals)
    return tuple(
        next(found).astype(leaf.dtype) if is_wanted else None for is_wanted, leaf in zip(wanted, leaves, strict=True)
    )
