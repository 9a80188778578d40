"""A field with a control on knots, as a field whose params hold the values: the one place where a frontend meets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from janode.core.knots import Weights, combined
from janode.core.protocols import Array


@dataclass(frozen=True)
class KnotsField:
    """``field(t, y[, params], control)`` as a function of (t, y, (params, values))."""

    field: Callable[..., Any]
    has_params: bool
    xp: Any
    weights: Weights
    flatten: Callable[[Any], tuple[Sequence[Array], Any]]
    """The leaves of a pytree like the values, and its structure."""
    build: Callable[[Sequence[Array]], Any]

    def __call__(self, t: Array, y: Any, both: tuple[Any, Any]) -> Any:
        """The value of the field."""
        return self.field(t, y, *self.args(self.weights(t), both))

    def args(self, weights: Array, both: tuple[Any, Any]) -> list[Any]:
        """What the field takes after t and y: the params, if there are any, and the control."""
        params, values = both
        control = self.build([combined(self.xp, weights, leaf) for leaf in self.flatten(values)[0]])
        return [params, control] if self.has_params else [control]
