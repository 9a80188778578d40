"""Whether the gradient of controls oscillates from node to node, and what a correction does about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from . import arguments
from .corrections import oscillation, sawtooth_ends, sawtooth_growth, trapezoid_weights
from .errors import InputError
from .methods import find_method
from .multistep import Leapfrog
from .protocols import Array, Method, State
from .stencils import Stencil, apply_stencil, widened
from .tableaus import Tableau

Tree = TypeVar("Tree")

SMOOTH = 0.1
"""An oscillation below this is that of a smooth function, a difference below it that of two good gradients."""
STRONG_GROWTH = 10.0
"""A parasite that grows more than this over the interval is worth a word."""


@dataclass(frozen=True)
class Diagnosis(Generic[Tree]):
    """What ``diagnose_controls`` found.

    Gradients are functions of time here, g_k = gradient_k / w_k with w_k the trapezoid weights of the times, in the
    unit of the loss per unit of control and time; numbers are dimensionless.

    Attributes:
        times: the times of the controls.
        raw: g of the exact gradient, with the structure of the controls.
        corrected: g of the corrected gradient.
        raw_oscillation: ||g - local mean|| / ||g|| of the raw g: 1 for a sawtooth, 0 for a straight line. Not across
            times at which the loss may read the states, for there g jumps.
        corrected_oscillation: the same of the corrected g.
        difference: ||raw - corrected|| / ||corrected||.
        growth: for leapfrog the factor by which its sawtooth grows from the end to the start, estimated from the raw g;
            None for other methods, and where there is no sawtooth.
        verdict: what follows, in words.
    """

    times: list[float]
    raw: Tree
    corrected: Tree
    raw_oscillation: float
    corrected_oscillation: float
    difference: float
    growth: float | None
    verdict: str


def diagnose(
    xp: Any,
    build: Callable[[State], Any],
    method: str | Tableau | Method,
    ts: Sequence[float] | Array,
    times: list[float],
    gradients: tuple[State, State],
    correction: str,
) -> Diagnosis[Any]:
    """The diagnosis of the leaves of the exact and of the corrected gradient; ``build`` makes pytrees of them."""
    if not gradients[0]:
        raise InputError(
            "diagnose_controls: gradient must return at least one array; got none. Return that of the controls."
        )
    for leaf in gradients[0] + gradients[1]:
        if not leaf.shape or leaf.shape[0] != len(times):
            raise InputError(
                f"diagnose_controls: gradient must return arrays with a leading axis of {len(times)} nodes; got shape "
                f"{tuple(leaf.shape)}. Return the gradient of the controls of a solve with this method and these steps."
            )
    per_weight = tuple((1.0 / weight,) for weight in trapezoid_weights(times))
    density = Stencil(tuple((k,) for k in range(len(times))), per_weight)
    wide = (tuple(widened(xp, leaf) for leaf in leaves) for leaves in gradients)
    raw, corrected = (apply_stencil(xp, density, leaves) for leaves in wide)
    pieces = _between(arguments.read_times("diagnose_controls", ts), times)
    raw_oscillation, corrected_oscillation = (
        float(oscillation(xp, tuple(leaf[rows, ...] for leaf in leaves for rows in pieces)))
        for leaves in (raw, corrected)
    )
    apart = tuple(left - right for left, right in zip(raw, corrected, strict=True))
    difference = _norm(xp, apart) / max(_norm(xp, corrected), 1e-300)
    growth = None
    if isinstance(find_method(method), Leapfrog) and raw_oscillation >= SMOOTH:
        longest = max(pieces, key=lambda rows: rows.stop - rows.start)
        ends = sawtooth_ends(xp, tuple(leaf[longest, ...] for leaf in raw))
        growth = sawtooth_growth([(float(first), float(last)) for first, last in ends])
    verdict = _verdict(raw_oscillation, corrected_oscillation, difference, growth, correction)
    return Diagnosis(
        times, build(raw), build(corrected), raw_oscillation, corrected_oscillation, difference, growth, verdict
    )


def _between(ts: Sequence[float], times: Sequence[float]) -> list[slice]:
    """The nodes between neighbouring ts, where g may jump, and at both ends; all of them if these are too few."""
    jumps = [min(range(len(times)), key=lambda k, t=t: abs(times[k] - t)) for t in ts[1:-1]]  # type: ignore[misc]
    edges = zip([-1, *jumps], [*jumps, len(times)], strict=True)
    pieces = [slice(start + 1, stop) for start, stop in edges if stop - start > 3]
    return pieces or [slice(0, len(times))]


def _norm(xp: Any, leaves: Sequence[Array]) -> float:
    return sum(float(xp.sum(xp.abs(leaf) ** 2)) for leaf in leaves) ** 0.5


def _verdict(raw: float, corrected: float, difference: float, growth: float | None, correction: str) -> str:
    found = f"oscillation {raw:.2g} of the exact gradient, {corrected:.2g} of the corrected one"
    if corrected >= SMOOTH:
        verdict = (
            f"Even the corrected gradient is not smooth ({found}): the steps do not resolve it, or the controls "
            "themselves are not smooth. Take more steps, and start from smooth controls."
        )
    elif raw >= SMOOTH:
        verdict = (
            f"The exact gradient oscillates from node to node and the corrected one does not ({found}): "
            f'use correction="{correction}".'
        )
    elif difference >= SMOOTH:
        verdict = (
            f"Neither gradient oscillates ({found}), but they differ by {difference:.2g} of their size: "
            f'use correction="{correction}", or more steps.'
        )
    else:
        verdict = f"The exact gradient is smooth ({found}): no correction is needed."
    if growth is not None and growth > STRONG_GROWTH:
        verdict += (
            f" The sawtooth of leapfrog grows {growth:.2g}-fold from the end to the start, and the error of every "
            "correction with it: the problem is dissipative. Compare with a Runge-Kutta method."
        )
    return verdict
