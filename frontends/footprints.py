"""Footprints that were measured before: a field that is made anew for every solve is not measured anew."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from .knots import KnotsField

T = TypeVar("T")
_known: weakref.WeakKeyDictionary[Any, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def known_footprint(fn: Callable[..., Any], key: Hashable, measure: Callable[[], T]) -> T:
    """What was measured of a callable for shapes and dtypes that ``key`` tells apart, once."""
    fn = fn.field if isinstance(fn, KnotsField) else fn
    # Lambdas made again and again share their code.
    owner = getattr(getattr(fn, "__func__", fn), "__code__", fn)
    try:
        found = _known.setdefault(owner, {})
    except TypeError:  # neither hashed nor referred to weakly
        return measure()
    if key not in found:
        found[key] = measure()
    return found[key]
