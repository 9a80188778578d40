"""Is a trained model an ODE? For any array library: the verdict, and helpers for monitors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat

from janode.backends.registry import array_backend
from janode.core import arguments, validity_start, verdict
from janode.core.errors import InputError
from janode.core.judge import Run, judge
from janode.core.knots import Knots
from janode.core.protocols import Array, State
from janode.core.validity import StepSizeMonitor, ToleranceMonitor
from janode.core.validity_checks import AnyMethod, Check
from janode.core.validity_metrics import Comparison
from janode.core.verdict import Discrepancies, Entry, Validity

from .manual import solve, solve_vjp
from .trees import Tree
from .validity_report import plot_validity, show_validity

__all__ = [
    "Check",
    "Discrepancies",
    "Entry",
    "StepSizeMonitor",
    "ToleranceMonitor",
    "Validity",
    "checksum",
    "plot_validity",
    "relative_distance",
    "show_validity",
    "starting_step",
    "validate",
]


def validate(
    field: Any,
    y0: Any,
    ts: Sequence[float] | Array,
    params: Any = None,
    *,
    trained_with: tuple[AnyMethod, float] | tuple[AnyMethod, float, float],
    metric: Callable[[Any], Any],
    controls: Knots | None = None,
    loss_bar: Callable[[Any], Any] | None = None,
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
        loss_bar: ``loss_bar(ys)`` returns the cotangent of ys, for the discrepancy of gradients; unless given that of
            the loss |y(ts[-1])|^2 / 2. Gradients are taken if the field brings its VJP.
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
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> found = jo.validate(
        ...     lambda t, y: -3.0 * y, np.ones(1), [0.0, 1.0], trained_with=("euler", 0.5),
        ...     metric=lambda ys: ys[-1, 0], metric_range=(-3, 3),
        ... )
        >>> found.verdict
        "Not an ODE, but a network tied to 'euler' with step 0.5: its metric is 0.25 there, and with ..."
    """
    has_vjp = getattr(field, "vjp", None) is not None or hasattr(field, "linearize")
    bar = last_state if loss_bar is None else loss_bar

    def run(method: AnyMethod, sized: dict[str, Any], with_gradient: bool) -> Run:
        options: dict[str, Any] = {"controls": controls, "method": method, **sized, "on_failure": "return"}
        if not with_gradient:
            solution, gradient = solve(field, y0, ts, params, **options), None
            num_field_evals = solution.stats.num_field_evals
        else:
            solution, pullback = solve_vjp(field, y0, ts, params, **options)
            num_field_evals = solution.stats.num_field_evals
            found = pullback(bar(solution.ys))
            gradient = Tree(found.y0, "y0").leaves + Tree(found.params, "params").leaves
        return Run(solution.ys, Tree(solution.ys, "ys").leaves, gradient, num_field_evals)

    times = arguments.read_times("validate", ts)
    comparison = Comparison(compare, metric_range)
    return judge(run, metric, trained_with, times, controls, methods, factors, threshold, comparison, has_vjp)


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
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> h = jo.starting_step(lambda t, y: -y, np.ones(3), [0.0, 1.0])
        >>> monitor = jo.StepSizeMonitor(T=1.0, h=h)
    """
    state = Tree(y0, "y0")
    backend = array_backend(arguments.find_namespace("starting_step", state.leaves, state.paths))
    given = () if params is None else (params,)

    def slope(t: Array, y: State) -> State:
        return Tree(field(t, state.build(y), *given), "f").leaves

    times = arguments.read_times("starting_step", ts)
    return validity_start.starting_step(backend, slope, state.leaves, times, method, max_steps)


def last_state(ys: Any) -> Any:
    """The cotangent of ys for the loss |y(ts[-1])|^2 / 2."""
    tree = Tree(ys, "ys")
    return tree.build([_last(leaf) for leaf in tree.leaves])


def _last(leaf: Array) -> Array:
    xp = array_api_compat.array_namespace(leaf)
    return xp.concat([xp.zeros_like(leaf[:-1, ...]), leaf[-1:, ...]])


def relative_distance(left: Any, right: Any) -> float:
    """||a - b|| / ||b|| over all arrays of two pytrees: for monitors that compare gradients or trajectories.

    Args:
        left, right: pytrees of one structure, with arrays of the same shapes.

    Returns:
        The distance, dimensionless; 0 if both are zero, infinite if only b is.

    Raises:
        InputError: the structures differ.

    Example:
        >>> import numpy as np
        >>> relative_distance({"w": np.asarray([3.0, 4.5])}, {"w": np.asarray([3.0, 4.0])})
        0.1
    """
    a, b = Tree(left, "left"), Tree(right, "right")
    return verdict.relative_distance(matched(a.leaves, b.leaves, a.spec == b.spec), b.leaves)


def matched(left: State, right: State, is_alike: bool) -> State:
    """The left leaves, if they are as the right ones."""
    if not is_alike or [leaf.shape for leaf in left] != [leaf.shape for leaf in right]:
        raise InputError(
            "relative_distance: both pytrees must have one structure and the same shapes; got "
            f"{[tuple(leaf.shape) for leaf in left]} and {[tuple(leaf.shape) for leaf in right]}. Compare what the "
            "same function returns."
        )
    return left


def checksum(tree: Any) -> str:
    """A checksum of all arrays of a pytree, bit by bit: for monitors, ``checksum=lambda: checksum(params)``.

    Example:
        >>> import numpy as np
        >>> params = {"w": np.zeros(3)}
        >>> before = checksum(params)
        >>> params["w"][1] = 1e-300
        >>> checksum(params) == before
        False
    """
    return digest((leaf.dtype, leaf.shape, _bytes(leaf)) for leaf in Tree(tree, "tree").leaves)


def digest(parts: Any) -> str:
    """A checksum of (dtype, shape, bytes) of arrays."""
    import hashlib  # for debugging alone

    total = hashlib.blake2b(digest_size=16)
    for dtype, shape, data in parts:
        total.update(f"{dtype} {tuple(shape)} ".encode())
        total.update(data)
    return total.hexdigest()


def _bytes(leaf: Array) -> bytes:
    """The bits of an array; of libraries that do not give them, the shortest decimals that stand for its numbers."""
    if hasattr(leaf, "tobytes"):
        return leaf.tobytes()
    xp = array_api_compat.array_namespace(leaf)
    kind = complex if xp.isdtype(leaf.dtype, "complex floating") else float
    return repr([kind(entry) for entry in xp.reshape(leaf, (-1,))]).encode()
