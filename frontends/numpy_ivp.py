"""SciPy's interface to initial value problems: ``solve_ivp`` with its arguments and its result, and its pullback."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from janode.core.controllers import PIController
from janode.core.crossings import Crossings
from janode.core.errors import InputError, unknown_name
from janode.core.interpolation import ContinuousSolution
from janode.core.records import Carries, Nothing
from janode.core.recovery import Kept
from janode.core.stepping import Stepping

from .manual import Field, solve_vjp
from .manual_problem import pose

METHODS = {"RK45": "dopri5", "RK23": "bosh3", "DOP853": "dopri8"}
IMPLICIT = ("Radau", "BDF", "LSODA")
OPTIONS = ("rtol", "atol", "max_step", "first_step")
_MESSAGES = {0: "the end of t_span was reached", 1: "an event ended the solve"}


class IvpSolution:
    """The solution as a function of time: shape ``(n,)`` for a number, ``(n, k)`` for k times."""

    def __init__(self, interpolant: ContinuousSolution) -> None:
        self.interpolant = interpolant
        self.ts = np.asarray(interpolant.step_ts)
        self.t_min, self.t_max = self.ts.min(), self.ts.max()

    def __call__(self, t: Any) -> np.ndarray:
        """The states at t; every time must lie between t_min and t_max."""
        return self.interpolant(t) if np.ndim(t) == 0 else self.interpolant(t).T


@dataclass
class IvpResult:
    """What ``scipy.integrate.solve_ivp`` returns.

    Attributes:
        t: the times, shape ``(k,)``.
        y: the states there, shape ``(n, k)``.
        sol: the solution as a function of time, or None.
        t_events, y_events: for each event its times, shape ``(m,)``, and the states there, shape ``(m, n)``; or None.
        nfev: the number of evaluations of fun; njev and nlu are 0 for explicit methods.
        status: 0 at the end of t_span, 1 at an event that ends the solve, -1 after a failure; ``message`` says more.
        success: whether status >= 0.
    """

    t: np.ndarray
    y: np.ndarray
    sol: IvpSolution | None
    t_events: list[np.ndarray] | None
    y_events: list[np.ndarray] | None
    nfev: int
    njev: int
    nlu: int
    status: int
    message: str
    success: bool


class IvpGradients(NamedTuple):
    """The cotangents of the arguments of a solve."""

    y0: np.ndarray
    args: tuple[Any, ...]
    t_span: np.ndarray
    t_eval: np.ndarray | None
    """Zero for entries that are an end of t_span: it has their share."""


def solve_ivp(
    fun: Callable[..., Any],
    t_span: Sequence[float],
    y0: Any,
    method: str = "RK45",
    t_eval: Any = None,
    dense_output: bool = False,
    events: Any = None,
    vectorized: bool = False,
    args: Sequence[Any] | None = None,
    **options: Any,
) -> IvpResult:
    """The solution of dy/dt = fun(t, y, *args), y(t_span[0]) = y0, as ``scipy.integrate.solve_ivp`` returns it.

    Args:
        fun: returns dy/dt as an array or a sequence, shape ``(n,)``; ``t`` is a float.
        t_span: the start and the end, in either direction.
        y0: shape ``(n,)``, real or complex; it is made float64 or complex128.
        method: ``"RK45"`` (dopri5), ``"RK23"`` (bosh3) or ``"DOP853"`` (dopri8, a pair of the same order).
        t_eval: the times wanted, sorted in the direction of t_span and inside it; None for the ends of all steps.
        dense_output: whether the result has ``sol``.
        events: a function ``event(t, y, *args)`` or a list of them; its crossings of zero are found. Its attribute
            ``direction`` picks those from negative to positive (> 0) or from positive to negative (< 0), and
            ``terminal`` ends the solve at the first (True) or at the n-th. One that is zero at the start has not
            crossed there.
        vectorized: whether fun takes states of shape ``(n, k)``.
        args: more arguments of fun and of the events.
        **options: ``rtol`` (1e-3), ``atol`` (1e-6), numbers or arrays of shape ``(n,)``, > 0; ``max_step``;
            ``first_step``.

    Returns:
        The result; a failure has ``status`` -1, a ``message`` and the states so far.

    Raises:
        InputError: an argument breaks a rule, a method is implicit, or an option is unknown.

    Cost: as :func:`solve`; one state per step is held unless t_eval is given, and all stages with ``dense_output``.
    Source: the interface is SciPy 1.17's.

    Example:
        >>> import numpy as np
        >>> from janode.numpy import solve_ivp
        >>> result = solve_ivp(lambda t, y: [-0.5 * y[0]], (0, 10), [2.0], t_eval=[0, 5, 10], rtol=1e-6)
        >>> result.y.shape, bool(abs(result.y[0, -1] - 2.0 * np.exp(-5.0)) < 1e-5)
        ((1, 3), True)
    """
    where = "solve_ivp"
    extra = _args(where, args)
    state, name, stepping = _state(where, y0), _method(where, method), _stepping(where, options)
    ts, rows = _times(where, t_span, t_eval)
    if not callable(fun):
        raise InputError(f"{where}: fun must be callable as fun(t, y); got {type(fun).__name__}. Give a function.")

    def field(t: Any, y: np.ndarray) -> np.ndarray:
        f = fun(float(t), y[:, None] if vectorized else y, *extra)
        return np.asarray(f, dtype=y.dtype).reshape(y.shape if vectorized else np.shape(f))

    stepping = replace(stepping, dense=bool(dense_output))
    problem = pose(where, field, state, ts, None, None, "nodes", name, stepping, "return")
    crossings = None if events is None else _crossings(where, events, extra)
    if crossings is not None:
        sweep: Any = problem.sweep
        problem = replace(problem, sweep=replace(sweep, taps=(crossings, *sweep.taps)))
    recovery = Kept(Nothing() if rows is not None else Carries())
    solution, tape, report = problem.run(recovery)
    event = solution.event
    end, last = (report.time, report.last[0]) if event is None else (event.t, event.y)
    if rows is None:
        steps = tape.steps[: tape.num_steps]
        known = problem.sweep.grid.known  # type: ignore[attr-defined]
        t = np.array([*[known[step.segment] + step.offset for step in steps], end])
        y = np.stack([*[carry[0][0] for carry in tape.kept[: tape.num_steps]], last], axis=-1)
    else:
        rows = [row for row in rows if abs(ts[row] - ts[0]) <= abs(end - ts[0])]
        t, y = np.array([ts[row] for row in rows]), solution.ys[rows].T
    status = -1 if solution.status else int(event is not None)
    sol = None if solution.interpolant is None else IvpSolution(solution.interpolant)
    t_events, y_events = (None, None) if crossings is None else _found(crossings, state)
    message, nfev = _MESSAGES.get(status, solution.message), solution.stats.num_field_evals
    return IvpResult(t, y, sol, t_events, y_events, nfev, 0, 0, status, message, status >= 0)


def solve_ivp_vjp(
    fun: Field,
    t_span: Sequence[float],
    y0: Any,
    method: str = "RK45",
    t_eval: Any = None,
    args: Sequence[Any] | None = None,
    **options: Any,
) -> tuple[IvpResult, Callable[[Any], IvpGradients]]:
    """The result of :func:`solve_ivp`, and the pullback y_bar -> cotangents of y0, args, t_span and t_eval.

    They are exact for the discrete solution on its accepted steps, to rounding.

    Args:
        fun: a :class:`Field` of ``fn(t, y, *args)`` and ``vjp(t, y, *args, f_bar)``, which returns the cotangents
            ``(t_bar, y_bar, *args_bar)``, None for zero.
        args: arrays; the others are as for :func:`solve_ivp`.

    Returns:
        ``(result, pullback)``. ``pullback(y_bar)`` takes a cotangent of ``result.y``, shape ``(n, k)``, and returns
        :class:`IvpGradients`: ``y0`` of shape ``(n,)``, ``args`` of the shapes of args, ``t_span`` of shape ``(2,)``,
        ``t_eval`` of its shape or None. Without t_eval the steps move with t_span[0], and the last one ends at
        t_span[1].

    Raises:
        InputError: an argument breaks a rule, or fun brings no VJP.
        SolveError: the solve failed.

    Cost: as :func:`solve_vjp`; without t_eval the steps are taken twice.
    Source: as for :func:`solve_vjp`.

    Example:
        >>> import numpy as np
        >>> from janode.numpy import Field, solve_ivp_vjp
        >>> fun = Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -np.sum(y * f_bar)))
        >>> result, pullback = solve_ivp_vjp(fun, (0, 1), [1.0], t_eval=[1.0], args=(0.5,), rtol=1e-8, atol=1e-10)
        >>> bool(abs(pullback(np.ones((1, 1))).args[0] + np.exp(-0.5)) < 1e-6)
        True
    """
    where = "solve_ivp_vjp"
    user_vjp = getattr(fun, "vjp", None)
    if user_vjp is None:
        raise InputError(f"{where}: fun must bring its VJP; got {type(fun).__name__}. Give Field(fn, vjp).")
    arrays = map(np.asarray, _args(where, args))
    extra = tuple(array.astype(np.result_type(array, float)) for array in arrays)
    state, name, stepping = _state(where, y0), _method(where, method), _stepping(where, options)

    def vjp(t: Any, y: np.ndarray, params: Any, f_bar: np.ndarray) -> Any:
        t_bar, y_bar, *args_bar = user_vjp(t, y, *params, f_bar)
        return t_bar, y_bar, tuple(args_bar)

    field = Field(lambda t, y, params: np.asarray(fun.fn(t, y, *params), dtype=y.dtype), vjp)
    ts, rows = _times(where, t_span, t_eval)
    num_evals, steps = 0, {"rtol": stepping.rtol, "atol": stepping.atol, "controller": stepping.controller}
    if rows is None:
        found = solve_ivp(fun.fn, t_span, y0, method, args=extra, **options)
        if found.success:
            ts, num_evals, steps = found.t.tolist(), found.nfev, {"steps": 1}
        rows = list(range(len(ts)))
    solution, pull = solve_vjp(field, state, ts, extra, method=name, **steps)
    num_evals += solution.stats.num_field_evals
    t = np.array([ts[row] for row in rows])
    result = IvpResult(t, solution.ys[rows].T, None, None, None, num_evals, 0, 0, 0, _MESSAGES[0], True)

    def pullback(y_bar: Any) -> IvpGradients:
        """The cotangents of y0, args, t_span and t_eval for the cotangent y_bar of ``result.y``."""
        given = np.asarray(y_bar)
        if given.shape != result.y.shape:
            raise InputError(
                f"pullback: y_bar must have the shape of y, {result.y.shape}; got {given.shape}. Give one cotangent "
                "per state."
            )
        ys_bar = np.zeros_like(solution.ys)
        ys_bar[rows] = given.T
        gradients = pull(ys_bar)
        ts_bar = np.asarray(gradients.ts)
        if t_eval is None:
            span = np.array([ts_bar[:-1].sum(), ts_bar[-1]])
            return IvpGradients(gradients.y0, gradients.params, span, None)
        inner = np.array([ts_bar[row] if 0 < row < len(ts) - 1 else 0.0 for row in rows])
        return IvpGradients(gradients.y0, gradients.params, ts_bar[[0, -1]], inner)

    return result, pullback


def _method(where: str, method: Any) -> str:
    if method in IMPLICIT:
        raise InputError(
            f"{where}: method must be explicit; got {method!r}, which is for stiff problems. Use 'RK45' or 'DOP853' "
            "where small steps are affordable."
        )
    if not isinstance(method, str) or method not in METHODS:
        raise unknown_name(where, "method", method, METHODS)
    return METHODS[method]


def _stepping(where: str, options: dict[str, Any]) -> Stepping:
    for key in options:
        if key not in OPTIONS:
            raise unknown_name(where, "the options of an explicit method", key, OPTIONS)
    first, longest = options.get("first_step"), options.get("max_step", math.inf)
    controller = PIController(first_step=None if first is None else float(first), max_step=float(longest))
    rtol, atol = (_tolerance(options.get(name, default)) for name, default in (("rtol", 1e-3), ("atol", 1e-6)))
    return Stepping(rtol=rtol, atol=atol, controller=controller)


def _tolerance(given: Any) -> Any:
    return float(given) if np.ndim(given) == 0 else np.asarray(given, dtype=float)


def _args(where: str, args: Any) -> tuple[Any, ...]:
    if args is None:
        return ()
    if not isinstance(args, list | tuple):
        raise InputError(f"{where}: args must be a tuple; got {type(args).__name__}. Give (value,) for a single one.")
    return tuple(args)


def _state(where: str, y0: Any) -> np.ndarray:
    state = np.asarray(y0)
    if state.ndim != 1 or not np.issubdtype(state.dtype, np.number):
        raise InputError(
            f"{where}: y0 must be an array of numbers of shape (n,); got shape {state.shape} and dtype {state.dtype}. "
            "Use solve for other shapes."
        )
    return state.astype(complex if np.iscomplexobj(state) else float)


def _times(where: str, t_span: Any, t_eval: Any) -> tuple[list[float], list[int] | None]:
    """(ts, the row of each entry of t_eval in them)."""
    if np.shape(t_span) != (2,):
        raise InputError(f"{where}: t_span must have 2 entries; got shape {np.shape(t_span)}. Give start and end.")
    start, end = map(float, t_span)
    if t_eval is None:
        return [start, end], None
    times = np.asarray(t_eval, dtype=float)
    if times.ndim != 1:
        raise InputError(f"{where}: t_eval must be 1-D; got shape {times.shape}. Give a sequence of times.")
    low, high = min(start, end), max(start, end)
    if not np.all((low <= times) & (times <= high)):
        raise InputError(
            f"{where}: t_eval must lie within t_span, {start} to {end}; got {times}. Leave out the others."
        )
    if np.any(np.diff(times) * (end - start) <= 0.0):
        raise InputError(f"{where}: t_eval must be sorted in the direction of t_span; got {times}. Sort it.")
    inner = [t for t in times.tolist() if t not in (start, end)]
    ts = [start, *inner, end]
    return ts, [ts.index(t) for t in times.tolist()]


def _crossings(where: str, events: Any, args: tuple[Any, ...]) -> Crossings:
    functions = list(events) if isinstance(events, list | tuple) else [events]
    limits, directions = [], []
    for event in functions:
        if not callable(event):
            raise InputError(
                f"{where}: an event must be callable as event(t, y); got {type(event).__name__}. Give one."
            )
        terminal = getattr(event, "terminal", None)
        if not (terminal is None or (isinstance(terminal, int | np.integer | np.bool_) and terminal >= 0)):
            raise InputError(
                f"{where}: terminal of an event must be a bool or a positive integer; got {terminal!r}. True ends the "
                "solve at its first crossing."
            )
        limits.append(float(terminal) if terminal else math.inf)
        directions.append(int(np.sign(getattr(event, "direction", 0))))

    def values(t: float, y: Any) -> list[float]:
        return [float(np.reshape(event(t, y[0], *args), ())) for event in functions]

    return Crossings(values, directions, limits)


def _found(crossings: Crossings, y0: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(times, states) of each event."""
    times, states = [], []
    for event in range(len(crossings.limits)):
        mine = [(t, y[0]) for e, t, y in crossings.found if e == event]
        times.append(np.array([t for t, _ in mine]))
        states.append(np.array([y for _, y in mine], dtype=y0.dtype))
    return times, states
