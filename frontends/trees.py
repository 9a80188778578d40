"""Pytrees of the eager frontends: flatten once, name every leaf, unflatten fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optree

from janode.core.errors import InputError
from janode.core.protocols import State


class Tree:
    """The structure of a pytree: None is no leaf, dict keys are sorted."""

    def __init__(self, tree: Any, name: str) -> None:
        leaves, self.spec = optree.tree_flatten(tree)
        self.leaves: State = tuple(leaves)
        self.name = name
        self.is_leaf = self.spec.is_leaf()

    @property
    def paths(self) -> list[str]:
        """How a user writes each leaf, such as ``y0['u'][0]``."""
        return [self.name + "".join(f"[{key!r}]" for key in path) for path in self.spec.paths()]

    def build(self, leaves: Sequence[Any]) -> Any:
        """The pytree of these leaves."""
        return leaves[0] if self.is_leaf else self.spec.unflatten(leaves)

    def flatten(self, tree: Any) -> tuple[State, Any]:
        """(leaves, structure) of another tree."""
        if self.is_leaf and hasattr(tree, "dtype"):
            return (tree,), self.spec
        leaves, spec = optree.tree_flatten(tree)
        return tuple(leaves), spec

    def match(self, where: str, tree: Any, argument: str) -> tuple[Any, ...]:
        """The entries of ``tree`` at the places of the leaves; any of them, or all of ``tree``, may be None."""
        if tree is None:
            return (None,) * len(self.leaves)
        try:
            return tuple(self.spec.flatten_up_to(tree))
        except (ValueError, TypeError) as error:
            got = optree.tree_structure(tree)
            raise InputError(
                f"{where}: {argument} must have the structure of {self.name}, {self.spec}; got {got}. "
                "Return one cotangent for each array, or None for zero."
            ) from error
