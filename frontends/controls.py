"""Helpers for controls on pytrees of eager libraries: sample, smooth and refine them, diagnose their gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from janode.core.arguments import find_namespace
from janode.core.controls import control_times, refine
from janode.core.diagnosis import Diagnosis, diagnose
from janode.core.errors import InputError
from janode.core.protocols import Array, Method
from janode.core.smoothing import smooth
from janode.core.tableaus import Tableau

from .trees import Tree

__all__ = ["Diagnosis", "control_times", "diagnose_controls", "refine_controls", "sample_controls", "smooth_controls"]


def refine_controls(controls: Any, times: Sequence[float], new_times: Sequence[float], *, order: int = 4) -> Any:
    """The controls on another grid: for each new time the polynomial through the nearest controls.

    Linear in the controls, and differentiable where the library is.

    Args:
        controls: any pytree of real or complex floating-point arrays with a leading axis of ``len(times)``.
        times: the times that they belong to, from :func:`control_times`; strictly increasing or decreasing.
        new_times: the times that they are wanted at; beyond the ends of ``times`` the polynomials are continued.
        order: how many controls each polynomial goes through, from 2 to ``len(times)``: 2 is linear, 4 cubic; the
            error for smooth controls is O(h^order).

    Returns:
        The pytree of controls with a leading axis of ``len(new_times)``.

    Raises:
        InputError: the leading axis is not that of times, or an argument breaks a rule above.

    Cost: order products of the new controls.

    Example:
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> old, new = (jo.control_times("leapfrog", [0.0, 1.0], steps=n) for n in (4, 8))
        >>> refined = jo.refine_controls({"w": np.asarray(old) ** 3}, old, new)
        >>> np.allclose(refined["w"], np.asarray(new) ** 3)
        True
    """
    tree = Tree(controls, "controls")
    xp = find_namespace("refine_controls", tree.leaves, tree.paths)
    return tree.build(refine(xp, tree.leaves, tree.paths, times, new_times, order))


def sample_controls(function: Callable[[float], Any], times: Sequence[float]) -> Any:
    """The values function(t_k) stacked along a new leading axis: controls that are a function of time.

    Args:
        function: of a time, a Python float; returns any pytree of arrays, always of one structure.
        times: the times of the controls, from :func:`control_times`.

    Returns:
        The pytree of what it returns, with a leading axis of ``len(times)``. Differentiable where the library is.

    Raises:
        InputError: there are no times, a result holds no arrays, or the results differ in structure or shape.

    Example:
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> times = jo.control_times("leapfrog", [0.0, 1.0], steps=2)
        >>> jo.sample_controls(lambda t: {"w": np.asarray([t, 1.0 - t])}, times)["w"].tolist()
        [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    trees = [Tree(function(float(t)), f"function({float(t)})") for t in times]
    if not trees:
        raise InputError(
            "sample_controls: times must not be empty; got none. control_times(method, ts, ...) gives them."
        )
    first = trees[0]
    xp = find_namespace("sample_controls", first.leaves, first.paths)
    for tree in trees:
        if tree.spec != first.spec or any(
            getattr(leaf, "shape", None) != like.shape for leaf, like in zip(tree.leaves, first.leaves, strict=True)
        ):
            raise InputError(
                f"sample_controls: function must return one structure and one shape for all times; got others at "
                f"{tree.name} than at {first.name}. Return arrays of one shape."
            )
    return first.build([xp.stack(list(leaves)) for leaves in zip(*(tree.leaves for tree in trees), strict=True)])


def smooth_controls(controls: Any, times: Sequence[float], *, degree: int = 3) -> Any:
    """The smooth controls nearest to given ones: for every entry a polynomial in time, by least squares.

    Training does not remove a sawtooth that is in the controls from the start, so start from smooth ones: these, or one
    value for all nodes, or few random values and what :func:`refine_controls` makes of them. Linear in the controls.

    Args:
        controls: any pytree of real or complex floating-point arrays with a leading axis of ``len(times)``, such as the
            layers of a trained network.
        times: the times that they belong to, from :func:`control_times`; strictly increasing or decreasing.
        degree: that of the polynomial, from 0 (the mean over time) to ``len(times) - 1``.

    Returns:
        The pytree of controls, of the same shapes. Of independent random ones it keeps about the share
        (degree + 1) / len(times) of their variance.

    Raises:
        InputError: the leading axis is not that of times, or an argument breaks a rule above.

    Cost: two matrix products with ``degree + 1`` rows.

    Example:
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> times = jo.control_times("leapfrog", [0.0, 1.0], steps=4)
        >>> rough = np.asarray([1.0, -1.0, 1.0, -1.0, 1.0]) + 3.0
        >>> jo.smooth_controls(rough, times, degree=0).tolist()
        [3.0, 3.0, 3.0, 3.0, 3.0]
    """
    tree = Tree(controls, "controls")
    xp = find_namespace("smooth_controls", tree.leaves, tree.paths)
    return tree.build(smooth(xp, tree.leaves, tree.paths, times, degree))


def diagnose_controls(
    gradient: Callable[[str], Any],
    method: str | Tableau | Method,
    ts: Sequence[float] | Array,
    *,
    steps: int | None = None,
    step_size: float | None = None,
    correction: str = "auto",
) -> Diagnosis[Any]:
    """Whether the exact gradient of controls oscillates from node to node, and what a correction makes of it.

    Args:
        gradient: a function of the name of a correction; returns the gradient of controls at nodes, from a solve with
            that correction. It is called for ``"none"`` and for ``correction``.
        method, ts, steps, step_size: those of the solve.
        correction: the correction to compare with.

    Returns:
        Both gradients, as functions of time, with their oscillation ||g - local mean|| / ||g|| and a verdict.

    Raises:
        InputError: an argument breaks a rule of the solve, there are fewer than 3 nodes, or a gradient has another
            leading axis than the nodes.

    Cost: two gradients, and some reads of their norms.

    Example:
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> field = jo.Field(lambda t, y, u: u * y, lambda t, y, u, f_bar: (None, u * f_bar, np.sum(y * f_bar)))
        >>> u = np.sin(jo.control_times("leapfrog", [0.0, 1.0], steps=20))
        >>> def gradient(correction):
        ...     _, pullback = jo.solve_vjp(
        ...         field, np.ones(1), [0.0, 1.0], controls=u, method="leapfrog", steps=20, correction=correction
        ...     )
        ...     return pullback(np.asarray([[0.0], [1.0]])).controls
        >>> found = jo.diagnose_controls(gradient, "leapfrog", [0.0, 1.0], steps=20)
        >>> found.verdict
        'The exact gradient oscillates from node to node and the corrected one does not (...): use correction="auto".'
    """
    times = control_times(method, ts, steps=steps, step_size=step_size)
    tree, corrected = Tree(gradient("none"), "gradient"), Tree(gradient(correction), "gradient")
    xp = find_namespace("diagnose_controls", tree.leaves, tree.paths)
    return diagnose(xp, tree.build, method, ts, times, (tree.leaves, corrected.leaves), correction)
