"""``compare`` finds that libraries agree on a user's model, or where they first part; golden files keep its results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from janode.conformance import assert_conforms, compare
from janode.core.errors import InputError
from janode.numpy import Field, Knots

PARAMS = {"k": np.asarray(2.0), "c": np.asarray([0.1, 0.2])}
Y0 = {"u": np.asarray([1.0, 0.5]), "v": np.zeros(2)}
SOLVE: dict[str, Any] = {"y0": Y0, "ts": [0.0, 1.0, 2.0], "method": "rk4", "steps": 10}
STEP, STAGE, TIME = 3, 3, 0.4
"""A stage that ends a step; the time is that of the next step's start, too."""


def value(t: Any, y: Any, p: Any) -> Any:
    return {"u": y["v"], "v": -p["k"] * y["u"] - p["c"] * y["v"]}


def vjp(t: Any, y: Any, p: Any, f_bar: Any) -> Any:
    u_bar, v_bar = f_bar["u"], f_bar["v"]
    y_bar = {"u": -p["k"] * v_bar, "v": u_bar - p["c"] * v_bar}
    return None, y_bar, {"k": -np.sum(v_bar * y["u"]), "c": -v_bar * y["v"]}


FIELD = Field(value, vjp)


class Perturbed:
    """A field whose slope of one leaf is off in one call only, the one with that number."""

    def __init__(self, number: int) -> None:
        self.number, self.calls = number, 0

    def __call__(self, t: Any, y: Any, p: Any) -> Any:
        f = value(t, y, p)
        if self.calls % 80 == self.number:
            f["v"] = f["v"] + 1e-9
        self.calls += 1
        return f


def perturbed_jax(t: Any, y: Any, p: Any) -> Any:
    """Off in the stages at one time, two in the middle of a step."""
    f = value(t, y, p)
    return {**f, "v": f["v"] + jnp.where(jnp.abs(t - 0.35) < 1e-6, 1e-9, 0.0)}


def perturbed_vjp(t: Any, y: Any, p: Any, f_bar: Any) -> Any:
    t_bar, y_bar, p_bar = vjp(t, y, p, f_bar)
    if abs(float(t) - 0.35) < 1e-6:
        p_bar["c"] = p_bar["c"] * (1 + 1e-9)
    return t_bar, y_bar, p_bar


def test_three_libraries_conform() -> None:
    report = assert_conforms({"numpy": FIELD, "torch": value, "jax": value}, PARAMS, **SOLVE)
    assert report.reference == "numpy"
    assert set(report.differences) == {"torch", "jax"}
    assert {d.where for d in report.differences["jax"]} == {
        *("ys['u']", "ys['v']", "y0_bar['u']", "y0_bar['v']", "params_bar['c']", "params_bar['k']", "ts_bar")
    }
    assert {counts.num_field_evals for counts in report.counts.values()} == {80}
    assert "torch: at most " in str(report)


def test_arrays_of_any_library_are_converted() -> None:
    y0 = {name: torch.tensor(leaf) for name, leaf in Y0.items()}
    params = {name: jnp.asarray(leaf) for name, leaf in PARAMS.items()}
    assert_conforms({"torch": value, "jax": value}, params, **{**SOLVE, "y0": y0, "adjoint": "aca"})


def test_the_precision_is_that_of_the_state() -> None:
    y0 = {name: leaf.astype(np.float32) for name, leaf in Y0.items()}
    report = assert_conforms({"numpy": FIELD, "torch": value}, PARAMS, **{**SOLVE, "y0": y0})
    assert report.values["ys"]["u"].dtype == np.float32
    assert max(d.error * report.eps for d in report.differences["torch"]) > 1e-9


def test_controls_and_targets_by_their_ids() -> None:
    def value(t: Any, y: Any, control: Any) -> Any:
        return control * y

    field = Field(value, lambda t, y, control, f_bar: (None, control * f_bar, np.sum(y * f_bar)))
    controls = np.linspace(0.1, 0.5, 10)
    solve: dict[str, Any] = {"y0": np.ones(3), "ts": [0.0, 1.0], "controls": controls, "method": "euler", "steps": 10}
    report = assert_conforms({"numpy": field, "torch-cpu-f64": value}, **solve, sampling="steps")
    assert "controls_bar" in {d.where for d in report.differences["torch-cpu-f64"]}


