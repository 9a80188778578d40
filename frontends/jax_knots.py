"""Controls on knots in JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from janode.core import arguments
from janode.core.errors import InputError
from janode.core.knots import Knots, Weights, check_knots, stop_at_knots
from janode.core.protocols import Array, Method
from janode.core.stepping import Stepping

from .jax_trees import is_any_traced, named_leaves
from .knots import KnotsField

jax.tree_util.register_dataclass(Knots, data_fields=["values"], meta_fields=["times", "kind"])


def on_knots(
    knots: Knots,
    field: Callable[..., Any],
    has_params: bool,
    ts: Any,
    stepping: Stepping,
    method: Method,
    sampling: str,
    like: Array,
) -> tuple[KnotsField, Any, Stepping]:
    """(field of (params, values), values, stepping that ends at the knots); stage times are those of ``like``."""
    given, structure, paths = named_leaves(knots.values, "controls.values")
    check_knots("solve", knots, given, paths, sampling)
    leaves = tuple(map(jnp.asarray, given))
    arguments.check_parameters("solve", leaves, jnp, paths)
    if not is_any_traced(ts):
        # The solve rounds ts to JAX's default float: knots at the same times must stay there.
        known = arguments.read_times("solve", np.asarray(ts) if isinstance(ts, jax.Array) else ts)
        rounded = [np.asarray(times, jnp.result_type(float)).tolist() for times in (knots.times, known)]
        knots = replace(knots, times=rounded[0])
        stepping = stop_at_knots("solve", knots, stepping, method, rounded[1])
    elif stepping.is_adaptive("solve", method):
        raise InputError(
            "solve: Knots with adaptive steps must come with ts known when the solve is traced; got traced ts. Give ts "
            "as numbers, or steps."
        )
    weights = Weights(knots, jnp, jnp.zeros((), like.real.dtype))
    made = KnotsField(field, has_params, jnp, weights, jax.tree.flatten, partial(jax.tree.unflatten, structure))
    return made, jax.tree.unflatten(structure, leaves), stepping
