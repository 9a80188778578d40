"""Which cases there are, and which of them a run takes.

A case is ``problem/method/preset``, or ``problem/method/preset/aspect``. Without an aspect the solution and all exact
gradients are compared; an aspect is a correction of the gradients of controls, or an invariant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import product
from typing import NamedTuple

from janode.core.errors import unknown_name
from janode.core.tableaus import TABLEAUS

from .offers import CORRECTIONS, METHODS, is_approximate, is_stepped_back, presets, refusal
from .problems import PROBLEMS

LEVELS = ("smoke", "standard", "full")
_LEAST = "least"
"""The level below smoke: of variants of a target that takes smoke."""
INVARIANTS: dict[str, tuple[tuple[str, str], ...]] = {
    "dot_product": (
        ("affine", "dopri5"),
        ("affine", "ab3"),
        ("rotation", "rk4"),
        ("steered", "leapfrog"),
        ("lotka_volterra", "alf"),
    ),
    "linearity": (("lotka_volterra", "dopri5"), ("affine", "leapfrog"), ("network", "rk4")),
    "splitting": (("affine", "dopri5"), ("lotka_volterra", "rk4")),
    "time_reversal": (("affine", "dopri5"), ("affine", "leapfrog"), ("lotka_volterra", "reversible_heun")),
    "batch_mates": (("network", "dopri5"), ("stack", "euler")),
    "precision": (("network", "dopri5"),),
    "host_reads": (("affine", "dopri5"), ("affine", "leapfrog")),
}
"""What must hold whatever the numbers are: for which problems and methods each is tried, the first at level smoke."""

_BACK = 16.0
"""By how much more rounding errors may grow where the states are computed backwards from the last one."""
_DIVIDED = 8.0
"""By how much more they may grow in a division by a method's smallest weight."""
_THOROUGH = ("rk4", "dopri5")
"""Methods that meet every preset on every problem at level standard."""
_VARIED = ("euler", "heun2", "leapfrog", "ab3", "alf", "reversible_heun", "reversible(tsit5)")
"""Methods that meet every preset on the problems of _COVERING at level standard, one for each way to step."""
_COVERING = ("affine", "lotka_volterra", "steered", "adaptive", "thrown")
"""Problems that meet every method at level standard."""
_SMOKE = {
    ("affine", "leapfrog", "symplectic", ""),
    ("affine", "ab3", "symplectic", ""),
    ("affine", "reversible(tsit5)", "reversible", ""),
    ("affine", "euler", "reconstruct", ""),
    ("clipped", "dopri5", "backprop", ""),
    ("steered", "leapfrog", "symplectic", "filter"),
    ("steered", "rk4", "symplectic", "consistent"),
}


class Case(NamedTuple):
    """One case of the suite for any target; its id is its parts, joined by slashes."""

    problem: str
    method: str
    preset: str
    aspect: str = ""

    @property
    def id(self) -> str:
        """``problem/method/preset`` or ``problem/method/preset/aspect``."""
        return "/".join(part for part in self if part)

    @property
    def pair(self) -> tuple[str, str]:
        """The problem and the method, which settle the solution."""
        return self[:2]

    @property
    def condition(self) -> float:
        """By how much rounding errors may grow: the problem's, and what stepping back or small weights add."""
        grown = _BACK if is_stepped_back(self.preset) else _DIVIDED if self.aspect == "divide" else 1.0
        return PROBLEMS[self.problem].condition * grown

    @property
    def correction(self) -> str:
        """The correction of the gradients of controls, or "none"."""
        return self.aspect if self.aspect in CORRECTIONS else "none"

    @property
    def refusal(self) -> str:
        """Why janode does not offer this, or ""."""
        problem = PROBLEMS[self.problem]
        sampling = "" if problem.controls is None else problem.sampling
        correction = self.aspect if self.aspect in CORRECTIONS else ""
        reads_inside = problem.event is not None or problem.place is not None
        return refusal(self.method, self.preset, correction, sampling, problem.tolerances is not None, reads_inside)


