"""Carries of several states, the first of them the solution: what methods that hand such ones on have in common."""

from __future__ import annotations

from .protocols import Array, Backend, Carry, State


class SeveralStates:
    """A method whose carry is ``size`` states, the first of them the solution, all y0 to begin with."""

    @property
    def size(self) -> int:
        """How many there are."""
        raise NotImplementedError

    def start(self, y0: State) -> Carry:
        """The carry before the first step."""
        return (y0,) * self.size

    def output(self, carry: Carry) -> State:
        """The solution a carry stands for."""
        return carry[0]

    def output_vjp(self, carry_bar: Carry, y_bar: State, ops: Backend) -> Carry:
        """carry_bar with the cotangent of the output added."""
        return plus(ops, carry_bar[0], y_bar), *carry_bar[1:]

    def carry_zeros(self, zeros: State) -> Carry:
        """The cotangent of a carry nothing depends on."""
        return (zeros,) * self.size

    def start_vjp(self, carry_bar: Carry) -> State:
        """The cotangent of y0, where no step reads what else begins with it."""
        return carry_bar[0]


def plus(ops: Backend, left: State, *others: State) -> State:
    """The sum of states."""
    return ops.linear_combination(left, 1.0, (1.0,) * len(others), others)


def both(h_bar: Array | None, rest: Array | None) -> Array | None:
    """The sum of two parts of the cotangent of h; None where one is not known."""
    return None if h_bar is None or rest is None else h_bar + rest
