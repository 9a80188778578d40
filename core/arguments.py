"""Checks of what a user hands to a solve, made before any step is taken. Frontends call them; each text is tested."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import array_api_compat

from .errors import InputError
from .grids import FixedGrid, check_equal_steps, check_steps, check_times, equal_steps, steps_of_size
from .protocols import Array, Method, State

ON_FAILURE = ("raise", "return")


def check_on_failure(where: str, on_failure: str) -> None:
    """Refuse anything but the two ways to report a failure."""
    if on_failure not in ON_FAILURE:
        raise InputError(
            f'{where}: on_failure must be "raise" or "return"; got {on_failure!r}. With "return" the status is in the '
            "solution."
        )


def check_correction(where: str, correction: str, adjoint: str) -> None:
    """Refuse a correction where a framework differentiates the solver's own operations: it would do nothing."""
    if adjoint == "backprop" and correction != "none":
        raise InputError(
            f'{where}: adjoint must not be "backprop" with a correction, as the framework then takes the exact '
            f'gradient; got correction={correction!r}. Use another adjoint, or correction="none".'
        )


def check_field(where: str, field: object) -> None:
    """Refuse a field that cannot be called."""
    if not callable(field):
        raise InputError(
            f"{where}: field must be callable as field(t, y) or field(t, y, params); got {type(field).__name__}. Give "
            "a function that returns dy/dt."
        )


def read_times(where: str, ts: Iterable[Any]) -> list[float]:
    """The times as Python floats, checked."""
    try:
        entries = list(ts.tolist() if hasattr(ts, "tolist") else ts)
        times = [float(t) for t in entries if not getattr(t, "shape", ())]
    except (TypeError, ValueError):
        entries, times = [ts], []
    if len(times) < len(entries):
        raise InputError(f"{where}: ts must be a sequence of real numbers; got {ts!r}. Give the start and the end.")
    check_times(where, times)
    return times


def fixed_grid(
    where: str, ts: Sequence[float], steps: int | None, step_size: float | None, method: Method
) -> FixedGrid:
    """The grid the user asked for, from times already checked, if the method can take its steps."""
    check_steps(where, steps, step_size)
    if steps is not None:
        grid = equal_steps(len(ts), int(steps))
    else:
        assert step_size is not None
        grid = steps_of_size(ts, float(step_size))
    if method.needs_equal_steps:
        check_equal_steps(where, grid, ts, method.name)
    return grid


def check_state(where: str, leaves: State, xp: Any, paths: Sequence[str]) -> None:
    """Refuse states without leaves and leaves that are not real or complex floating-point arrays."""
    if not leaves:
        raise InputError(f"{where}: y0 must have at least one array; got none. Give the initial state.")
    for leaf, path in zip(leaves, paths, strict=True):
        if not xp.isdtype(leaf.dtype, ("real floating", "complex floating")):
            raise InputError(
                f"{where}: {path} must be a real or complex floating-point array; got dtype {leaf.dtype}. Convert it, "
                "for example to float64."
            )


def find_namespace(where: str, leaves: Sequence[Array], paths: Sequence[str]) -> Any:
    """The one array namespace of all leaves."""
    if not leaves:
        raise InputError(f"{where}: there must be at least one array; got none. Give the arrays that it is about.")
    libraries = {}
    for leaf, path in zip(leaves, paths, strict=True):
        try:
            libraries[path] = array_api_compat.array_namespace(leaf)
        except TypeError:
            raise InputError(
                f"{where}: {path} must be an array; got {type(leaf).__name__}. Make it an array of the library you use."
            ) from None
    kinds = {xp.__name__: path for path, xp in libraries.items()}
    if len(kinds) > 1:
        listed = ", ".join(f"{path}: {name}" for name, path in kinds.items())
        raise InputError(f"{where}: all arrays must come from one library; got {listed}. Convert them to one.")
    return next(iter(libraries.values()))


def check_devices(where: str, leaves: Sequence[Array], paths: Sequence[str]) -> None:
    """Refuse arrays on different devices."""
    devices = {str(array_api_compat.device(leaf)): path for leaf, path in zip(leaves, paths, strict=True)}
    if len(devices) > 1:
        listed = ", ".join(f"{path}: {name}" for name, path in devices.items())
        raise InputError(f"{where}: all arrays must be on one device; got {listed}. Move them to one.")


def check_structure(where: str, got: object, expected: object) -> None:
    """Refuse a field whose output is another pytree than the state."""
    if got != expected:
        raise InputError(
            f"{where}: the field must return the pytree of the state, {expected}; got {got}. Return dy/dt in the "
            "structure of y."
        )


def check_slope(where: str, f: State, y: State, paths: Sequence[str], devices: bool = True) -> None:
    """Refuse a field whose output differs from the state in shape, dtype or device of a leaf."""
    for slope, leaf, path in zip(f, y, paths, strict=True):
        if not _is_like(slope, leaf):
            raise InputError(
                f"{where}: the field must return {_described(leaf)} for {path}; got {_described(slope)}. Return dy/dt "
                "with the shape and dtype of y."
            )
        if devices and array_api_compat.device(slope) != array_api_compat.device(leaf):
            raise InputError(
                f"{where}: the field must return {path} on {array_api_compat.device(leaf)}; got "
                f"{array_api_compat.device(slope)}. Compute dy/dt on the device of y."
            )


def is_like(f: State, y: State) -> bool:
    """Whether a slope has the shapes and dtypes of a state: the check of every evaluation after the first."""
    try:
        return all(slope.shape == leaf.shape and slope.dtype == leaf.dtype for slope, leaf in zip(f, y, strict=True))
    except (AttributeError, TypeError, ValueError):
        return False


def widest(leaves: State, xp: Any) -> int:
    """The place of the first leaf of the highest precision: stage times take its real dtype."""
    bits = [xp.finfo(leaf.dtype).bits for leaf in leaves]
    return bits.index(max(bits))


def check_parameters(where: str, leaves: State, xp: Any, paths: Sequence[str]) -> None:
    """Refuse parameters that are not real or complex floating-point arrays: they could have no gradient."""
    for leaf, path in zip(leaves, paths, strict=True):
        if not xp.isdtype(leaf.dtype, ("real floating", "complex floating")):
            raise InputError(
                f"{where}: {path} must be a real or complex floating-point array; got dtype {leaf.dtype}. Convert it, "
                "or let the field close over what is not a parameter."
            )


def check_cotangents(
    where: str, argument: str, bars: Sequence[Any], leaves: State, paths: Sequence[str], kind: str = "cotangent"
) -> None:
    """Refuse cotangents, or tangents, that differ from their primals in shape or dtype; None stands for zero."""
    for bar, leaf, path in zip(bars, leaves, paths, strict=True):
        if bar is not None and not _is_like(bar, leaf):
            raise InputError(
                f"{where}: {argument} must have {_described(leaf)} for {path}; got {_described(bar)}. Give the "
                f"{kind} the shape and dtype of its primal, or None for zero."
            )


def _is_like(got: Any, leaf: Array) -> bool:
    """Whether the shapes and dtypes agree. Dtypes of different libraries are not compared: some warn if they are."""
    dtype = getattr(got, "dtype", None)
    return type(dtype) is type(leaf.dtype) and dtype == leaf.dtype and got.shape == leaf.shape


def _described(got: Any) -> str:
    return f"shape {tuple(got.shape)} and dtype {got.dtype}" if hasattr(got, "dtype") else type(got).__name__
