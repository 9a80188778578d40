"""Any library of the Array API conforms: a toy namespace goes through the suite with no line of janode changed."""

import numpy as np
import pytest

from janode import array
from janode.conformance.cases import Case, Selection, select
from janode.conformance.checks import LibraryCheck
from janode.conformance.runtimes import Manual

from .toy_namespace import Array, toy


class Toy(Manual):
    """The toy namespace as a target."""

    def to_numpy(self, array: Array) -> np.ndarray:
        return array.values


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("case", select("smoke", Selection()), ids=lambda case: case.id)
def test_a_toy_library_conforms(case: Case, precision: str) -> None:
    found = LibraryCheck(Toy(array, toy, precision, "toy", "toy"), precision).run(case)
    assert found["reference"]
    assert [str(difference) for difference in found["reference"] if not difference.is_ok] == []


@pytest.mark.parametrize("other", [np.ones(2), np.float64(1.0)], ids=["array", "scalar"])
def test_the_toy_refuses_numpy(other: object) -> None:
    with pytest.raises(TypeError, match="NumPy"):
        toy.asarray([1.0, 2.0]) + other
