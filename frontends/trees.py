"""Pytrees of the eager frontends: flatten once, name every leaf, unflatten fast."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from janode.core.errors import InputError
from janode.core.protocols import State

_LEAF = "a single array"
"""The structure of a single array, which needs no pytree library."""
_FIX = "Give one cotangent for each array, or None for zero."
_NAMESPACE = "janode"
"""Where dataclasses are registered as pytrees, so that other users of the library do not see it."""


def _optree() -> Any:
    """Imported with the first pytree that is not a single array: it would be a tenth of janode's import time."""
    import optree

    return optree


def _flatten(tree: Any) -> tuple[State, Any]:
    if hasattr(tree, "dtype"):
        return (tree,), _LEAF
    if tree is None:
        return (), None
    leaves, spec = _optree().tree_flatten(tree, namespace=_NAMESPACE)
    return tuple(leaves), spec


def _register(kind: Any) -> None:
    """Make a dataclass a pytree whose children are its fields; rebuilding it calls no ``__init__``."""
    names = [field.name for field in dataclasses.fields(kind)]

    def unflatten(_: None, children: Sequence[Any]) -> Any:
        made = object.__new__(kind)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(made, name, child)
        return made

    _optree().register_pytree_node(
        kind, lambda tree: ([getattr(tree, name) for name in names], None, names), unflatten, namespace=_NAMESPACE
    )


class Tree:
    """The structure of a pytree: None is no leaf, dict keys are sorted, dataclasses are nodes."""

    def __init__(self, tree: Any, name: str) -> None:
        self.leaves, self.spec = _flatten(tree)
        while kinds := {type(leaf) for leaf in self.leaves if dataclasses.is_dataclass(leaf)} - {type}:
            for kind in kinds:
                _register(kind)
            self.leaves, self.spec = _flatten(tree)
        self.name = name
        self.is_leaf = self.spec == _LEAF

    @property
    def paths(self) -> list[str]:
        """How a user writes each leaf, such as ``y0['u'][0]``."""
        if self.is_leaf:
            return [self.name]
        if self.spec is None:
            return []
        return [self.name + "".join(f"[{key!r}]" for key in path) for path in self.spec.paths()]

    def build(self, leaves: Sequence[Any]) -> Any:
        """The pytree of these leaves."""
        if self.is_leaf:
            return leaves[0]
        return None if self.spec is None else self.spec.unflatten(leaves)

    def flatten(self, tree: Any) -> tuple[State, Any]:
        """(leaves, structure) of another tree."""
        return _flatten(tree)

    def match(self, where: str, tree: Any, argument: str, fix: str = _FIX) -> tuple[Any, ...]:
        """The entries of ``tree`` at the places of the leaves; any of them, or all of ``tree``, may be None."""
        if tree is None:
            return (None,) * len(self.leaves)
        got = _flatten(tree)[1]
        if self.is_leaf and got == _LEAF:
            return (tree,)
        try:
            return tuple(self.spec.flatten_up_to(tree))
        except (AttributeError, ValueError, TypeError) as error:
            raise InputError(
                f"{where}: {argument} must have the structure of {self.name}, {self.spec}; got {got}. {fix}"
            ) from error
