"""Declared gaps are strict: what is declared must fail, and what is declared must exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from janode.conformance.cases import Case
from janode.conformance.cells import FAILED, GAP, RAN, Cell, run_cell
from janode.conformance.comparison import Difference, Found
from janode.conformance.gaps import GAPS_FILE, Gap, find_gap, read_gaps
from janode.conformance.report import Report
from janode.conformance.targets import TARGETS
from janode.core.errors import InputError

CASE = Case("rotation", "rk4", "backprop")
DECLARED = Gap("strict-*", "rotation/*/backprop", "no complex numbers", "issue 1")


class Stub:
    """A check with one outcome."""

    def __init__(self, error: float) -> None:
        self.error = error

    def run(self, case: Case) -> Found:
        return {"reference": [Difference("ys", self.error, 64.0)]}


def cell(error: float, gap: Gap | None) -> Cell:
    check: Any = Stub(error)
    return run_cell("strict-cpu-f64", check, CASE, gap)


@pytest.mark.parametrize(
    ("error", "gap", "status", "message"),
    [
        (1.0, None, RAN, ""),
        (100.0, None, FAILED, "reference: ys: differs by 100 eps; at most 64 allowed"),
        (100.0, DECLARED, GAP, "no complex numbers (issue 1)"),
        (1.0, DECLARED, FAILED, "passes, but is declared as a gap: no complex numbers"),
    ],
    ids=["passes", "fails", "gap", "gap that passes"],
)
def test_a_cell_with_and_without_a_gap(error: float, gap: Gap | None, status: str, message: str) -> None:
    found = cell(error, gap)
    assert (found.status, found.message) == (status, message)


@pytest.mark.parametrize(("gap", "failures"), [(DECLARED, 0), (None, 1)])
def test_a_gap_does_not_fail_the_run(gap: Gap | None, failures: int) -> None:
    report = Report("smoke")
    report.add(cell(100.0, gap))
    assert len(report.failures) == failures


@pytest.mark.parametrize(
    ("target", "case", "is_covered"),
    [
        ("strict-cpu-f64", CASE, True),
        ("numpy-cpu-f64", CASE, False),
        ("strict-cpu-f64", CASE._replace(preset="aca"), False),
    ],
)
def test_a_gap_covers_its_target_and_case(target: str, case: Case, is_covered: bool) -> None:
    assert (find_gap([DECLARED], target, case) is not None) is is_covered


def test_the_declared_gaps_can_be_read() -> None:
    assert all(isinstance(gap, Gap) for gap in read_gaps(GAPS_FILE))


@pytest.mark.parametrize("library", ["dask", "ndonnx"])
def test_the_gaps_of_other_libraries_can_be_read(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{library}-cpu-f64"
    monkeypatch.setitem(TARGETS, name, TARGETS["numpy-cpu-f64"]._replace(id=name))
    assert read_gaps(GAPS_FILE.with_name(f"gaps_{library}.toml"))


ENTRY = {"target": "strict-*", "case": "rotation/*/backprop", "reason": "none", "link": "issue 1"}


def written(path: Path, **changes: str) -> Path:
    lines = [f'{key} = "{value}"' for key, value in {**ENTRY, **changes}.items() if value != "-"]
    path.write_text("\n".join(["[[gap]]", *lines]))
    return path


def test_an_entry_is_read(tmp_path: Path) -> None:
    assert read_gaps(written(tmp_path / "gaps.toml")) == [Gap(**ENTRY)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"link": "-"}, "gaps: entry 1 of .* must have the texts target, case, reason, link; got"),
        ({"reason": ""}, "gaps: entry 1 of .* must have the texts"),
        ({"since": "2020"}, "gaps: entry 1 of .* must have the texts"),
        ({"target": "tensorflow-*"}, "gaps: target must match a target; got 'tensorflow-\\*'"),
        ({"case": "rotation/rk5/*"}, "gaps: case must match a case; got 'rotation/rk5/\\*'"),
    ],
    ids=["missing", "empty", "unknown", "no such target", "no such case"],
)
def test_a_wrong_entry_is_refused(changes: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        read_gaps(written(tmp_path / "gaps.toml", **changes))
