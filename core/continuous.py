"""An explicit Runge-Kutta step with an error estimate and a continuous extension: what adaptive steps are made of.

    y(t_n + x h) = y_n + h sum_i b_i(x) k_i,   0 <= x <= 1

The sum is over the extended stages: those of the tableau, the field at the end of the step (for a first-same-as-last
pair its last stage), and those that only the continuous extension needs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from .interpolants import Interpolant, interpolant
from .protocols import Backend, Carry, State, Time
from .runge_kutta import Sparse, Stages, sparse
from .tableaus import Tableau


class Trial(NamedTuple):
    """A step that may be rejected."""

    carry: Carry
    error: State
    slopes: tuple[State, ...]
    """The field at the stages of the tableau."""


@dataclass(frozen=True)
class ContinuousRungeKutta(Stages):
    """The extended stages of a tableau; as a stepper its pullback takes cotangents of all their field values."""

    tableau: Tableau

    @cached_property
    def interpolant(self) -> Interpolant:
        """The continuous extension."""
        return interpolant(self.tableau)

    @cached_property
    def c(self) -> tuple[float, ...]:
        """The abscissae of the extended stages."""
        return self.interpolant.floats.c

    @property
    def num_trial_stages(self) -> int:
        """The number of stages of a step that may be rejected."""
        return self.tableau.num_stages

    @property
    def end(self) -> int:
        """The place of the stage at the end of the step."""
        return self.tableau.num_stages - (1 if self.tableau.is_fsal else 0)

    @cached_property
    def _rows(self) -> tuple[Sparse, ...]:
        return tuple(sparse(list(row)) for row in self.interpolant.floats.a)

    @cached_property
    def _columns(self) -> tuple[Sparse, ...]:
        a, s = self.interpolant.floats.a, len(self.c)
        b = (*self.tableau.floats.b, *[0.0] * s)[:s]
        return tuple(sparse([*(a[j][i] if j > i else 0.0 for j in range(s)), b[i]]) for i in range(s))

    @cached_property
    def _weights(self) -> Sparse:
        return sparse(list(self.tableau.floats.b))

    @cached_property
    def _error(self) -> Sparse:
        assert self.tableau.floats.b_error is not None
        return sparse(list(self.tableau.floats.b_error))

    def trial(self, ops: Backend, carry: Carry, first: State, h: Time) -> Generator[State, State, Trial]:
        """The step from ``first``, the field at its start; yields the other stage inputs and receives k_i."""
        y = carry[0]
        k = [first]
        stage = y
        for coefficients, places in self._rows[1 : self.num_trial_stages]:
            stage = ops.linear_combination(y, h, coefficients, [k[j] for j in places])
            k.append((yield stage))
        if not self.tableau.is_fsal:
            coefficients, places = self._weights
            stage = ops.linear_combination(y, h, coefficients, [k[j] for j in places])
        coefficients, places = self._error
        error = ops.linear_combination(None, h, coefficients, [k[j] for j in places])
        return Trial((stage,), error, tuple(k))

    def extension(
        self, ops: Backend, y: State, slopes: Sequence[State], h: Time
    ) -> Generator[State, State, tuple[State, ...]]:
        """The slopes of all extended stages from those up to the end of the step; yields the inputs of the others."""
        k = list(slopes)
        for coefficients, places in self._rows[len(k) :]:
            k.append((yield ops.linear_combination(y, h, coefficients, [k[j] for j in places])))
        return tuple(k)

    def weights(self, x: Any) -> tuple[list[Any], list[int]]:
        """b_i(x) for the stages that have any, and their places."""
        kept = [(polynomial, i) for i, polynomial in enumerate(self.interpolant.floats.weights) if any(polynomial)]
        return [_value(polynomial, x) * x for polynomial, _ in kept], [i for _, i in kept]

    def slope_weights(self, x: Any) -> tuple[list[Any], list[int]]:
        """b_i'(x) for the stages that have any, and their places."""
        kept = [(polynomial, i) for i, polynomial in enumerate(self.interpolant.floats.weights) if any(polynomial)]
        derivatives = [tuple((d + 1) * w for d, w in enumerate(polynomial)) for polynomial, _ in kept]
        return [_value(polynomial, x) for polynomial in derivatives], [i for _, i in kept]

    def value(self, ops: Backend, y: State, slopes: Sequence[State], h: Time, x: Any) -> State:
        """y(t_n + x h)."""
        weights, places = self.weights(x)
        return ops.linear_combination(y, h, weights, [slopes[i] for i in places])

    def slope(self, ops: Backend, slopes: Sequence[State], x: Any) -> State:
        """The derivative of y(t) at t_n + x h."""
        weights, places = self.slope_weights(x)
        return ops.linear_combination(None, 1.0, weights, [slopes[i] for i in places])


def _value(polynomial: Sequence[float], x: Any) -> Any:
    """sum_d polynomial[d] x^d."""
    total: Any = polynomial[-1]
    for coefficient in reversed(polynomial[:-1]):
        total = total * x + coefficient
    return total
