"""The solve of PyTorch, with gradients through autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from janode.core import arguments
from janode.core.adjoint import Correction, find_adjoint
from janode.core.auto import Auto, read_auto
from janode.core.controllers import PIDController
from janode.core.corrected import NoCorrection, find_correction
from janode.core.errors import InputError
from janode.core.failures import raise_failure
from janode.core.methods import find_method
from janode.core.plan import Plan
from janode.core.protocols import Method, Recovery, State
from janode.core.recheck import check_rechecked, recorded
from janode.core.records import Nothing
from janode.core.recovery import Kept
from janode.core.solution import Report, Solution
from janode.core.stepping import Stepping
from janode.core.sweep import Sweep
from janode.core.tableaus import Tableau

from .progress import shown
from .torch_job import Job, SolveNode
from .torch_lanes import failed, of_every_lane
from .torch_plan import make_plan
from .torch_problem import Problem, pose
from .torch_refusals import is_pushed, refuse_hooks, refuse_pushed
from .torch_watch import NewCaptures


def solve(
    field: Callable[..., Any],
    y0: Any,
    ts: Sequence[float] | torch.Tensor,
    params: Any = None,
    *,
    controls: Any = None,
    sampling: str = "nodes",
    method: str | Tableau | Method = "dopri5",
    steps: int | None = None,
    step_size: float | None = None,
    rtol: Any = None,
    atol: Any = None,
    controller: PIDController | None = None,
    save: str = "interpolate",
    max_steps: int | None = None,
    checkpoints: int | None = None,
    event: Any = None,
    dense: bool = False,
    batch_axis: int | None = None,
    progress: bool = False,
    adjoint: str = "auto",
    correction: str = "none",
    on_failure: str = "raise",
    check_recompute: bool = False,
) -> Solution[Any]:
    """The solution y(ts) of dy/dt = field(t, y, params), y(ts[0]) = y0, differentiable by autograd.

    Gradients reach y0, params, controls, ts (if it is a tensor that requires gradient), the parameters of a module
    given as field, and tensors the field captures. They are exact for the discrete solution, to rounding; those of the
    controls only with correction ``"none"``.

    Args:
        field: ``field(t, y)``, followed by params and by the control of the time, in this order, where they are given:
            a function or an ``nn.Module``. ``t`` is a 0-d tensor of the state's real dtype, on its device; the output
            must have the structure, shapes, dtypes and device of y (under autocast it is cast to the state's dtype).
            Random numbers that it draws are the same in all evaluations of a solve, and new for each solve.
        y0: initial state, any pytree of real or complex floating-point tensors, of any shapes.
        ts: at least two times, strictly increasing or strictly decreasing, in the time unit of the field.
        params: any pytree of tensors, or None.
        controls: parameters that depend on time: any pytree of real or complex floating-point tensors whose leading
            axis has one entry per node; or :class:`Knots`, for adaptive steps too; or None. The field gets one entry,
            or the control at t, as its last argument.
        sampling: ``"nodes"``, one control for each time at which the method samples the field, or ``"steps"``, one for
            each step; :func:`control_times` gives their times.
        method: a method's name (of a tableau, ``"reversible(...)"`` with one in it, ``"leapfrog"``, ``"ab2"``,
            ``"ab3"``, ``"ab4"``, ``"alf"``, ``"reversible_heun"``), a tableau or a method object. From leapfrog on
            they need equal steps all over.
        steps: the number of equal steps between neighbouring ts, >= 1; or
        step_size: the largest step size, > 0; the fewest equal steps not longer than it are taken. Without both, a
            method with an error estimate takes adaptive steps; rtol to checkpoints are about these.
        rtol, atol: tolerances, > 0: a step is accepted if its error, divided by atol + rtol max(|y_n|, |y_n+1|), has a
            norm of at most 1. Numbers, arrays that broadcast to the leaves, or pytrees of them like y0; unless given
            1e-6 and 1e-9, or 1e-4 and 1e-6 if any leaf is below double precision.
        controller: a :class:`PIController` (the default) or :class:`PIDController`: how step sizes follow from errors,
            their limits, times that steps must end at, discontinuities of the field.
        save: the states at ts between steps: ``"interpolate"`` by the method's continuous extension, or ``"clip"``,
            which lets a step end at each of ts.
        max_steps: the most steps that may be tried, >= 1, rejected ones included; None for no limit.
        checkpoints: how many states at most adaptive steps keep for the backward pass, >= 2; the steps between them are
            taken once more there. None keeps all.
        event: a function of what the field takes, an :class:`Event`, or a sequence of them; the first to change its
            sign ends the adaptive solve. ``solution.event`` has its time and state.
        dense: whether ``solution.interpolant`` is to be the solution as a function of time; adaptive steps only.
        batch_axis: 0 if each entry of the leading axis of y0 is to take adaptive steps of its own, with a status of its
            own; the field still gets all of them at once, and t with their axis. None lets them share steps.
        progress: whether to show a bar over the time; needs tqdm.
        adjoint: which of the exact gradients (equal to rounding): ``"auto"``, the fastest that fits in half of the free
            memory, or ``Auto(memory_budget)``; ``"symplectic"`` keeps one state per step and one field graph at a time;
            ``"aca"`` the graphs of one step; ``"stages"`` all stage states; ``"revolve"``, or ``Revolve(checkpoints)``,
            so many states; ``"restart"`` only the start; ``"reversible"`` only the end, of a method whose steps have an
            inverse; so ``"reconstruct"`` of Runge-Kutta methods, whose inverse, and with it the gradient, is
            approximate; ``"backsolve"``, or ``Backsolve()``, solves the continuous adjoint, approximate too; with
            ``"backprop"`` autograd records the solver's own operations, which allows tensor hooks and second
            derivatives.
        correction: which gradient the controls get: ``"none"``, the exact one, which may oscillate from node to node at
            any step size; or w_k g(t_k), where g converges to the gradient of the continuous problem and w_k are the
            trapezoid weights of the nodes: ``"auto"``, which is ``"consistent"``, ``"filter"`` and, for some methods,
            ``"filter_descent"``, ``"adjoint_average"``, ``"divide"``. These need controls at nodes, enough
            steps between neighbouring ts, and any adjoint but ``"backprop"``.
        on_failure: ``"raise"`` a SolveError if the end is not reached with finite states, or ``"return"`` the status;
            from the failure on states are NaN or infinite and, where steps are adaptive, have no gradient.
        check_recompute: whether to compare each value that the field returns in the backward pass with that of the
            forward pass, which must be the same to rounding: for searching faults, as it keeps copies of all of them.

    Returns:
        The solution; ``ys`` keeps the dtype and device of y0. Its ``stats`` grow when the backward pass runs, but for
        ``"backprop"``, whose VJPs the framework takes.

    Raises:
        InputError: an argument breaks a rule above; the method, its steps or its ts lack the correction; or the field
            is recomputed (any preset but ``"backprop"``) and changes buffers other than the statistics of norm layers,
            draws random numbers or changes these in one pass alone, captures a tensor that its first evaluation does
            not use (found when the backward pass meets it), or one computed from another that it uses; with
            check_recompute also where it returns another value (found by the backward pass).
        NonFiniteState, MaxStepsReached, StepSizeUnderflow: the state became infinite or NaN; max_steps were tried; a
            step had to be shorter than min_step, or than rounding in t allows; and on_failure is "raise".

    Cost: per step of s stages, forward s field evaluations, backward s VJPs and at most 3 s - 1 field evaluations. A
    filter adds at most two VJPs and a solve, ``"consistent"`` a solve and a VJP per node (N + 10 for Adams-Bashforth
    methods with N steps).
    Source: Matsubara, Miyatake, Yaguchi 2021, arXiv 2102.09750, section 4.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> y0 = torch.ones(3, dtype=torch.float64)
        >>> solution = jo.solve(lambda t, y, k: -k * y, y0, [0.0, 1.0], k, method="rk4", steps=20)
        >>> solution.ys[-1].sum().backward()
        >>> bool(abs(k.grad + 3 * torch.exp(torch.tensor(-0.5))) < 1e-6)
        True
    """
    stepping = Stepping(
        steps, step_size, rtol, atol, controller, save, max_steps, checkpoints, event, dense, batch_axis, progress
    )
    return solve_as(
        stepping, field, y0, ts, params, controls, sampling, method, adjoint, correction, on_failure, check_recompute
    )


def solve_as(
    stepping: Stepping,
    field: Callable[..., Any],
    y0: Any,
    ts: Sequence[float] | torch.Tensor,
    params: Any = None,
    controls: Any = None,
    sampling: str = "nodes",
    method: str | Tableau | Method = "dopri5",
    adjoint: str = "auto",
    correction: str = "none",
    on_failure: str = "raise",
    check_recompute: bool = False,
) -> Solution[Any]:
    """The solution for steps as they are described; the other arguments are those of :func:`solve`."""
    auto, adjoint = read_auto(adjoint)
    chosen = find_method(method)
    name, recovery = find_adjoint(adjoint, chosen)
    arguments.check_correction("solve", correction, name)
    arguments.check_on_failure("solve", on_failure)
    if check_recompute:
        check_rechecked("solve", name)
        if stepping.batch_axis is not None:
            raise InputError("solve: check_recompute must not come with batch_axis; got both. Leave out one of them.")
    problem = pose(field, y0, ts, params, controls, sampling, chosen, stepping, name)
    asked = _Asked(name, recovery, auto, correction, check_recompute)
    sweep, (report, ys, plan) = _searched(problem, asked, ts)
    if stepping.batch_axis is not None:
        report = of_every_lane(report, sweep.backend)  # type: ignore[arg-type]
    seen: Any = sweep.field
    seen.stats.count(report)
    state = problem.state
    solution: Solution[Any] = Solution(ts, state.build(ys), seen.stats, report.status)
    solution.plan = plan
    failure = failed(report)
    if failure is not None and on_failure == "raise":
        raise_failure("solve", sweep, failure, solution, state.build)
    taps = problem.taps
    solution.event, solution.interpolant = taps.result(report, sweep.clock), taps.interpolant(sweep, report)
    return solution


@dataclass(frozen=True, eq=False)
class _Asked:
    """Which gradient a solve is to have."""

    adjoint: str
    recovery: Recovery
    auto: Auto | None
    correction: str
    is_rechecked: bool


def _searched(problem: Problem, asked: _Asked, ts: Any) -> tuple[Sweep, tuple[Report, State, Plan | None]]:
    """(sweep, what it found), run again where the field turns out to capture a tensor or to draw random numbers."""
    captured: list[torch.Tensor] = []
    wasted, is_searched = 0, False
    while True:
        sweep = problem.sweep(captured)
        field: Any = sweep.field
        field.stats.num_field_evals, field.replay.is_searched = wasted, is_searched
        field.is_rechecked = asked.is_rechecked
        try:
            with shown(problem.stepping.progress, sweep) as watched:
                found = _run(watched, asked, find_correction("solve", asked.correction, sweep), ts)
            if not field.replay.must_go_again():
                return sweep, found
            is_searched = True
        except NewCaptures as new:
            captured = captured + new.tensors
        wasted = field.stats.num_field_evals


def _run(sweep: Sweep, asked: _Asked, correction: Correction, ts: Any) -> tuple[Report, State, Plan | None]:
    """(report, stacked outputs, plan) with whatever gradient is wanted."""
    field: Any = sweep.field
    name, recovery, auto = asked.adjoint, asked.recovery, asked.auto
    # A field that calls y.requires_grad_() must not change the user's tensor.
    y0 = tuple([leaf if leaf.requires_grad else leaf.view_as(leaf) for leaf in field.state.leaves])
    is_wanted, by_operations = torch.is_grad_enabled(), is_pushed()
    if by_operations:
        refuse_pushed("solve", sweep, recovery, correction)
        name, auto = "backprop", None
    field.needs_time = isinstance(ts, torch.Tensor) and (by_operations or (is_wanted and ts.requires_grad))
    times = (ts,) if field.needs_time else ()
    has_gradient = any(leaf.requires_grad for leaf in (*times, *y0, *field.theta, *field.controls.leaves))
    plan = None
    if auto is not None and is_wanted and has_gradient and not field.is_rechecked:
        plan = make_plan(auto, sweep, field, has_framework=isinstance(correction, NoCorrection))
        if plan is not None:
            name, recovery = ("backprop" if plan.recovery is None else plan.adjoint), plan.recovery or recovery
    field.watches = is_wanted and name != "backprop"
    field.is_recomputed = field.watches and has_gradient
    if not field.is_recomputed:
        if field.needs_time:
            sweep = sweep.with_times(ts.to(torch.float64).unbind(0))
        outputs, _ = Kept(Nothing()).forward(sweep, y0)
        found = sweep.report(outputs)
        return found, sweep.backend.stack(found.rows), plan
    refuse_hooks("solve", field.implicit)
    if field.is_rechecked:
        sweep = recorded("solve", sweep, field.state.paths)
    job = Job(sweep, recovery, field, correction)
    outputs = SolveNode.apply(job, *times, *y0, *field.theta, *field.controls.leaves)
    size = len(field.state.leaves)
    found = job.extras.restored(outputs[size : job.size])
    job.report = job.extras.report = None  # which would keep the last state for the backward pass
    return found, outputs[:size], plan
