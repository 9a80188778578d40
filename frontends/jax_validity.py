"""Is a trained model an ODE? For JAX: the verdict, with gradients by ``jax.vjp``, and helpers for monitors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from janode.backends.registry import find_backend
from janode.core import arguments, validity_start, verdict
from janode.core.judge import Run, judge
from janode.core.knots import Knots
from janode.core.protocols import Array, State
from janode.core.validity_checks import AnyMethod
from janode.core.validity_metrics import Comparison
from janode.core.verdict import Validity

from . import validity
from .jax_solve import solve


def validate(
    field: Any,
    y0: Any,
    ts: Sequence[float] | Array,
    params: Any = None,
    *,
    trained_with: tuple[AnyMethod, float] | tuple[AnyMethod, float, float],
    metric: Callable[[Any], Any],
    controls: Knots | None = None,
    loss: Callable[[Any], Array] | None = None,
    methods: Sequence[AnyMethod] | None = None,
    factors: Sequence[float] | None = None,
    threshold: float = 0.1,
    compare: str = "absolute",
    metric_range: tuple[float, float] | None = None,
) -> Validity:
    """Whether a trained model is an ODE, or depends on the solver that it was trained with.

    It solves the model by several methods and step sizes, or tolerances. The model is an ODE as far as its metric is
    the same under every solver whose error is not larger than that of training.

    Args:
        field, y0, ts, params: as for :func:`solve`: the model, and the initial states of a batch.
        trained_with: (method, step size) of training, the step size in (0, |ts[-1] - ts[0]|]; or (method, rtol, atol)
            of adaptive steps, both > 0, rtol < 1, the method with an error estimate.
        metric: ``metric(ys)`` returns a number, or one for each sample, from the states at all ts.
        controls: :class:`Knots`, or None. Gradients are not taken with respect to them.
        loss: ``loss(ys)`` returns a real 0-d array, for the discrepancy of gradients with respect to y0 and params;
            unless given |y(ts[-1])|^2 / 2.
        methods: the methods of the table; unless given that of training, the one that tests it in a
            :class:`StepSizeMonitor` or :class:`ToleranceMonitor`, and the one that tests that; for adaptive steps at
            last ``"dopri8"``.
        factors: the step sizes of the table as multiples of that of training; 1 and 1/2 are added, and what is longer
            than the interval is left out. Unless given, 2 to 1/4. Of adaptive steps those of both tolerances; 1 and
            1/10 are added, and rtol >= 1 is left out; unless given, 10 to 1/100, which must be within reach of the
            dtype.
        threshold: the largest difference of metrics of a valid model, > 0.
        compare: ``"absolute"`` for accuracies, or ``"relative"``, to the other solver's metric, for losses.
        metric_range: (low, high) of legal metrics; unless given (0, 1) for ``"absolute"``, else unlimited.

    Returns:
        The table, the discrepancies, the critical step size or tolerance, and the verdict. ``print`` shows them as
        text, :func:`show_validity` as a rich table, :func:`plot_validity` as a figure.

    Raises:
        InputError: an argument breaks a rule above, or the solution is not finite under the training solver.

    Cost: one solve per entry of the table, and three gradients.
    Source: Ott, Katiyar, Hennig, Tiemann 2021, arXiv 2007.15386.

    Example:
        >>> import jax.numpy as jnp
        >>> import janode.jax as jo
        >>> found = jo.validate(
        ...     lambda t, y: -3.0 * y, jnp.ones(1), [0.0, 1.0], trained_with=("euler", 0.5),
        ...     metric=lambda ys: ys[-1, 0], metric_range=(-3, 3),
        ... )
        >>> found.is_valid
        False
    """

    def run(method: AnyMethod, sized: dict[str, Any], with_gradient: bool) -> Run:
        def states(y0: Any, params: Any) -> tuple[Any, Any]:
            options: Any = {"controls": controls, "method": method, **sized, "on_failure": "return"}
            solution = solve(field, y0, ts, params, **options)
            return solution.ys, solution.stats.num_field_evals

        if not with_gradient:
            ys, num_field_evals = states(y0, params)
            return Run(ys, tuple(jax.tree.leaves(ys)), None, int(num_field_evals))
        ys, pull, num_field_evals = jax.vjp(states, y0, params, has_aux=True)
        gradient = pull(jax.grad(last_state if loss is None else loss)(ys))
        return Run(ys, tuple(jax.tree.leaves(ys)), tuple(jax.tree.leaves(gradient)), int(num_field_evals))

    times = arguments.read_times("validate", np.asarray(ts))
    comparison = Comparison(compare, metric_range)
    return judge(run, metric, trained_with, times, controls, methods, factors, threshold, comparison, True)


def starting_step(
    field: Any,
    y0: Any,
    ts: Sequence[float] | Array,
    params: Any = None,
    *,
    method: AnyMethod = "euler",
    max_steps: int = 500,
) -> float:
    """The first step size for a :class:`StepSizeMonitor`: Hairer's estimate for the model before training.

    Args:
        field, y0, ts, params: as for :func:`solve`: the model, and the initial states of a batch.
        method: the training method.
        max_steps: that of the monitor, >= 1.

    Returns:
        h, in [T / max_steps, T] with T = |ts[-1] - ts[0]|.

    Cost: two field evaluations.
    Source: Hairer, Norsett, Wanner 1993, section II.4, page 169.

    Example:
        >>> import jax.numpy as jnp
        >>> import janode.jax as jo
        >>> h = jo.starting_step(lambda t, y: -y, jnp.ones(3), [0.0, 1.0])
        >>> monitor = jo.StepSizeMonitor(T=1.0, h=h)
    """
    leaves, structure = jax.tree.flatten(y0)
    given = () if params is None else (params,)

    def slope(t: Array, y: State) -> State:
        return tuple(jax.tree.leaves(field(t, jax.tree.unflatten(structure, y), *given)))

    times = arguments.read_times("starting_step", np.asarray(ts))
    return validity_start.starting_step(find_backend("jax"), slope, tuple(leaves), times, method, max_steps)


def last_state(ys: Any) -> Array:
    """|y(ts[-1])|^2 / 2."""
    return sum(jnp.sum(jnp.abs(leaf[-1]) ** 2) / 2 for leaf in jax.tree.leaves(ys))


def relative_distance(left: Any, right: Any) -> float:
    """||a - b|| / ||b|| over all arrays of two pytrees: for monitors that compare gradients or trajectories.

    Args:
        left, right: pytrees of one structure, with arrays of the same shapes.

    Returns:
        The distance, dimensionless; 0 if both are zero, infinite if only b is.

    Raises:
        InputError: the structures differ.

    Example:
        >>> import jax.numpy as jnp
        >>> round(relative_distance([jnp.asarray([3.0, 4.5])], [jnp.asarray([3.0, 4.0])]), 6)
        0.1
    """
    a, b = (tuple(jax.tree.leaves(tree)) for tree in (left, right))
    structures: list[Any] = [jax.tree.structure(tree) for tree in (left, right)]
    return verdict.relative_distance(validity.matched(a, b, structures[0] == structures[1]), b)


def checksum(tree: Any) -> str:
    """A checksum of all arrays of a pytree, bit by bit: for monitors, ``checksum=lambda: checksum(params)``.

    JAX's arrays do not change; what ``evaluate`` may change are names that hold them.

    Example:
        >>> import jax.numpy as jnp
        >>> checksum({"w": jnp.zeros(3)}) == checksum({"w": jnp.ones(3)})
        False
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return validity.digest((leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in leaves)
