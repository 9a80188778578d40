"""janode for JAX: solve with gradients through ``custom_vjp``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from janode.backends.registry import find_backend
from janode.core import arguments
from janode.core.adjoint import find_adjoint, pull_back
from janode.core.errors import InputError, JanodeError, NonFiniteState, SolveError
from janode.core.failures import raise_failure
from janode.core.grids import FixedGrid, check_times
from janode.core.methods import find_method
from janode.core.protocols import Array, Method, Recovery, State
from janode.core.records import Nothing
from janode.core.recovery import Kept
from janode.core.solution import BAD_TIMES, NON_FINITE, SUCCESS, Solution, Stats
from janode.core.sweep import Sweep
from janode.core.tableaus import Tableau

from .jax_field import ClosedField, JaxField, close

__all__ = ["InputError", "JanodeError", "NonFiniteState", "Solution", "SolveError", "Stats", "solve"]

jax.tree_util.register_dataclass(Stats)
jax.tree_util.register_dataclass(Solution)


@jax.tree_util.register_static
class _Wanted(tuple[Any, ...]):
    """Which cotangents are wanted: (of ts, of each leaf of theta). Static, so that residuals can carry it."""


class _Problem:
    """One solve: what does not depend on the values of arrays."""

    def __init__(self, method: Method, grid: FixedGrid, field: ClosedField, clock: int) -> None:
        self.method, self.grid, self.field, self.clock = method, grid, field, clock

    def sweep(self, ts: Array, theta: State, constants: State, needs_time: bool, wanted: Sequence[bool]) -> Sweep:
        """The sweep for these arrays."""
        field = JaxField(self.field, constants, needs_time, wanted)
        return Sweep(find_backend("jax"), self.method, field, self.grid, ts, theta, self.clock)

    def forward(self, ts: Array, y0: State, theta: State, constants: State) -> State:
        """The states at all ts."""
        outputs, _ = Kept(Nothing()).forward(self.sweep(ts, theta, constants, False, ()), y0)
        return outputs

    def differentiable(self, recovery: Recovery) -> Callable[..., State]:
        """``forward`` with the gradient of the core."""
        apply = jax.custom_vjp(self.forward)

        def fwd(ts: Any, y0: Any, theta: Any, constants: Any) -> tuple[State, Any]:
            wanted = _Wanted((ts.perturbed, *(leaf.perturbed for leaf in theta)))
            ts, y0, theta, constants = jax.tree.map(
                lambda leaf: leaf.value, (ts, y0, theta, constants), is_leaf=lambda leaf: hasattr(leaf, "perturbed")
            )
            sweep = self.sweep(ts, theta, constants, wanted[0], wanted[1:])
            outputs, tape = recovery.forward(sweep, y0)
            return outputs, (wanted, ts, theta, constants, tape)

        def bwd(residuals: Any, ys_bar: Any) -> tuple[Any, ...]:
            wanted, ts, theta, constants, tape = residuals
            bars = tuple(jnp.zeros(bar.shape, bar.dtype) if isinstance(bar, SymbolicZero) else bar for bar in ys_bar)
            gradient = pull_back(self.sweep(ts, theta, constants, wanted[0], wanted[1:]), recovery, tape, bars)
            totals = iter(gradient.theta)
            theta_bar = tuple(
                next(totals).astype(leaf.dtype) if is_wanted else None
                for leaf, is_wanted in zip(theta, wanted[1:], strict=True)
            )
            ts_bar = None if gradient.ts is None else gradient.ts[0].astype(ts.dtype)
            return ts_bar, gradient.y0, theta_bar, None

        apply.defvjp(fwd, bwd, symbolic_zeros=True)
        return apply


def _is_concrete(leaves: Sequence[Any]) -> bool:
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def _leaves(tree: Any, name: str) -> tuple[State, Any, list[str]]:
    """(leaves as arrays, structure, path of each leaf)."""
    found, structure = jax.tree.flatten_with_path(tree)
    paths = [name + jax.tree_util.keystr(path) for path, _ in found]
    arrays = []
    for (_, leaf), path in zip(found, paths, strict=True):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex | int):
            raise InputError(
                f"solve: {path} must be an array; got {type(leaf).__name__}. Convert it with jax.numpy.asarray."
            )
        arrays.append(jnp.asarray(leaf, dtype=jnp.result_type(leaf)))
    return tuple(arrays), structure, paths


def _check_devices(leaves: State, paths: Sequence[str]) -> None:
    places = {
        str(leaf.devices()): path
        for leaf, path in zip(leaves, paths, strict=True)
        if _is_concrete((leaf,)) and leaf.committed
    }
    if len(places) > 1:
        listed = ", ".join(f"{path}: {name}" for name, path in places.items())
        raise InputError(f"solve: all arrays must be on the same devices; got {listed}. Use jax.device_put.")


def _check_start(state: State) -> None:
    """Refuse an initial state known not to be finite; NumPy reads it, for under ``jit`` JAX would only trace."""
    if any(not np.isfinite(np.asarray(leaf)).all() for leaf in state if _is_concrete((leaf,))):
        raise InputError("solve: y0 must be finite; got an infinite or NaN entry. Check how it is computed.")


def _times(ts: Any, steps: int | None, step_size: float | None) -> tuple[Array, FixedGrid, Array | None]:
    """(ts, grid, whether traced ts are monotonic); where they are not they become NaN."""
    if not isinstance(ts, jax.core.Tracer) and _is_concrete(list(ts)):
        check_times("solve", [float(t) for t in ts])
        grid = arguments.fixed_grid("solve", [float(t) for t in ts], steps, step_size)
        return jnp.asarray(ts, dtype=jnp.result_type(float)), grid, None
    times = jnp.asarray(ts).astype(jnp.result_type(float))
    if step_size is not None:
        raise InputError(
            "solve: step_size must come with ts known when the solve is traced; got traced ts. Use steps, which does "
            "not depend on the values of ts."
        )
    grid = arguments.fixed_grid("solve", [0.0] * len(times), steps, None)
    rising = times[1:] - times[:-1]
    is_monotonic = jnp.all(rising > 0) | jnp.all(rising < 0)
    return jnp.where(is_monotonic, times, jnp.nan), grid, is_monotonic


def solve(
    field: Callable[..., Any],
    y0: Any,
    ts: Sequence[float] | Array,
    params: Any = None,
    *,
    method: str | Tableau | Method = "dopri5",
    steps: int | None = None,
    step_size: float | None = None,
    adjoint: str = "auto",
    on_failure: str = "raise",
) -> Solution[Any]:
    """The solution y(ts) of dy/dt = field(t, y, params), y(ts[0]) = y0, differentiable in reverse mode.

    Works under ``jit``, ``vmap``, ``grad`` and inside ``lax.scan``. Gradients reach y0, params, ts and arrays the field
    closes over. They are exact for the discrete solution, to rounding.

    Args:
        field: ``field(t, y)``, or ``field(t, y, params)`` if params are given. ``t`` is a 0-d array of the state's real
            dtype; the output must have the structure, shapes and dtypes of y.
        y0: initial state, any pytree of real or complex floating-point arrays, of any shapes.
        ts: at least two times, strictly increasing or strictly decreasing, in the time unit of the field; they take
            JAX's default float dtype. If traced, they cannot be checked: the solution is NaN and says so in its
            status where they are not monotonic.
        params: any pytree, such as an Equinox module; its inexact arrays get gradients.
        method: a method's name, a tableau or a method object.
        steps: the number of equal steps between neighbouring ts, >= 1; or
        step_size: the largest step size, > 0; the fewest equal steps not longer than it are taken. Not for traced ts.
        adjoint: which of the exact gradients (equal to rounding): ``"symplectic"`` (the default, ``"auto"``) keeps one
            state per step; ``"aca"`` too, and the intermediate values of one step in the backward pass; ``"stages"``
            all stage states; ``"restart"`` only the start; with ``"backprop"`` JAX differentiates the solver's own
            operations, which allows forward mode and second derivatives.
        on_failure: ``"raise"`` a SolveError if the state becomes infinite or NaN, or ``"return"`` the status. Inside a
            traced computation the status is an array and nothing is raised; the states stay infinite or NaN from the
            failure on.

    Returns:
        The solution, a pytree; ``ys`` keeps the dtype of y0.

    Raises:
        InputError: an argument breaks a rule above, before any step is taken.
        NonFiniteState: the state became infinite or NaN outside a traced computation, and on_failure is "raise".

    Cost: per step of s stages, forward s field evaluations, backward s VJPs and at most 3 s - 1 field evaluations.
    Outside ``jit`` every call traces and compiles anew: wrap what you call often in ``jax.jit``.
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
    name, recovery = find_adjoint(adjoint)
    arguments.check_on_failure("solve", on_failure)
    state, tree, paths = _leaves(y0, "y0")
    arguments.check_state("solve", state, jnp, paths)
    _check_devices(state, paths)
    times, grid, is_monotonic = _times(ts, steps, step_size)
    chosen, backend = find_method(method), find_backend("jax")
    _check_start(state)
    clock = arguments.widest(state, jnp)
    theta, closed, constants = close(field, state, tree, paths, params, clock)
    problem = _Problem(chosen, grid, closed, clock)
    run = problem.forward if name == "backprop" else problem.differentiable(recovery)
    ys = run(times, state, theta, constants)
    num_field_evals = grid.num_steps * len(chosen.c)
    stats = Stats(grid.num_steps, grid.num_steps, 0, num_field_evals, 0)
    status = jnp.where(backend.all_finite(tuple(leaf[-1] for leaf in ys)), SUCCESS, NON_FINITE)
    if is_monotonic is not None:
        status = jnp.where(is_monotonic, status, BAD_TIMES)
    solution: Solution[Any] = Solution(times, jax.tree.unflatten(tree, ys), stats, status)
    if on_failure == "raise" and _is_concrete((status,)) and int(status):
        rows = [tuple(leaf[k] for leaf in ys) for k in range(len(times))]
        sweep = problem.sweep(times, theta, constants, False, ())
        raise_failure("solve", sweep, rows, solution, lambda row: jax.tree.unflatten(tree, row))
    return solution
