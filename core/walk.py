"""How far an adaptive solve has come, and the step that it tries."""

from __future__ import annotations

from typing import Any, NamedTuple

from .continuous import Trial
from .controllers import Memory
from .grids import AcceptedStep
from .protocols import Carry, Moment, State, Time

RUNNING = -1


class Walk(NamedTuple):
    """How far the solve has come, and what it keeps."""

    status: Any
    num_accepted: Any
    num_tried: Any
    segment: Any
    offset: Time
    """The time since the stop ``segment``."""
    size: Time
    """The proposed magnitude of the next step."""
    memory: Memory
    may_grow: Any
    carry: Carry
    first: tuple[State, Any]
    """The field at the start of the next step, and what is kept of its evaluation."""
    rows: Any
    """Buffer: the states at all ts; NaN where the solve has not come to."""
    taps: tuple[Any, ...]
    steps: Any
    """Buffer: the accepted steps."""
    kept: Any
    """Buffer: the records of the steps that are kept."""


class Tried(NamedTuple):
    """A step that may be rejected, and what came of it."""

    step: AcceptedStep
    is_short: Any
    """Whether a stop makes it much shorter than it would be."""
    moment: Moment
    trial: Trial
    evaluations: list[Any]
    """What is kept of its field evaluations."""
    error: Any
