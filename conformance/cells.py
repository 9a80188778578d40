"""Runs the cases of one target, one after the other, and turns each into a cell of the report."""

from __future__ import annotations

import math
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .cases import Case
from .checks import Check, LibraryCheck
from .comparison import Difference, Found
from .gaps import Gap, find_gap
from .reference import ReferenceCheck
from .runtimes import Absent
from .targets import REFERENCE, TARGETS

RAN, FAILED, GAP, ABSENT = "ran", "failed", "gap", "absent"


class Cell(NamedTuple):
    """The result of one case on one target.

    Attributes:
        target, case: their ids.
        status: ``ran`` (and passed), ``failed`` or ``gap``.
        error: the largest error in eps among the arrays without a fault.
        tolerance: what was allowed there.
        where: which array that was, and what it was compared with.
        message: the first lines of what failed, or the reason of a gap.
        seconds: how long it took.
    """

    target: str
    case: str
    status: str
    error: float
    tolerance: float
    where: str
    message: str
    seconds: float


class TargetReport(NamedTuple):
    """What became of a target: ``ran``, ``failed`` or ``absent``, why, and on what it ran."""

    target: str
    status: str
    reason: str
    facts: dict[str, str]


def load(target: str) -> Check:
    """What runs the cases of a target; raises Absent if its library or device is not here."""
    if target == REFERENCE:
        return ReferenceCheck()
    record = TARGETS[target]
    return LibraryCheck(record.load(record.device, record.precision), record.precision)


def run_target(target: str, cases: Sequence[Case], gaps: Sequence[Gap]) -> Iterator[Cell | TargetReport]:
    """The report of the target, then every cell as soon as it is done."""
    try:
        check = load(target)
        facts = check.facts()
    except Absent as absence:
        yield TargetReport(target, ABSENT, str(absence), {})
        return
    except Exception as error:
        yield TargetReport(target, FAILED, f"cannot be loaded: {_told(error)}", {})
        return
    yield TargetReport(target, RAN, "", facts)
    with check.active():
        for case in cases:
            yield run_cell(target, check, case, find_gap(gaps, target, case))


def failed_cell(target: str, case: Case, message: str, seconds: float) -> Cell:
    """The cell of a case that nothing could be measured of."""
    return Cell(target, case.id, FAILED, 0.0, 0.0, "", message, seconds)


def run_cell(target: str, check: Check, case: Case, gap: Gap | None) -> Cell:
    """The cell of one case; an exception is a failure like a wrong number."""
    start = time.perf_counter()
    found: Found = {}
    message = ""
    try:
        with warnings.catch_warnings():
            # Of an inverse that is only approximate the suite asks for other things.
            warnings.filterwarnings("ignore", "the backward pass missed the initial state")
            found = check.run(case)
    except Exception as error:
        message = _told(error)
    wrong = [f"{oracle}: {d}" for oracle, differences in found.items() for d in differences if not d.is_ok]
    message = message or "; ".join(wrong[:3])
    status = FAILED if message else RAN
    if gap is not None and status == FAILED:
        status, message = GAP, f"{gap.reason} ({gap.link})"
    elif gap is not None:
        status, message = FAILED, f"passes, but is declared as a gap: {gap.reason}"
    where, worst = _worst(found)
    seconds = time.perf_counter() - start
    return Cell(target, case.id, status, worst.error, worst.tolerance, where, message, seconds)


def _worst(found: Found) -> tuple[str, Difference]:
    """The difference nearest to its tolerance or furthest beyond it, with its oracle."""
    named = [(f"{oracle}: {d.where}", d) for oracle, differences in found.items() for d in differences]
    measured = [(where, d) for where, d in named if math.isfinite(d.error)]
    return max(measured, key=lambda pair: pair[1].error / pair[1].tolerance, default=("", Difference("", 0.0, 0.0)))


def _told(error: Exception) -> str:
    """An exception in one line, with the place it came from."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})"
