"""Which exact gradient fits a memory budget: every one is rehearsed on sizes, and the fastest that fits is taken."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from .adjoint import RECOVERIES, STEPPED_BACK
from .auto import Auto, Explained
from .dry import Demand, Footprint, Sizes, rehearse
from .errors import InputError
from .grids import FixedGrid
from .mixed import Mixed
from .mixtures import Kind, Mixture, best_mixture
from .protocols import Method, Record, Recovery
from .records import Carries, Graphs, StageInputs, WholeSteps
from .recovery import Kept
from .revolve import Revolve
from .solution import Stats
from .stepped_back import SteppedBack
from .sweep import Sweep

_REHEARSED = 512
"""More steps are extrapolated: a rehearsal takes about 0.1 ms a step."""
_MOST_STATES = 1_000_000
_MOST_KNOWN = 128
_offsets: dict[Hashable, int] = {}
_known: dict[Hashable, tuple[Method, Plan]] = {}
"""The last plans, each with its method, so that no other gets its id."""


class Option(NamedTuple):
    """One exact gradient and what it takes."""

    name: str
    recovery: Recovery | None
    """None where the framework differentiates the solver's own operations."""
    demand: Demand
    is_bound: bool = False
    """Whether the number of steps is unknown: the peak is then the most it may be, the counts are those of a step."""


