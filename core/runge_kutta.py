"""Explicit Runge-Kutta methods: one step, and its exact pullback stage by stage.

    Y_i = y_n + h sum_{j<i} a_ij k_j,   k_i = f(t_n + c_i h, Y_i),   y_{n+1} = y_n + h sum_i b_i k_i

The pullback is the symplectic adjoint of Matsubara, Miyatake and Yaguchi (2021, arXiv 2102.09750), in the form that
needs no special case for b_i = 0: with lam the cotangent of y_{n+1} and l_i the cotangent of Y_i,

    v_i = h (b_i lam + sum_{j>i} a_ji l_j),   l_i = J_i^T v_i,   lam_n = lam + sum_i l_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from .protocols import Array, Backend, Carry, Phase, State, StepPullRequests, StepRequests, Time
from .tableaus import Tableau


class Sparse(NamedTuple):
    """The nonzero coefficients of a linear combination and the places of their terms."""

    coefficients: tuple[float, ...]
    places: tuple[int, ...]


def sparse(coefficients: list[float]) -> Sparse:
    """The coefficients without zeros."""
    kept = [(c, place) for place, c in enumerate(coefficients) if c != 0.0]
    return Sparse(tuple(c for c, _ in kept), tuple(place for _, place in kept))


def mean_slope(ops: Backend, h: Time, pairs: Sequence[tuple[State, State | None]]) -> Array | None:
    """sum <v, f> / h: the cotangent of h where it enters as the factor h of field values f with cotangents v."""
    total = None
    for v, f in pairs:
        if f is not None:
            pairing = ops.pair(v, f)
            total = pairing if total is None else total + pairing
    if total is not None:
        (total,) = ops.linear_combination(None, 1.0 / h, (1.0,), ((total,),))
    return total


class Stages:
    """The stages of one explicit Runge-Kutta step, and its pullback: what every stepper here shares.

    A subclass gives the abscissae ``c`` of the stages that are evaluated, and the rows of a and b of a tableau.
    """

    tableau: Tableau

    @property
    def c(self) -> tuple[float, ...]:
        """The abscissae of the stages that are evaluated."""
        raise NotImplementedError

    @cached_property
    def _rows(self) -> tuple[Sparse, ...]:
        return tuple(sparse(list(row)) for row in self.tableau.floats.a[: len(self.c)])

    @cached_property
    def _weights(self) -> Sparse:
        return sparse(list(self.tableau.floats.b[: len(self.c)]))

    @cached_property
    def _columns(self) -> tuple[Sparse, ...]:
        """For each stage the terms of v_i / h: place s is lam, place j is l_j; empty if v_i is zero by the tableau."""
        a, b, s = self.tableau.floats.a, self.tableau.floats.b, len(self.c)
        columns: dict[int, Sparse] = {}
        for i in reversed(range(s)):
            used = [a[j][i] if j > i and columns[j].places else 0.0 for j in range(s)]
            columns[i] = sparse([*used, b[i]])
        return tuple(columns[i] for i in range(s))

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        """One step; yields the stage inputs Y_i in order and receives k_i. Cost: s field evaluations."""
        y = carry[0]
        k: list[State] = []
        for coefficients, places in self._rows:
            stage = ops.linear_combination(y, h, coefficients, [k[j] for j in places]) if places else y
            k.append((yield stage))
        coefficients, places = self._weights
        return (ops.linear_combination(y, h, coefficients, [k[j] for j in places]),)

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time, slope_bars: Sequence[State] = ()) -> StepPullRequests:
        """The exact pullback of one step, last stage first. Cost: one field VJP per stage.

        ``slope_bars`` are cotangents of the field values k_i from elsewhere, one for every stage, or none at all.
        """
        lam = carry_bar[0]
        s = len(self.c)
        terms: list[State] = [()] * s + [lam]
        pulled: list[State] = []
        pairs: list[tuple[State, State | None]] = []
        for i in reversed(range(s)):
            coefficients, places = self._columns[i]
            base = slope_bars[i] if slope_bars else None
            if places:
                v = ops.linear_combination(base, h, coefficients, [terms[j] for j in places])
            elif base is not None:
                v = base
            else:
                continue
            f, terms[i] = yield i, v
            pulled.append(terms[i])
            pairs.append((v, f))
        lam = ops.linear_combination(lam, 1.0, (1.0,) * len(pulled), pulled)
        return (lam,), mean_slope(ops, h, pairs)


@dataclass(frozen=True)
class RungeKutta(Stages):
    """The explicit Runge-Kutta method of a tableau, on the carry ``(y,)``.

    Stages that the solution does not use (the last of a first-same-as-last pair) are left out: dopri5 takes six
    field evaluations per fixed step.
    """

    tableau: Tableau

    @property
    def name(self) -> str:
        """The tableau's name."""
        return self.tableau.name

    @property
    def order(self) -> int:
        """The order of the solution weights b."""
        return self.tableau.order

    @cached_property
    def c(self) -> tuple[float, ...]:
        """The abscissae of the stages that are evaluated."""
        return self.tableau.floats.c[: self.tableau.num_solution_stages]

    @cached_property
    def c_reversed(self) -> tuple[float, ...]:
        """The abscissae of a step by -h from the end of a step."""
        return tuple(float(1 - node) for node in self.tableau.c[: len(self.c)])

    @property
    def c_back(self) -> tuple[float, ...]:
        """Those of ``step_back``: reversed, but that Euler keeps to its own node, the only control that it reads."""
        return self.c if len(self.c) == 1 else self.c_reversed

    inverse = "approximate"
    needs_equal_steps = False
    has_end_node = False

    def phases(self, num_steps: int) -> tuple[Phase, ...]:
        """All steps are alike."""
        return (Phase(self, num_steps),)

    def start(self, y0: State) -> Carry:
        """The carry before the first step."""
        return (y0,)

    def output(self, carry: Carry) -> State:
        """The solution a carry stands for."""
        return carry[0]

    def carry_zeros(self, zeros: State) -> Carry:
        """The cotangent of a carry nothing depends on."""
        return (zeros,)

    def start_vjp(self, carry_bar: Carry) -> State:
        """The cotangent of y0."""
        return carry_bar[0]

    def output_vjp(self, carry_bar: Carry, y_bar: State, ops: Backend) -> Carry:
        """carry_bar with the cotangent of the output added."""
        return (ops.linear_combination(carry_bar[0], 1.0, (1.0,), (y_bar,)),)

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        """The state before a step, nearly: the step by -h. Local error O(h^{p+1}). Cost: s field evaluations."""
        return self.step(ops, carry, -h)
