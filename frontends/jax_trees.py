"""Pytrees of the JAX frontend: name every leaf, put values in the place of some, and tell what is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax


def named_leaves(tree: Any, name: str) -> tuple[tuple[Any, ...], Any, list[str]]:
    """(leaves, structure, how a user writes each leaf, such as ``y0['u'][0]``)."""
    found, structure = jax.tree.flatten_with_path(tree)
    return tuple([leaf for _, leaf in found]), structure, [name + jax.tree_util.keystr(path) for path, _ in found]


def with_values(structure: Any, leaves: Sequence[Any], places: Sequence[int], values: Sequence[Any]) -> Any:
    """The pytree of these leaves, with values in some of their places."""
    filled = list(leaves)
    for place, value in zip(places, values, strict=True):
        filled[place] = value
    return jax.tree.unflatten(structure, filled)


def is_traced(leaf: Any) -> bool:
    """Whether nobody knows the value of this leaf yet."""
    return isinstance(leaf, jax.core.Tracer)


def is_any_traced(tree: Any) -> bool:
    """Whether any leaf is traced."""
    return any(map(is_traced, jax.tree.leaves(tree)))
