"""Residual stacks: layers x_{n+1} = x_n + h f_n(x_n) as steps of a method, and the pullback through all of them.

A stack of N blocks takes N steps of one size h. What is a step, its pullback and its inverse is the method's affair:

    euler     x_{n+1} = x_n + h f_n(x_n)
    heun      x_{n+1} = x_n + h/2 [f_n(x_n) + f_{n+1}(x_n + h f_n(x_n))],   f_N = f_{N-1}
    leapfrog  x_{n+1} = x_{n-1} + 2 h f_n(x_n),   x_1 = x_0 + h f_0(x_0)

Going back without stored activations (Sander, Ablin, Peyre 2022, arXiv 2205.14612, section 4) x_n is computed from
x_{n+1}: exactly by leapfrog, to O(h^2) by Euler, to O(h^3) by Heun where f_n changes little from n to n + 1.

Euler's inverse solves x_n = x_{n+1} - h f_n(x_n) by one step of a fixed-point iteration that starts at x_{n+1}; f_n is
then evaluated again, where the VJP is taken. Prediction starts it where the last slope leads,

    p_n = x_{n+1} - h f_{n+1}(p_{n+1}),   x_n = x_{n+1} - h f_n(p_n),

and takes the VJP at p_n: one evaluation serves both. p_n is off by O(h^2) and x_n by O(h^3), where f_n changes little
from n to n + 1; else p_n by O(h) and x_n by O(h^2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import InputError, unknown_name
from .multistep import Leapfrog
from .protocols import Array, Backend, Carry, Field, Linearization, Moment, Phase, StageReply, State, Stepper
from .records import Carries, Nothing
from .runge_kutta import RungeKutta
from .stepped_back import relative_error
from .tableaus import TABLEAUS

SCHEMES: dict[str, RungeKutta | Leapfrog] = {
    "euler": RungeKutta(TABLEAUS["euler"]),
    "heun": RungeKutta(TABLEAUS["heun2"]),
    "leapfrog": Leapfrog(),
}
ADJOINTS = ("reconstruct", "predict", "symplectic", "backprop")
MEMORY_FREE = ("reconstruct", "predict")
"""Those that keep the last carry alone."""


def find_scheme(where: str, scheme: str) -> RungeKutta | Leapfrog:
    """The method of that name."""
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise unknown_name(where, "scheme", scheme, SCHEMES)
    return SCHEMES[scheme]


def adjoints_of(scheme: str) -> tuple[str, ...]:
    """The adjoints of a scheme."""
    return tuple([adjoint for adjoint in ADJOINTS if adjoint != "predict" or scheme == "euler"])


def check_stack(where: str, num_blocks: int, scheme: str, adjoint: str, step: float | None) -> float:
    """Refuse what is no stack; returns the step size, 1 / num_blocks unless given."""
    if num_blocks < 1:
        raise InputError(f"{where}: blocks must be at least one; got none. Give a list of residual functions.")
    find_scheme(where, scheme)
    if adjoint not in ADJOINTS:
        raise unknown_name(where, "adjoint", adjoint, ADJOINTS)
    if adjoint not in adjoints_of(scheme):
        raise InputError(
            f'{where}: adjoint {adjoint!r} must have scheme "euler"; got {scheme!r}. Use "reconstruct", which with '
            '"leapfrog" takes as few evaluations.'
        )
    if step is None:
        return 1.0 / num_blocks
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0.0 < step < float("inf"):
        raise InputError(
            f"{where}: step must be a positive finite number; got {step!r}. By default it is 1 / len(blocks)."
        )
    return float(step)


class StackBars(NamedTuple):
    """The cotangents that the way back carries from step to step."""

    carry: Carry
    shared: State
    """Totals for what all blocks share, of at least single precision."""


@dataclass(frozen=True)
class Stack:
    """The steps of one stack. The field is asked with None for the time, and with what a row holds for theta.

    ``rows[0]`` has for each step what the field needs to be block n, ``rows[1]``, if the method reads it, block n + 1:
    a list, or arrays with a leading axis.
    """

    backend: Backend
    method: RungeKutta | Leapfrog
    field: Field
    h: float
    num_blocks: int
    rows: tuple[Any, ...]

    def phases(self) -> Iterator[tuple[Phase, tuple[Any, ...]]]:
        """Each phase with its rows."""
        first = 0
        for phase in self.method.phases(self.num_blocks):
            last = first + phase.num_steps
            yield phase, tuple(_cut(part, first, last) for part in self.rows)
            first = last

    def forward(self, x: State, record: Any) -> tuple[Carry, Any]:
        """(last carry, what the record keeps of each phase)."""
        carry = self.method.start(x)
        records = []
        for phase, rows in self.phases():

            def body(carry: Carry, row: Any, stepper: Stepper = phase.stepper) -> tuple[Carry, Any]:
                return record.advance(self, carry, self._moment(stepper, row, stepper.c))

            carry, kept = self.backend.scan(body, carry, rows)
            records.append(kept)
        return carry, tuple(records)

    def run(self, x: State) -> State:
        """The last state alone."""
        return self.method.output(self.forward(x, Nothing())[0])

    def start_bars(self, x_bar: State, shared: State) -> StackBars:
        """The cotangents behind the last step, from that of the last state."""
        zeros = self.method.carry_zeros(self.backend.zeros(x_bar))
        return StackBars(self.method.output_vjp(zeros, x_bar, self.backend), self.backend.zeros(shared, wide=True))

    def pull_from_last(self, adjoint: str, last: Carry, bars: StackBars) -> tuple[Carry, StackBars, Any]:
        """The way back of a memory-free adjoint: (first carry as it came out, bars, what steps send to blocks)."""
        return self.pull_predicted(last, bars) if adjoint == "predict" else self.pull_reconstructed(last, bars)

    def pull_kept(self, records: Any, bars: StackBars) -> tuple[StackBars, Any]:
        """The way back from kept carries: (bars, for each phase what each step sends to the blocks of its stages)."""

        def step(stepper: Stepper, bars: StackBars, row: Any, carry: Carry) -> Any:
            return self._pull(stepper, row, bars, self._linearizations(stepper, row, carry))

        return self._back(step, bars, records)

    def pull_reconstructed(self, last: Carry, bars: StackBars) -> tuple[Carry, StackBars, Any]:
        """The way back from the last carry alone: (first carry as it came out, bars, what steps send to blocks)."""

        def step(stepper: Stepper, state: Any, row: Any, _: Any) -> Any:
            carry, bars = state.pop()  # nobody else then holds the states behind
            carry, linearize = self._step_back(stepper, row, carry)
            bars, sent = self._pull(stepper, row, bars, linearize)
            return [(carry, bars)], sent

        ((first, bars),), sent = self._back(step, [(last, bars)])
        return first, bars, sent

    def pull_predicted(self, last: Carry, bars: StackBars) -> tuple[Carry, StackBars, Any]:
        """``pull_reconstructed`` for Euler's method with one evaluation a step, at the predicted state."""
        (x,) = last

        def back(x: State, slope: State) -> State:
            return self.backend.linear_combination(x, -self.h, (1.0,), (slope,))

        def step(stepper: Stepper, state: Any, row: Any, _: Any) -> Any:
            x, slope, bars = state.pop()
            made = self.field.linearize(None, back(x, slope), row[0])
            slope = made.f
            bars, sent = self._pull(stepper, row, bars, lambda _: made)
            return [(back(x, slope), slope, bars)], sent

        slope = self.field(None, x, _row(self.rows[0], self.num_blocks - 1))
        ((first, _, bars),), sent = self._back(step, [(x, slope, bars)])
        return (first,), bars, sent

    def missed(self, first: Carry, x: State) -> Array:
        """||x~_0 - x_0|| / ||x_0||: by how much the way back missed the input."""
        return relative_error(self.backend, self.method.output(first), x)

    def reconstruction_errors(self, x: State) -> list[Array]:
        """||x~_n - x_n|| / ||x_n|| for n = 0 .. N - 1, after the way back from N to n. Holds N states."""
        last, records = self.forward(x, Carries())

        def step(stepper: Stepper, carry: Carry, row: Any, kept: Carry) -> Any:
            carry = self._walk_back(stepper, row, carry, self._value(stepper, row))
            output = self.method.output
            return carry, relative_error(self.backend, output(carry), output(kept))

        _, errors = self._back(step, last, records)
        return [error for phase in errors for error in phase]

    def _back(self, step: Callable[..., Any], state: Any, records: Any = None) -> tuple[Any, Any]:
        """Fold ``step(stepper, state, row, kept)`` over all steps, last first; in ``_`` what each returns beside it."""
        found = []
        for place, (phase, rows) in reversed(list(enumerate(self.phases()))):

            def body(state: Any, row: Any, stepper: Stepper = phase.stepper) -> Any:
                row, *kept = row
                return step(stepper, state, row, kept[0] if kept else None)

            xs = (rows,) if records is None else (rows, records[place])
            state, made = self.backend.scan(body, state, xs, reverse=True)
            found.append(made)
        return state, tuple(reversed(found))

    def _moment(self, stepper: Stepper, row: Any, c: Sequence[float]) -> Moment:
        return Moment(self.h, stepper, (None,) * len(c), tuple([row[int(place)] for place in c]))

    def _value(self, stepper: Any, row: Any) -> Callable[[int, State], State]:
        return lambda i, y: self.field(None, y, row[int(stepper.c_back[i])])

    def _walk_back(self, stepper: Any, row: Any, carry: Carry, value: Callable[[int, State], State]) -> Carry:
        """The carry before a step; ``value(i, y)`` is the field at the i-th place of ``c_back``."""
        requests = stepper.step_back(self.backend, carry, self.h)
        f: Any = None
        try:
            for i in range(len(stepper.c_back)):
                f = value(i, requests.send(f))
            requests.send(f)
        except StopIteration as done:
            return done.value
        raise AssertionError("a step back asked for more field values than its stepper has abscissae")

    def _step_back(self, stepper: Any, row: Any, carry: Carry) -> tuple[Carry, Callable[[int], Linearization]]:
        """The carry before a step, and the linearizations of its stages.

        An exact inverse with the step's own abscissae asks for the field where the step did: then one evaluation
        serves both.
        """
        if stepper.inverse != "exact" or tuple(stepper.c_back) != tuple(stepper.c):
            carry = self._walk_back(stepper, row, carry, self._value(stepper, row))
            return carry, self._linearizations(stepper, row, carry)
        made: dict[int, Linearization] = {}

        def value(i: int, y: State) -> State:
            made[i] = self.field.linearize(None, y, row[int(stepper.c[i])])
            return made[i].f

        return self._walk_back(stepper, row, carry, value), made.pop

    def _linearizations(self, stepper: Stepper, row: Any, carry: Carry) -> Callable[[int], Linearization]:
        return Carries().linearizations(self, carry, self._moment(stepper, row, stepper.c))

    def _pull(
        self, stepper: Stepper, row: Any, bars: StackBars, linearize: Callable[[int], Linearization]
    ) -> tuple[StackBars, tuple[State, ...]]:
        """Pull back through one step: (bars, the cotangents that its stages send to their blocks)."""
        backend, shared = self.backend, bars.shared
        sent: dict[int, State] = {}
        requests = stepper.step_vjp(backend, bars.carry, self.h)
        reply: Any = None
        try:
            while True:
                i, f_bar = requests.send(reply)
                _, y_bar, addends = linearize(i).pull(f_bar)
                shared = backend.accumulate(shared, addends[: len(shared)])
                sent[i] = addends[len(shared) :]
                reply = StageReply(None, y_bar)
        except StopIteration as done:
            carry_bar, _ = done.value
        return StackBars(carry_bar, shared), tuple([sent[i] for i in range(len(stepper.c))])


def _row(part: Any, n: int) -> Any:
    """One row of a list, or of arrays with a leading axis."""
    return part[n] if isinstance(part, list) else tuple([leaf[n, ...] for leaf in part])


def _cut(part: Any, first: int, last: int) -> Any:
    """The rows from first to last, of a list or of arrays with a leading axis."""
    return part[first:last] if isinstance(part, list) else tuple([leaf[first:last, ...] for leaf in part])