@pytest.mark.parametrize("number", [0, 13, 79])
def test_a_perturbed_stage_is_found_by_step_stage_and_leaf(number: int) -> None:
    report = compare({"numpy": FIELD, "torch": Perturbed(number)}, PARAMS, adjoint="stages", **SOLVE)
    assert not report.conforms
    found = report.divergences["torch"]
    assert found is not None
    assert (found.what, found.step, found.stage, found.leaf) == ("the slope", number // 4, number % 4, "f['v']")


def test_a_perturbed_stage_is_found_in_a_compiled_solve() -> None:
    found = compare({"numpy": FIELD, "jax": perturbed_jax}, PARAMS, **SOLVE).divergences["jax"]
    assert found is not None
    assert (found.what, found.step, found.stage, found.leaf) == ("the slope", 3, 1, "f['v']")
    assert "step 3, stage 1, t = 0.35, f['v']: the slope differs" in str(found)


ADAPTIVE: dict[str, Any] = {"y0": Y0, "ts": [0.0, 1.0, 2.0], "rtol": 1e-6, "atol": 1e-8}


@pytest.mark.parametrize("size", [1e-6, 1e-2], ids=["same steps", "other steps"])
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_perturbed_stage_is_found_in_an_adaptive_solve(library: str, size: float) -> None:
    """By the number of the step that was tried, its stage and the array, whether or not the steps are the same."""
    where, absolute = (torch.where, torch.abs) if library == "torch" else (jnp.where, jnp.abs)

    def perturbed(t: Any, y: Any, p: Any) -> Any:
        f = value(t, y, p)
        return {**f, "v": f["v"] + where(absolute(t - 0.9) < 0.05, size, 0.0)}

    report = compare({"numpy": FIELD, library: perturbed}, PARAMS, **ADAPTIVE)
    assert (report.counts["numpy"] == report.counts[library]) is (size == 1e-6)
    found = report.divergences[library]
    assert found is not None
    assert (found.what, found.step, found.leaf) == ("the slope", 7, "f['v']")
    assert found.stage is not None
    assert 0.85 < found.t < 0.95


@pytest.mark.parametrize("method", ["dopri5", "dopri8"])
def test_adaptive_solves_conform(method: str) -> None:
    """On JAX, dopri8 evaluates more than elsewhere where states lie between steps."""
    assert_conforms({"numpy": FIELD, "jax": value}, PARAMS, method=method, **ADAPTIVE)


@pytest.mark.parametrize("steps", [{"steps": 8}, {"rtol": 1e-6, "atol": 1e-8}], ids=["fixed", "adaptive"])
def test_controls_on_knots(steps: dict[str, Any]) -> None:
    field = Field(lambda t, y, u: u * y, lambda t, y, u, f_bar: (None, u * f_bar, np.sum(y * f_bar)))
    knots = Knots([0.0, 0.5, 1.0], np.asarray([0.1, 0.7, -0.4]))
    fields = {"numpy": field, "torch": lambda t, y, u: u * y, "jax": lambda t, y, u: u * y}
    report = assert_conforms(fields, y0=np.ones(3), ts=[0.0, 1.0], controls=knots, **steps)
    assert "controls_bar" in {d.where for d in report.differences["jax"]}


def test_an_event_is_refused() -> None:
    with pytest.raises(InputError, match="compare: event must be left out, for the states behind it are NaN; got one"):
        compare({"numpy": FIELD}, PARAMS, event=lambda t, y, p: t - 1.0, **ADAPTIVE)


def test_a_perturbed_pullback_is_found_by_step_stage_and_leaf() -> None:
    """The solutions agree, so the fields' VJPs are compared at the stages, the last one first."""
    found = compare({"numpy": Field(value, perturbed_vjp), "torch": value}, PARAMS, **SOLVE).divergences["torch"]
    assert found is not None
    what = "the pullback of the field"
    assert (found.what, found.step, found.stage, found.leaf) == (what, 3, 2, "params_bar['c']")


def test_a_difference_is_an_assertion_error_that_says_where() -> None:
    with pytest.raises(AssertionError, match=r"torch: first divergence: step 3, stage 1, .*, f\['v'\]: the slope"):
        assert_conforms({"numpy": FIELD, "torch": Perturbed(13)}, PARAMS, adjoint="stages", **SOLVE)


OTHER = {**PARAMS, "c": torch.zeros(3)}


@pytest.mark.parametrize(
    ("fields", "params", "rule"),
    [
        ({}, None, "compare: fields must have at least one library; got none"),
        ({"tensorflow": value}, PARAMS, "compare: library must be one of: .*torch.*; got 'tensorflow'"),
        ({"numpy": FIELD, "torch-cuda-f64": value}, PARAMS, "compare: torch-cuda-f64 must be on this machine; got"),
        (
            {"numpy": FIELD, "torch": value},
            {"numpy": PARAMS, "torch": OTHER},
            r"params\['c'\] must be the same for every library; got shape \(2,\) with numpy, shape \(3,\) with torch",
        ),
        (
            {"numpy": FIELD, "torch": value},
            {"numpy": PARAMS, "torch": {"k": PARAMS["k"]}},
            r"params\['c'\] must be the same .*; got shape \(2,\) with numpy, nothing with torch",
        ),
        (
            {"numpy": FIELD, "torch": value},
            {"numpy": PARAMS, "torch": {**PARAMS, "k": torch.tensor(3.0)}},
            r"params\['k'\] must be the same .*; got other values with numpy",
        ),
    ],
    ids=["none", "unknown", "absent", "shape", "path", "values"],
)
def test_what_cannot_be_compared_is_refused(fields: Any, params: Any, rule: str) -> None:
    if "torch-cuda-f64" in fields and torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(InputError, match=rule):
        compare(fields, params, **SOLVE)


def test_parameters_may_be_each_librarys_own() -> None:
    own = {"numpy": PARAMS, "torch": {name: torch.tensor(leaf) for name, leaf in PARAMS.items()}}
    assert_conforms({"numpy": FIELD, "torch": value}, own, **SOLVE)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "model.npz"
    compare({"numpy": FIELD}, PARAMS, **SOLVE).record(path)
    return path


def test_a_golden_file_holds_for_another_library(golden: Path) -> None:
    compare({"torch": value}, PARAMS, **SOLVE).check(golden)


def test_other_results_than_the_golden_ones_are_told(golden: Path) -> None:
    with pytest.raises(AssertionError, match=r"the results differ from .*recorded with .*janode .*\n(.*\n)*params_bar"):
        compare({"torch": Perturbed(13)}, PARAMS, adjoint="stages", **SOLVE).check(recorded(golden, "stages"))


def recorded(golden: Path, adjoint: str) -> Path:
    path = golden.with_name(f"{adjoint}.npz")
    compare({"numpy": FIELD}, PARAMS, adjoint=adjoint, **SOLVE).record(path)
    return path


def rewritten(golden: Path, change: Callable[[dict[str, Any]], None], path: Path) -> Path:
    with np.load(golden) as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    np.savez_compressed(path, **arrays)
    return path


def older(arrays: dict[str, Any]) -> None:
    arrays["head"] = np.asarray(json.dumps({**json.loads(str(arrays["head"])), "version": 0}))


def tampered(arrays: dict[str, Any]) -> None:
    arrays["array ys['u']"][0, 0] += 1e-16 + 1e-12


def headless(arrays: dict[str, Any]) -> None:
    del arrays["checksum"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (older, "golden: .* must be of version 1; got 0"),
        (tampered, "golden: .* must be as it was recorded; got another checksum"),
        (headless, "golden: .* must be a file that record wrote, whole; got a file cut short or of another kind"),
    ],
)
def test_a_changed_golden_file_is_refused(change: Any, rule: str, golden: Path, tmp_path: Path) -> None:
    report = compare({"numpy": FIELD}, PARAMS, **SOLVE)
    with pytest.raises(InputError, match=rule):
        report.check(rewritten(golden, change, tmp_path / "changed.npz"))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_golden_file_cut_short_is_refused(share: float, golden: Path, tmp_path: Path) -> None:
    short, whole = tmp_path / "short.npz", golden.read_bytes()
    short.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"golden: .* must be a file that record wrote, whole; got a file"):
        compare({"numpy": FIELD}, PARAMS, **SOLVE).check(short)


@pytest.mark.parametrize(
    ("change", "rule"),
    [({"method": "dopri5"}, "golden: method must be 'rk4', .*; got 'dopri5'"), ({"ts": [0.0, 2.0]}, "golden: ts must")],
    ids=["method", "ts"],
)
def test_a_golden_file_of_another_solve_is_refused(change: dict[str, Any], rule: str, golden: Path) -> None:
    with pytest.raises(InputError, match=rule):
        compare({"numpy": FIELD}, PARAMS, **{**SOLVE, **change}).check(golden)


def test_a_golden_file_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be written to a file in a folder that is there"):
        compare({"numpy": FIELD}, PARAMS, **SOLVE).record(tmp_path / "nowhere" / "model.npz")


def test_importing_the_suite_loads_no_library() -> None:
    code = "import sys, janode.conformance; print({'numpy', 'torch', 'jax', 'rich'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
