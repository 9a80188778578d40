"""Declared gaps: which cases a target is known not to pass, and why. A gap that passes is a failure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from janode.core.errors import InputError

from .cases import Case, all_cases
from .targets import TARGETS

GAPS_FILE = Path(__file__).with_name("gaps.toml")


class Gap(NamedTuple):
    """One declared gap: shell-style patterns of target and case ids, the reason, and where it is tracked."""

    target: str
    case: str
    reason: str
    link: str


def read_gaps(path: Path) -> list[Gap]:
    """The gaps that a file declares.

    Raises:
        InputError: an entry lacks one of the four texts, has others, or names no target or no case that there is.
    """
    gaps = []
    try:
        entries = tomllib.loads(path.read_text()).get("gap", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"gaps: {path} must be a TOML file; got {error}. Correct it, or give another.") from None
    for number, entry in enumerate(entries, 1):
        if set(entry) != set(Gap._fields) or not all(isinstance(text, str) and text for text in entry.values()):
            raise InputError(
                f"gaps: entry {number} of {path} must have the texts {', '.join(Gap._fields)}; got {entry}. Write all "
                "four."
            )
        gap = Gap(**entry)
        if not any(fnmatchcase(target, gap.target) for target in TARGETS):
            raise InputError(f"gaps: target must match a target; got {gap.target!r} in {path}. Correct or remove it.")
        if not any(fnmatchcase(case.id, gap.case) for case in all_cases()):
            raise InputError(f"gaps: case must match a case; got {gap.case!r} in {path}. Correct or remove it.")
        gaps.append(gap)
    return gaps


def find_gap(gaps: Iterable[Gap], target: str, case: Case) -> Gap | None:
    """The first gap that covers a case of a target, or None."""
    return next((gap for gap in gaps if fnmatchcase(target, gap.target) and fnmatchcase(case.id, gap.case)), None)
