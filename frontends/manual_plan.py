"""The plan of a gradient by manual backprop that is to fit a memory budget."""

from __future__ import annotations

import math
from typing import Any

from janode.core.auto import Auto
from janode.core.dry import Footprint, Sizes
from janode.core.plan import Offers, Plan, Planner
from janode.core.protocols import Array, State
from janode.core.sweep import Sweep

from .footprints import known_footprint
from .knots import KnotsField
from .manual_field import ManualField


def make_plan(auto: Auto, sweep: Sweep, field: ManualField) -> Plan:
    """The plan; the first one for a field and its shapes evaluates and pulls it once."""
    backend: Any = sweep.backend
    state = field.state.leaves
    node = tuple([leaf[0, ...] for leaf in field.controls.leaves])
    theta = field.params.leaves + node
    sizes = Sizes(*(tuple([_size(backend.xp, leaf) for leaf in part]) for part in (state, field.params.leaves, node)))
    key = tuple([(tuple(leaf.shape), str(leaf.dtype)) for leaf in (*state, *theta)]), backend.name
    t = backend.time(0.0, state[sweep.clock])
    own = field.user.field if isinstance(field.user, KnotsField) else field.user
    owner = getattr(own, "vjp", None) or own

    footprint = known_footprint(owner, key, lambda: _measured(backend, field, t, theta, sizes))
    planner = Planner(sweep, footprint, sizes, Offers(graphs=True))
    return planner.plan(auto, backend.free_memory(state[0]), field.stats)


def _size(xp: Any, leaf: Array) -> int:
    if hasattr(leaf, "nbytes"):
        return int(leaf.nbytes)
    bits = xp.finfo(leaf.dtype).bits * (2 if xp.isdtype(leaf.dtype, "complex floating") else 1)
    return math.prod(leaf.shape) * bits // 8


def _measured(backend: Any, field: ManualField, t: Array, theta: State, sizes: Sizes) -> Footprint:
    """What is measured, and no less than the results: small arrays may be had from a cache."""
    xp = backend.xp
    state = sum(sizes.state)
    y = tuple([xp.asarray(leaf, copy=True) for leaf in field.state.leaves])  # for a field that changes them
    point = t, field.state.build(y), *[part.build(leaves) for part, leaves in field.divided(theta)]
    with backend.meter() as meter:
        f = field.user(*point)
        evaluation = max(state, meter.peak)
    f_bar = field.state.build(tuple([xp.ones_like(leaf) for leaf in field.checked(f, y)]))
    del f
    if not hasattr(field.user, "linearize"):
        with backend.meter() as meter:
            field.user.vjp(*point, f_bar)
            pullback = meter.peak
        return Footprint(evaluation, evaluation, 0, True, True, max(state + sum(sizes.wanted), pullback))
    with backend.meter() as meter:
        value, pull = field.user.linearize(*point)
        linearization, graph = max(state, meter.peak), max(0, meter.now - state)
        meter.restart()
        pull(f_bar)
        pullback = meter.peak
    del value
    return Footprint(evaluation, linearization, graph, True, True, max(state + sum(sizes.wanted), pullback))
