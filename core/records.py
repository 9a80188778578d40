"""What is kept of a step, and how the step is linearized from it: the granularity of the pullback.

A step asks for field values (``Stepper.step`` is a generator), so one definition of a method serves every record: the
field can be evaluated plainly, its inputs kept, or its graph kept; and a record that needs only the inputs stops the
step before its last evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .protocols import Array, Carry, Linearization, Moment, State, StepRequests


def _requests(sweep: Any, carry: Carry, moment: Moment) -> StepRequests:
    return moment.stepper.step(sweep.backend, carry, moment.h)


def _stage_inputs(sweep: Any, requests: StepRequests, moment: Moment) -> list[State]:
    """The inputs of all stages; evaluates the field at all but the last."""
    inputs = [next(requests)]
    for t, theta in zip(moment.times[:-1], moment.thetas[:-1], strict=True):
        inputs.append(requests.send(sweep.field(t, inputs[-1], theta)))
    return inputs


def _linearize_stages(sweep: Any, requests: StepRequests, moment: Moment) -> list[Linearization]:
    """The linearizations of all stages, alive at the same time."""
    stages: list[Linearization] = []
    y = next(requests)
    for t, theta in zip(moment.times, moment.thetas, strict=True):
        if stages:
            y = requests.send(stages[-1].f)
        stages.append(sweep.field.linearize(t, y, theta))
    return stages


def _one_at_a_time(sweep: Any, inputs: Sequence[State], moment: Moment) -> Callable[[int], Linearization]:
    def linearize(i: int) -> Linearization:
        return sweep.field.linearize(moment.times[i], inputs[i], moment.thetas[i])

    return linearize


class Evaluated:
    """A record made of what is kept of each field evaluation of a step, whoever takes the step."""

    def evaluate(self, sweep: Any, t: Array, y: State, theta: State) -> tuple[State, Any]:
        """(the field's value, what is kept of its evaluation)."""
        return sweep.field(t, y, theta), None

    def keep(self, carry: Carry, evaluations: Sequence[Any]) -> Any:
        """What is kept of a step from ``carry``."""
        raise NotImplementedError

    def carry(self, record: Any) -> Carry:
        """The carry that a record was made from."""
        raise NotImplementedError

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        """One step forward: (next carry, what is kept)."""
        requests = _requests(sweep, carry, moment)
        kept = []
        y = next(requests)
        try:
            for t, theta in zip(moment.times, moment.thetas, strict=True):
                f, evaluation = self.evaluate(sweep, t, y, theta)
                kept.append(evaluation)
                y = requests.send(f)
        except StopIteration as done:
            return done.value, self.keep(carry, kept)
        raise AssertionError("a step asked for more field values than its stepper has stages")


@dataclass(frozen=True)
class Nothing(Evaluated):
    """Keeps nothing: a solve without a gradient."""

    def keep(self, carry: Carry, evaluations: Sequence[Any]) -> Any:
        """Nothing."""
        return ()

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """There is nothing to linearize from."""
        raise AssertionError("a solve that keeps nothing has no pullback")


@dataclass(frozen=True)
class Carries(Evaluated):
    """Keeps the carry; recomputes the stage inputs; one field graph lives at a time.

    Backward cost per step: s - 1 field evaluations and s field linearizations and VJPs.
    """

    def keep(self, carry: Carry, evaluations: Sequence[Any]) -> Any:
        """The carry."""
        return carry

    def carry(self, record: Any) -> Carry:
        """The record itself."""
        return record

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """Recomputes the stage inputs at once, then linearizes stage by stage."""
        inputs = _stage_inputs(sweep, _requests(sweep, record, moment), moment)
        return _one_at_a_time(sweep, inputs, moment)


@dataclass(frozen=True)
class WholeSteps(Carries):
    """Keeps the carry; linearizes the whole step at once: s field graphs live at a time.

    Backward cost per step: s field linearizations and VJPs.
    """

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """Linearizes every stage at once."""
        stages = dict(enumerate(_linearize_stages(sweep, _requests(sweep, record, moment), moment)))
        return stages.pop


@dataclass(frozen=True)
class StageInputs(Evaluated):
    """Keeps the inputs of every stage; one field graph lives at a time.

    Backward cost per step: s field linearizations and VJPs.
    """

    def evaluate(self, sweep: Any, t: Array, y: State, theta: State) -> tuple[State, Any]:
        """(the field's value, its input)."""
        return sweep.field(t, y, theta), y

    def keep(self, carry: Carry, evaluations: Sequence[Any]) -> Any:
        """The inputs of all stages."""
        return tuple(evaluations)

    def carry(self, record: Any) -> Carry:
        """The input of the first stage of a one-step method."""
        return (record[0],)

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """Linearizes stage by stage."""
        return _one_at_a_time(sweep, record, moment)


@dataclass(frozen=True)
class Graphs(Evaluated):
    """Keeps the linearization of every stage: backpropagation without a framework. Eager libraries only.

    Backward cost per step: s field VJPs.
    """

    def evaluate(self, sweep: Any, t: Array, y: State, theta: State) -> tuple[State, Any]:
        """(the field's value, its linearization)."""
        linearization = sweep.field.linearize(t, y, theta)
        return linearization.f, linearization

    def keep(self, carry: Carry, evaluations: Sequence[Any]) -> Any:
        """The carry, for steps that are taken again, and the linearizations of all stages."""
        return carry, tuple(evaluations)

    def carry(self, record: Any) -> Carry:
        """What the step began with."""
        return record[0]

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """The linearizations that were kept."""
        return record[1].__getitem__
