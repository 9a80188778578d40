"""What the core asks of every backend, member by member, on every library."""

from typing import Any

import array_api_compat.torch as torch_xp
import jax.numpy as jax_xp
import numpy as np
import pytest
import torch

from janode.backends.registry import array_backend, find_backend
from janode.core.protocols import Backend

from .problems import TARGETS, Target, to_numpy

torch.set_num_threads(1)

LIBRARIES = {
    "numpy": TARGETS["numpy-f64"],
    "strict": TARGETS["strict-f64"],
    "strict-device1": TARGETS["strict-device1-f64"],
    "torch": Target(torch_xp, "float64"),
    "jax": Target(jax_xp, "float64"),
}
HALVES = ["numpy", "torch", "jax"]  # the standard has no half precision

every_library = pytest.mark.parametrize("library", LIBRARIES)


def backend_of(library: str) -> Backend:
    return find_backend("jax") if library == "jax" else array_backend(LIBRARIES[library].xp)


def state(library: str, *leaves: Any, dtype: str | None = None) -> tuple[Any, ...]:
    return tuple(LIBRARIES[library].array(leaf, dtype) for leaf in leaves)


def assert_equal(got: Any, expected: Any) -> None:
    assert isinstance(got, tuple)
    assert len(got) == len(expected)
    for leaf, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(to_numpy(leaf), wanted, rtol=1e-15, atol=0.0)


# Loops and buffers.


@every_library
@pytest.mark.parametrize(("reverse", "digits"), [(False, 1234.0), (True, 4321.0)])
def test_scan(library: str, reverse: bool, digits: float) -> None:
    backend = backend_of(library)
    (one,) = state(library, 1.0)

    def body(total: Any, x: Any) -> Any:
        digit, factor = x
        return 10.0 * total + digit * one, (digit * one, factor * one)

    xs = ([1.0, 2.0, 3.0, 4.0], [0.5, 0.25, 0.125, 0.0])
    total, rows = backend.scan(body, 0.0 * one, xs, reverse=reverse)
    assert float(total) == digits
    assert_equal(backend.stack(rows), xs)


@every_library
@pytest.mark.parametrize("reverse", [False, True])
def test_scan_over_what_a_scan_made(library: str, reverse: bool) -> None:
    backend = backend_of(library)
    (one,) = state(library, 1.0)
    _, kept = backend.scan(lambda carry, x: (carry, ((x[0] * one,), ())), one, ([1.0, 2.0, 3.0],), reverse=reverse)

    def body(total: Any, x: Any) -> Any:
        (factor, _), ((row,), _) = x
        return 10.0 * total + factor * row, ()

    total, _ = backend.scan(body, 0.0 * one, (([2.0, 4.0, 6.0], [False, True, False]), kept), reverse=True)
    assert float(total) == 1800.0 + 80.0 + 2.0


@every_library
@pytest.mark.parametrize(("condition", "expected"), [(True, 1.0), (False, 2.0)])
def test_choose(library: str, condition: bool, expected: float) -> None:
    first, second = state(library, 1.0, 2.0)
    assert_equal(backend_of(library).choose(condition, lambda: (first,), lambda: (second,)), (expected,))


@every_library
def test_buffers(library: str) -> None:
    backend = backend_of(library)
    buffer = backend.buffer(3, state(library, [1.0, 2.0], 3.0))
    buffer = backend.put(buffer, 1, state(library, [4.0, 5.0], 6.0))
    assert_equal(backend.take(buffer, 0), ([1.0, 2.0], 3.0))
    assert_equal(backend.take(buffer, 1), ([4.0, 5.0], 6.0))
    assert_equal(backend.stack(buffer), ([[1.0, 2.0], [4.0, 5.0], [1.0, 2.0]], [3.0, 6.0, 3.0]))


