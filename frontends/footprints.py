"""Footprints that were measured before: a field that is made anew for every solve is not measured anew."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from .knots import KnotsField

T = TypeVar("T")
_MOST = 64
_known: weakref.WeakKeyDictionary[Any, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def known_footprint(fn: Callable[..., Any], key: Hashable, measure: Callable[[], T]) -> T:
    """What was measured of a callable for shapes and dtypes that ``key`` tells apart, once.

    Functions made again and again share their code, and are told apart by what they capture.
    """
    fn = fn.field if isinstance(fn, KnotsField) else fn
    function = getattr(fn, "__func__", fn)
    try:
        found = _known.setdefault(_identity(function), {})
    except TypeError:  # neither hashed nor referred to weakly
        return measure()
    key = key, _captured(function), getattr(fn, "__self__", None) and id(fn.__self__)  # type: ignore[attr-defined]
    if key not in found:
        if len(found) >= _MOST:
            found.clear()
        found[key] = measure()
    return found[key]


def _identity(fn: Any) -> Any:
    return getattr(fn, "__code__", fn)


def _captured(function: Any) -> tuple[Hashable, ...]:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    if code is None:
        return ()
    used = [cell.cell_contents for cell in cells if not _is_empty(cell)]
    used += [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    return tuple([_mark(value) for value in used])


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def _mark(value: Any) -> Hashable:
    """Arrays by their shapes, for a batch may be a new one every time; callables by themselves; others by kind."""
    if isinstance(value, types.ModuleType):  # some have functions of the names that arrays have
        return value.__name__
    if not isinstance(value, type) and hasattr(value, "shape") and hasattr(value, "dtype"):
        return tuple(value.shape), str(value.dtype)
    return id(_identity(value)) if callable(value) else type(value).__name__
