"""The arguments of a JAX solve, checked and read: what is static in it, its arrays, and how its results are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from janode.backends.registry import find_backend
from janode.core import arguments
from janode.core.controls import NodeLayout, check_controls, node_layout
from janode.core.errors import InputError
from janode.core.events import read_events
from janode.core.knots import Knots
from janode.core.protocols import Array, Method, State
from janode.core.stepping import Stepping, check_adaptive, find_stops, read_tolerances, refuse_controls, refuse_taps

from .jax_field import close
from .jax_knots import on_knots
from .jax_problem import Problem
from .jax_steps import MAX_STEPS, AdaptiveSteps, FixedSteps
from .jax_taps import Taps
from .jax_trees import is_traced, named_leaves


@dataclass(frozen=True, eq=False)
class Posed:
    """A solve whose arguments are read; ``problem.run(*arrays)`` solves it."""

    problem: Problem
    arrays: tuple[Any, ...]
    """ts, y0, theta, constants of the field, controls, and arrays of the steps."""
    field: Callable[..., Any]
    tree: Any
    """The structure of y0."""
    taps: Taps


def pose(
    field: Callable[..., Any],
    y0: Any,
    ts: Any,
    params: Any,
    controls: Any,
    sampling: str,
    method: Method,
    stepping: Stepping,
) -> Posed:
    """The solve that the arguments describe, still without a gradient; they are checked, and nothing is evaluated."""
    state, tree, paths = _numbers(y0, "y0")
    arguments.check_state("solve", state, jnp, paths)
    clock = arguments.widest(state, jnp)
    args = () if params is None else (params,)
    if isinstance(controls, Knots):
        like = state[clock]
        field, values, stepping = on_knots(controls, field, bool(args), ts, stepping, method, sampling, like)
        params, controls = (params, values), None
    times, steps, checks_times = _read_times(ts, stepping, method)
    _check_start(state)
    taps = Taps(read_events("solve", stepping.event), stepping.dense, tree, args, clock)
    own: Any = None
    if isinstance(steps, AdaptiveSteps):
        events, captured = taps.closed_events(state)
        steps = replace(steps, events=events, is_dense=taps.is_dense, tree=tree)
        own = _tolerances(stepping, state, tree), captured
    elif taps.events or taps.is_dense:
        refuse_taps("solve")
    layout, nodes, controls = _read_controls(controls, method, steps, sampling)
    theta, closed, constants = close(field, times, state, tree, paths, params, controls, clock)
    others = (("params, controls or captured", leaf) for leaf in theta + constants + nodes)
    _check_devices([*zip(paths, state, strict=True), *others])
    problem = Problem(find_backend("jax"), method, steps, closed, clock, checks_times, layout)
    return Posed(problem, (times, state, theta, constants, nodes, own), field, tree, taps)


def _numbers(tree: Any, name: str) -> tuple[State, Any, list[str]]:
    """(leaves as arrays, structure, path of each leaf)."""
    leaves, structure, paths = named_leaves(tree, name)
    return tuple([_array(leaf, path) for leaf, path in zip(leaves, paths, strict=True)]), structure, paths


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
        if isinstance(leaf, jax.Array) and not is_traced(leaf) and leaf.committed:
            places.setdefault(frozenset(leaf.devices()), path)
    if len(places) > 1:
        listed = ", ".join(f"{path}: {sorted(map(str, devices))}" for devices, path in places.items())
        raise InputError(f"solve: all arrays must be on the same devices; got {listed}. Use jax.device_put.")


def _check_start(state: State) -> None:
    """Refuse an initial state known not to be finite; NumPy reads it, for under ``jit`` JAX would only trace."""
    known = [leaf for leaf in state if not is_traced(leaf) and leaf.is_fully_addressable]
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in known):
        raise InputError("solve: y0 must be finite; got an infinite or NaN entry. Check how it is computed.")


def _read_times(ts: Any, stepping: Stepping, method: Method) -> tuple[Array, FixedSteps | AdaptiveSteps, bool]:
    """(ts, steps, whether the values of ts are unknown)."""
    if is_traced(ts) or (isinstance(ts, list | tuple) and any(map(is_traced, ts))):
        times, steps = _read_traced_times(ts, stepping, method)
        return times, steps, True
    is_adaptive = stepping.is_adaptive("solve", method)
    values = np.asarray(ts) if isinstance(ts, jax.Array) else ts
    # Times that differ may be equal in JAX's default float: the rounded ones are checked.
    rounded = np.asarray(arguments.read_times("solve", values), dtype=jnp.result_type(float))
    known = arguments.read_times("solve", rounded.tolist())
    if is_adaptive:
        return jnp.asarray(rounded), _adaptive(stepping, known), False
    grid = arguments.fixed_grid("solve", known, stepping.steps, stepping.step_size, method)
    return jnp.asarray(rounded), FixedSteps(grid), False


def _read_traced_times(ts: Any, stepping: Stepping, method: Method) -> tuple[Array, FixedSteps | AdaptiveSteps]:
    """The same for times that nobody knows yet: the steps are those between times that stand for them."""
    is_adaptive = stepping.is_adaptive("solve", method)
    times = jnp.asarray(ts)
    if times.ndim != 1 or len(times) < 2 or jnp.iscomplexobj(times):
        raise InputError(
            f"solve: traced ts must be a sequence of at least 2 real numbers; got shape {times.shape} and dtype "
            f"{times.dtype}. Give the start and the end."
        )
    places: list[float] = list(range(len(times)))
    if is_adaptive:
        controller = check_adaptive("solve", stepping)
        if controller.step_ts or controller.jump_ts:
            raise InputError(
                "solve: step_ts and jump_ts must come with ts known when the solve is traced; got traced ts. Leave "
                "them out, or give ts as numbers."
            )
        return times.astype(jnp.result_type(float)), _adaptive(stepping, places)
    if stepping.step_size is not None:
        raise InputError(
            "solve: step_size must come with ts known when the solve is traced; got traced ts. Use steps, which does "
            "not depend on the values of ts."
        )
    grid = arguments.fixed_grid("solve", places, stepping.steps, None, method)
    return times.astype(jnp.result_type(float)), FixedSteps(grid)


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

    found = read_tolerances("solve", stepping, state, jnp, match, lambda entry: not is_traced(entry))
    rtol, atol = (
        tuple(jnp.asarray(entry, leaf.real.dtype) for entry, leaf in zip(part, state, strict=True)) for part in found
    )
    return rtol, atol


def _read_controls(controls: Any, method: Method, steps: Any, sampling: str) -> tuple[NodeLayout | None, State, Any]:
    """(layout of the nodes, leaves, controls as arrays)."""
    if controls is None:
        return None, (), None
    if isinstance(steps, AdaptiveSteps):
        refuse_controls("solve")
    leaves, structure, paths = _numbers(controls, "controls")
    arguments.check_parameters("solve", leaves, jnp, paths)
    layout = node_layout("solve", method, steps.grid.num_steps, sampling)
    check_controls("solve", layout, leaves, paths)
    return layout, leaves, jax.tree.unflatten(structure, leaves)