@every_library
def test_unstack_undoes_stack(library: str) -> None:
    backend = backend_of(library)
    rows = backend.unstack(state(library, [[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0]))
    assert_equal(backend.take(rows, 1), ([3.0, 4.0], 6.0))
    assert_equal(backend.stack(rows), ([[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0]))


# Sums.

TERMS = ((1.5, 2.5), (-0.25, 4.0), (8.0, -1.0))


@every_library
@pytest.mark.parametrize("num_terms", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, -0.5])
@pytest.mark.parametrize("has_base", [False, True])
@pytest.mark.parametrize("coefficients", [(1.0, 1.0, 1.0), (0.75, -2.0, 0.0)], ids=str)
def test_linear_combination(
    library: str, num_terms: int, scale: float, has_base: bool, coefficients: tuple[float, ...]
) -> None:
    rows = [([a, b], a - b) for a, b in TERMS[:num_terms]]
    base = ([10.0, -10.0], 0.5) if has_base else None
    terms = [state(library, *row) for row in rows]
    start = None if base is None else state(library, *base)
    expected = [
        (0.0 if base is None else np.array(base[place]))
        + scale * sum(c * np.array(row[place]) for c, row in zip(coefficients, rows, strict=False))
        for place in (0, 1)
    ]
    assert_equal(backend_of(library).linear_combination(start, scale, coefficients[:num_terms], terms), expected)
    assert_equal(terms[0], rows[0])
    assert start is None or base is None or assert_equal(start, base) is None


@pytest.mark.parametrize("library", HALVES)
@pytest.mark.parametrize("has_base", [False, True])
def test_half_precision_is_summed_in_single(library: str, has_base: bool) -> None:
    # 6e4 + 6e4 is infinite in half precision.
    backend = backend_of(library)
    large = state(library, 1.0) + state(library, [6e4, 1.0], dtype="float16")
    base = backend.zeros(large) if has_base else None
    total = backend.linear_combination(base, 1.0, (1.0, 1.0, -1.0), (large, large, large))
    assert LIBRARIES[library].owns(total[1], "float16")
    assert_equal(total, (1.0, to_numpy(large[1])))


@pytest.mark.parametrize("library", HALVES)
def test_a_sum_has_the_dtype_of_its_base(library: str) -> None:
    base, term = state(library, 1.0, dtype="float32"), state(library, 2.0**-11, dtype="float16")
    total = backend_of(library).linear_combination(base, 1.0, (1.0,), (term,))
    assert LIBRARIES[library].owns(total[0], "float32")
    assert_equal(total, (1.0 + 2.0**-11,))


@every_library
def test_accumulate(library: str) -> None:
    backend, target = backend_of(library), LIBRARIES[library]
    total = backend.zeros(state(library, [1.0, 2.0], 3.0, 4.0, dtype="float32"), wide=True)
    total = backend.accumulate(total, (target.array([1.0, 2.0], "float32"), None, target.array(0.5, "float32")))
    total = backend.accumulate(total, (None, None, target.array(0.25, "float32")))
    assert_equal(total, ([1.0, 2.0], 0.0, 0.75))


@pytest.mark.parametrize("library", HALVES)
def test_accumulate_keeps_the_totals_dtype(library: str) -> None:
    backend, ones = backend_of(library), state(library, 1.0, dtype="float16")
    total = backend.accumulate(backend.zeros(ones, wide=True), state(library, 2.0**-12, dtype="float16"))
    total = backend.accumulate(total, ones)
    assert LIBRARIES[library].owns(total[0], "float32")
    assert_equal(total, (1.0 + 2.0**-12,))


@every_library
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("wide", [False, True])
def test_zeros(library: str, dtype: str, wide: bool) -> None:
    (zeros,) = backend_of(library).zeros(state(library, [1.0, 2.0], dtype=dtype), wide=wide)
    assert LIBRARIES[library].owns(zeros, dtype)
    assert_equal((zeros,), ([0.0, 0.0],))


@pytest.mark.parametrize("library", HALVES)
@pytest.mark.parametrize(("wide", "dtype"), [(False, "float16"), (True, "float32")])
def test_zeros_of_half_precision(library: str, wide: bool, dtype: str) -> None:
    (zeros,) = backend_of(library).zeros(state(library, [1.0, 2.0], dtype="float16"), wide=wide)
    assert LIBRARIES[library].owns(zeros, dtype)


# Times, inner products, and what is finite.


@every_library
@pytest.mark.parametrize(
    ("dtype", "real"),
    [("float32", "float32"), ("float64", "float64"), ("complex64", "float32"), ("complex128", "float64")],
)
def test_time(library: str, dtype: str, real: str) -> None:
    t = backend_of(library).time(0.125, state(library, [1.0, 2.0], dtype=dtype)[0])
    assert t.shape == ()
    assert LIBRARIES[library].owns(t, real)
    assert float(t) == 0.125


@every_library
def test_pair(library: str) -> None:
    left, right = state(library, [1.0, 2.0], 3.0, []), state(library, [5.0, -1.0], 0.5, [])
    product = backend_of(library).pair(left, right)
    assert product.shape == ()
    assert float(product) == 4.5


@every_library
def test_pair_of_complex_states(library: str) -> None:
    left, right = state(library, [1 + 2j, 1j], dtype="complex128"), state(library, [3 - 1j, 2 + 4j], dtype="complex128")
    product = backend_of(library).pair(left, right)
    # Re conj(a) b where a gradient is dL/dx + i dL/dy; Re a b where it is dL/dx - i dL/dy.
    assert float(product) == (1.0 if library == "jax" else 5.0)
    assert LIBRARIES[library].owns(product, "float64")


@every_library
def test_pair_of_several_precisions(library: str) -> None:
    left = state(library, [1.0], dtype="float32") + state(library, [2.0])
    product = backend_of(library).pair(left, left)
    assert LIBRARIES[library].owns(product, "float64")
    assert float(product) == 5.0


@pytest.mark.parametrize("library", HALVES)
def test_pair_of_half_precision_is_single(library: str) -> None:
    large = state(library, [300.0, 300.0], dtype="float16")
    product = backend_of(library).pair(large, large)
    assert LIBRARIES[library].owns(product, "float32")
    assert float(product) == 180000.0


@every_library
@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        (([1.0, -2.0], 3.0), True),
        (([1.0, np.nan], 3.0), False),
        (([1.0, 2.0], np.inf), False),
        (([1.0, 2.0], -np.inf), False),
        (([], 1.0), True),
    ],
    ids=str,
)
def test_all_finite(library: str, leaves: Any, expected: bool) -> None:
    assert bool(backend_of(library).all_finite(state(library, *leaves))) is expected


@every_library
def test_all_finite_sees_the_imaginary_part(library: str) -> None:
    assert not backend_of(library).all_finite(state(library, complex(0.0, np.inf), dtype="complex128"))
