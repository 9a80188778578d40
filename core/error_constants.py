"""How large the error of a step is, for methods of equal order: the norm of the local error's leading coefficients.

The local error of a method of order p is h^{p+1} sum_t e(t) F(t) over the rooted trees t of p + 1 nodes, F(t) the
elementary differentials. For Runge-Kutta methods e(t) = (sum_i b_i Phi_i(t) - 1 / gamma(t)) / sigma(t); a multistep
method with h^{p+1} C y^{(p+1)} has e(t) = C (p + 1)! / (sigma(t) gamma(t)). The norm is sqrt(sum_t e(t)^2).
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

from .protocols import Method
from .tableaus import FloatTableau, Tableau

Tree = tuple[Any, ...]
"""A rooted tree: the tuple of its subtrees."""

MULTISTEP = {"leapfrog": 1 / 6, "ab2": 5 / 12, "ab3": 3 / 8, "ab4": 251 / 720}
"""C of each (Hairer, Norsett, Wanner 1993, section III.2); leapfrog's 1/3 is that of two steps."""


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees of that many nodes."""

    def forests(nodes: int, largest: int) -> list[Tree]:
        if nodes == 0:
            return [()]
        return [
            same + rest
            for size in range(1, min(nodes, largest) + 1)
            for number in range(1, nodes // size + 1)
            for same in combinations_with_replacement(trees(size), number)
            for rest in forests(nodes - size * number, size - 1)
        ]

    return tuple(forests(order - 1, order - 1))


@cache
def _nodes(tree: Tree) -> int:
    return 1 + sum(map(_nodes, tree))


@cache
def density(tree: Tree) -> int:
    """gamma(t)."""
    return _nodes(tree) * math.prod(map(density, tree))


@cache
def symmetry(tree: Tree) -> int:
    """sigma(t)."""
    return math.prod(symmetry(child) ** number * math.factorial(number) for child, number in Counter(tree).items())


def _stage_weights(method: FloatTableau, tree: Tree, found: dict[Tree, list[float]]) -> list[float]:
    """Phi_i(t) of every stage i."""
    if tree not in found:
        weights = [1.0] * len(method.b)
        for child in tree:
            inner = _stage_weights(method, child, found)
            sums = (math.fsum(map(float.__mul__, row, inner)) for row in method.a)
            weights = [weight * total for weight, total in zip(weights, sums, strict=True)]
        found[tree] = weights
    return found[tree]


@cache
def tableau_error(tableau: Tableau) -> float:
    """The error constant of a Runge-Kutta method, dimensionless.

    Source: Prince and Dormand 1981, doi:10.1016/0771-050X(81)90010-3, the norm of the truncation error coefficients.
    """
    found: dict[Tree, list[float]] = {}
    errors = []
    for tree in trees(tableau.order + 1):
        weights = _stage_weights(tableau.floats, tree, found)
        residual = math.fsum(map(float.__mul__, tableau.floats.b, weights)) - 1 / density(tree)
        errors.append(residual / symmetry(tree))
    return math.hypot(*errors)


def error_constant(method: Method) -> float | None:
    """The error constant of a method, dimensionless; None for methods that have none here."""
    if isinstance(tableau := getattr(method, "tableau", None), Tableau):
        return tableau_error(tableau)
    if method.name not in MULTISTEP:
        return None
    nodes = method.order + 1
    scale = math.hypot(*(1 / (symmetry(tree) * density(tree)) for tree in trees(nodes)))
    return MULTISTEP[method.name] * math.factorial(nodes) * scale
