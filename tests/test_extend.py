"""The prices of docs/extend.md: a new method is one record, a recovery one class, an array library two objects."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import janode.array as jo
from janode.backends.registry import array_backend
from janode.core.adjoint import RECOVERIES
from janode.core.tableaus import TABLEAUS

from .problems import FIELD, TS, Y0, YS_BAR, X, assert_close, gradient, outputs, packed, params, textbook, value
from .test_docs import ROOT, runnable_code


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the code of the page defines."""
    names: dict[str, Any] = {"__name__": "extend"}
    text = (ROOT / "docs" / "extend.md").read_text()
    exec(compile(runnable_code(text), "docs/extend.md", "exec"), names)
    return names


# A Runge-Kutta method.


def test_a_new_method_has_its_order(page: dict[str, Any]) -> None:
    def error(steps: int) -> float:
        ys = jo.solve(lambda t, y: -2.0 * t * y * y, np.asarray(1.0), [0.0, 1.0], method=page["NYSTROM3"], steps=steps)
        return abs(float(ys.ys[-1]) - 0.5)

    assert math.log2(error(64) / error(128)) == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("preset", RECOVERIES)
def test_a_new_method_has_every_adjoint(page: dict[str, Any], preset: str) -> None:
    method = page["NYSTROM3"]
    solution, pullback = jo.solve_vjp(FIELD, Y0, TS, params(), method=method, steps=3, adjoint=preset)
    assert_close(solution.ys, outputs(X, method))
    assert_close(packed(pullback(YS_BAR)), gradient(X, YS_BAR, method))


def test_a_new_method_in_the_table_is_found_by_its_name(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLEAUS, "nystrom3", page["NYSTROM3"])
    solution = jo.solve(value, Y0, TS, params(), method="nystrom3", steps=3)
    assert_close(solution.ys, outputs(X, page["NYSTROM3"]))


# A recovery.


@pytest.mark.parametrize("method", ["euler", "dopri5", "dopri8"])
def test_a_new_recovery_gives_the_gradient(page: dict[str, Any], method: str, tmp_path: Path) -> None:
    stored = page["Stored"](tmp_path / "records")
    _, pullback = jo.solve_vjp(FIELD, Y0, TS, params(), method=method, steps=3, adjoint=stored)
    assert stored.path.stat().st_size > 0
    assert_close(packed(pullback(YS_BAR)), gradient(X, YS_BAR, TABLEAUS[method]))


def test_a_new_recovery_in_the_table_is_found_by_its_name(
    page: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(RECOVERIES, "stored", page["Stored"](tmp_path / "records"))
    _, pullback = jo.solve_vjp(FIELD, Y0, TS, params(), method="rk4", steps=3, adjoint="stored")
    assert_close(packed(pullback(YS_BAR)), gradient(X, YS_BAR, TABLEAUS["rk4"]))


# An array library.


@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5", "dopri8"])
def test_a_new_library_solves_and_differentiates(page: dict[str, Any], method: str) -> None:
    direction = np.array([0.7, -0.3])
    duals = page["duals"]

    def field(t: Any, y: Any) -> Any:
        return duals.cos(y) * t + 0.5 * y * y

    def reference(t: Any, y: Any, _: Any) -> Any:
        return np.cos(y) * t + 0.5 * y * y

    ys, ys_dot = page["solve_jvp"](field, Y0, direction, TS, method=method, steps=3)
    stepped = textbook(TABLEAUS[method], reference, Y0 + 1e-30j * direction, TS, None, (3, 3))
    assert_close(ys, stepped.real)
    assert_close(ys_dot, stepped.imag / 1e-30)


def test_a_new_library_is_served_by_its_backend(page: dict[str, Any]) -> None:
    assert type(array_backend(page["duals"])) is page["DualBackend"]


def test_the_backend_of_a_new_library_has_its_say(page: dict[str, Any]) -> None:
    with pytest.raises(jo.NonFiniteState) as caught, np.errstate(all="ignore"):
        page["solve_jvp"](lambda t, y: 1e200 * y, np.zeros(1), np.ones(1), [0.0, 1.0, 2.0], method="euler", steps=2)
    np.testing.assert_array_equal(caught.value.last_good.value, [0.0])
