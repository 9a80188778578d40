"""The targets of the suite: array libraries on devices in precisions, each with a readable id.

A target is one record here; what running on it means is in ``runtimes``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .cases import Case
from .runtimes import Absent, CuPy, Jax, ReadOnlyNumPy, Runtime, Strict, Torch, find_library

REFERENCE = "reference"
"""The id under which the reference values themselves are checked."""


class Target(NamedTuple):
    """A library on a device in a precision.

    Attributes:
        id: ``library-[mode-]device-precision``.
        library: what must be installed.
        device: ``cpu``, ``cuda``, or a simulated device.
        precision: ``f64`` (complex128 for complex states) or ``f32`` (complex64).
        load: ``load(device, precision)``, the runtime, or Absent with the reason.
        cost: seconds that a case takes, roughly; the targets that take longest start first.
        demotion: by how many levels fewer cases it runs: where every case compiles, variants of a target that takes
            the whole level take the level below.
        shows: the invariants that need a look inside the library, and can be seen on this target.
    """

    id: str
    library: str
    device: str
    precision: str
    load: Callable[[str, str], Runtime]
    cost: float = 0.1
    demotion: int = 0
    shows: tuple[str, ...] = ()

    def can_show(self, case: Case) -> bool:
        """Whether nothing about the library is in the way of a case."""
        return case.aspect not in ("precision", "host_reads") or case.aspect in self.shows


def _numpy(device: str, precision: str) -> Runtime:
    return ReadOnlyNumPy(importlib.import_module("janode.numpy"), np, precision, device, "numpy")


def _strict(device: str, precision: str) -> Runtime:
    xp = find_library("array_api_strict")
    names = {"cpu": "CPU_DEVICE", "device1": "device1", "nofloat64": "no_float64"}
    simulated = xp.Device(names[device])
    return Strict(importlib.import_module("janode.array"), xp, precision, simulated, "array-api-strict")


def _cupy(device: str, precision: str) -> Runtime:
    cupy = find_library("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise Absent(f"cupy has no CUDA device: {error}") from None
    return CuPy(importlib.import_module("janode.cupy"), cupy, precision, cupy.cuda.Device(), "cupy")


def _torch(device: str, precision: str) -> Runtime:
    torch = find_library("torch")
    if device == "cuda" and not torch.cuda.is_available():
        raise Absent(f"torch {torch.__version__} has no CUDA device")
    return Torch(torch, precision, device)


def _jax(device: str, precision: str, is_jitted: bool = True, x64: bool = True) -> Runtime:
    jax = find_library("jax")
    try:
        found = jax.devices(device)[0]
    except RuntimeError:
        raise Absent(f"jax {jax.__version__} has no {device.upper()} device") from None
    return Jax(jax, precision, found, is_jitted, x64)


def _jax_eager(device: str, precision: str) -> Runtime:
    return _jax(device, precision, is_jitted=False)


def _jax_x32(device: str, precision: str) -> Runtime:
    return _jax(device, precision, x64=False)


_READS = ("host_reads",)
_BOTH = ("host_reads", "precision")

TARGETS: dict[str, Target] = {
    target.id: target
    for target in (
        Target("numpy-cpu-f64", "numpy", "cpu", "f64", _numpy),
        Target("numpy-cpu-f32", "numpy", "cpu", "f32", _numpy, shows=("precision",)),
        Target("strict-cpu-f64", "array_api_strict", "cpu", "f64", _strict, shows=_READS),
        Target("strict-device1-f64", "array_api_strict", "device1", "f64", _strict, shows=_READS),
        Target("strict-nofloat64-f32", "array_api_strict", "nofloat64", "f32", _strict, shows=_READS),
        Target("torch-cpu-f64", "torch", "cpu", "f64", _torch, shows=_READS),
        Target("torch-cpu-f32", "torch", "cpu", "f32", _torch, shows=_BOTH),
        Target("torch-cuda-f64", "torch", "cuda", "f64", _torch, shows=_READS),
        Target("torch-cuda-f32", "torch", "cuda", "f32", _torch, shows=_BOTH),
        Target("jax-jit-cpu-f64", "jax", "cpu", "f64", _jax, 0.8, shows=_READS),
        Target("jax-jit-cpu-f32", "jax", "cpu", "f32", _jax, 0.8, 1, shows=_BOTH),
        Target("jax-x32-cpu-f32", "jax", "cpu", "f32", _jax_x32, 0.8, 1),
        Target("jax-eager-cpu-f64", "jax", "cpu", "f64", _jax_eager, 1.2, 1),
        Target("jax-jit-cuda-f64", "jax", "cuda", "f64", _jax, 0.8, shows=_READS),
        Target("jax-jit-cuda-f32", "jax", "cuda", "f32", _jax, 0.8, 1, shows=_BOTH),
        Target("cupy-cuda-f64", "cupy", "cuda", "f64", _cupy),
        Target("cupy-cuda-f32", "cupy", "cuda", "f32", _cupy),
    )
}


def present() -> list[str]:
    """The ids of the targets that are here."""
    found = []
    for target in TARGETS.values():
        try:
            target.load(target.device, target.precision)
            found.append(target.id)
        except Absent:
            continue
    return found
