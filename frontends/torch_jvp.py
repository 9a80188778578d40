"""Forward mode in PyTorch by one call, as every frontend has it."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.autograd import forward_ad

from janode.core import arguments
from janode.core.errors import InputError
from janode.core.knots import Knots
from janode.core.solution import Solution

from .torch_solve import solve
from .trees import Tree

_FIX = "Give one tangent for each tensor, or None for zero."


def solve_jvp(
    field: Callable[..., Any],
    y0: Any,
    ts: Sequence[float] | torch.Tensor,
    params: Any = None,
    *,
    y0_dot: Any = None,
    params_dot: Any = None,
    ts_dot: Any = None,
    controls_dot: Any = None,
    controls: Any = None,
    **options: Any,
) -> tuple[Solution[Any], Any]:
    """The solution, and the derivative of its states along the tangents of y0, params, ts and controls.

    It is exact for the discrete solution, to rounding: forward mode of ``torch.autograd`` through :func:`solve`,
    without a graph. Parameters of a module given as field are held fixed.

    Args:
        y0_dot, params_dot, controls_dot: the tangents, with the structure, shapes and dtypes of y0, params and
            controls (of the values of ``Knots``); any leaf of them may be None for zero, and so may they.
        ts_dot: how fast each of ts moves, ``len(ts)`` numbers; or None for zero.
        field, y0, ts, params, controls, options: as for :func:`solve`, without adjoint, correction and checkpoints.

    Returns:
        ``(solution, ys_dot)``, ``ys_dot`` with the structure and shapes of ``solution.ys``.

    Raises:
        InputError, SolveError: as for :func:`solve`; a tangent does not fit its argument.

    Cost: per step of s stages, s field evaluations and s JVPs; nothing is kept of a step.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> y0, k, one = torch.ones(1), torch.tensor(0.5), torch.tensor(1.0)
        >>> _, ys_dot = jo.solve_jvp(
        ...     lambda t, y, k: -k * y, y0, [0.0, 1.0], k, params_dot=one, method="rk4", steps=20
        ... )
        >>> bool(abs(ys_dot[-1, 0] + torch.exp(torch.tensor(-0.5))) < 1e-5)
        True
    """
    for name in ("adjoint", "correction", "checkpoints", "event", "dense"):
        if name in options:
            raise InputError(f"solve_jvp: {name} must not be given; got it. Use solve in torch.autograd.forward_ad.")
    _load_rules()
    values = controls.values if isinstance(controls, Knots) else controls
    with torch.no_grad(), forward_ad.dual_level():
        state = Tree(y0, "y0")
        y0, params, values = (
            _dual(*given)
            for given in (
                (state, y0_dot),
                (Tree(params, "params"), params_dot),
                (Tree(values, "controls"), controls_dot),
            )
        )
        own = replace(controls, values=values) if isinstance(controls, Knots) else values
        times = ts
        if ts_dot is not None:
            moving = torch.as_tensor(ts, dtype=torch.float64)
            times = _dual(Tree(moving, "ts"), torch.as_tensor(ts_dot, dtype=torch.float64))
        solution = solve(field, y0, times, params, controls=own, **options)
        pairs = [forward_ad.unpack_dual(leaf) for leaf in state.flatten(solution.ys)[0]]
        ys_dot = [torch.zeros_like(y) if dot is None else dot for y, dot in pairs]
        return replace(solution, ts=ts, ys=state.build([pair.primal for pair in pairs])), state.build(ys_dot)


def _load_rules() -> None:
    """What forward mode loads when it is first used warns of PyTorch's own use of torch.jit.script (2.13)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")


def _dual(tree: Tree, dot: Any) -> Any:
    """The tree with tangents at the leaves that have any."""
    name = f"{tree.name}_dot"
    matched = tree.match("solve_jvp", dot, name, _FIX)
    arguments.check_cotangents("solve_jvp", name, matched, tree.leaves, tree.paths, "tangent")
    leaves = [
        leaf if given is None else forward_ad.make_dual(leaf, given)
        for leaf, given in zip(tree.leaves, matched, strict=True)
    ]
    return tree.build(leaves)
