"""Is a trained model an ODE? For PyTorch: the verdict, with gradients by autograd, and helpers for monitors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from janode.core import arguments
from janode.core.judge import Run, judge
from janode.core.knots import Knots
from janode.core.validity_checks import AnyMethod
from janode.core.validity_metrics import Comparison
from janode.core.verdict import Validity

from . import validity
from .torch_solve import solve
from .trees import Tree


def validate(
    field: Any,
    y0: Any,
    ts: Sequence[float] | torch.Tensor,
    params: Any = None,
    *,
    trained_with: tuple[AnyMethod, float] | tuple[AnyMethod, float, float],
    metric: Callable[[Any], Any],
    controls: Knots | None = None,
    loss: Callable[[Any], torch.Tensor] | None = None,
    methods: Sequence[AnyMethod] | None = None,
    factors: Sequence[float] | None = None,
    threshold: float = 0.1,
    compare: str = "absolute",
    metric_range: tuple[float, float] | None = None,
) -> Validity:
    """Whether a trained model is an ODE, or depends on the solver that it was trained with.

    It solves the model by several methods and step sizes, or tolerances. The model is an ODE as far as its metric is
    the same under every solver whose error is not larger than that of training. It leaves the model
    as it is: modules that change when they are called, such as batch normalisation in training mode, must be put in
    evaluation mode first.

    Args:
        field, y0, ts, params: as for :func:`solve`: the model, and the initial states of a batch.
        trained_with: (method, step size) of training, the step size in (0, |ts[-1] - ts[0]|]; or (method, rtol, atol)
            of adaptive steps, both > 0, rtol < 1, the method with an error estimate.
        metric: ``metric(ys)`` returns a number, or one for each sample, from the states at all ts.
        controls: :class:`Knots`, or None. Gradients are not taken with respect to them.
        loss: ``loss(ys)`` returns a 0-d tensor, for the discrepancy of gradients with respect to y0, params and the
            parameters of a module; unless given |y(ts[-1])|^2 / 2.
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
        >>> import torch
        >>> import janode.torch as jo
        >>> found = jo.validate(
        ...     lambda t, y: -3.0 * y, torch.ones(1), [0.0, 1.0], trained_with=("euler", 0.5),
        ...     metric=lambda ys: ys[-1, 0], metric_range=(-3, 3),
        ... )
        >>> found.is_valid
        False
    """
    state, tree = Tree(y0, "y0"), Tree(params, "params")
    leaves = [leaf.detach().requires_grad_() for leaf in state.leaves + tree.leaves]
    owner = field if isinstance(field, torch.nn.Module) else getattr(field, "__self__", None)
    own = [one for one in owner.parameters() if one.requires_grad] if isinstance(owner, torch.nn.Module) else []

    def run(method: AnyMethod, sized: dict[str, Any], with_gradient: bool) -> Run:
        options: dict[str, Any] = {"controls": controls, "method": method, **sized, "on_failure": "return"}
        with torch.set_grad_enabled(with_gradient):
            start, given = state.build(leaves[: len(state.leaves)]), tree.build(leaves[len(state.leaves) :])
            solution = solve(field, start, ts, given, **options)
            num_field_evals = solution.stats.num_field_evals
            ys = Tree(solution.ys, "ys")
            kept = tuple(leaf.detach() for leaf in ys.leaves)
            if not with_gradient:
                return Run(ys.build(kept), kept, None, num_field_evals)
            inputs = [*leaves, *own]
            value = (last_state if loss is None else loss)(solution.ys)
            found = torch.autograd.grad(value, inputs, allow_unused=True)
        gradient = tuple(torch.zeros_like(one) if bar is None else bar for one, bar in zip(inputs, found, strict=True))
        return Run(ys.build(kept), kept, gradient, num_field_evals)

    times = arguments.read_times("validate", ts)
    with torch.no_grad():
        comparison = Comparison(compare, metric_range)
        return judge(run, metric, trained_with, times, controls, methods, factors, threshold, comparison, True)


def starting_step(
    field: Any,
    y0: Any,
    ts: Sequence[float] | torch.Tensor,
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
        >>> import torch
        >>> import janode.torch as jo
        >>> h = jo.starting_step(lambda t, y: -y, torch.ones(3), [0.0, 1.0])
        >>> monitor = jo.StepSizeMonitor(T=1.0, h=h)
    """
    with torch.no_grad():
        return validity.starting_step(field, y0, ts, params, method=method, max_steps=max_steps)


def last_state(ys: Any) -> torch.Tensor:
    """|y(ts[-1])|^2 / 2."""
    return sum((leaf[-1].abs() ** 2).sum() / 2 for leaf in Tree(ys, "ys").leaves)


def relative_distance(left: Any, right: Any) -> float:
    """||a - b|| / ||b|| over all tensors of two pytrees: for monitors that compare gradients or trajectories.

    Args:
        left, right: pytrees of one structure, with tensors of the same shapes.

    Returns:
        The distance, dimensionless; 0 if both are zero, infinite if only b is.

    Raises:
        InputError: the structures differ.

    Example:
        >>> import torch
        >>> round(relative_distance([torch.tensor([3.0, 4.5])], [torch.tensor([3.0, 4.0])]), 6)
        0.1
    """
    with torch.no_grad():
        return validity.relative_distance(left, right)


def checksum(model: Any) -> str:
    """A checksum of a module's parameters and buffers, or of the tensors of a pytree, bit by bit.

    For monitors: ``checksum=lambda: checksum(model)``.

    Example:
        >>> import torch
        >>> model = torch.nn.BatchNorm1d(2)
        >>> before = checksum(model)
        >>> out = model(torch.randn(8, 2))
        >>> checksum(model) == before
        False
    """
    tree = dict(model.state_dict()) if isinstance(model, torch.nn.Module) else model
    leaves = [leaf.detach().cpu().contiguous() for leaf in Tree(tree, "tree").leaves]
    # Bytes of every dtype: NumPy has no bfloat16.
    return validity.digest(
        (leaf.dtype, leaf.shape, leaf.reshape(-1).view(torch.uint8).numpy().tobytes()) for leaf in leaves
    )
