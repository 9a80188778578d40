"""The one comparison of the suite: metadata first, then values, with a tolerance that follows from the precision.

The error of an array is the largest absolute difference over the largest magnitude of the array that was expected,
counted in eps of the precision at work; it may be FACTOR times the condition of the problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
import optree

Tree = Any
FACTOR = 64.0
"""Rounding errors, in eps, that a well-conditioned solve of the suite may gather: some steps of some stages."""
EPS = {"f64": float(np.finfo(np.float64).eps), "f32": float(np.finfo(np.float32).eps)}


@dataclass(frozen=True)
class Difference:
    """How far one array is from what was expected.

    Attributes:
        where: the array, such as ``params_bar['k']``.
        error: in eps of the precision; infinite where there is a fault.
        tolerance: the largest error allowed, in the same unit.
        fault: what is wrong apart from values, or "".
    """

    where: str
    error: float
    tolerance: float
    fault: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the array conforms."""
        return not self.fault and self.error <= self.tolerance

    def __str__(self) -> str:
        """One line for the report."""
        if self.fault:
            return f"{self.where}: {self.fault}"
        return f"{self.where}: differs by {self.error:.3g} eps; at most {self.tolerance:.3g} allowed"


Found = dict[str, list[Difference]]
"""Differences by oracle: what an outcome was compared with."""


def find_fault(got: Any, like: Any, shape: tuple[int, ...]) -> str:
    """What is wrong with an array that must have the namespace, device and dtype of ``like``, and this shape."""
    try:
        namespaces = [array_api_compat.array_namespace(array).__name__ for array in (got, like)]
    except TypeError:
        return f"must be an array; got {type(got).__name__}"
    devices = [str(array_api_compat.device(array)) for array in (got, like)]
    for what, (found, expected) in {
        "namespace": namespaces,
        "device": devices,
        "dtype": [str(array.dtype) for array in (got, like)],
        "shape": [str(tuple(got.shape)), str(shape)],
    }.items():
        if found != expected:
            return f"must have {what} {expected}; got {found}"
    return ""


def measure(got: Any, expected: Any, eps: float, scale: float | None = None) -> float:
    """The error of an array in eps, relative to ``scale`` or to the largest magnitude expected (1 if that is 0)."""
    size = float(np.max(np.abs(expected), initial=0.0)) if scale is None else scale
    distance = float(np.max(np.abs(got - expected), initial=0.0))
    return distance / ((size or 1.0) * eps)


class Comparison(NamedTuple):
    """What a comparison needs to know apart from the arrays."""

    condition: float
    eps: float = EPS["f64"]
    to_numpy: Callable[[Any], Any] = np.asarray

    @property
    def tolerance(self) -> float:
        """The largest error allowed, in eps."""
        return FACTOR * self.condition

    def array(self, where: str, got: Any, like: Any, expected: Any) -> Difference:
        """Compare one array, that must resemble ``like`` as ``find_fault`` says, with the values expected of it."""
        fault = find_fault(got, like, expected.shape)
        if not fault:
            values = self.to_numpy(got)
            if np.all(np.isfinite(values)):
                return Difference(where, measure(values, expected, self.eps), self.tolerance)
            fault = "must be finite; got an infinite or NaN entry"
        return Difference(where, math.inf, self.tolerance, fault)

    def trees(self, where: str, got: Tree, like: Tree, expected: Tree) -> list[Difference]:
        """Compare every leaf of a pytree; another structure than the expected one is one difference."""
        leaves, spec = optree.tree_flatten(got)
        wanted, structure = optree.tree_flatten(expected)
        if spec != structure:
            fault = f"must have the structure {structure}; got {spec}"
            return [Difference(where, math.inf, self.tolerance, fault)]
        paths = ["".join(f"[{key!r}]" for key in path) for path in spec.paths()]
        likes = optree.tree_leaves(like)
        return [self.array(where + path, *arrays) for path, *arrays in zip(paths, leaves, likes, wanted, strict=True)]
