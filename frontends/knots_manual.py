"""The pullback of a field with a control on knots, for libraries that do not differentiate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from janode.core import arguments
from janode.core.knots import Knots, Weights, combined, spread
from janode.core.protocols import Array

from .knots import KnotsField
from .manual_field import check_count, pushed
from .trees import Tree


@dataclass(frozen=True)
class ManualKnotsField(KnotsField):
    """The field with its VJP: control_bar gives values_bar by W(t), and a part of t_bar by W'(t)."""

    values: Tree
    pair: Callable[..., Array]
    """The real inner product of the library."""

    def push(self, t: Array, y: Any, both: Any, t_dot: Array, y_dot: Any, both_dot: Any) -> tuple[Any, Any]:
        """The value, and its derivative along the tangents of t, y and (params, values)."""
        weights, rates = self.weights(t), self.weights.derivative(t)
        args, args_dot = self.args(weights, both), self.args(weights, both_dot)
        moved = [combined(self.xp, rates, leaf) for leaf in self.flatten(both[1])[0]]
        control_dot = [
            dot + self.xp.astype(t_dot, dot.dtype, copy=False) * rate
            for dot, rate in zip(self.values.flatten(args_dot[-1])[0], moved, strict=True)
        ]
        return pushed(self.field, (t, y, *args), (t_dot, y_dot, *args_dot[:-1], self.build(control_dot)))

    def vjp(self, t: Array, y: Any, both: tuple[Any, Any], f_bar: Any) -> tuple[Any, Any, Any]:
        """The cotangents of t, y and (params, values)."""
        weights = self.weights(t)
        args = self.args(weights, both)
        own: Any = self.field
        bars = own.linearize(t, y, *args)[1](f_bar) if hasattr(own, "linearize") else own.vjp(t, y, *args, f_bar)
        check_count("solve_vjp", bars, 2 + len(args))
        t_bar, rates = bars[0], self.weights.derivative(t)
        values_bar: list[Any] = []
        matched, leaves = self.values.match("solve_vjp", bars[-1], "control_bar"), self.flatten(both[1])[0]
        arguments.check_cotangents(
            "solve_vjp", "control_bar", matched, self.values.flatten(args[-1])[0], self.values.paths
        )
        for bar, leaf in zip(matched, leaves, strict=True):
            values_bar.append(None if bar is None else spread(self.xp, weights, bar))
            if bar is not None:
                moved = self.xp.astype(self.pair((bar,), (combined(self.xp, rates, leaf),)), t.dtype, copy=False)
                t_bar = moved if t_bar is None else t_bar + moved
        params_bar = bars[2] if self.has_params else None
        return t_bar, bars[1], (params_bar, self.build(values_bar))


def on_knots(field: Any, knots: Knots, values: Tree, has_params: bool, backend: Any, like: Array) -> ManualKnotsField:
    """The field whose params are (params, values of the knots); its times are those of the leaf ``like``."""
    weights = Weights(knots, backend.xp, backend.time(0.0, like))
    return ManualKnotsField(field, has_params, backend.xp, weights, values.flatten, values.build, values, backend.pair)
