"""A solve by manual backprop: its arguments checked and put together, then run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from janode.backends.registry import array_backend
from janode.core import arguments
from janode.core.failures import check_start, raise_failure
from janode.core.knots import Knots, check_knots, stop_at_knots
from janode.core.methods import find_method
from janode.core.protocols import Array, Method, Recovery
from janode.core.solution import Report, Solution
from janode.core.stepping import Stepping, make_sweep, with_controls
from janode.core.sweep import Sweep
from janode.core.tableaus import Tableau

from .knots_manual import on_knots
from .manual_field import ManualField
from .manual_taps import Taps
from .progress import shown
from .trees import Tree


@dataclass(frozen=True, eq=False)
class Problem:
    """A solve whose arguments are read."""

    where: str
    sweep: Sweep
    field: ManualField
    taps: Taps
    ts: Any
    on_failure: str
    progress: bool

    def run(self, recovery: Recovery) -> tuple[Solution[Any], Any, Report]:
        """(solution, what the recovery keeps, report); a failure is raised if it is to be."""
        with shown(self.progress, self.sweep) as watched:
            outputs, tape = recovery.forward(watched, self.field.state.leaves)
        report = self.sweep.report(outputs)
        self.field.stats.count(report)
        state = self.field.state
        ys = state.build(self.sweep.backend.stack(report.rows))
        solution: Solution[Any] = Solution(self.ts, ys, self.field.stats, report.status)
        if solution.status and self.on_failure == "raise":
            raise_failure(self.where, self.sweep, report, solution, state.build)
        solution.event, solution.interpolant = self.taps.result(report), self.taps.interpolant(self.sweep, report)
        return solution, tape, report


def pose(
    where: str,
    field: Any,
    y0: Any,
    ts: Sequence[float] | Array,
    params: Any,
    controls: Any,
    sampling: str,
    method: str | Tableau | Method,
    stepping: Stepping,
    on_failure: str,
) -> Problem:
    """The solve that the arguments describe; they are checked, and the field is not evaluated yet."""
    arguments.check_field(where, field)
    arguments.check_on_failure(where, on_failure)
    state, tree = Tree(y0, "y0"), Tree(params, "params")
    has_knots = isinstance(controls, Knots)
    control_tree = Tree(controls.values, "controls.values") if has_knots else Tree(controls, "controls")
    leaves = state.leaves + tree.leaves + control_tree.leaves
    paths = state.paths + tree.paths + control_tree.paths
    xp = arguments.find_namespace(where, leaves, paths) if state.leaves else None
    arguments.check_state(where, state.leaves, xp, state.paths)
    arguments.check_parameters(where, leaves[len(state.leaves) :], xp, paths[len(state.leaves) :])
    arguments.check_devices(where, leaves, paths)
    times = arguments.read_times(where, ts)
    chosen, backend = find_method(method), array_backend(xp)
    clock = arguments.widest(state.leaves, xp)
    taps = Taps(where, stepping.event, stepping.dense, state, tree)
    if has_knots:
        check_knots(where, controls, control_tree.leaves, control_tree.paths, sampling)
        stepping = stop_at_knots(where, controls, stepping, chosen, times)
        field = on_knots(field, controls, control_tree, params is not None, backend, state.leaves[clock])
        tree, control_tree, controls = Tree((params, controls.values), "params"), Tree(None, "controls"), None
    manual = ManualField(where, field, state, tree, control_tree, backend.zeros)
    check_start(where, backend, state.leaves)
    sweep = make_sweep(where, stepping, backend, chosen, manual, times, tree.leaves, clock, state, xp, taps.all())
    if controls is not None:
        sweep = with_controls(where, sweep, sampling, control_tree.leaves, control_tree.paths)
    return Problem(where, sweep, manual, taps, ts, on_failure, stepping.progress)
