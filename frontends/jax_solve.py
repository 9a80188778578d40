"""The solve of JAX, with gradients through ``custom_vjp``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax

from janode.core import arguments
from janode.core.adjoint import find_adjoint
from janode.core.auto import read_auto
from janode.core.controllers import PIDController
from janode.core.corrected import find_correction
from janode.core.failures import raise_failure
from janode.core.grids import check_equal_steps
from janode.core.methods import find_method
from janode.core.plan import Plan
from janode.core.protocols import Array, Method, State
from janode.core.solution import BAD_TIMES, Report, Solution, Stats
from janode.core.stepping import Stepping
from janode.core.tableaus import Tableau

from .jax_arguments import Posed, pose
from .jax_cache import program
from .jax_plan import make_plan
from .jax_problem import Problem
from .jax_refusals import FORWARD, check_recovery, forward_mode_named
from .jax_steps import FixedSteps
from .jax_trees import is_any_traced, is_traced
from .progress import Bar

jax.tree_util.register_dataclass(Stats)
jax.tree_util.register_dataclass(Solution)


def solve(
    field: Callable[..., Any],
    y0: Any,
    ts: Sequence[float] | Array,
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
    progress: bool = False,
    adjoint: str = "auto",
    correction: str = "none",
    on_failure: str = "raise",
) -> Solution[Any]:
    """The solution y(ts) of dy/dt = field(t, y, params), y(ts[0]) = y0, differentiable in reverse mode.

    Works under ``jit``, ``vmap``, ``grad``, inside ``lax.scan`` and on sharded arrays. Gradients reach y0, params, ts,
    controls and arrays the field closes over. They are exact for the discrete solution, to rounding; those of the
    controls only with correction ``"none"``.

    Args:
        field: ``field(t, y)``, followed by params and by the control of the time, in this order, where they are given.
            ``t`` is a 0-d array of the state's real dtype; the output must have the structure, shapes and dtypes of y.
        y0: initial state, any pytree of real or complex floating-point arrays, of any shapes.
        ts: at least two times, strictly increasing or strictly decreasing, in the time unit of the field; they take
            JAX's default float dtype. If traced, they cannot be checked: the solution is NaN and says so in its
            status where they are not as they must be.
        params: any pytree, such as an Equinox module; its inexact arrays and Python floats get gradients, and what else
            is in it, such as integers, functions and random keys, reaches the field as it is.
        controls: parameters that depend on time: any pytree of real or complex floating-point arrays whose leading axis
            has one entry per node; or :class:`Knots`, for adaptive steps too; or None. The field gets one entry, or
            the control at t, as its last argument.
        sampling: ``"nodes"``, one control for each time at which the method samples the field, or ``"steps"``, one for
            each step; :func:`control_times` gives their times.
        method: a method's name (of a tableau, ``"reversible(...)"`` with one in it, ``"leapfrog"``, ``"ab2"``,
            ``"ab3"``, ``"ab4"``, ``"alf"``, ``"reversible_heun"``), a tableau or a method object. From leapfrog on
            they need equal steps all over.
        steps: the number of equal steps between neighbouring ts, >= 1; or
        step_size: the largest step size, > 0; the fewest equal steps not longer than it are taken. Not for traced ts.
            Without both, a method with an error estimate takes adaptive steps; rtol to checkpoints are about these.
        rtol, atol: tolerances, > 0: a step is accepted if its error, divided by atol + rtol max(|y_n|, |y_n+1|), has a
            norm of at most 1. Numbers, arrays that broadcast to the leaves, or pytrees of them like y0; unless given
            1e-6 and 1e-9, or 1e-4 and 1e-6 if any leaf is below double precision.
        controller: a :class:`PIController` (the default) or :class:`PIDController`: how step sizes follow from errors,
            their limits, times that steps must end at, discontinuities of the field.
        save: the states at ts between steps: ``"interpolate"`` by the method's continuous extension, or ``"clip"``,
            which lets a step end at each of ts.
        max_steps: the most steps that may be tried, >= 1, rejected ones included; 4096 unless given. Memory is
            set aside for as many.
        checkpoints: how many states at most adaptive steps keep for the backward pass, >= 2; the steps between them are
            taken once more there. Unless given, 4 sqrt(max_steps).
        event: a function of what the field takes, an :class:`Event`, or a sequence of them; the first to change its
            sign ends the adaptive solve. ``solution.event`` has its time and state.
        dense: whether ``solution.interpolant`` is to be the solution as a function of time; adaptive steps only.
        progress: whether to show a bar over the time; needs tqdm.
        adjoint: which of the exact gradients (equal to rounding): ``"auto"``, the fastest that fits in half of the free
            memory, or ``Auto(memory_budget)``; ``"symplectic"`` keeps one state per step; ``"aca"`` too, and the
            intermediate values of one step in the backward pass; ``"stages"`` all stage states; ``"revolve"``, or
            ``Revolve(checkpoints)``, so many states; ``"restart"`` only the start; ``"reversible"`` only the end, of a
            method whose steps have an inverse; so ``"reconstruct"`` of Runge-Kutta methods, whose inverse, and with it
            the gradient, is approximate; ``"backsolve"``, or ``Backsolve()``, solves the continuous adjoint,
            approximate too; with ``"backprop"`` JAX differentiates the solver's own operations, which allows every
            mode; ``"forward"`` allows forward mode alone, and keeps nothing and replays nothing for it. Second
            derivatives by ``jax.hessian`` are exact for every exact adjoint.
        correction: which gradient the controls get: ``"none"``, the exact one, which may oscillate from node to node at
            any step size; or w_k g(t_k), where g converges to the gradient of the continuous problem and w_k are the
            trapezoid weights of the nodes: ``"auto"``, which is ``"consistent"``, ``"filter"`` and, for some methods,
            ``"filter_descent"``, ``"adjoint_average"``, ``"divide"``. These need controls at nodes, enough
            steps between neighbouring ts, and any adjoint but ``"backprop"``.
        on_failure: ``"raise"`` a SolveError if the end is not reached with finite states, or ``"return"`` the status;
            from the failure on states are NaN or infinite and, where steps are adaptive, have no gradient.
            Inside a traced computation the status is an array and nothing is raised.

    Returns:
        The solution, a pytree; ``ys`` keeps the dtype of y0.

    Raises:
        InputError: an argument breaks a rule above, or the method, its steps or its ts lack the correction, before
            any step is taken.
        NonFiniteState, MaxStepsReached, StepSizeUnderflow: the state became infinite or NaN; max_steps were tried; a
            step had to be shorter than min_step, or than rounding in t allows; outside a traced computation, and
            on_failure is "raise".

    Cost: per step of s stages, forward s field evaluations, backward s VJPs and at most 3 s - 1 field evaluations. A
    filter adds at most two VJPs and a solve, ``"consistent"`` a solve and a VJP per node (N + 10 for Adams-Bashforth
    methods with N steps).
    Outside ``jit`` the whole solve is compiled when its field, method or grid are new; later calls trace the field once
    to find the program again, which takes milliseconds. Of the programs the last 128 are kept.
    Source: Matsubara, Miyatake, Yaguchi 2021, arXiv 2102.09750, section 4.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import janode.jax as jo
        >>> def loss(k):
        ...     solution = jo.solve(lambda t, y, k: -k * y, jnp.ones(3), [0.0, 1.0], k, method="rk4", steps=20)
        ...     return solution.ys[-1].sum()
        >>> bool(abs(jax.grad(loss)(0.5) + 3 * jnp.exp(-0.5)) < 1e-5)
        True
    """
    auto, adjoint = read_auto(adjoint)
    is_forward = adjoint == FORWARD
    chosen = find_method(method)
    name, recovery = find_adjoint("backprop" if is_forward else adjoint, chosen)
    check_recovery(recovery)
    arguments.check_correction("solve", correction, name)
    arguments.check_field("solve", field)
    arguments.check_on_failure("solve", on_failure)
    stepping = Stepping(steps, step_size, rtol, atol, controller, save, max_steps, checkpoints, event, dense)
    posed = pose(field, y0, ts, params, controls, sampling, chosen, stepping)
    problem = replace(
        posed.problem,
        recovery=None if name == "backprop" else recovery,
        correction=correction,
        bar=Bar() if progress else None,
        is_forward=is_forward,
    )
    arrays = posed.arrays
    find_correction("solve", correction, problem.sweep(*arrays[:1], *arrays[2:]))
    plan = None if auto is None else make_plan(auto, posed.field, problem, arrays)
    if plan is not None:
        problem = replace(problem, recovery=plan.recovery)
    with forward_mode_named(name):
        ys, report = program(problem, is_any_traced(arrays))(*arrays)
    return _finished(posed, problem, ys, report, plan, on_failure)


def _finished(
    posed: Posed, problem: Problem, ys: State, report: Report, plan: Plan | None, on_failure: str
) -> Solution[Any]:
    """The solution of a problem that was run, or its failure if it is known and to be raised."""
    times, stats = posed.arrays[0], problem.steps.stats(problem.method, report)
    solution: Solution[Any] = Solution(times, jax.tree.unflatten(posed.tree, ys), stats, report.status, plan=plan)
    if on_failure == "raise" and not is_traced(report.status) and int(report.status):
        _fail(problem, posed.arrays, ys, report, solution, posed.tree)
    solution.event = posed.taps.result(report, times)
    solution.interpolant = posed.taps.interpolant(problem.backend, problem.method, report, times)
    return solution


def _fail(problem: Problem, arrays: Any, ys: State, report: Report, solution: Solution[Any], tree: Any) -> None:
    """Raise the error of a solve whose values are known, though perhaps being differentiated."""
    (times, _, *others), ys = jax.lax.stop_gradient((arrays, ys))
    if int(report.status) == BAD_TIMES:
        known = arguments.read_times("solve", times)
        if isinstance(problem.steps, FixedSteps):
            check_equal_steps("solve", problem.steps.grid, known, problem.method.name)
    report = report._replace(rows=[tuple(leaf[k] for leaf in ys) for k in range(len(times))])
    raise_failure("solve", problem.sweep(times, *others), report, solution, lambda row: jax.tree.unflatten(tree, row))
