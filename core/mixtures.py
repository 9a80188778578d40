"""The best division of a solve into checkpoints, kept stages and kept graphs for a given memory.

Of N steps the first n_0 are brought back from their states or, if these are too many, from c of them; the next n_s
from the inputs of their stages, the last n_g from their graphs. With e_0, e_s, e_g field evaluations a step, s of them
in the step itself, and A(n_0, c) steps taken again, the cost is

    n_0 e_0 + A(n_0, c) s + n_s e_s + n_g e_g,

and the memory what the kinds of records take for a step, and at most one step's transient. Checkpoints beyond states
need no part of their own: c >= n_0 - 1 of them are all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .dry import Demand
from .mixed import Mixed
from .protocols import Record, Recovery
from .records import WholeSteps
from .recovery import Kept
from .revolve import Revolve

EXACT = 32
"""Of so many steps every division is looked at; of more, those into multiples of a 32nd, and the longest ends."""


@dataclass(frozen=True)
class Kind:
    """A kind of record: its cost and bytes a step, and the bytes that do not grow with the steps."""

    record: Record
    num_field_evals: int
    num_vjps: int
    per_step: int
    transient: int
    is_freed: bool = False
    """Whether the record of a step is gone when the step was pulled, and not at the end alone."""


def taken_again(num_steps: int, checkpoints: int) -> int:
    """A(N, c), the steps that a binomial schedule takes again (Griewank, Walther 2000, doi 10.1145/347837.347846)."""
    n, c = num_steps, checkpoints
    if n <= c + 1:
        return 0
    r = next(r for r in range(1, n) if math.comb(c + r, r) >= n)
    return r * n - math.comb(c + r, r - 1) - (n - 1)


def held(num_steps: int, checkpoints: int, overwrites: bool = False) -> int:
    """How many carries a solve and its backward pass with checkpoints hold at most.

    ``overwrites``: whether new checkpoints take the memory of old ones, which otherwise stay for another pass.
    """
    n, c = num_steps, checkpoints
    if n <= c + 1:
        return n
    return c + 2 if overwrites else max(c + 2, min(2 * c + 1, n - c + 1))


def most_checkpoints(num_steps: int, room: int, overwrites: bool = False) -> int:
    """The most checkpoints that hold no more carries than there is room for; 0 if none do."""
    if num_steps <= room:
        return num_steps
    if overwrites or 2 * room >= num_steps + 3:
        return max(0, room - 2)
    return max(0, (room - 1) // 2)


@dataclass(frozen=True)
class Mixture:
    """A division of N steps."""

    first: Kind
    stages: Kind | None
    graphs: Kind | None
    num_first: int
    checkpoints: int
    num_stages: int = 0
    num_graphs: int = 0
    overwrites: bool = False

    @property
    def demand(self) -> Demand:
        """What a gradient takes."""
        parts = [(self.first, self.num_first), (self.stages, self.num_stages), (self.graphs, self.num_graphs)]
        used = [(kind, count) for kind, count in parts if kind is not None and count]
        peak = kept = 0
        for kind, count in used:
            carries = held(count, self.checkpoints, self.overwrites) if kind is self.first else count
            grown = kept + kind.per_step * carries
            # The first parts are pulled when the last ones are gone, or not.
            peak = max(peak if kind.is_freed else peak + grown - kept, grown + kind.transient)
            kept = grown
        again = taken_again(self.num_first, self.checkpoints) if self.num_first else 0
        evals = again * self.first.num_vjps + sum(kind.num_field_evals * count for kind, count in used)
        return Demand(peak, evals, sum(kind.num_vjps * count for kind, count in used))

    @property
    def recovery(self) -> Recovery:
        """Who brings the steps back."""
        parts: list[tuple[int, Kept | Revolve]] = [(self.num_first, self._first)]
        for kind, count in ((self.stages, self.num_stages), (self.graphs, self.num_graphs)):
            if kind is not None:
                parts.append((count, Kept(kind.record)))
        used = tuple(part for part in parts if part[0])
        return used[0][1] if len(used) == 1 else Mixed(used)

    @property
    def _first(self) -> Kept | Revolve:
        if self.num_first <= self.checkpoints + 1:
            return Kept(self.first.record)
        return Revolve(self.checkpoints, record=self.first.record)

    def __str__(self) -> str:
        parts = []
        if self.num_first:
            plural = "" if self.checkpoints == 1 else "s"
            kept = "states" if isinstance(self._first, Kept) else f"{self.checkpoints} checkpoint{plural}"
            way = "" if isinstance(self.first.record, WholeSteps) else ", a stage at a time"
            parts.append(f"{kept} for {self.num_first} steps{way}")
        parts += [f"stages for {self.num_stages}"] * bool(self.num_stages)
        parts += [f"graphs for {self.num_graphs}"] * bool(self.num_graphs)
        return "; ".join(parts)


def best_mixture(
    num_steps: int,
    budget: int,
    first: Kind,
    stages: Kind | None = None,
    graphs: Kind | None = None,
    overwrites: bool = False,
) -> Mixture | None:
    """The mixture with the fewest field evaluations within a budget of bytes, or None.

    Args:
        first: what the first part's steps are brought back from: states, one at a time or a whole step at once.
        stages, graphs: those of the other parts, or None to do without.
        overwrites: as for ``held``.
    """
    fitting = [
        mixture
        for mixture in _mixtures(num_steps, budget, first, stages, graphs, overwrites)
        if mixture.demand.peak <= budget
    ]
    return min(fitting, key=lambda mixture: (mixture.demand.num_field_evals, mixture.demand.peak), default=None)


def _mixtures(
    num_steps: int, budget: int, first: Kind, stages: Kind | None, graphs: Kind | None, overwrites: bool
) -> Iterator[Mixture]:
    for num_graphs in _counts(num_steps, budget, graphs):
        after = graphs.per_step * num_graphs if graphs else 0
        graphs_stay = num_graphs and graphs is not None and not graphs.is_freed
        for num_stages in _counts(num_steps - num_graphs, budget - (after if graphs_stay else 0), stages):
            between = stages.per_step * num_stages if stages else 0
            rooms = [budget - between - first.transient - (after if graphs_stay else 0)]
            if stages and num_stages:
                rooms.append(budget - between - stages.transient - (after if graphs_stay else 0))
            if graphs and num_graphs:
                rooms.append(budget - between - after - graphs.transient)
            spare = min(rooms)
            count = num_steps - num_graphs - num_stages
            checkpoints = most_checkpoints(count, spare // max(1, first.per_step), overwrites)
            if checkpoints or not count:
                yield Mixture(first, stages, graphs, count, checkpoints, num_stages, num_graphs, overwrites)


def _counts(num_steps: int, budget: int, kind: Kind | None) -> list[int]:
    """The numbers of steps that may be of one kind."""
    if kind is None:
        return [0]
    most = min(num_steps, max(0, budget - kind.transient) // max(1, kind.per_step))
    step = max(1, num_steps // EXACT)
    return sorted({*range(0, most + 1, step), most})
