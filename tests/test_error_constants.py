"""Error constants: against nodepy's, and against errors measured where they can be."""

from __future__ import annotations

import numpy as np
import pytest

import janode.numpy as jo
from janode.core.error_constants import density, error_constant, symmetry, tableau_error, trees
from janode.core.methods import find_method
from janode.core.tableaus import TABLEAUS


@pytest.mark.parametrize(("order", "number"), [(1, 1), (2, 1), (3, 2), (4, 4), (5, 9), (6, 20), (9, 286)])
def test_number_of_rooted_trees(order: int, number: int) -> None:
    assert len(set(trees(order))) == len(trees(order)) == number


@pytest.mark.parametrize("order", [2, 3, 5, 9])
def test_the_trees_of_one_order_share_the_monotone_labellings(order: int) -> None:
    """sum alpha(t) = (p - 1)!, with alpha = p! / (sigma gamma) (Hairer, Norsett, Wanner 1993, section II.2)."""
    labellings = sum(np.prod(np.arange(1, order + 1)) / (symmetry(tree) * density(tree)) for tree in trees(order))
    assert labellings == pytest.approx(np.prod(np.arange(1, order)))


@pytest.mark.parametrize("name", TABLEAUS)
def test_constants_are_those_of_nodepy(name: str) -> None:
    runge_kutta = pytest.importorskip("nodepy.runge_kutta_method")
    floats = TABLEAUS[name].floats
    size = len(floats.b)
    a = np.array([[*row, *[0.0] * (size - len(row))] for row in floats.a])
    peer = runge_kutta.ExplicitRungeKuttaMethod(a, np.array(floats.b))
    coefficients = np.array(peer.error_coeffs(TABLEAUS[name].order + 1), dtype=float)
    assert tableau_error(TABLEAUS[name]) == pytest.approx(np.linalg.norm(coefficients), rel=1e-7)


@pytest.mark.parametrize(
    ("name", "constant"), [("euler", 1 / 2), ("leapfrog", 1 / 6), ("ab2", 5 / 12), ("ab3", 3 / 8), ("ab4", 251 / 720)]
)
def test_multistep_constants_are_those_of_their_errors(name: str, constant: float) -> None:
    """The solution of y' = p t^(p-1) (t = 0 at the end) misses h^p p! C per unit of time."""
    method, steps = find_method(name), 64
    p = method.order + 1
    solution = jo.solve(lambda t, y: p * t ** (p - 1) + 0 * y, np.ones(1), [0.0, 1.0], method=name, steps=steps)
    error = abs(solution.ys[-1, 0] - 2.0) * steps**method.order
    assert error == pytest.approx(constant * np.prod(np.arange(1.0, p + 1)), rel=0.2)
    weights = [1 / (symmetry(tree) * density(tree)) for tree in trees(p)]
    assert error_constant(method) == pytest.approx(constant * np.prod(np.arange(1.0, p + 1)) * np.hypot.reduce(weights))


def test_methods_without_a_constant_have_none() -> None:
    class Unknown:
        name = "unknown"

    assert error_constant(Unknown()) is None  # type: ignore[arg-type]
