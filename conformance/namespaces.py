"""Libraries that janode has no target for: named by their Array API namespace, or by an entry point of a package."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
import optree

from janode import array
from janode.core.errors import InputError

from .problem import Inputs, Problem
from .runtimes import Absent, Manual, Options, Outcome, Runtime
from .targets import TARGETS, Target

GROUP = "janode.targets"
"""The group of entry points that name a Target or several."""


class Namespace(Manual):
    """Any Array API namespace: only what the standard says is asked of it."""

    def facts(self) -> dict[str, str]:
        """The version, if it tells one."""
        package = type(self.asarray(0.0)).__module__.partition(".")[0]
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = str(getattr(self.xp, "__version__", "unknown"))
        return {package: version, "device": str(self.device)}

    def run(self, problem: Problem, inputs: Inputs, options: Options) -> Outcome:
        """The outcome; of Dask's it is computed as a whole, for its parts share most of their graphs."""
        outcome = super().run(problem, inputs, options)
        got: Any = outcome.got
        leaves, spec = optree.tree_flatten(got)
        if not any(hasattr(leaf, "__dask_graph__") for leaf in leaves):
            return outcome
        computed: Any = spec.unflatten(importlib.import_module("dask").persist(*leaves))
        return outcome._replace(got=computed)

    def asarray(self, array: Any) -> Any:
        """An array of the library on its default device, made from nested lists if it takes no NumPy arrays."""
        values: Any = np.asarray(array)
        kind = "complex" if np.iscomplexobj(values) else "float"
        width = {"f64": 64, "f32": 32}[self.precision] * (2 if kind == "complex" else 1)
        try:
            return self.xp.asarray(values, dtype=getattr(self.xp, f"{kind}{width}"))
        except (TypeError, ValueError):
            return self.xp.asarray(values.tolist(), dtype=getattr(self.xp, f"{kind}{width}"))

    def to_numpy(self, array: Any) -> Any:
        """The values: by DLPack, by NumPy's protocol, or number by number."""
        for convert in (np.from_dlpack, np.asarray):
            try:
                values = convert(array)
            except (TypeError, AttributeError, ValueError, RuntimeError, BufferError):
                continue
            if values.dtype != object:
                return values
        shape = tuple(map(int, array.shape))
        number = complex if "complex" in str(array.dtype) else float
        numbers = [number(array[index]) for index in np.ndindex(shape)]
        return np.asarray(numbers, dtype=str(array.dtype).split(".")[-1]).reshape(shape)


def find_namespace(name: str) -> Any:
    """The namespace ``module`` or ``module:attribute``; raises Absent if it is not here."""
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Absent(f"{name} cannot be imported: {error}") from None
    try:
        return getattr(found, attribute) if attribute else found
    except AttributeError as error:
        raise Absent(f"{name} cannot be imported: {error}") from None


def namespace_targets(name: str) -> list[Target]:
    """The targets of a namespace, one for each precision."""

    def load(device: str, precision: str) -> Runtime:
        xp = find_namespace(name)
        if precision == "f64" and not hasattr(xp, "float64"):
            raise Absent(f"{name} has no float64")
        runtime = Namespace(array, xp, precision, None, name)
        runtime.device = getattr(runtime.asarray(0.0), "device", "cpu")
        return runtime

    short = name.replace(":", ".").split(".")
    stem = short[-1] if short[-1] != "array" else short[-2]
    return [Target(f"{stem}-cpu-{precision}", name, "cpu", precision, load) for precision in ("f64", "f32")]


def add_namespaces(names: Sequence[str]) -> list[str]:
    """Add the targets of namespaces, and of all entry points; the ids of those of the namespaces.

    Raises:
        InputError: a namespace cannot be imported, or an id is taken.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        found = entry.load()
        for target in [found] if isinstance(found, Target) else found:
            if not isinstance(target, Target):
                raise InputError(
                    f"conformance: entry point {entry.name!r} of {GROUP} must name a Target or several; got "
                    f"{type(target).__name__}. Mend the package that declares it."
                )
            TARGETS[target.id] = target
    added = []
    for name in names:
        try:
            find_namespace(name)
        except Absent as absence:
            raise InputError(f"conformance: namespace must be a module, or module:attribute; got {absence}.") from None
        for target in namespace_targets(name):
            if target.id in TARGETS and TARGETS[target.id].library != name:
                raise InputError(
                    f"conformance: namespace must have a name of its own; got {name}, whose {target.id} is there. "
                    "Give it another one by module:attribute."
                )
            TARGETS[target.id] = target
            added.append(target.id)
    return added
