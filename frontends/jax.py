"""janode for JAX: solve with gradients through ``custom_vjp``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from janode.backends.registry import find_backend
from janode.core import arguments
from janode.core.adjoint import find_adjoint
from janode.core.auto import Auto, read_auto
from janode.core.backsolve import Backsolve
from janode.core.continuous import ContinuousRungeKutta
from janode.core.controllers import PIController, PIDController
from janode.core.controls import NodeLayout, check_controls, node_layout
from janode.core.corrected import find_correction
from janode.core.errors import (
    InputError,
    JanodeError,
    MaxStepsReached,
    NonFiniteState,
    SolveError,
    StepSizeUnderflow,
)
from janode.core.events import Event, read_events
from janode.core.failures import raise_failure
from janode.core.grids import check_equal_steps
from janode.core.knots import Knots
from janode.core.methods import find_method
from janode.core.ode_gap import OdeGap
from janode.core.plan import Plan
from janode.core.protocols import Array, Method, State
from janode.core.recovery import Symplectic
from janode.core.revolve import Revolve
from janode.core.solution import BAD_TIMES, Report, Solution, Stats
from janode.core.stepping import Stepping, check_adaptive, find_stops, read_tolerances, refuse_controls, refuse_taps
from janode.core.tableaus import Tableau

from .explain import make_explain
from .jax_cache import program
from .jax_controls import (
    Diagnosis,
    control_times,
    diagnose_controls,
    refine_controls,
    sample_controls,
    smooth_controls,
)
from .jax_field import close
from .jax_jvp import solve_jvp
from .jax_knots import on_knots
from .jax_modules import ControlledODE
from .jax_odeint import odeint
from .jax_plan import make_plan
from .jax_problem import Problem
from .jax_refusals import FORWARD, check_recovery, forward_mode_named
from .jax_residual import ode_gap, residual_errors, residual_stack
from .jax_steps import MAX_STEPS, AdaptiveSteps, FixedSteps
from .jax_taps import ContinuousSolution, close_events, event_result
from .jax_validity import checksum, relative_distance, starting_step, validate
from .progress import Bar
from .validity import Check, Discrepancies, Entry, StepSizeMonitor, ToleranceMonitor, Validity
from .validity_report import plot_validity, show_validity

__all__ = [
    "Auto",
    "Backsolve",
    "Check",
    "ControlledODE",
    "Diagnosis",
    "Discrepancies",
    "Entry",
    "Event",
    "InputError",
    "JanodeError",
    "Knots",
    "MaxStepsReached",
    "NonFiniteState",
    "OdeGap",
    "PIController",
    "PIDController",
    "Plan",
    "Revolve",
    "Solution",
    "SolveError",
    "Stats",
    "StepSizeMonitor",
    "StepSizeUnderflow",
    "Symplectic",
    "ToleranceMonitor",
    "Validity",
    "checksum",
    "control_times",
    "diagnose_controls",
    "explain",
    "ode_gap",
    "odeint",
    "plot_validity",
    "refine_controls",
    "relative_distance",
    "residual_errors",
    "residual_stack",
    "sample_controls",
    "show_validity",
    "smooth_controls",
    "solve",
    "solve_jvp",
    "starting_step",
    "validate",
]

jax.tree_util.register_dataclass(Stats)
jax.tree_util.register_dataclass(Solution)


def _is_traced(leaf: Any) -> bool:
    return isinstance(leaf, jax.core.Tracer)


def _leaves(tree: Any, name: str) -> tuple[State, Any, list[str]]:
    """(leaves as arrays, structure, path of each leaf)."""
    found, structure = jax.tree.flatten_with_path(tree)
    paths = [name + jax.tree_util.keystr(path) for path, _ in found]
    return tuple([_array(leaf, path) for (_, leaf), path in zip(found, paths, strict=True)]), structure, paths


def _array(leaf: Any, path: str) -> Array:
    is_array = isinstance(leaf, jax.Array | np.ndarray | np.generic)
    if not (jnp.issubdtype(leaf.dtype, np.number) if is_array else isinstance(leaf, float | complex | int)):
        got = f"{type(leaf).__name__} of dtype {leaf.dtype}" if is_array else type(leaf).__name__
        raise InputError(f"solve: {path} must be an array of numbers; got {got}. Convert it with jax.numpy.asarray.")
    return jnp.asarray(leaf, dtype=jnp.result_type(leaf))


def _check_devices(arrays: Sequence[tuple[str, Any]]) -> None:
    """Refuse arrays that were put on different devices."""
    places: dict[frozenset[Any], str] = {}
    for path, leaf in arrays:
        if isinstance(leaf, jax.Array) and not _is_traced(leaf) and leaf.committed:
            places.setdefault(frozenset(leaf.devices()), path)
    if len(places) > 1:
        listed = ", ".join(f"{path}: {sorted(map(str, devices))}" for devices, path in places.items())
        raise InputError(f"solve: all arrays must be on the same devices; got {listed}. Use jax.device_put.")


def _check_start(state: State) -> None:
    """Refuse an initial state known not to be finite; NumPy reads it, for under ``jit`` JAX would only trace."""
    known = [leaf for leaf in state if not _is_traced(leaf) and leaf.is_fully_addressable]
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in known):
        raise InputError("solve: y0 must be finite; got an infinite or NaN entry. Check how it is computed.")


def _times(ts: Any, stepping: Stepping, method: Method) -> tuple[Array, FixedSteps | AdaptiveSteps, bool]:
    """(ts, steps, whether the values of ts are unknown)."""
    is_adaptive = stepping.is_adaptive("solve", method)
    if not (_is_traced(ts) or (isinstance(ts, list | tuple) and any(map(_is_traced, ts)))):
        values = np.asarray(ts) if isinstance(ts, jax.Array) else ts
        # Times that differ may be equal in JAX's default float: the rounded ones are checked.
        rounded = np.asarray(arguments.read_times("solve", values), dtype=jnp.result_type(float))
        known = arguments.read_times("solve", rounded.tolist())
        if is_adaptive:
            return jnp.asarray(rounded), _adaptive(stepping, known), False
        grid = arguments.fixed_grid("solve", known, stepping.steps, stepping.step_size, method)
        return jnp.asarray(rounded), FixedSteps(grid), False
    times = jnp.asarray(ts)
    if times.ndim != 1 or len(times) < 2 or jnp.iscomplexobj(times):
        raise InputError(
            f"solve: traced ts must be a sequence of at least 2 real numbers; got shape {times.shape} and dtype "
            f"{times.dtype}. Give the start and the end."
        )
    if is_adaptive:
        controller = check_adaptive("solve", stepping)
        if controller.step_ts or controller.jump_ts:
            raise InputError(
                "solve: step_ts and jump_ts must come with ts known when the solve is traced; got traced ts. Leave "
                "them out, or give ts as numbers."
            )
        return times.astype(jnp.result_type(float)), _adaptive(stepping, list(range(len(times)))), True
    if stepping.step_size is not None:
        raise InputError(
            "solve: step_size must come with ts known when the solve is traced; got traced ts. Use steps, which does "
            "not depend on the values of ts."
        )
    grid = arguments.fixed_grid("solve", list(range(len(times))), stepping.steps, None, method)
    return times.astype(jnp.result_type(float)), FixedSteps(grid), True


def _adaptive(stepping: Stepping, ts: list[float]) -> AdaptiveSteps:
    """The static data of adaptive steps between times that stand for the real ones."""
    controller = check_adaptive("solve", stepping)
    stops = find_stops("solve", ts, stepping.save, controller)
    max_steps = MAX_STEPS if stepping.max_steps is None else int(stepping.max_steps)
    rows, times, jumps = tuple(stops.rows), tuple(stops.known), tuple(stops.jumps)
    return AdaptiveSteps(controller, rows, times, jumps, stops.saves_between, max_steps, stepping.checkpoints)


def _tolerances(stepping: Stepping, state: State, tree: Any) -> tuple[State, State]:
    """(rtol, atol): an array for each leaf of the state, of its real dtype."""

    def match(entries: Any, name: str) -> Any:
        found = jax.tree.structure(entries)
        if found != tree:
            raise InputError(f"solve: {name} must have the structure of y0, {tree}; got {found}. Or give one number.")
        return jax.tree.leaves(entries)

    found = read_tolerances("solve", stepping, state, jnp, match, lambda entry: not _is_traced(entry))
    rtol, atol = (
        tuple(jnp.asarray(entry, leaf.real.dtype) for entry, leaf in zip(part, state, strict=True)) for part in found
    )
    return rtol, atol


def _controls(controls: Any, method: Method, steps: Any, sampling: str) -> tuple[NodeLayout | None, State, Any]:
    """(layout of the nodes, leaves, controls as arrays)."""
    if controls is None:
        return None, (), None
    if isinstance(steps, AdaptiveSteps):
        refuse_controls("solve")
    leaves, structure, paths = _leaves(controls, "controls")
    arguments.check_parameters("solve", leaves, jnp, paths)
    layout = node_layout("solve", method, steps.grid.num_steps, sampling)
    check_controls("solve", layout, leaves, paths)
    return layout, leaves, jax.tree.unflatten(structure, leaves)


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
    name, recovery = find_adjoint("backprop" if is_forward else adjoint, find_method(method))
    check_recovery(recovery)
    arguments.check_correction("solve", correction, name)
    arguments.check_field("solve", field)
    arguments.check_on_failure("solve", on_failure)
    state, tree, paths = _leaves(y0, "y0")
    arguments.check_state("solve", state, jnp, paths)
    chosen, backend = find_method(method), find_backend("jax")
    stepping = Stepping(steps, step_size, rtol, atol, controller, save, max_steps, checkpoints, event, dense)
    args = () if params is None else (params,)
    if isinstance(controls, Knots):
        like = state[arguments.widest(state, jnp)]
        field, values, stepping = on_knots(controls, field, bool(args), ts, stepping, chosen, sampling, like)
        params, controls = (params, values), None
    times, taken, checks_times = _times(ts, stepping, chosen)
    _check_start(state)
    clock = arguments.widest(state, jnp)
    events = read_events("solve", event)
    own: Any = None
    if isinstance(taken, AdaptiveSteps):
        constants: Sequence[Array] = ()
        if events:
            watched, constants = close_events(events, times, state, tree, args, clock)
            taken = replace(taken, events=watched)
        taken = replace(taken, is_dense=dense, tree=tree)
        own = _tolerances(stepping, state, tree), constants
    elif events or dense:
        refuse_taps("solve")
    layout, nodes, controls = _controls(controls, chosen, taken, sampling)
    theta, closed, constants = close(field, times, state, tree, paths, params, controls, clock)
    arrays = (times, state, theta, constants, nodes, own)
    others = (("params, controls or captured", leaf) for leaf in theta + constants + nodes)
    _check_devices([*zip(paths, state, strict=True), *others])
    problem = Problem(
        backend,
        chosen,
        taken,
        closed,
        clock,
        None if name == "backprop" else recovery,
        checks_times,
        layout,
        correction,
        Bar() if progress else None,
        is_forward,
    )
    find_correction("solve", correction, problem.sweep(*arrays[:1], *arrays[2:]))
    plan = None if auto is None else make_plan(auto, field, problem, arrays)
    if plan is not None:
        problem = replace(problem, recovery=plan.recovery)
    with forward_mode_named(name):
        ys, report = program(problem, any(map(_is_traced, jax.tree.leaves(arrays))))(*arrays)
    stats = taken.stats(chosen, report)
    solution: Solution[Any] = Solution(times, jax.tree.unflatten(tree, ys), stats, report.status, plan=plan)
    if on_failure == "raise" and not _is_traced(report.status) and int(report.status):
        _fail(problem, arrays, ys, report, solution, tree)
    if events:
        solution.event = event_result(events, report, times, tree, args, clock)
    if dense:
        end = report.time if report.event is None else jnp.where(report.event.index < 0, report.time, report.event.time)
        pair = ContinuousRungeKutta(chosen.tableau)  # type: ignore[attr-defined]
        solution.interpolant = ContinuousSolution(backend, pair, tree, report.dense, times[0], end)
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


explain = make_explain(solve)
