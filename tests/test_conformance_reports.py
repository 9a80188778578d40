"""The report as a page, as JUnit XML, beside another, and as one with another."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import Result
from typer.testing import CliRunner

from janode.conformance.cells import ABSENT, FAILED, GAP, RAN, Cell, TargetReport
from janode.conformance.command import app
from janode.conformance.junit import as_junit
from janode.conformance.merging import diff, merge
from janode.conformance.page import as_html
from janode.conformance.report import Report
from janode.core.errors import InputError

CPU, GPU = "torch-cpu-f64", "torch-cuda-f64"


def cell(target: str, case: str, status: str = RAN, error: float = 2.0, message: str = "") -> Cell:
    return Cell(target, case, status, error, 64.0, "reference: ys", message, 0.25)


def report() -> Report:
    made = Report("smoke", is_complete=True)
    for target in (
        TargetReport("reference", RAN, "", {"numpy": "2"}),
        TargetReport(CPU, RAN, "", {"torch": "2.13"}),
        TargetReport(GPU, ABSENT, "torch has no CUDA device", {}),
    ):
        made.add(target)
    made.add(cell("reference", "affine/rk4/exact"))
    made.add(cell(CPU, "affine/rk4/aca"))
    made.add(cell(CPU, "affine/rk4/stages", FAILED, 99.0, "ys: differs <by> 99 eps & more"))
    made.add(cell(CPU, "affine/euler/aca", GAP, 99.0, "no Euler (link)"))
    return made


class Page(HTMLParser):
    """What a page holds, and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[tuple[str, dict[str, Any]]]] = []
        self.text = ""
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href", "data")]
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(("", dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            told, attrs = self.rows[-1][-1]
            self.rows[-1][-1] = (told + data, attrs)


PAGE = Page(as_html(report()))


def row(first: str, width: int) -> list[tuple[str, dict[str, Any]]]:
    (found,) = (row for row in PAGE.rows if row and row[0][0] == first and len(row) == width)
    return found


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    assert PAGE.open == []
    assert PAGE.links == []
    assert not re.search(r"https?://|@import|url\(|<script", as_html(report()))


def test_the_page_tells_targets_versions_and_reasons() -> None:
    cpu = [text for text, _ in row(CPU, 9)]
    assert cpu == [CPU, "torch 2.13", "failed", "1", "1", "1", "2", "64", "0.8"]
    assert [text for text, _ in row(GPU, 9)][1:3] == ["torch has no CUDA device", "absent"]


def test_the_heat_map_shows_errors_failures_and_gaps() -> None:
    maps = [row for row in PAGE.rows if len(row) == 2 and row[0][0] in ("rk4", "euler")]
    errors, seconds, reference = maps[:2], maps[2:4], maps[4:]
    assert [tile[0] for _, tile in errors] == ["1 failed", "gap"]
    assert errors[0][1][1]["title"] == "affine/rk4/stages: ys: differs <by> 99 eps & more"
    assert [tile[0] for _, tile in seconds] == ["0.25", "0.25"]
    (only,) = reference
    assert only[1][0] == "2"
    assert only[1][1]["style"].startswith("background:hsl(")


def test_the_page_lists_failures_and_gaps_as_text() -> None:
    assert "1 failed" in PAGE.text
    assert f"{CPU}/affine/rk4/stages: ys: differs <by> 99 eps & more" in PAGE.text
    assert f"{CPU}/affine/euler/aca: no Euler (link)" in PAGE.text
    assert f"{GPU}: torch has no CUDA device" in PAGE.text


def test_an_interrupted_run_says_so_on_its_page() -> None:
    assert "the run was interrupted" in Page(as_html(dataclasses.replace(report(), is_complete=False))).text


@pytest.mark.parametrize(("error", "hue"), [(0.0, "130"), (64.0, "0")])
def test_colours_go_from_green_to_red(error: float, hue: str) -> None:
    made = Report("smoke")
    made.add(TargetReport(CPU, RAN, "", {}))
    made.add(cell(CPU, "affine/rk4/aca", error=error))
    assert f"hsl({hue} 65% 75%)" in as_html(made).split("<h2>Largest")[1].split("<tbody>")[1]


def test_junit_counts_and_tells() -> None:
    suites = ElementTree.fromstring(as_junit(report()))
    counts = {suite.get("name"): [suite.get(key) for key in ("tests", "failures", "skipped")] for suite in suites}
    assert counts == {"reference": ["1", "0", "0"], CPU: ["3", "1", "1"], GPU: ["1", "0", "1"]}
    (failure,) = suites.iter("failure")
    assert failure.get("message") == "ys: differs <by> 99 eps & more"
    assert {skipped.get("message") for skipped in suites.iter("skipped")} == {
        "no Euler (link)",
        "torch has no CUDA device",
    }


def changed(**cells: Cell) -> Report:
    made = report()
    made.cells = [cells.get(one.case.replace("/", "_"), one) for one in made.cells]
    return made


@pytest.mark.parametrize(
    ("new", "line", "is_worse"),
    [
        (cell(CPU, "affine/rk4/aca", FAILED, 99.0, "ys: off"), "was ran, is failed ys: off", True),
        (cell(CPU, "affine/rk4/aca", error=40.0), "was 2 eps, is 40 eps of 64 allowed", False),
        (cell(CPU, "affine/rk4/aca", error=6.0), "", False),
        (cell(CPU, "affine/rk4/other"), "only in the first", False),
    ],
    ids=["failed", "grown", "alike", "gone"],
)
def test_a_diff_tells_what_became_of_a_cell(new: Cell, line: str, is_worse: bool) -> None:
    lines, worse = diff(report(), changed(affine_rk4_aca=new))
    assert worse is is_worse
    assert (f"{CPU}/affine/rk4/aca: {line}" in lines) is bool(line)
    assert bool(lines) is bool(line)


def on_gpu() -> Report:
    """The other machine: a GPU, and no failures."""
    made = Report("smoke", is_complete=True)
    made.head = {**made.head, "platform": "Linux with GPU"}
    made.add(TargetReport(CPU, ABSENT, "left out", {}))
    made.add(TargetReport(GPU, RAN, "", {"torch": "2.13+cu"}))
    made.add(cell(GPU, "affine/rk4/aca"))
    return made


def test_runs_of_two_machines_make_one_report() -> None:
    merged = merge([report(), on_gpu()])
    status = {target.target: target.status for target in merged.targets}
    assert status == {"reference": RAN, CPU: RAN, GPU: RAN}
    assert [one.case for one in merged.cells if one.target == GPU] == ["affine/rk4/aca"]
    assert merged.counts(CPU) == {RAN: 1, FAILED: 1, GAP: 1}
    (gpu,) = (target for target in merged.targets if target.target == GPU)
    assert gpu.facts["machine"].startswith("Linux with GPU, Python ")
    assert "Linux with GPU" in as_html(merged)


@pytest.mark.parametrize(("change", "rule"), [("janode", "of one janode"), ("level", "of one level")])
def test_runs_of_different_kinds_are_not_merged(change: str, rule: str) -> None:
    other = on_gpu()
    other = dataclasses.replace(other, level="full") if change == "level" else other
    other.head = {**other.head, **({"janode": "0.0.1"} if change == "janode" else {})}
    with pytest.raises(InputError, match=f"merged reports must be {rule}; got"):
        merge([report(), other])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_commands_diff_and_merge(tmp_path: Path) -> None:
    old, new, out = (tmp_path / name for name in ("old.json", "new.json", "out.json"))
    old.write_text(on_gpu().as_json())
    new.write_text(report().as_json())
    assert run("diff", str(old), str(old)).output == "no difference\n"
    result = run("diff", str(old), str(new))
    assert result.exit_code == 1
    assert f"{CPU}/affine/rk4/stages: only in the second, failed" in result.output
    page, xml = tmp_path / "page.html", tmp_path / "out.xml"
    merged = run("merge", str(old), str(new), "--json", str(out), "--html", str(page), "--junit", str(xml))
    assert merged.exit_code == 1, merged.output
    assert "Linux with GPU" in page.read_text()
    assert f'name="{GPU}"' in xml.read_text()
    assert run("diff", str(out), str(new)).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [("diff", "nowhere.json", "nowhere.json"), ("merge", "nowhere.json"), ("--html", "/nowhere/page.html")],
    ids=lambda arguments: arguments[0],
)
def test_wrong_paths_are_refused(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert re.search(r"must be (a report|written to a file in a folder)", result.output)


def test_a_run_writes_its_page_and_xml(tmp_path: Path) -> None:
    page, xml = tmp_path / "page.html", tmp_path / "out.xml"
    cheap = ("--target", "numpy-cpu-f64", "--problem", "affine", "--method", "rk4", "--preset", "aca", "--jobs", "0")
    assert run(*cheap, "--html", str(page), "--junit", str(xml)).exit_code == 0
    assert "nothing failed" in Page(page.read_text()).text
    assert ElementTree.fromstring(xml.read_text()).findall("*/failure") == []
