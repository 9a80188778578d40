"""A small problem with a hand-written VJP for any array library, its solution by the book, and the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import array_api_compat.numpy as numpy_xp
import array_api_strict
import numpy as np
from array_api_compat import array_namespace, device

from janode.core.tableaus import Tableau
from janode.numpy import Field, Gradients


class Target(NamedTuple):
    """An array library with a device and a dtype."""

    xp: Any
    dtype: str
    device: Any = None

    def array(self, values: Any, dtype: str | None = None) -> Any:
        """The values as an array of the target; a NumPy one is read-only, so that no solve changes it unseen."""
        array = self.xp.asarray(np.array(values), dtype=getattr(self.xp, dtype or self.dtype), device=self.device)
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
        return array

    def owns(self, array: Any, dtype: str | None = None) -> bool:
        """Whether an array is of this library, on this device, with this dtype."""
        expected = self.array(0.0, dtype)
        return (
            array_namespace(array) is array_namespace(expected)
            and device(array) == device(expected)
            and array.dtype == expected.dtype
        )


TARGETS = {
    "numpy-f64": Target(numpy_xp, "float64"),
    "numpy-f32": Target(numpy_xp, "float32"),
    "strict-f64": Target(array_api_strict, "float64"),
    "strict-device1-f64": Target(array_api_strict, "float64", array_api_strict.Device("device1")),
    "strict-no_float64-f32": Target(array_api_strict, "float32", array_api_strict.Device("no_float64")),
}
NUMPY = TARGETS["numpy-f64"]


def value(t: Any, y: Any, params: Any) -> Any:
    """dy/dt = cos(t) A tanh(y) + b t^2: depends on everything, analytic in everything."""
    xp = array_namespace(y)
    return xp.cos(t) * (params["A"] @ xp.tanh(y)) + params["b"] * (t * t)


def vjp(t: Any, y: Any, params: Any, f_bar: Any) -> Any:
    """The cotangents of t, y and params, by hand."""
    xp = array_namespace(y)
    z = xp.tanh(y)
    t_bar = xp.sum(f_bar * (2.0 * params["b"] * t - xp.sin(t) * (params["A"] @ z)))
    z_bar = xp.cos(t) * (params["A"].mT @ f_bar)
    A_bar = xp.cos(t) * f_bar[:, None] * z[None, :]
    return t_bar, z_bar * (1.0 - z * z), {"A": A_bar, "b": t * t * xp.sum(f_bar)}


class Counted:
    """The problem's field, and how often it was asked for what."""

    def __init__(self, value: Callable[..., Any] = value, vjp: Callable[..., Any] = vjp) -> None:
        self.num_field_evals = self.num_vjps = 0
        self.times: list[float] = []
        self._value, self._vjp = value, vjp

    @property
    def field(self) -> Field:
        """The field that counts."""
        return Field(self._counted_value, self._counted_vjp)

    def _counted_value(self, t: Any, *args: Any) -> Any:
        self.num_field_evals += 1
        self.times.append(float(t))
        return self._value(t, *args)

    def _counted_vjp(self, *args: Any) -> Any:
        self.num_vjps += 1
        return self._vjp(*args)


FIELD = Field(value, vjp)
Y0 = np.array([0.4, -0.9])
A = np.array([[-0.5, 1.7], [-1.3, 0.2]])
B = 0.6
TS = (0.25, 0.5, 1.5)
YS_BAR = np.array([[0.3, -0.2], [1.1, 0.7], [-0.8, 1.9]])


def params(target: Target = NUMPY) -> dict[str, Any]:
    """The problem's parameters."""
    return {"A": target.array(A), "b": target.array(B)}


def to_numpy(array: Any) -> np.ndarray:
    """The array as NumPy's, from any device."""
    if isinstance(array, type(array_api_strict.asarray(0.0))):
        array = array.to_device(array_api_strict.Device("CPU_DEVICE"))
    return np.asarray(array)


def pack(y0: Any, params: Any, ts: Any) -> np.ndarray:
    """All that a solution depends on, or its gradient, as one NumPy vector of 10 entries."""
    parts = (y0, params["A"], params["b"], ts)
    return np.concatenate([np.reshape(to_numpy(part), -1) for part in parts])


def packed(gradients: Gradients[Any]) -> np.ndarray:
    """A gradient as one vector."""
    return pack(gradients.y0, gradients.params, gradients.ts)


X = pack(Y0, {"A": A, "b": B}, TS)


def textbook(
    tableau: Tableau, value: Callable[..., Any], y0: Any, ts: Sequence[Any], params: Any, counts: Sequence[int]
) -> np.ndarray:
    """The states at all ts by the method's definition, every stage evaluated; ts too may be complex."""
    c, a, b = tableau.floats.c, tableau.floats.a, tableau.floats.b
    y, ys = y0, [y0]
    for start, end, count in zip(ts, ts[1:], counts, strict=False):
        h = (end - start) / count
        for n in range(count):
            k: list[Any] = []
            for node, row in zip(c, a, strict=True):
                stage = y + h * sum((w * slope for w, slope in zip(row, k, strict=True)), 0.0 * y)
                k.append(value(start + (n + node) * h, stage, params))
            y = y + h * sum((w * slope for w, slope in zip(b, k, strict=True)), 0.0 * y)
        ys.append(y)
    return np.stack(ys)


def outputs(x: np.ndarray, tableau: Tableau, counts: Sequence[int] = (3, 3)) -> np.ndarray:
    """The problem's states at all ts as a function of the packed vector x."""
    return textbook(tableau, value, x[:2], x[7:], {"A": x[2:6].reshape(2, 2), "b": x[6]}, counts)


def push(x: np.ndarray, x_dot: np.ndarray, tableau: Tableau, counts: Sequence[int] = (3, 3)) -> np.ndarray:
    """J x_dot, J the Jacobian of ``outputs``, by a complex step: exact to rounding."""
    tiny = 1e-30
    return np.imag(outputs(x + 1j * tiny * x_dot, tableau, counts)) / tiny


def gradient(x: np.ndarray, ys_bar: Any, tableau: Tableau, counts: Sequence[int] = (3, 3)) -> np.ndarray:
    """J^T ys_bar, entry by entry."""
    return np.array([np.sum(ys_bar * push(x, x_dot, tableau, counts)) for x_dot in np.eye(len(x))])


def assert_close(got: Any, expected: Any, factor: float = 32.0) -> None:
    """Equal to ``factor`` rounding errors of got's precision, relative to the largest expected number."""
    got, expected = to_numpy(got), to_numpy(expected)
    assert got.shape == expected.shape
    scale = np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=factor * float(np.finfo(got.dtype).eps) * float(scale))
