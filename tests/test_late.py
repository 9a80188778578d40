"""Names that a frontend imports when they are first used."""

import importlib
import subprocess
import sys

import pytest

FRONTENDS = ["janode.numpy", "janode.cupy", "janode.array"]
LATE = [
    *("janode.validity", "janode.numpy_ivp", "janode.manual_pullback"),
    *(
        f"janode.core.{name}"
        for name in ("adaptive", "adjoint", "auto", "backsolve", "continuous", "diagnosis", "disk")
    ),
    *(f"janode.core.{name}" for name in ("events", "multistep", "reversible", "revolve", "stencils", "verdict")),
]


@pytest.mark.parametrize("name", FRONTENDS)
def test_every_name_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert [entry for entry in module.__all__ if not hasattr(module, entry)] == []
    assert dir(module) == sorted(module.__all__)


@pytest.mark.parametrize("name", FRONTENDS)
def test_another_name_is_an_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        importlib.import_module(name).nothing  # noqa: B018


@pytest.mark.parametrize("name", FRONTENDS)
def test_what_a_solve_does_not_need_is_not_loaded(name: str) -> None:
    code = f"import sys, {name}; print([late for late in {LATE} if late in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
