"""A third-party array library in one file: NumPy behind arrays of its own, which refuse to mix with anything else.

It says what it is by ``__array_namespace__`` alone, so it shows what any library of the Array API gets from janode.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np


def _unwrap(value: Any) -> Any:
    if isinstance(value, Array):
        return value.values
    if isinstance(value, list | tuple):
        return type(value)(map(_unwrap, value))
    if isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"toy: a NumPy {type(value).__name__} among the arguments")
    return value


def _wrap(value: Any) -> Any:
    return Array(value) if isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.dtype) else value


class Array:
    """An immutable array."""

    __array_ufunc__ = None

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)
        self.values.flags.writeable = False

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return toy

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    @property
    def device(self) -> str:
        return "toy"

    @property
    def mT(self) -> Array:
        return Array(self.values.mT)

    def __getitem__(self, key: Any) -> Array:
        return Array(self.values[key])

    def __float__(self) -> float:
        return float(self.values)

    def __complex__(self) -> complex:
        return complex(self.values)

    def __bool__(self) -> bool:
        return bool(self.values)


def _binary(name: str) -> Callable[[Any, Any], Any]:
    function = getattr(operator, name)
    return lambda left, right: Array(function(left.values, _unwrap(right)))


def _reflected(name: str) -> Callable[[Any, Any], Any]:
    function = getattr(operator, name)
    return lambda right, left: Array(function(_unwrap(left), right.values))


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "gt", "ge", "lt", "le"):
    setattr(Array, f"__{_name}__", _binary(_name))
    if not _name.startswith(("g", "l")):
        setattr(Array, f"__r{_name}__", _reflected(_name))
Array.__neg__ = lambda array: Array(-array.values)  # type: ignore[attr-defined]


class _Toy:
    """The namespace: NumPy's functions, between arrays of the toy."""

    __name__ = "toy"
    __array_api_version__ = "2024.12"

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type) or name in ("isdtype", "finfo"):
            return np.dtype(found) if isinstance(found, type) and issubclass(found, np.generic) else found

        def function(*args: Any, device: str | None = None, **kwargs: Any) -> Any:
            assert device in (None, "toy")
            return _wrap(found(*map(_unwrap, args), **{key: _unwrap(value) for key, value in kwargs.items()}))

        return function

    def asarray(self, values: Any, dtype: Any = None, device: str | None = None) -> Array:
        assert device in (None, "toy")
        return Array(np.array(values, dtype=dtype))


toy = _Toy()
