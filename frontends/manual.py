"""Manual backprop for any Array API library: the field brings its own VJP, the solve returns a pullback.

``janode.numpy``, ``janode.cupy`` and ``janode.array`` are this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from janode.core.controllers import PIDController
from janode.core.errors import InputError
from janode.core.knots import Knots
from janode.core.methods import find_method
from janode.core.protocols import Array, Method, Recovery
from janode.core.records import Nothing
from janode.core.recovery import Kept
from janode.core.solution import Gradients, Solution, Stats
from janode.core.stepping import Stepping
from janode.core.tableaus import Tableau

from .manual_field import Field
from .manual_problem import pose


def solve(
    field: Any,
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
    adjoint: str | Recovery = "auto",
    on_failure: str = "raise",
) -> Solution[Any]:
    """The solution y(ts) of dy/dt = field(t, y, params), y(ts[0]) = y0, by fixed or adaptive steps.

    Args:
        field: ``field(t, y)``, followed by params and by the control of the time, in this order, where they are given:
            a function, a :class:`Field` or a network of ``janode.core.layers``. ``t`` is a 0-d array of the state's
            real dtype, on its device; the output must have the structure, shapes, dtypes and device of y.
        y0: initial state, any pytree of real or complex floating-point arrays, of any shapes.
        ts: at least two times, strictly increasing or strictly decreasing, in the time unit of the field.
        params: any pytree of arrays, or None.
        controls: parameters that depend on time: any pytree of real or complex floating-point arrays whose leading axis
            has one entry per node; or :class:`Knots`, for adaptive steps too; or None. The field gets one entry, or
            the control at t, as its last argument.
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
        progress: whether to show a bar over the time; needs tqdm.
        adjoint: how a gradient would be computed; see :func:`solve_vjp`. A solve alone keeps nothing.
        on_failure: ``"raise"`` a SolveError if the end is not reached with finite states, or ``"return"`` the status;
            from the failure on states are NaN or infinite and, where steps are adaptive, have no gradient.

    Returns:
        The solution; ``ys`` keeps the dtype and device of y0.

    Raises:
        InputError: an argument breaks a rule above, before any step is taken.
        NonFiniteState, MaxStepsReached, StepSizeUnderflow: the state became infinite or NaN; max_steps were tried; a
            step had to be shorter than min_step, or than rounding in t allows; and on_failure is "raise".

    Cost: ``len(ts) - 1`` times steps times the method's stages field evaluations, one per step for leapfrog and for
    Adams-Bashforth methods after their start. Adaptive: the stages per step tried, less one that is known from the step
    before, one for the first step size, and the extra stages of ``dopri8`` in steps that are read between their ends.
    One state per time is held.
    Source: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed. 1993, sections II.1 and III.1.

    Example:
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> solution = jo.solve(lambda t, y: -y, np.asarray([1.0]), [0.0, 1.0], method="rk4", steps=20)
        >>> bool(abs(solution.ys[-1, 0] - np.exp(-1.0)) < 1e-6)
        True
    """
    from janode.core.adjoint import find_adjoint  # here, for an import to take less time
    from janode.core.auto import read_auto

    find_adjoint(read_auto(adjoint)[1], find_method(method))
    stepping = Stepping(
        steps, step_size, rtol, atol, controller, save, max_steps, checkpoints, event, dense, progress=progress
    )
    problem = pose("solve", field, y0, ts, params, controls, sampling, method, stepping, on_failure)
    return problem.run(Kept(Nothing()))[0]


def solve_vjp(
    field: Any,
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
    adjoint: str | Recovery = "auto",
    correction: str = "none",
    on_failure: str = "raise",
    check_recompute: bool = False,
) -> tuple[Solution[Any], Callable[[Any], Gradients[Any]]]:
    """The solution, and the pullback ys_bar -> cotangents of y0, params, ts and controls.

    They are exact for the discrete solution, to rounding; those of the controls only with correction ``"none"``.

    Args:
        field: a :class:`Field`, or a network of ``janode.core.layers``, which brings its own VJP.
        adjoint: which of the exact gradients (equal to rounding): ``"auto"``, the fastest that fits in half of the free
            memory, or ``Auto(memory_budget)``; ``"symplectic"`` keeps one state per step and one field graph at a time;
            ``"aca"`` the graphs of one step; ``"stages"`` all stage states; ``"backprop"`` all graphs; ``"revolve"``,
            or ``Revolve(checkpoints)``, so many states; ``"restart"`` only the start; ``"reversible"`` only the end, of
            a method whose steps have an inverse; so ``"reconstruct"`` of a Runge-Kutta method, whose inverse, and with
            it the gradient, is approximate; ``"backsolve"``, or ``Backsolve()``, solves the continuous adjoint,
            approximate too.
        correction: which gradient the controls get: ``"none"``, the exact one, which may oscillate from node to node at
            any step size; or w_k g(t_k), where g converges to the gradient of the continuous problem and w_k are the
            trapezoid weights of the nodes: ``"auto"``, which is ``"consistent"``, ``"filter"`` and, for some methods,
            ``"filter_descent"``, ``"adjoint_average"``, ``"divide"``. These need controls at nodes, enough
            steps between neighbouring ts.
        check_recompute: whether to compare each value that the field returns in the backward pass with that of the
            forward pass, which must be the same to rounding: for searching faults, as it keeps copies of all of them.
        y0, ts, params, controls, sampling, method, steps, step_size, rtol, atol, controller, save, max_steps,
            checkpoints, event, dense, progress, on_failure: as for :func:`solve`. The gradient is that of the accepted
            steps: what decides about step sizes has none.

    Returns:
        ``(solution, pullback)``. ``pullback(ys_bar)`` takes cotangents with the structure and shapes of
        ``solution.ys`` and returns :class:`Gradients`; it can be called any number of times. Parameter cotangents are
        summed in at least single precision and returned in the parameters' dtypes.

    Raises:
        InputError: an argument breaks a rule, the field brings no VJP, or the method, its steps or its ts do not have
            the correction, before any step is taken; by the pullback with check_recompute, a value differs.
        SolveError: as for :func:`solve`.

    Cost: per step of s stages, forward s field evaluations, backward s VJPs and at most 3 s - 1 field evaluations. A
    filter adds at most two VJPs and a solve, ``"consistent"`` a solve and a VJP per node (N + 10 for Adams-Bashforth
    methods with N steps).
    Source: Matsubara, Miyatake, Yaguchi 2021, arXiv 2102.09750, section 4.

    Example:
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> decay = jo.Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -np.sum(y * f_bar)))
        >>> y0, k = np.asarray([1.0]), np.asarray(0.5)
        >>> solution, pullback = jo.solve_vjp(decay, y0, [0.0, 1.0], k, method="rk4", steps=20)
        >>> gradients = pullback(np.asarray([[0.0], [1.0]]))
        >>> bool(abs(gradients.params + np.exp(-0.5)) < 1e-6)
        True
    """
    from janode.core.adjoint import find_adjoint  # here, for an import to take less time
    from janode.core.auto import read_auto
    from janode.core.corrected import find_correction

    from .manual_pullback import Pullback

    auto, adjoint = read_auto(adjoint)
    name, recovery = find_adjoint(adjoint, find_method(method))
    if getattr(field, "vjp", None) is None and not hasattr(field, "linearize"):
        raise InputError(
            f"solve_vjp: field must bring its VJP; got {type(field).__name__}. Give Field(fn, vjp) or a network of "
            "janode.core.layers."
        )
    stepping = Stepping(
        steps, step_size, rtol, atol, controller, save, max_steps, checkpoints, event, dense, progress=progress
    )
    problem = pose("solve_vjp", field, y0, ts, params, controls, sampling, method, stepping, on_failure)
    corrected = find_correction("solve_vjp", correction, problem.sweep)
    plan = None
    if auto is not None and not check_recompute:
        from .manual_plan import make_plan

        plan = make_plan(auto, problem.sweep, problem.field)
        recovery = plan.recovery or recovery
    again = problem.sweep
    if check_recompute:
        from janode.core.recheck import check_rechecked, compared, recorded

        check_rechecked("solve_vjp", name)
        problem = replace(problem, sweep=recorded("solve_vjp", problem.sweep, problem.field.state.paths))
        again = compared(problem.sweep)
    solution, tape, report = problem.run(recovery)
    solution.plan = plan
    has_knots = isinstance(controls, Knots)
    return solution, Pullback(problem, again, recovery, corrected, has_knots, solution, tape, report)


__all__ = ["Field", "Gradients", "Solution", "Stats", "solve", "solve_vjp"]
