"""What a library did in a solve, as far as it can be seen: wide arrays it made, and numbers that the host read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .problem import Inputs, Problem

_WIDE = ("float64", "complex128")
_READS = ("__bool__", "__complex__", "__float__", "__index__", "__int__")
"""How an eager library hands an array's only number to the host."""


class Watch(NamedTuple):
    """Arrays of double precision that were made, each in words, and the number of host reads."""

    wide: list[str]
    reads: int


def _described(dtype: Any, shape: Any) -> str:
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


def watch_numpy(runtime: Any, problem: Problem, inputs: Inputs, options: dict[str, Any]) -> Watch:
    """Inputs of a subclass, which sees every array that is made from one."""
    wide: list[str] = []

    class Noted(np.ndarray[Any, Any]):
        def __array_finalize__(self, made_from: Any) -> None:
            if str(self.dtype) in _WIDE:
                wide.append(_described(self.dtype, self.shape))

    asarray = runtime.asarray
    runtime.asarray = lambda array: asarray(array).view(Noted)
    try:
        runtime.run(problem, inputs, options)
    finally:
        del runtime.asarray
    return Watch(wide, 0)


def watch_strict(runtime: Any, problem: Problem, inputs: Inputs, options: dict[str, Any]) -> Watch:
    """The methods that convert an array to a number, counted."""
    kind, reads = type(runtime.asarray(0.0)), 0
    own = {name: getattr(kind, name) for name in _READS}

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def read(array: Any) -> Any:
            nonlocal reads
            reads += 1
            return function(array)

        return read

    try:
        for name, function in own.items():
            setattr(kind, name, counted(function))
        runtime.run(problem, inputs, options)
    finally:
        for name, function in own.items():
            setattr(kind, name, function)
    return Watch([], reads)


def watch_torch(runtime: Any, problem: Problem, inputs: Inputs, options: dict[str, Any]) -> Watch:
    """Every operation that is dispatched; times may be in double precision, so arrays of one axis less than two."""
    from torch.utils._python_dispatch import TorchDispatchMode

    torch, reads = runtime.torch, 0
    wide: list[str] = []

    class Noted(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal reads
            reads += function is torch.ops.aten._local_scalar_dense.default
            out = function(*args, **(kwargs or {}))
            made = [one for one in (out if isinstance(out, list | tuple) else (out,)) if isinstance(one, torch.Tensor)]
            wide.extend(
                _described(one.dtype, one.shape) for one in made if one.ndim > 1 and str(one.dtype)[6:] in _WIDE
            )
            return out

    with Noted():
        runtime.run(problem, inputs, options)
    return Watch(wide, reads)


def watch_jax(runtime: Any, problem: Problem, inputs: Inputs, options: dict[str, Any]) -> Watch:
    """The traced program; times may be in double precision. What calls the host is named for it, once per turn."""
    arguments = runtime.arguments(inputs)
    wide: list[str] = []
    reads = 0
    for equation, turns in _equations(runtime.jax.make_jaxpr(runtime.pull(problem, options))(*arguments).jaxpr):
        reads += turns * ("callback" in equation.primitive.name)
        for variable in equation.outvars:
            made = variable.aval
            if getattr(made, "ndim", 0) > 1 and str(made.dtype) in _WIDE:
                wide.append(_described(made.dtype, made.shape))
    return Watch(wide, reads)


def _equations(jaxpr: Any, turns: int = 1) -> Iterator[tuple[Any, int]]:
    """The equations of a program and of all programs in it, and how many turns loops of known length take."""
    for equation in jaxpr.eqns:
        yield equation, turns
        inside = turns * equation.params["length"] if equation.primitive.name == "scan" else turns
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner, inside)