@dataclass(frozen=True)
class Plan:
    """How a gradient will be taken, and why; printed, it is a table of all that could be.

    Attributes:
        adjoint: the choice: a preset's name, with its options.
        memory_budget: bytes.
        predicted_peak: the most bytes alive at once, beyond the arguments of the solve; with adaptive steps and c
            states a bound that holds for up to c^2 / 2 steps.
        predicted_field_evals, predicted_vjps: of the solve and its gradient together; with adaptive steps, whose
            number is not known before, of one step.
        options: all that were looked at, the fewest evaluations first.
    """

    adjoint: str
    memory_budget: int
    predicted_peak: int
    predicted_field_evals: int
    predicted_vjps: int
    options: tuple[Option, ...]
    stats: Stats | None = field(default=None, compare=False, repr=False)

    @property
    def num_field_evals(self) -> int | None:
        """The field evaluations counted so far: after the backward pass, all. None where nobody counts, on JAX."""
        return None if self.stats is None else self.stats.num_field_evals

    @property
    def num_vjps(self) -> int | None:
        """The VJPs counted so far; the framework's own are not."""
        return None if self.stats is None else self.stats.num_vjps

    @property
    def recovery(self) -> Recovery | None:
        """What the choice is made of; None where the framework differentiates."""
        return self.chosen.recovery

    @cached_property
    def chosen(self) -> Option:
        """The choice."""
        return next(option for option in self.options if option.name == self.adjoint)

    def __str__(self) -> str:
        head = ("", "adjoint", "peak memory", "field evaluations", "VJPs")
        rows = [
            (
                "->"
                if option.name == self.adjoint
                else ""
                if option.demand.peak <= self.memory_budget
                else "too large",
                option.name,
                f"{'<= ' if option.is_bound else ''}{_readable(option.demand.peak)}",
                f"{option.demand.num_field_evals}{' a step' if option.is_bound else ''}",
                f"{option.demand.num_vjps}{' a step' if option.is_bound else ''}",
            )
            for option in self.options
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
        return "\n".join([f"memory budget {_readable(self.memory_budget)}", *(line.rstrip() for line in lines)])


class Planned(Exception):
    """Ends a solve that was to be planned only."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.plan = plan


def _evaluations(option: Option) -> int:
    return option.demand.num_field_evals


def _rounded(budget: int) -> int:
    """A share of the free memory, which changes all the time, down to four significant bits."""
    bits = max(0, budget.bit_length() - 4)
    return budget >> bits << bits


def _readable(size: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.3g} TB"


class Offers(NamedTuple):
    """What a library has."""

    framework: bool = False
    """Whether the framework may differentiate the solver's operations."""
    graphs: bool = False
    """Whether the field's linearizations can be kept."""
    whole_steps: bool = True
    """Whether to linearize a step at once saves evaluations; compilers do without being told."""
    overwrites: bool = False
    """Whether the backward pass puts new checkpoints into the memory of the old ones."""


@dataclass(frozen=True)
class Planner:
    """A problem to find gradients for: a sweep with the sizes of its leaves and what its field takes."""

    sweep: Sweep
    footprint: Footprint
    sizes: Sizes
    offers: Offers
    measure: Callable[[Recovery, tuple[int, ...]], int] | None = None
    """The peak of a short solve as the compiler makes it, where that differs from a rehearsal."""

    @property
    def key(self) -> Hashable:
        """All that a plan depends on, but for the budget."""
        sweep = self.sweep
        controls = None if sweep.controls is None else sweep.controls.layout.sampling
        grid = sweep.grid.counts if isinstance(sweep.grid, FixedGrid) else self._states_asked_for
        field = sweep.field.needs_time, self.offers, self.measure is None
        method = type(sweep.method), sweep.method.name, id(getattr(sweep.method, "tableau", None))
        return *method, grid, controls, self.footprint, self.sizes, field

    def plan(self, auto: Auto, free: int | None, stats: Stats | None) -> Plan:
        """The fastest option within the budget.

        Raises:
            InputError: if there is none; the least that there is is named.
            Planned: if it is only to be explained.
        """
        budget = auto.bytes(free)
        if auto.memory_budget is None or not isinstance(auto.memory_budget, numbers.Integral):
            budget = _rounded(budget)
        # What cannot be the fastest is looked at for an explanation alone.
        is_full = isinstance(auto, Explained)
        key = self.key, budget, is_full, auto.memory_budget is None
        if (known := _known.get(key)) is None:
            while len(_known) >= _MOST_KNOWN:
                del _known[next(iter(_known))]
            known = _known[key] = self.sweep.method, self._made(budget, is_full, auto.memory_budget is not None)
        plan = replace(known[1], stats=stats)
        if isinstance(auto, Explained):
            raise Planned(plan)
        return plan

    def _made(self, budget: int, is_full: bool, is_asked_for: bool) -> Plan:
        """The plan; a budget that nobody asked for is exceeded rather than refused."""
        options = self._pure(budget)
        fewest = min(options, key=_evaluations)
        if isinstance(self.sweep.grid, FixedGrid) and (is_full or fewest.demand.peak > budget):
            options += self._mixtures(budget)
        options.sort(key=_evaluations)
        fitting = [option for option in options if option.demand.peak <= budget]
        if not fitting:
            least = min(options, key=lambda option: option.demand.peak)
            if not is_asked_for:
                return Plan(least.name, budget, *least.demand, tuple(options))
            raise InputError(
                f"solve: memory_budget must be at least {least.demand.peak} bytes, which adjoint {least.name} takes; "
                f"got {budget}. Give more, or solve for fewer samples at once."
            )
        best = fitting[0]
        return Plan(best.name, budget, *best.demand, tuple(options))

    def _pure(self, budget: int) -> list[Option]:
        """The exact presets that the method can have."""
        if not isinstance(self.sweep.grid, FixedGrid):
            return self._adaptive(budget)
        found = []
        if self.offers.framework:
            found.append(Option('"backprop"', None, self._rehearsed(Kept(Graphs()), self.footprint)))
        elif self.offers.graphs:
            found.append(self._option('"backprop"', Kept(Graphs())))
        found += [self._option(f'"{name}"', RECOVERIES[name]) for name in self._presets]
        for name, recovery in STEPPED_BACK.items():
            if recovery.inverses == ("exact",) and recovery.fits(self.sweep.method) and self._goes_back(recovery):
                found.append(self._option(f'"{name}"', recovery))
        return found

    def _goes_back(self, recovery: SteppedBack) -> bool:
        try:
            recovery.check(self.sweep)
        except InputError:
            return False
        return True

    @property
    def _presets(self) -> tuple[str, ...]:
        return ("aca", "stages", "symplectic") if self.offers.whole_steps else ("stages", "symplectic")

    @property
    def _records(self) -> tuple[Record, ...]:
        return (Carries(), WholeSteps()) if self.offers.whole_steps else (Carries(),)

    def _option(self, name: str, recovery: Recovery) -> Option:
        demand = self._rehearsed(recovery, self.footprint._replace(holds_value=True))
        return Option(name, recovery, demand._replace(peak=demand.peak + self._offset(recovery)))

    def _offset(self, recovery: Recovery) -> int:
        """By how much a compiled solve takes more than rehearsed, or less: the same for any number of steps."""
        if self.measure is None or not isinstance(self.sweep.grid, FixedGrid):
            return 0
        if (known := _offsets.get((self.key, recovery))) is None:
            counts, footprint = self._short(8), self.footprint._replace(holds_value=True)
            rehearsed = rehearse(self.sweep, recovery, footprint, self.sizes, counts)
            known = _offsets[self.key, recovery] = self.measure(recovery, counts) - rehearsed.peak
        return known

    def _short(self, num_steps: int) -> tuple[int, ...]:
        """The steps of a short solve with as many times."""
        return (num_steps, *(1,) * (len(getattr(self.sweep.grid, "counts", (1,))) - 1))

    def _rehearsed(self, recovery: Recovery, footprint: Footprint) -> Demand:
        """What a gradient takes; of long solves, to which all but checkpoints are linear, from two shorter ones."""
        counts, num_steps = self.sweep.grid.counts, self.sweep.num_steps
        if num_steps <= _REHEARSED or len(counts) > _REHEARSED // 4:
            return rehearse(self.sweep, recovery, footprint, self.sizes, counts)
        parts = [tuple(math.ceil(n * _REHEARSED / num_steps / k) for n in counts) for k in (2, 1)]
        short, long = (rehearse(self.sweep, recovery, footprint, self.sizes, part) for part in parts)
        steps, more = sum(parts[1]) - sum(parts[0]), num_steps - sum(parts[1])
        return Demand(*(b + (b - a) * more // steps for a, b in zip(short, long, strict=True)))

    def _kind(self, record: Record) -> Kind:
        """What one more step takes with such records, from two short rehearsals with as many times."""
        recovery, footprint = Kept(record), self.footprint._replace(holds_value=True)
        grids = self._short(8), self._short(16)
        short, long = (rehearse(self.sweep, recovery, footprint, self.sizes, counts) for counts in grids)
        peak, evals, vjps = ((b - a) // 8 for a, b in zip(short, long, strict=True))
        is_freed = self.footprint.frees_graph and isinstance(record, Graphs)
        return Kind(record, evals, vjps, peak, short.peak - sum(grids[0]) * peak + self._offset(recovery), is_freed)

    def _mixtures(self, budget: int) -> list[Option]:
        """Checkpoints, and the best mixture, for each way to recompute a step."""
        tails = (self._kind(StageInputs()), self._kind(Graphs()) if self.offers.graphs else None)
        found: dict[str, Option] = {}
        num_steps = self.sweep.num_steps
        for record in self._records:
            kind = self._kind(record)
            # With one checkpoint the least memory there is: what an error names.
            mixtures = [Mixture(kind, None, None, num_steps, 1, overwrites=self.offers.overwrites)]
            for rest in ((None, None), tails) if self.sweep.controls is None else ((None, None),):
                best = best_mixture(num_steps, budget, kind, rest[0], rest[1], self.offers.overwrites)
                mixtures += [] if best is None else [best]
            for mixture in mixtures:
                if isinstance(mixture.recovery, Revolve | Mixed):
                    found[str(mixture)] = self._mixed(mixture)
        return list(found.values())

    @property
    def _states_asked_for(self) -> int | None:
        """The ``checkpoints`` of adaptive steps."""
        return self.sweep.thinning.budget  # type: ignore[attr-defined]

    def _mixed(self, mixture: Mixture) -> Option:
        """What is kept for the end is gone when the start is pulled: a rehearsal knows, a sum does not."""
        if self.measure is not None or self.sweep.num_steps > _REHEARSED:
            return Option(str(mixture), mixture.recovery, mixture.demand)
        return self._option(str(mixture), mixture.recovery)

    def _adaptive(self, budget: int) -> list[Option]:
        """Half of what fits for states, for the way back takes the steps between two of them once more."""
        found = []
        for record in self._records:
            name = "aca" if isinstance(record, WholeSteps) else "symplectic"
            kind, given = self._kind(record), self._states_asked_for
            room = (budget - kind.transient) // max(1, kind.per_step)
            states = max(2, min(room // 2, _MOST_STATES if given is None else given))
            demand = Demand(kind.transient + 2 * states * kind.per_step, kind.num_field_evals, kind.num_vjps)
            recovery = Revolve(states, record=record)
            found.append(Option(f'"{name}" with {states} states', recovery, demand, is_bound=True))
        return found
