"""Forward mode for any Array API library: the field brings its own JVP, the solve takes the tangent along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from janode.core import arguments
from janode.core.controllers import PIDController
from janode.core.errors import InputError
from janode.core.knots import Knots
from janode.core.protocols import Array, Method, State
from janode.core.solution import Solution
from janode.core.stepping import Stepping
from janode.core.tableaus import Tableau
from janode.core.tangent import Direction, Tangent

from .manual_problem import pose
from .trees import Tree

_FIX = "Give one tangent for each array, or None for zero."


def solve_jvp(
    field: Any,
    y0: Any,
    ts: Sequence[float] | Array,
    params: Any = None,
    *,
    y0_dot: Any = None,
    params_dot: Any = None,
    ts_dot: Any = None,
    controls_dot: Any = None,
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
    progress: bool = False,
    on_failure: str = "raise",
) -> tuple[Solution[Any], Any]:
    """The solution, and the derivative of its states along the tangents of y0, params, ts and controls.

    It is exact for the discrete solution, to rounding, for every method, and adjoint to the pullback of ``solve_vjp``:
    <ys_bar, jvp(dots)> = <pullback(ys_bar), dots>.

    Args:
        field: a ``Field`` with ``jvp``, or a network of ``janode.core.layers``, which brings its own.
        y0_dot, params_dot, controls_dot: the tangents, with the structure, shapes and dtypes of y0, params and
            controls (of the values of ``Knots``); any leaf of them may be None for zero, and so may they.
        ts_dot: how fast each of ts moves, ``len(ts)`` numbers; or None for zero. For methods of equal steps the
            derivative holds for motions that keep the steps equal.
        y0, ts, params, controls, sampling, method, steps, step_size, rtol, atol, controller, save, max_steps,
            progress, on_failure: as for :func:`solve`. The derivative is that of the accepted steps: what decides about
            step sizes has none.

    Returns:
        ``(solution, ys_dot)``, ``ys_dot`` with the structure and shapes of ``solution.ys``.

    Raises:
        InputError: an argument breaks a rule, a tangent does not fit its argument, or the field brings no JVP, before
            any step is taken; what the JVP returns is not like y.
        SolveError: as for :func:`solve`.

    Cost: per step of s stages, s field evaluations and s JVPs; adaptive steps are found first, by a solve. One state
    and one tangent per time are held, whatever the number of steps.

    Example:
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> decay = jo.Field(
        ...     lambda t, y, k: -k * y, jvp=lambda t, y, k, t_dot, y_dot, k_dot: -k * y_dot - k_dot * y
        ... )
        >>> y0, k, one = np.asarray([1.0]), np.asarray(0.5), np.asarray(1.0)
        >>> solution, ys_dot = jo.solve_jvp(decay, y0, [0.0, 1.0], k, params_dot=one, method="rk4", steps=20)
        >>> bool(abs(ys_dot[-1, 0] + np.exp(-0.5)) < 1e-6)
        True
    """
    if getattr(field, "jvp", None) is None and not hasattr(field, "push"):
        raise InputError(
            f"solve_jvp: field must bring its JVP; got {type(field).__name__} without. Give Field(fn, jvp=...) or a "
            "network of janode.core.layers."
        )
    stepping = Stepping(steps, step_size, rtol, atol, controller, save, max_steps, progress=progress)
    problem = pose("solve_jvp", field, y0, ts, params, controls, sampling, method, stepping, on_failure)
    sweep, manual = problem.sweep, problem.field
    if isinstance(controls, Knots):
        theta = _tangent(sweep, Tree(params, "params"), params_dot, "params_dot")
        theta += _tangent(sweep, Tree(controls.values, "controls.values"), controls_dot, "controls_dot")
        nodes: State = ()
    else:
        theta = _tangent(sweep, manual.params, params_dot, "params_dot")
        nodes = _tangent(sweep, manual.controls, controls_dot, "controls_dot")
    y0_dot = _tangent(sweep, manual.state, y0_dot, "y0_dot")
    direction = Direction(y0_dot, theta, _speeds(ts_dot, sweep.num_times), nodes)
    solution, rows, _ = problem.run(Tangent(direction))  # type: ignore
    return solution, manual.state.build(sweep.backend.stack(rows))


def _tangent(sweep: Any, tree: Tree, given: Any, name: str) -> State:
    """The leaves of a tangent, with zeros for None."""
    matched = tree.match("solve_jvp", given, name, _FIX)
    arguments.check_cotangents("solve_jvp", name, matched, tree.leaves, tree.paths, "tangent")
    zeros = sweep.backend.zeros(tree.leaves)
    return tuple(zero if dot is None else dot for zero, dot in zip(zeros, matched, strict=True))


def _speeds(ts_dot: Any, count: int) -> list[float]:
    """ts_dot as Python floats."""
    if ts_dot is None:
        return [0.0] * count
    speeds = [float(speed) for speed in ts_dot]
    if len(speeds) != count or not all(map(math.isfinite, speeds)):
        raise InputError(
            f"solve_jvp: ts_dot must be {count} finite numbers, one for each of ts; got {speeds}. Give 0.0."
        )
    return speeds
