"""The adjoint presets, and the pullback of a whole solve.

An adjoint is a recovery (how each step's record comes back) with a granularity (what a record is). Memory is given
for N steps of s stages, y the size of a state, L of one field graph; cost in field evaluations and VJPs of a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from .backsolve import Backsolve
from .errors import InputError, unknown_name
from .methods import REVERSIBLE
from .protocols import Array, Method, Recovery, State
from .records import Carries, Graphs, StageInputs, WholeSteps
from .recovery import Kept, Restart, Symplectic, make_totals
from .revolve import Revolve
from .stepped_back import SteppedBack
from .sweep import Bars, Sweep

RECOVERIES: dict[str, Recovery] = {
    # N s L; N s evaluations and N s VJPs. A framework with its own tape differentiates the solver instead.
    "backprop": Kept(Graphs()),
    # N s y + L; 2 N s evaluations and N s VJPs
    "stages": Kept(StageInputs()),
    # N y + s L; 2 N s evaluations and N s VJPs (Zhuang et al. 2020, arXiv 2006.02493)
    "aca": Kept(WholeSteps()),
    # N y + s y + L; N (3 s - 1) evaluations and N s VJPs (Matsubara et al. 2021, arXiv 2102.09750)
    "symplectic": Symplectic(),
    # N y, in the backward pass only, + s y + L; N (4 s - 1) evaluations and N s VJPs
    "restart": Restart(Carries()),
    # at most 2 c carries + s y + L; N (3 s - 1) + A s evaluations, A steps being taken again, and N s VJPs
    "revolve": Revolve(),
}
"""What every method can have."""
STEPPED_BACK: dict[str, SteppedBack] = {
    # 2 carries + s y + L; with s_b evaluations to step back N (2 s - 1 + s_b + s) evaluations and N s VJPs
    "reversible": SteppedBack(("exact",)),
    # the same; the gradient is as wrong as the inverse (Sander et al. 2022, arXiv 2205.14612)
    "reconstruct": SteppedBack(("exact", "approximate")),
}
"""What methods can have whose steps have an inverse."""
CONTINUOUS: dict[str, Recovery] = {
    # the states at ts + s (2 y + params) + L; 2 N s evaluations and N s VJPs. Not exact, so never chosen by itself.
    "backsolve": Backsolve(),
}
"""What solves another problem backwards."""
DEFAULT = "symplectic"


def find_adjoint(adjoint: str | Recovery, method: Method) -> tuple[str, Recovery]:
    """(name, recovery) of a preset, ``"auto"`` being the default one, or of a recovery object, if the method has it."""
    presets: dict[str, Recovery] = {**RECOVERIES, **STEPPED_BACK, **CONTINUOUS}
    if isinstance(adjoint, Recovery):
        name, recovery = type(adjoint).__name__, adjoint
    else:
        name = DEFAULT if adjoint == "auto" else adjoint
        if not isinstance(name, str) or name not in presets:
            raise unknown_name("solve", "adjoint", adjoint, ["auto", *presets])
        recovery = presets[name]
    if isinstance(recovery, SteppedBack) and not recovery.fits(method):
        kind = "an inverse" if "approximate" in recovery.inverses else "an exact inverse"
        legal = sorted(["auto", *RECOVERIES, *(key for key, found in STEPPED_BACK.items() if found.fits(method))])
        raise InputError(
            f"solve: adjoint {name!r} must have a method whose steps have {kind}; got {method.name!r}. Use one of its "
            f"adjoints: {', '.join(legal)}; or a reversible method: {', '.join(REVERSIBLE)}."
        )
    return name, recovery


class Gradient(NamedTuple):
    """Cotangents of the arguments of a solve, as leaves; ``ts`` is None where it was not wanted."""

    y0: State
    theta: State
    ts: State | None
    controls: State
    error: Array | None = None
    """How far the backward pass missed the initial state, if it stepped back."""
    estimate: Array | None = None
    """How far the gradient is off, where the adjoint estimates it."""


@dataclass(frozen=True)
class Backward:
    """One backward pass: what a correction may look at, or run again."""

    sweep: Sweep
    recovery: Recovery
    y0: State
    tape: Any
    ys_bar: State
    """Cotangents of the states at all ts, with a leading axis ``len(ts)`` on every leaf."""
    event_bar: State | None = None
    """The cotangent of the state at the event, its time held fixed."""
    dense_bar: Any = None
    """The cotangents of the continuous extension of every step."""
    outputs: Any = None
    """Buffer of the states at all ts, where the correction reads them."""
    start_bar: State = ()
    """For the correction: the cotangent of the first state, but for what enters at the first time."""

    def run(self) -> tuple[Bars, Any]:
        """The cotangents pulled back through every step, and what each step sends to its stages' controls."""
        sweep, backend = self.sweep, self.sweep.backend
        rows = backend.unstack(self.ys_bar)
        first = backend.take(rows, 0)
        ts_bar = None
        if sweep.field.needs_time:
            zero = backend.zeros((backend.time(0.0, first[sweep.clock]),), wide=True)
            ts_bar = backend.buffer(sweep.num_times, zero)
        carry_bar = sweep.method.carry_zeros(backend.zeros(first))
        theta_bar = make_totals(backend, sweep.field.wanted(sweep.theta), self.recovery)
        bars = Bars(rows, carry_bar, theta_bar, ts_bar, self.event_bar, self.dense_bar)
        return self.recovery.backward(sweep, self.tape, bars)


class Correction(Protocol):
    """Which gradient the controls get."""

    @property
    def needs_costates(self) -> bool:
        """Whether every step is to send the cotangent of the state it starts from, too."""

    @property
    def reads_outputs(self) -> bool:
        """Whether it wants the states at all ts; where it does not get them, it solves once more."""

    def controls(self, backward: Backward, sent: Any) -> State:
        """The cotangents of the controls, from the backward pass and what its steps sent."""


def pull_back(backward: Backward, correction: Correction) -> Gradient:
    """The cotangents of y0, of the wanted leaves of theta, of ts and of the controls.

    Those of the controls are what the correction says; the others are exact for the discrete solution, to rounding.
    """
    backward = replace(backward, sweep=replace(backward.sweep, keeps_costates=correction.needs_costates))
    bars, sent = backward.run()
    backend, method = backward.sweep.backend, backward.sweep.method
    first = backend.take(backend.unstack(backward.ys_bar), 0)
    backward = replace(backward, start_bar=method.start_vjp(bars.carry))
    y0_bar = backend.linear_combination(backward.start_bar, 1.0, (1.0,), (first,))
    ts_bar = None if bars.ts is None else backend.stack(bars.ts)
    return Gradient(y0_bar, bars.theta, ts_bar, correction.controls(backward, sent), bars.error, bars.estimate)