class Selection(NamedTuple):
    """What a user asks for: problems, methods, presets and patterns of ids; an empty tuple stands for all."""

    problems: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The options that ask for it."""
        names = ("problem", "method", "preset", "select")
        return " ".join(f"--{name} '{part}'" for name, parts in zip(names, self, strict=True) for part in parts)

    def check(self) -> None:
        """Refuse names that there are not."""
        legal = {"problem": list(PROBLEMS), "method": list(METHODS), "preset": list(presets())}
        for (argument, names), given in zip(legal.items(), self[:3], strict=True):
            for name in given:
                if name not in names:
                    raise unknown_name("conformance", argument, name, names)

    def holds(self, case: Case, target: str = "") -> bool:
        """Whether a case is asked for; patterns match it with its target before it, or alone."""
        names = (case.id, f"{target}/{case.id}")
        is_named = not self.patterns or any(fnmatchcase(name, p) for p in self.patterns for name in names)
        return is_named and all(not names or part in names for part, names in zip(case[:3], self[:3], strict=True))


def _is_in(level: str, case: Case) -> bool:
    problem, method, preset, aspect = case
    if level == "full":
        return True
    if aspect in INVARIANTS:
        is_first = case.pair == INVARIANTS[aspect][0]
        return preset == "symplectic" and (level == "standard" or (level == "smoke" and is_first))
    if level == "standard":
        if preset != "symplectic" and aspect:
            return False
        is_covering = problem in _COVERING and (preset == "symplectic" or method in _VARIED)
        return is_covering or method in _THOROUGH or (problem == "stack" and method == "euler")
    if aspect:
        return level == "smoke" and case in _SMOKE
    if level == "smoke":
        is_core = preset == "symplectic" and method == "dopri5"
        return is_core or (problem == "affine" and method == "rk4") or case in _SMOKE
    return preset == "symplectic" and (problem, method) in {("affine", "rk4"), ("steered", "leapfrog")}


def all_cases() -> Iterator[Case]:
    """All cases, offered or not, backprop before the presets that are compared with it."""
    for pair in product(PROBLEMS, METHODS):
        invariants = [name for name, pairs in INVARIANTS.items() if pair in pairs]
        problem = PROBLEMS[pair[0]]
        corrections = CORRECTIONS if problem.is_sampled and problem.sampling == "nodes" else ()
        for preset in presets():
            # Where a framework differentiates the solver itself there is nothing to correct.
            aspects = ("", *(corrections if preset != "backprop" else ()), *invariants)
            if problem.steps_back or not is_stepped_back(preset):
                yield from (Case(*pair, preset, aspect) for aspect in aspects)


def select(level: str, selection: Selection, target: str = "") -> list[Case]:
    """The cases of a level that are asked for and offered."""
    return [case for case in all_cases() if _is_in(level, case) and selection.holds(case, target) and not case.refusal]


def demoted(level: str, levels: int) -> str:
    """The level that many below, or the lowest."""
    names = (_LEAST, *LEVELS)
    return names[max(0, names.index(level) - levels)]


def reference_cases(cases: Sequence[Case]) -> list[Case]:
    """The checks of the reference values that these cases are compared with."""
    found: dict[Case, None] = {}
    for case in cases:
        problem = PROBLEMS[case.problem]
        if case.aspect in CORRECTIONS and case.aspect != "divide":
            found[Case(*case.pair, "order", case.aspect)] = None
        elif not case.aspect:
            exact = "exact" if problem.tolerances is None else "tolerance"
            checks = ("textbook",) if problem.solution is None else (exact, "textbook")
            found |= {Case(*case.pair, check): None for check in checks}
            has_order = case.method in TABLEAUS and problem.tolerances is None
            if is_approximate(case.method, case.preset) and has_order:
                found[Case(*case.pair, "order", case.preset)] = None
    return sorted(found, key=lambda case: list(PROBLEMS).index(case.problem))
