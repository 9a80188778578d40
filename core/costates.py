"""States and cotangents at the ends of all steps, and the VJPs of the field there: what some corrections read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .adjoint import Backward
from .control_gradients import as_row, joined, num_leaves, phase_arrays
from .pieces import end_rows, picked, pieces_of
from .protocols import Carry, Moment, State
from .records import Nothing
from .stencils import apply_stencil
from .sweep import Sweep


class _States(Nothing):
    """Keeps the state each step starts from."""

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        return super().advance(sweep, carry, moment)[0], sweep.method.output(carry)


class Spot(NamedTuple):
    """A place where the field is pulled back: a node, its interval, and where in it, as a part of it."""

    interval: Any
    place: Any
    share: Any
    """One step, as a part of the interval."""
    node: Any


@dataclass(frozen=True)
class Costates:
    """States and cotangents at t_0 .. t_N, for every piece between neighbouring ts at both of its ends.

    The rows of a piece follow those of the one before. Its last cotangent is that of the state there with all that
    enters at this time, the first of the next piece that without.
    """

    sweep: Sweep
    states: State
    costates: State

    @classmethod
    def of(cls, backward: Backward, sent: Any) -> Costates:
        """Runs the solve once more for its states; the cotangents were sent by the backward pass."""
        sweep, backend = backward.sweep, backward.sweep.backend
        outputs, records, _ = sweep.advance(backward.y0, _States())
        last = as_row(backend.take(outputs, sweep.num_times - 1))
        states = joined(sweep, [*(backend.stack(rows) for rows in records), last])
        sizes = [len(phase.stepper.c) * num_leaves(sweep) for phase in sweep.method.phases(sweep.num_steps)]
        sent_costates = [arrays[size:] for arrays, size in zip(phase_arrays(sweep, sent), sizes, strict=True)]
        costates = joined(sweep, [*sent_costates, tuple(leaf[1:, ...] for leaf in backward.ys_bar)])
        rows = end_rows(sweep.grid.counts)
        if rows is not None:
            states = apply_stencil(backend.xp, rows[0], states)
            costates = apply_stencil(backend.xp, rows[1], costates)
        return cls(sweep, states, costates)

    def spots(self) -> list[Spot]:
        """Where the rows lie, but for t_N where there is no node."""
        found = []
        for piece in pieces_of(self.sweep.method, self.sweep.grid.counts):
            share = 1.0 / piece.num_steps
            found += [Spot(piece.index, n / piece.num_steps, share, node) for n, node in enumerate(piece.ends)]
        return found

    def rows(self, places: Sequence[int]) -> tuple[State, State]:
        """States and cotangents at some of the rows."""
        xp = self.sweep.backend.xp
        states, costates = (apply_stencil(xp, picked(places), rows) for rows in (self.states, self.costates))
        return states, costates


def pull(sweep: Sweep, spot: Spot, z: State, lam: State, has_slope: bool = False) -> tuple[State, State, State]:
    """(h f if wanted, h J^T lam, h (df/dtheta)^T lam) at one node."""
    backend = sweep.backend
    assert sweep.controls is not None
    t, h = sweep.grid.place(sweep.ts, spot.interval, spot.place, spot.share)
    theta = sweep.theta + backend.take(sweep.controls.nodes, spot.node)
    stage = sweep.field.linearize(backend.time(t, z[sweep.clock]), z, theta)
    f = stage.f if has_slope else ()
    _, z_bar, theta_bar = stage.pull(lam)
    control_bar = sweep.filled(theta_bar[-num_leaves(sweep) :], theta)
    slope, minus_costate_slope, g = (
        backend.linear_combination(None, h, (1.0,), (part,)) if part else () for part in (f, z_bar, control_bar)
    )
    return slope, minus_costate_slope, g


def pull_all(
    sweep: Sweep, spots: Sequence[Spot], states: State, costates: State, has_slopes: bool = False
) -> tuple[State, State, State]:
    """``pull`` at every spot, from one row of states and cotangents for each; stacked."""
    backend, count = sweep.backend, len(states)
    z_rows, lam_rows = backend.unstack(states), backend.unstack(costates)

    def body(carry: Any, row: Any) -> tuple[Any, State]:
        *spot, i = row
        parts = pull(sweep, Spot(*spot), backend.take(z_rows, i), backend.take(lam_rows, i), has_slopes)
        return carry, parts[0] + parts[1] + parts[2]

    columns = [list(column) for column in zip(*spots, strict=True)]
    _, rows = backend.scan(body, (), (*columns, list(range(len(spots)))))
    arrays = backend.stack(rows)
    first = count if has_slopes else 0
    return arrays[:first], arrays[first : first + count], arrays[first + count :]
