"""What a solve returns: the solution, its statistics and its status, in the user's own pytrees."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Generic, NamedTuple, TypeVar

SUCCESS = 0
NON_FINITE = 1
BAD_TIMES = 2
MAX_STEPS = 3
STEP_UNDERFLOW = 4
MESSAGES = {
    SUCCESS: "success",
    NON_FINITE: "the state became infinite or not a number",
    BAD_TIMES: "ts was not strictly monotonic, or not equally spaced for a method that needs equal steps",
    MAX_STEPS: "max_steps steps were tried before the end",
    STEP_UNDERFLOW: "the step size became too small",
}

Tree = TypeVar("Tree")


class Report(NamedTuple):
    """How the way forward went."""

    rows: Any
    """Buffer: the states at all ts."""
    status: Any
    num_accepted: Any
    num_rejected: Any
    time: Any = None
    """Where the last accepted step ended, if steps are adaptive."""
    last: Any = None
    """The leaves of the state there."""
    event: Any = None
    """The event that ended the solve, if it was to watch for any."""
    dense: Any = None
    """Buffer: the continuous extension of every step, if it was to be kept."""


@dataclass(repr=False)
class Stats:
    """Counts of one solve; on eager libraries its backward pass adds to them when it runs.

    ``num_field_evals`` counts every call of the field, ``num_vjps`` every pullback of it. Inside a traced JAX
    computation they are those of the forward pass. ``reconstruction_error`` is how far a backward pass that steps back
    missed the initial state, ||y - y0|| / ||y0||, or one that solves back the states at ts, the worst of them; None
    before it, for other adjoints, and on JAX. ``gradient_error`` is the relative error of the gradient that
    ``Backsolve(estimate=True)`` estimates.
    """

    num_steps: int = 0
    num_accepted: int = 0
    num_rejected: int = 0
    num_field_evals: int = 0
    num_vjps: int = 0
    reconstruction_error: float | None = None
    gradient_error: float | None = None

    def __repr__(self) -> str:
        given = [(part.name, getattr(self, part.name)) for part in fields(self)]
        return f"Stats({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"

    def count(self, report: Report) -> None:
        """Take over the numbers of steps."""
        self.num_accepted, self.num_rejected = report.num_accepted, report.num_rejected
        self.num_steps = self.num_accepted + self.num_rejected


@dataclass
class EventResult(Generic[Tree]):
    """The event that ended a solve.

    Attributes:
        index: which of the events it was, from 0; -1 if none happened, in a traced JAX computation.
        t: the time of the event, in the unit of ts.
        y: the state there, the pytree of y0.
    """

    index: Any
    t: Any
    y: Tree


@dataclass
class Solution(Generic[Tree]):
    """The solution of an initial value problem.

    Attributes:
        ts: the times, as given, shape ``(len(ts),)``.
        ys: the states at all ts, the pytree of y0 with a leading axis ``len(ts)`` on every leaf.
        stats: counts of steps, field evaluations and VJPs.
        status: 0 for success; ``message`` says it in words.
        event: the event that ended the solve, or None. The states at ts after it are NaN.
        interpolant: the solution as a function of time, if it was asked for.
        plan: how the gradient was chosen to be taken, with adjoint ``"auto"``: a :class:`Plan`.
    """

    ts: Any
    ys: Tree
    stats: Stats = field(default_factory=Stats)
    status: Any = SUCCESS
    event: EventResult[Tree] | None = None
    interpolant: Any = None
    plan: Any = None

    @property
    def message(self) -> str:
        """The status in words."""
        return MESSAGES[int(self.status)]


@dataclass
class Gradients(Generic[Tree]):
    """Cotangents of the arguments of a solve, each with the structure of the argument.

    Attributes:
        y0: the cotangent of the initial state.
        params: the cotangent of the parameters, or None if there are none.
        ts: the cotangent of every time, shape ``(len(ts),)``.
        controls: the cotangent of the controls, or None if there are none.
    """

    y0: Tree
    params: Any
    ts: Any
    controls: Any = None
