"""States and cotangents at the ends of all steps, and the VJPs of the field there: what some corrections read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .adjoint import Backward
from .control_gradients import as_row, joined, num_leaves, picked, stacked
from .protocols import Carry, Moment, State
from .records import Nothing
from .stencils import apply_stencil
from .sweep import Sweep


class _States(Nothing):
    """Keeps the state each step starts from."""

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        return super().advance(sweep, carry, moment)[0], sweep.method.output(carry)


@dataclass(frozen=True)
class Costates:
    """States and cotangents at t_0 .. t_N, and the VJPs of the field there."""

    sweep: Sweep
    states: Any
    """Buffer of z_0 .. z_N."""
    costates: Any
    """Buffer of lam_0 .. lam_N."""

    @classmethod
    def of(cls, backward: Backward, sent: Any) -> Costates:
        """Runs the solve once more for its states; the cotangents were sent by the backward pass."""
        sweep, backend = backward.sweep, backward.sweep.backend
        outputs, records, _ = sweep.advance(backward.y0, _States())
        states = [backend.stack(rows) for rows in records] + [as_row(backend.take(outputs, 1))]
        sizes = [len(phase.stepper.c) * num_leaves(sweep) for phase in sweep.method.phases(sweep.num_steps)]
        costates = [arrays[size:] for arrays, size in zip(stacked(sweep, sent), sizes, strict=True)]
        costates.append(as_row(backend.take(backend.unstack(backward.ys_bar), 1)))
        return cls(sweep, backend.unstack(joined(sweep, states)), backend.unstack(joined(sweep, costates)))

    def pull(self, place: Any, z: State, node: Any, lam: State) -> tuple[State, State, State]:
        """(h f, h J^T lam, h (df/dtheta)^T lam) at one node, ``place`` being its part of the whole interval."""
        sweep, backend = self.sweep, self.sweep.backend
        assert sweep.controls is not None
        t, h = sweep.grid.place(sweep.ts, 0, place, 1 / sweep.num_steps)
        theta = sweep.theta + backend.take(sweep.controls.nodes, node)
        stage = sweep.field.linearize(backend.time(t, z[sweep.clock]), z, theta)
        f = stage.f
        _, z_bar, theta_bar = stage.pull(lam)
        control_bar = sweep.filled(theta_bar[-num_leaves(sweep) :], theta)
        slope, minus_costate_slope, g = (
            backend.linear_combination(None, h, (1.0,), (part,)) for part in (f, z_bar, control_bar)
        )
        return slope, minus_costate_slope, g

    @property
    def end_nodes(self) -> list[int]:
        """The nodes at t_0, t_1, ...: at t_N too if there is one."""
        assert self.sweep.controls is not None
        layout = self.sweep.controls.layout
        return [node for node in layout.bases if node < layout.num_nodes]

    def at(self, steps: list[int]) -> Any:
        """Buffer of h g at t_n for these n."""
        backend, ends = self.sweep.backend, self.end_nodes
        states, costates = (
            backend.unstack(apply_stencil(backend.xp, picked(steps), backend.stack(rows)))
            for rows in (self.states, self.costates)
        )
        return backend.unstack(self.pull_all([float(n) for n in steps], [ends[n] for n in steps], states, costates)[2])

    def pull_all(self, times: list[float], nodes: list[int], states: Any, costates: Any) -> tuple[State, State, State]:
        """``pull`` at the nodes at these times, counted in steps; stacked."""
        backend, count = self.sweep.backend, len(self.sweep.backend.take(states, 0))
        places = [t / self.sweep.num_steps for t in times]

        def body(carry: Any, row: Any) -> tuple[Any, State]:
            place, node, i = row
            parts = self.pull(place, backend.take(states, i), node, backend.take(costates, i))
            return carry, parts[0] + parts[1] + parts[2]

        _, rows = backend.scan(body, (), (places, nodes, list(range(len(times)))))
        arrays = backend.stack(rows)
        return arrays[:count], arrays[count : 2 * count], arrays[2 * count :]
