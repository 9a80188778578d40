"""The CuPy backend without a GPU: its code on a stand-in for CuPy made of NumPy, which runs kernels as Python."""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import pytest
from typer.testing import CliRunner

import janode.backends
from janode.backends import registry
from janode.backends.eager import EagerBackend
from janode.conformance.command import app


class Kernel:
    """CuPy's ElementwiseKernel for operations that mean the same in C and in Python."""

    launches: list[str] = []  # noqa: RUF012

    def __init__(self, in_params: str, out_params: str, operation: str, name: str) -> None:
        self.inputs = [part.split() for part in in_params.split(", ")]
        (self.out,), self.operation = [out_params.split()], operation
        assert name.isidentifier()

    def __call__(self, *given: Any) -> Any:
        names: dict[str, Any] = {}
        for (dtype, name), value in zip(self.inputs, given, strict=True):
            # NumPy makes a number of its own of what is a 0-d array of CuPy.
            is_array = isinstance(value, np.ndarray | np.generic)
            assert value.dtype == dtype if is_array else isinstance(value, float)
            names[name] = np.asarray(value, dtype=dtype)
        exec(self.operation, {}, names)
        self.launches.append(self.operation)
        made = np.asarray(names[self.out[1]])
        assert made.dtype == self.out[0]
        return made


class Device:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[EagerBackend]:
    """The backend's own file, imported with the stand-in."""
    fake: Any = types.ModuleType("cupy")
    fake.ElementwiseKernel = Kernel
    runtime = types.SimpleNamespace(memGetInfo=lambda: (1000, 4000))
    fake.cuda = types.SimpleNamespace(runtime=runtime, MemoryHook=contextlib.nullcontext)
    fake.get_default_memory_pool = lambda: types.SimpleNamespace(free_bytes=lambda: 24)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", xp)
    monkeypatch.setattr("array_api_compat.cupy", xp, raising=False)
    monkeypatch.delitem(sys.modules, "janode.backends.cupy", raising=False)
    monkeypatch.setattr(Kernel, "launches", [])
    module = importlib.import_module("janode.backends.cupy")
    yield module.CupyBackend(xp, "numpy")
    sys.modules.pop("janode.backends.cupy", None)
    vars(janode.backends).pop("cupy", None)


def state(dtype: str, *numbers: float) -> tuple[Any, ...]:
    values = np.asarray(numbers) * (1 + 0.5j) if "complex" in dtype else np.asarray(numbers)
    return (values.astype(dtype), values[0].astype(dtype).reshape(()))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("has_base", [True, False])
@pytest.mark.parametrize("num_terms", [1, 2, 5])
def test_a_linear_combination_is_one_kernel_for_each_leaf(
    dtype: str, has_base: bool, num_terms: int, backend: EagerBackend
) -> None:
    terms = [state(dtype, 1.0 + j, -2.0) for j in range(num_terms)]
    base = state(dtype, 10.0, 20.0) if has_base else None
    arguments = base, 0.25, tuple(0.5 * j - 1.25 for j in range(num_terms)), terms
    got = backend.linear_combination(*arguments)
    expected = EagerBackend(xp, "plain").linear_combination(*arguments)
    assert len(Kernel.launches) == 2
    for leaf, wanted in zip(got, expected, strict=True):
        assert leaf.dtype == wanted.dtype
        np.testing.assert_allclose(leaf, wanted, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(("base", "term"), [("float16", "float16"), ("float32", "float16")])
def test_halves_are_summed_as_on_other_libraries(base: str, term: str, backend: EagerBackend) -> None:
    arguments = state(base, 1.0, 2.0), 0.5, (0.1, 0.2), [state(term, 3.0, 4.0), state(term, 5.0, 6.0)]
    expected = EagerBackend(xp, "plain").linear_combination(*arguments)
    got = backend.linear_combination(*arguments)
    assert Kernel.launches == []
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(got, expected, strict=True))


def test_what_the_pool_keeps_unused_is_free(backend: EagerBackend) -> None:
    like: Any = types.SimpleNamespace(device=Device())
    assert backend.free_memory(like) == 1024


def test_the_meter_counts_what_the_pool_gives_out(backend: EagerBackend) -> None:
    with backend.meter() as meter:
        meter.malloc_postprocess(device_id=0, size=500, mem_size=512, mem_ptr=1, pmem_id=2)
        meter.malloc_postprocess(device_id=0, size=1000, mem_size=1024, mem_ptr=3, pmem_id=4)
        meter.free_postprocess(device_id=0, mem_size=512, mem_ptr=1, pmem_id=2)
        assert (meter.now, meter.peak) == (1024, 1536)
        meter.restart()
        assert (meter.now, meter.peak) == (0, 0)


@pytest.mark.parametrize("problem", ["affine", "rotation", "network", "clipped", "thrown"])
def test_the_suite_passes_by_fused_kernels(
    problem: str, backend: EagerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "numpy", backend)
    arguments = ["--jobs", "0", "--target", "numpy-*", "--problem", problem, "--method", "dopri5"]
    result = CliRunner().invoke(app, [*arguments, "--level", "standard"])
    assert result.exit_code == 0, result.output
    assert len(Kernel.launches) > 500
