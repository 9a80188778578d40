"""The page of what composes with what: it is that of its evidence, nothing in it is wrong, and some cells live."""

import json
from pathlib import Path
from typing import Any

import pytest

from janode.conformance import composition
from janode.conformance.composition import ADJOINTS, COLUMNS, LIBRARIES, NONE, REFUSED, WRONG, YES, Entry, outcome

RECORD = json.loads(composition.EVIDENCE.read_text())
ENTRIES = [Entry(**entry) for entry in RECORD["entries"]]
OUTCOMES = {(entry.library, entry.adjoint, entry.column): entry for entry in ENTRIES}
PAGE = Path(__file__).parents[1] / "docs" / "composition.md"
EXACT = [name for name in ADJOINTS if name not in ("reconstruct", "backsolve")]


def test_the_page_is_that_of_the_evidence() -> None:
    assert PAGE.read_text() == composition.page(RECORD)


def test_every_cell_is_known_and_none_is_wrong() -> None:
    expected = {
        (library, adjoint, column)
        for library, (_, names) in LIBRARIES.items()
        for adjoint in names
        for column in COLUMNS
    }
    assert set(OUTCOMES) == expected
    assert {entry.outcome for entry in ENTRIES} == {YES, REFUSED, NONE}
    assert all(bool(entry.text) == (entry.outcome == REFUSED) for entry in ENTRIES)


@pytest.mark.parametrize("adjoint", EXACT)
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_every_exact_adjoint_has_second_derivatives(library: str, adjoint: str) -> None:
    assert OUTCOMES[library, adjoint, "hessian"].outcome == YES


LIVE = [
    ("numpy", "symplectic", "jvp"),
    ("numpy", "aca", "events"),
    ("numpy", "backsolve", "complex"),
    ("numpy", "reversible", "adaptive"),
    ("numpy", "revolve", "vmap"),
    ("torch", "stages", "hessian"),
    ("torch", "revolve", "hessian, adaptive"),
    ("torch", "symplectic", "per sample"),
    ("torch", "aca", "vmap"),
    ("torch", "reconstruct", "grad of grad"),
    ("torch", "backprop", "events twice"),
    ("jax", "symplectic", "jit"),
    ("jax", "reconstruct", "hessian"),
    ("jax", "symplectic", "grad of grad"),
    ("jax", "symplectic", "events twice"),
]


@pytest.mark.parametrize("cell", LIVE, ids="/".join)
def test_a_cell_is_what_the_evidence_says(cell: tuple[str, str, str]) -> None:
    assert outcome(*cell).outcome == OUTCOMES[cell].outcome


@pytest.mark.parametrize(
    ("compute", "text"), [(lambda: 0.5, "got"), (lambda: 1 / 0, "ZeroDivisionError"), (lambda: float("nan"), "got")]
)
def test_what_is_wrong_is_called_wrong(compute: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES, "numpy", (lambda adjoint: {"jvp": (compute, 1.0)}, ADJOINTS))
    found = outcome("numpy", "symplectic", "jvp")
    assert found.outcome == WRONG
    assert text in found.text
