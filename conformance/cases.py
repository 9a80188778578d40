"""Which cases there are, and which of them a run takes.

A case is ``problem/method/preset``. The levels cover more and more of the product:

- smoke: every problem with dopri5 and symplectic; every preset with rk4 on the affine problem.
- standard: every method with symplectic on the affine and the Lotka-Volterra problem; every preset with rk4 and dopri5
  on every problem.
- full: the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from janode.core.adjoint import RECOVERIES
from janode.core.errors import unknown_name
from janode.core.tableaus import TABLEAUS

from .problems import PROBLEMS

LEVELS = ("smoke", "standard", "full")
PRESETS = tuple(RECOVERIES)
CHECKS = ("exact", "textbook")
"""What the reference itself is held against, in the place of presets."""


class Case(NamedTuple):
    """One case of the suite for any target; its id is its parts, joined by slashes."""

    problem: str
    method: str
    preset: str

    @property
    def id(self) -> str:
        """``problem/method/preset``."""
        return "/".join(self)


class Selection(NamedTuple):
    """The problems, methods and presets that a user asks for; an empty tuple stands for all."""

    problems: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse names that there are not."""
        legal = {"problem": list(PROBLEMS), "method": list(TABLEAUS), "preset": list(PRESETS)}
        for (argument, names), given in zip(legal.items(), self, strict=True):
            for name in given:
                if name not in names:
                    raise unknown_name("conformance", argument, name, names)

    def holds(self, case: Case) -> bool:
        """Whether a case is asked for."""
        return all(not names or part in names for part, names in zip(case, self, strict=True))


def _is_in(level: str, case: Case) -> bool:
    is_core = case.preset == "symplectic"
    if level == "smoke":
        return (is_core and case.method == "dopri5") or (case.problem == "affine" and case.method == "rk4")
    if level == "standard":
        is_covering = is_core and case.problem in ("affine", "lotka_volterra")
        return is_covering or case.method in ("rk4", "dopri5")
    return True


def all_cases() -> list[Case]:
    """The product of problems, methods and presets, backprop before the presets that are compared with it."""
    return [Case(*parts) for parts in product(PROBLEMS, TABLEAUS, PRESETS)]


def select(level: str, selection: Selection) -> list[Case]:
    """The cases of a level that are asked for."""
    return [case for case in all_cases() if selection.holds(case) and _is_in(level, case)]


def demoted(level: str, levels: int) -> str:
    """The level that many below, or the lowest."""
    return LEVELS[max(0, LEVELS.index(level) - levels)]


def reference_cases(cases: Sequence[Case]) -> list[Case]:
    """The checks of the reference values that these cases are compared with."""
    pairs = dict.fromkeys((case.problem, case.method) for case in cases)
    return [Case(*pair, check) for pair in pairs for check in CHECKS]
