"""The pages made from stored results: docs/benchmarks.md and the block of README.md between its marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .machine import ROOT
from .measure import Race
from .report import Table, machine_line, verdict_table
from .suites import find_suite

PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

INTRO = """<!-- written by `python -m benchmarks --render`; change benchmarks/ and run it -->
# Benchmarks

How long janode takes, and how much memory, beside its peers and beside the bare field. Everything on this page was
measured by one command per suite, and `python -m benchmarks --render` wrote the page from the samples it stored under
`benchmarks/results/`. Targets that were missed are listed with those that were met.

How it is measured:

- All contestants of a table's column run in one process and take turns: a round times each of them once, every round
  begins with another one, and a round before the first is not counted. What is compared is the **ratio of two
  contestants in the same round**; a table gives the median over the rounds, a target also the quartiles.
- On the CPU each library has a process of its own on **one thread of one core** (`OMP_NUM_THREADS=1`,
  `torch.set_num_threads(1)`, XLA's flags for one thread, and the process pinned to a core). The measure is the
  **CPU time of the process**: on a machine that others use too, the time on the clock counts their work as well. Both
  are stored. On a GPU the measure is the time on the clock, with the device waited for.
- Weights and initial states are the same in all libraries, all in float32. Every contestant's result is compared with
  the first one's: *differs by* is the largest difference, relative to the largest entry.
- Nothing was measured on a GPU unless a section says so.
"""


def tables(result: Mapping[str, Any]) -> list[Table]:
    """The targets, then every race."""
    suite = find_suite(result["suite"])
    races = [Race.from_json(race) for race in result["races"]]
    measure = primary(result)
    verdicts = verdict_table(suite.verdicts(races, measure), f"{suite.TITLE}: targets")
    return [verdicts, *suite.tables(races, measure)]


def primary(result: Mapping[str, Any]) -> str:
    """Which of the stored times the tables show."""
    return "cpu" if result["device"] == "cpu" else "wall"


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """The manual's page on all suites."""
    parts, explained = [INTRO], set[str]()
    for result in results:
        suite = find_suite(result["suite"])
        parts += [f"## {suite.TITLE}\n\n{suite.ABOUT}"] if result["suite"] not in explained else []
        explained.add(result["suite"])
        parts += [f"### On {result['device']}\n\n```sh\n{command(result)}\n```\n", machine_line(result) + "\n"]
        parts += [f"Not measured: {name} ({reason}).\n" for name, reason in result["absent"].items()]
        parts += [table.markdown() for table in tables(result)]
    return "\n".join(parts)


def command(result: Mapping[str, Any]) -> str:
    """What was run."""
    scale = "" if result["scale"] == "full" else f" --{result['scale']}"
    device = "" if result["device"] == "cpu" else f" --device {result['device']}"
    out = f"benchmarks/results/{result['suite']}-{result['device']}.json"
    return f"python -m benchmarks --suite {result['suite']}{scale}{device} --json {out}"


def readme_block(results: Sequence[Mapping[str, Any]]) -> str:
    """The targets on the field that they name, and how to get the rest."""
    parts = [BEGIN, "Written by `python -m benchmarks --render`; all fields, peers and samples: [docs/benchmarks.md]"]
    parts[-1] += "(docs/benchmarks.md).\n"
    for result in results:
        suite = find_suite(result["suite"])
        races = [Race.from_json(race) for race in result["races"] if race["case"]["problem"] in suite.HEADLINES]
        verdicts = [one for one in suite.verdicts(races, primary(result)) if one.limit is not None]
        times = "CPU time" if primary(result) == "cpu" else "time on the clock"
        title = f"{suite.TITLE}, on {result['device']}: ratios, those of time in {times}"
        parts += [verdict_table(verdicts, title).markdown(), f"`{command(result)}`\n", machine_line(result) + "\n"]
    return "\n".join([*parts[:-1], parts[-1].rstrip(), END])


def fill_readme(results: Sequence[Mapping[str, Any]]) -> str:
    """Put the block between the marks of README.md, if it has them; returns the block."""
    block, text = readme_block(results), README.read_text()
    if BEGIN in text and END in text:
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        README.write_text(before + block + after)
    return block
