"""What is kept of a step, and how the step is linearized from it: the granularity of the pullback.

A step asks for field values (``Stepper.step`` is a generator), so one definition of a method serves every record: the
field can be evaluated plainly, its inputs kept, or its graph kept; and a record that needs only the inputs stops the
step before its last evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .protocols import Carry, Linearization, Moment, State, StepRequests


def _requests(sweep: Any, carry: Carry, moment: Moment) -> StepRequests:
    return moment.stepper.step(sweep.backend, carry, moment.h)


def _finish(requests: StepRequests, f: State) -> Carry:
    try:
        requests.send(f)
    except StopIteration as done:
        return done.value
    raise AssertionError("a step asked for more field values than its stepper has stages")


def _stage_inputs(sweep: Any, requests: StepRequests, moment: Moment) -> list[State]:
    """The inputs of all stages; evaluates the field at all but the last."""
    inputs = [next(requests)]
    for t, theta in zip(moment.times[:-1], moment.thetas[:-1], strict=True):
        inputs.append(requests.send(sweep.field(t, inputs[-1], theta)))
    return inputs


def _run(sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, list[State]]:
    """(next carry, inputs of all stages) with plain field evaluations."""
    requests = _requests(sweep, carry, moment)
    inputs = _stage_inputs(sweep, requests, moment)
    return _finish(requests, sweep.field(moment.times[-1], inputs[-1], moment.thetas[-1])), inputs


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


@dataclass(frozen=True)
class Nothing:
    """Keeps nothing: a solve without a gradient."""

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        """One step forward."""
        return _run(sweep, carry, moment)[0], ()

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """There is nothing to linearize from."""
        raise AssertionError("a solve that keeps nothing has no pullback")


@dataclass(frozen=True)
class Carries:
    """Keeps the carry; recomputes the stage inputs; one field graph lives at a time.

    Backward cost per step: s - 1 field evaluations and s field linearizations and VJPs.
    """

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        """One step forward."""
        return _run(sweep, carry, moment)[0], carry

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
class StageInputs:
    """Keeps the inputs of every stage; one field graph lives at a time.

    Backward cost per step: s field linearizations and VJPs.
    """

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        """One step forward."""
        carry, inputs = _run(sweep, carry, moment)
        return carry, tuple(inputs)

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """Linearizes stage by stage."""
        return _one_at_a_time(sweep, record, moment)


@dataclass(frozen=True)
class Graphs:
    """Keeps the linearization of every stage: backpropagation without a framework. Eager libraries only.

    Backward cost per step: s field VJPs.
    """

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        """One step forward."""
        requests = _requests(sweep, carry, moment)
        stages = _linearize_stages(sweep, requests, moment)
        return _finish(requests, stages[-1].f), tuple(stages)

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """The linearizations that were kept."""
        return record.__getitem__
