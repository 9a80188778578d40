"""Stepping back: the backward pass computes each carry from the one behind it, so that memory does not grow with N."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

from .controls import NodeLayout
from .errors import InputError
from .grids import FixedGrid
from .protocols import Array, Backend, Carry, Method, Phase, Record, State
from .records import Carries, Nothing
from .solution import Stats
from .sweep import Bars, Sweep

BOUND = 0.01
"""A larger error is warned of."""
_ALL_PHASES = 16  # as many steps as show every stepper of a method


@dataclass(frozen=True)
class SteppedBack:
    """The last carry alone is kept; the backward pass steps back from it, and pulls each step it has come back over.

    The gradient is exact as far as the inverse is; how far the pass missed the initial state tells.
    """

    inverses: tuple[str, ...]
    """Which inverses of a stepper will do: ``"exact"``, ``"approximate"``."""
    record: Record = field(default_factory=Carries)

    def fits(self, method: Method) -> bool:
        """Whether all steppers of a method have such an inverse."""
        return all(getattr(phase.stepper, "inverse", None) in self.inverses for phase in method.phases(_ALL_PHASES))

    def check(self, sweep: Sweep) -> None:
        """Refuse steps and controls that no step goes back by."""
        if not isinstance(sweep.grid, FixedGrid):
            raise InputError(
                "solve: an adjoint that steps back must have a fixed grid; got adaptive steps. Give steps or "
                "step_size, or use another adjoint."
            )
        if sweep.controls is not None:
            for phase, _ in sweep.phases():
                _check_nodes(sweep.controls.layout, phase, sweep.method.name)

    def forward(self, sweep: Sweep, y0: State) -> tuple[Any, Any]:
        """(outputs, (initial state, last carry))."""
        self.check(sweep)
        outputs, _, carry = sweep.advance(y0, Nothing())
        return outputs, (y0, carry)

    def backward(self, sweep: Sweep, tape: Any, bars: Bars) -> tuple[Bars, Any]:
        """The cotangents pulled back through every step, and what each step sends to its controls."""
        y0, carry = tape
        sent = []
        for phase, steps in reversed(list(sweep.phases())):

            def body(state: Any, step: Any, phase: Phase = phase) -> Any:
                carry, bars = state
                carry = step_back(sweep, phase, step, carry)
                bars, to_controls = sweep.pull_step(phase, step, self.record, carry, bars)
                return (carry, bars), to_controls

            (carry, bars), from_phase = sweep.backend.scan(body, (carry, bars), steps, reverse=True)
            sent.append(from_phase)
        error = relative_error(sweep.backend, sweep.method.output(carry), y0)
        return bars._replace(error=error), tuple(reversed(sent))


def _check_nodes(layout: NodeLayout, phase: Phase, name: str) -> None:
    """Refuse controls that a step back would have to read where its step did not."""
    stepper: Any = phase.stepper
    has_nodes = layout.has_nodes(phase, stepper.c_back)
    if layout.sampling == "steps" and stepper.inverse == "exact":
        has_nodes = set(stepper.c_back) <= set(stepper.c)
    if not has_nodes:
        other = "nodes" if layout.sampling == "steps" else "steps"
        raise InputError(
            f"solve: controls of an adjoint that steps back must be there where it reads them; got method {name!r} "
            f'with sampling="{layout.sampling}". Use sampling="{other}", another adjoint or another method.'
        )


def step_back(sweep: Sweep, phase: Phase, step: Any, carry: Carry) -> Carry:
    """The carry before a step, from the one behind it. Cost: one field evaluation per entry of ``c_back``."""
    stepper: Any = phase.stepper
    moment = sweep.moment(phase, step, sweep.method.output(carry), stepper.c_back)
    requests = stepper.step_back(sweep.backend, carry, moment.h)
    f: Any = None
    try:
        for t, theta in zip(moment.times, moment.thetas, strict=True):
            f = sweep.field(t, requests.send(f), theta)
        requests.send(f)
    except StopIteration as done:
        return done.value
    raise AssertionError("a step back asked for more field values than its stepper has abscissae")


def relative_error(backend: Backend, got: State, expected: State) -> Array:
    """||got - expected|| / ||expected||, a 0-d array; absolute where expected is zero."""
    xp = backend.xp
    error, size = (
        sum(xp.sum(xp.abs(leaf) ** 2) for leaf in backend.accumulate(backend.zeros(state, wide=True), state))
        for state in (backend.linear_combination(got, -1.0, (1.0,), (expected,)), expected)
    )
    return xp.sqrt(error / xp.where(size > 0.0, size, xp.ones_like(size)))


def report(stats: Stats, error: Array | None) -> None:
    """Note the reconstruction error of a backward pass, and warn of a large one. Reads one number from the device."""
    note_error(
        stats,
        "reconstruction_error",
        error,
        "the backward pass missed the initial state by {:.1e} of its norm, and the gradient may be off by as much. "
        'Take more steps, or an adjoint that keeps states, such as "symplectic".',
    )


def note_error(stats: Stats, name: str, error: Array | None, warning: str) -> None:
    """Note an error, if there is one, and warn the caller of the caller if it is large. The warning has room for it."""
    if error is None:
        return
    value = float(error)
    setattr(stats, name, value)
    if not value <= BOUND:
        warnings.warn(warning.format(value), RuntimeWarning, stacklevel=3)
