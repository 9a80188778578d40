"""The benchmarks work, measure what they say, and store all of it; no time is asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import diffrax_rk4, jax_problem
from benchmarks.fields import SMALL, TINY
from benchmarks.imports import STATEMENTS
from benchmarks.machine import facts
from benchmarks.measure import Case, Effort, Race, Spread, race, ratio, spread
from benchmarks.page import BEGIN, END, PAGE, RESULTS, page, readme_block
from benchmarks.report import Verdict, verdict_table
from benchmarks.suites import fixed
from benchmarks.torch_problem import TorchProblem
from benchmarks.worker import launch

ROOT = Path(__file__).parents[1]
CASE = Case("torch", SMALL.name, 50, fixed.ENDS, "gradient")
PEERS = {
    "torch": [
        "torchdiffeq odeint",
        "torchdiffeq odeint_adjoint",
        "torchode AutoDiffAdjoint",
        "torchode JointBacksolveAdjoint",
    ],
    "jax": [
        "diffrax RecursiveCheckpointAdjoint",
        "diffrax RecursiveCheckpointAdjoint(N)",
        "diffrax DirectAdjoint",
        "diffrax BacksolveAdjoint",
    ],
    "numpy": [],
}


def contestants(log: list[str]) -> dict[str, Callable[[], Any]]:
    return {name: lambda name=name: log.append(name) for name in "abc"}


def test_contestants_take_turns_and_each_round_begins_with_another() -> None:
    log: list[str] = []
    found = race(CASE, contestants(log), Effort(4, 9, 0.0))
    assert "".join(log) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert {len(samples[measure]) for samples in found.samples.values() for measure in ("cpu", "wall")} == {4}


def test_rounds_end_at_the_most() -> None:
    log: list[str] = []
    race(CASE, contestants(log), Effort(1, 3, math.inf), is_warm=True)
    assert len(log) == 9


def test_results_are_compared_with_the_first() -> None:
    thunks = {"field": lambda: None, "a": lambda: [torch.tensor([1.0, -4.0])], "b": lambda: [torch.tensor([1.5, -4.0])]}
    assert race(CASE, thunks, Effort(1, 1, 0.0)).differences == {"a": 0.0, "b": 0.125}


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    found = Race(CASE, {"a": {"cpu": [1.0, 20.0, 6.0]}, "b": {"cpu": [1.0, 10.0, 2.0]}})
    assert ratio(found, "a", "b", "cpu") == (1.5, 2.0, 2.5)


def test_two_samples_have_extremes_for_quartiles() -> None:
    assert spread([3.0, 1.0]) == (1.0, 2.0, 3.0)


def test_a_race_survives_json() -> None:
    found = Race(CASE, {"a": {"cpu": [1.0]}}, {"a": 0.0})
    assert Race.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_peak_of_live_bytes() -> None:
    bench = TorchProblem(TINY, "cpu")

    def thunk() -> None:
        kept = torch.ones(1000)  # 4000 bytes
        view = kept.view(10, 100).add_(1.0)  # none
        for _ in range(3):
            view.exp().sum()  # 4000 and then 4 bytes, freed each time
        bench.y0.view(-1).add_(0.0)  # given
        kept.numpy()

    assert bench.peak_bytes(thunk) == 8004


EVALUATIONS = {
    "janode backprop": 4,
    "janode stages": 8,
    "janode aca": 8,
    "janode symplectic": 11,
    "janode restart": 15,
    "torchdiffeq odeint": 4,
    "torchdiffeq odeint_adjoint": 8,
    "torchode AutoDiffAdjoint": 4,
    "torchode JointBacksolveAdjoint": 8,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torchode's own imports
@pytest.mark.parametrize("steps", [50, 1000])
@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_torch_gradient_evaluates_as_often_as_the_page_says(name: str, steps: int) -> None:
    bench, count = TorchProblem(TINY, "cpu"), 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    bench.field.register_forward_hook(note)
    bench.gradient(fixed._torch_solves(bench, steps, fixed.ENDS, ())[name])()
    assert count == EVALUATIONS[name] * steps


@pytest.mark.parametrize("steps", [50, 1000])
def test_a_diffrax_solve_takes_n_steps(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def note(_: Any) -> None:
        nonlocal count
        count += 1

    def counted(t: Any, y: jax.Array, weights: Any) -> jax.Array:
        jax.debug.callback(note, t)
        return jax_problem.field(t, y, weights)

    monkeypatch.setattr(diffrax_rk4, "field", counted)
    bench = jax_problem.JaxProblem(TINY)
    solve = fixed._jax_solves(steps, ())["diffrax BacksolveAdjoint"]
    jax.block_until_ready(solve(bench.weights, bench.y0))
    jax.effects_barrier()
    assert count == 4 * steps


def expected_contestants(library: str, task: str, times: str) -> set[str]:
    if task == "import":
        return set(STATEMENTS)
    names = {*fixed.JANODE, *PEERS[library]}
    if task == "forward":
        names = {"janode", *(name.split()[0] for name in PEERS[library])}
        names = {"torchdiffeq odeint" if name == "torchdiffeq" else name for name in names}
    if task == "compile":
        names &= fixed._in_targets("jax")
    if task == "memory" or times == fixed.EVERY:
        names = {name for name in names if not name.startswith("torchode")}
    floors = {"forward": {fixed.FIELD}, "gradient": {fixed.FIELD, fixed.PULLBACK}}
    return names | floors.get(task, set())


TASKS = {
    "torch": [("forward", 2), ("gradient", 2), ("forward", 2), ("gradient", 2), ("memory", 2), ("memory", 3)],
    "jax": [("forward", 2), ("gradient", 2), ("memory", 2), ("compile", 2)],
    "numpy": [("forward", 2), ("gradient", 2), ("import", 0)],
}


@pytest.mark.parametrize("library", fixed.LIBRARIES)
def test_a_small_run_stores_every_contestant_of_every_task(library: str) -> None:
    found = launch("fixed", library, "smoke", "cpu")
    races = [Race.from_json(one) for one in found["races"]]
    assert found["absent"] == {}
    assert [(one.case.task, one.case.steps) for one in races] == TASKS[library]
    assert [set(one.samples) for one in races] == [
        expected_contestants(library, one.case.task, one.case.times) for one in races
    ]
    kinds = {frozenset(samples) for one in races for samples in one.samples.values()}
    assert kinds <= {frozenset({"cpu", "wall"}), frozenset({"bytes"})}
    values = [value for one in races for samples in one.samples.values() for part in samples.values() for value in part]
    assert all(value > 0.0 for value in values)
    # two steps of the 3/8 rule differ from two of the classical method by far less
    assert all(difference < 1e-3 for one in races for difference in one.differences.values())


def test_the_command_saves_all_that_is_needed_to_judge_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        command, "launch", lambda suite, library, scale, device: launch(suite, library, "smoke", device)
    )
    out = tmp_path / "deep" / "a.json"
    run = CliRunner().invoke(command.app, ["--library", "numpy", "--json", str(out)])
    assert run.exit_code == 0, run.output
    result = json.loads(out.read_text())
    assert (result["suite"], result["scale"], result["device"]) == ("fixed", "full", "cpu")
    assert result["machine"].keys() == facts().keys()
    assert all(value not in (None, "") for value in result["machine"].values())
    assert len(result["load_average_after"]) == 3
    assert len(result["races"]) == 3
    assert "import numpy, janode.numpy" in run.output


def test_the_command_refuses_an_unknown_library() -> None:
    run = CliRunner().invoke(command.app, ["--library", "mxnet"])
    assert run.exit_code == 2
    assert "--library must be one of torch, jax, numpy; got mxnet." in run.output


def test_a_library_without_the_device_is_absent() -> None:
    assert launch("fixed", "numpy", "smoke", "cuda") == {"absent": {"numpy": "does not run on cuda"}, "races": []}


ON_ONE_CORE = """
import os, benchmarks.worker
benchmarks.worker.run_on_one_core()
print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
"""


def test_a_worker_runs_on_one_core() -> None:
    run = subprocess.run([sys.executable, "-c", ON_ONE_CORE], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.splitlines()[-1] == "1"


@pytest.mark.parametrize(("median", "word"), [(0.75, "yes"), (0.751, "no")])
def test_a_missed_target_is_called_missed(median: float, word: str) -> None:
    table = verdict_table([Verdict("a / b", CASE, Spread(0.7, median, 0.8), 0.75)], "targets")
    assert table.rows[0][-2:] == ("<= 0.75", word)
    assert word in table.markdown().splitlines()[-1]


@pytest.mark.parametrize("target", fixed.TARGETS, ids=lambda target: f"{target.library}-{target.task}-{target.over}")
def test_every_target_is_read_from_its_race(target: fixed.Target) -> None:
    case = Case(target.library, SMALL.name, 1000, fixed.ENDS, target.task)
    measure = "bytes" if target.task == "memory" else "wall"
    found = Race(case, {target.over: {measure: [3.0]}, target.under: {measure: [2.0]}})
    found.samples |= {name: {measure: [4.0]} for name in (fixed.FIELD, fixed.PULLBACK) if name not in found.samples}
    row = fixed.verdicts([found], "wall")[0]
    assert (row.text, row.value.median, row.limit) == (f"{target.over} / {target.under}", 1.5, target.limit)


def test_a_floor_adds_up_the_evaluations_of_a_preset() -> None:
    names = (fixed.FIELD, fixed.PULLBACK, "torchdiffeq odeint_adjoint")
    found = Race(CASE, {name: {"cpu": [seconds]} for name, seconds in zip(names, (4.0, 9.0, 20.0), strict=True)})
    (row,) = fixed.verdicts([found], "cpu")
    assert (row.value.median, row.limit) == ((7.0 + 9.0) / 20.0, None)


def test_growth_is_counted_in_states() -> None:
    races = [
        Race(Case("torch", SMALL.name, steps, fixed.ENDS, "memory"), {"janode symplectic": {"bytes": [peak]}})
        for steps, peak in ((10, 7000.0), (1000, 7000.0 + 990 * 1.5 * 128 * 2 * 4))
    ]
    (row,) = fixed.verdicts(races, "cpu")
    assert (row.value.median, row.limit, row.is_met) == (1.5, 1.0, False)


STORED = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]


def test_the_page_is_written_from_the_stored_results() -> None:
    assert PAGE.read_text() == page(STORED)


def test_stored_results_are_long_runs_of_a_committed_state() -> None:
    assert {result["scale"] for result in STORED} <= {"full", "main"}
    assert "fixed" in {result["suite"] for result in STORED}
    assert all("changes" not in result["machine"]["commit"] for result in STORED)


def test_the_block_for_the_readme_shows_every_target() -> None:
    block = readme_block(STORED)
    assert block.startswith(BEGIN)
    assert block.endswith(END)
    wanted = [f"{target.over} / {target.under}" for target in fixed.TARGETS if target.limit is not None]
    assert [text for text in wanted if text not in block] == []
