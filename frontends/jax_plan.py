"""The plan of a JAX gradient that is to fit a memory budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.auto import Auto
from janode.core.dry import Footprint, Sizes
from janode.core.errors import InputError
from janode.core.grids import FixedGrid
from janode.core.plan import Offers, Plan, Planner
from janode.core.protocols import Recovery, State

from .footprints import known_footprint
from .jax_field import JaxField
from .jax_problem import Problem
from .jax_steps import FixedSteps

jax.tree_util.register_static(Plan)


def make_plan(auto: Auto, field: Callable[..., Any], problem: Problem, arrays: Any) -> Plan | None:
    """The plan, or None for a field that has no derivative.

    The shapes of the field's residuals are traced once for each field and shapes. What a compiler makes of a solve is
    not known before: for a budget that was given, gradients of short solves are compiled to see, which takes seconds.
    """
    times, state, theta, constants, nodes, own = arrays
    node = tuple([jax.eval_shape(lambda leaf: leaf[0], leaf) for leaf in nodes])
    sizes = Sizes(*(tuple(map(_size, part)) for part in (state, theta, node)))
    key = tuple([(jnp.shape(leaf), str(leaf.dtype)) for leaf in (*state, *theta, *node)])
    try:
        footprint = known_footprint(field, key, lambda: _traced(problem, state, theta + node, constants, sizes))
    except (NotImplementedError, TypeError, ValueError):  # JAX says what it lacks where a gradient is taken
        return None
    sweep: Any = problem.sweep(times, theta, constants, nodes, own)

    def measure(recovery: Recovery, counts: tuple[int, ...]) -> int:
        return _compiled(problem, arrays, recovery, counts)

    is_measured = auto.memory_budget is not None and not nodes
    planner = Planner(
        sweep, footprint, sizes, Offers(whole_steps=False, overwrites=True), measure if is_measured else None
    )
    return planner.plan(auto, problem.backend.free_memory(state[0]), None)


def _size(leaf: Any) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _traced(problem: Problem, state: State, theta: State, constants: State, sizes: Sizes) -> Footprint:
    """From the shapes of the residuals, as far as they are not inputs; nothing is evaluated."""

    def pullback(t: Any, y: State, theta: State, constants: State) -> Any:
        shared = theta[: len(sizes.wanted)]
        field = JaxField(problem.field, constants, False, (True,) * len(shared))
        return field.linearize(t, y, theta).pullback

    t = jax.ShapeDtypeStruct((), state[problem.clock].real.dtype)
    held = sum(map(_size, jax.tree.leaves(jax.eval_shape(pullback, t, state, theta, constants))))
    y, others = sum(sizes.state), sum(sizes.wanted) + sum(sizes.controls)
    graph = max(0, held - y - others)
    return Footprint(graph + y, graph + y, graph, True, True, y + others)


def _compiled(problem: Problem, arrays: Any, recovery: Recovery, counts: tuple[int, ...]) -> int:
    """The bytes of temporaries, outputs and cotangents of the gradient of a short solve."""
    times, *others = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype), arrays)
    times = jax.ShapeDtypeStruct((len(counts) + 1,), times.dtype)
    short = replace(problem, steps=FixedSteps(FixedGrid(counts)), recovery=recovery, checks_times=False, bar=None)

    def gradient(bars: State, times: Any, y0: State, theta: State, *rest: Any) -> Any:
        ys, pull = jax.vjp(lambda y0, theta: short.run(times, y0, theta, *rest)[0], y0, theta)
        return ys, pull(bars)

    bars = tuple([jax.ShapeDtypeStruct((len(counts) + 1, *leaf.shape), leaf.dtype) for leaf in others[0]])
    found = jax.jit(gradient).lower(bars, times, *others).compile().memory_analysis()
    if found is None:
        raise InputError(
            "solve: memory_budget must have a device whose compiler tells what a program takes; got "
            f"{jax.default_backend()}. Choose the adjoint by name."
        )
    return found.temp_size_in_bytes + found.output_size_in_bytes + sum(map(_size, bars))
