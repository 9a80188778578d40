"""``pytest --janode-targets`` runs a test once for each target, and loads nothing unless asked."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
PLUGIN = "janode.conformance.pytest_plugin"
TESTS = """
import numpy as np
import pytest

def test_decay(janode_target):
    y0 = janode_target.asarray(np.ones(2))
    solve = janode_target.frontend.solve
    ys = solve(lambda t, y: -y, y0, [0.0, 1.0], method="rk4", steps=10).ys
    assert np.allclose(janode_target.to_numpy(ys[-1]), np.exp(-1.0), atol=1e-6)

@pytest.mark.janode_device("cuda")
def test_on_a_gpu(janode_target):
    assert janode_target.id

def test_a_model(janode_compare):
    from janode.numpy import Field
    field = Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -np.sum(f_bar * y)))
    solve = dict(y0=np.ones(2), ts=[0.0, 1.0], method="rk4", steps=5)
    janode_compare({"numpy": field, "torch": lambda t, y, k: -k * y}, np.asarray(0.5), **solve)
    with pytest.raises(AssertionError, match="first divergence: step 0, stage 0"):
        janode_compare({"numpy": field, "torch": lambda t, y, k: -k * y * 1.01}, np.asarray(0.5), **solve)
"""
QUIET = """
import sys

def test_nothing_is_loaded():
    assert not {"numpy", "torch", "jax", "janode.core", "janode.conformance.models"} & set(sys.modules)
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other plugin but this one, whether or not it is installed as one."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(text)
    return pytester.runpytest_subprocess("-p", PLUGIN, "-W", "error", "-v", *arguments)


def test_a_test_runs_once_for_each_target(pytester: pytest.Pytester) -> None:
    result = run(pytester, TESTS, "--janode-targets=numpy-*,torch-cpu-f32")
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines_random(
        ["*test_decay?numpy-cpu-f64? PASSED*", "*test_decay?torch-cpu-f32? PASSED*", "*test_a_model PASSED*"]
    )


def test_a_marker_keeps_a_test_to_a_device(pytester: pytest.Pytester) -> None:
    result = run(pytester, TESTS, "--janode-targets=cupy-cuda-*", "-k", "gpu")
    assert sum(result.parseoutcomes().get(key, 0) for key in ("passed", "skipped")) == 2


def test_a_target_named_in_full_must_be_here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = """
import pytest
from janode.conformance import targets
from janode.conformance.runtimes import Absent

def load(device, precision):
    raise Absent("toy is not installed")

targets.TARGETS["toy-cpu-f64"] = targets.Target("toy-cpu-f64", "toy", "cpu", "f64", load)
"""
    pytester.makeconftest(absent)
    named = run(pytester, "def test_it(janode_target): pass", "--janode-targets=toy-cpu-f64")
    named.assert_outcomes(errors=1)
    named.stdout.fnmatch_lines(["*toy-cpu-f64: toy is not installed*"])
    run(pytester, "def test_it(janode_target): pass", "--janode-targets=toy-*").assert_outcomes(skipped=1)


def test_an_unknown_target_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, TESTS, "--janode-targets=tensorflow-*")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*--janode-targets: target must be one of: *; got 'tensorflow-?'*"])


def test_nothing_is_loaded_unless_asked(pytester: pytest.Pytester) -> None:
    run(pytester, QUIET).assert_outcomes(passed=1)


def test_without_the_option_tests_of_targets_are_skipped(pytester: pytest.Pytester) -> None:
    run(pytester, TESTS, "-k", "decay").assert_outcomes(skipped=1)


def test_the_plugin_is_an_entry_point() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"janode": PLUGIN}
