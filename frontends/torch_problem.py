"""The arguments of a PyTorch solve, checked and read: a problem that makes a sweep for every try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import array_api_compat.torch as xp
import torch

from janode.backends.registry import find_backend
from janode.core import arguments
from janode.core.errors import InputError
from janode.core.failures import check_start
from janode.core.knots import Knots, Weights, check_knots, stop_at_knots
from janode.core.protocols import Method
from janode.core.stepping import Stepping, make_sweep, with_controls
from janode.core.sweep import Sweep

from .knots import KnotsField
from .torch_field import TorchField
from .torch_lanes import in_lanes, lanes_backend
from .torch_refusals import refuse_batches
from .torch_taps import Taps
from .trees import Tree


@dataclass(frozen=True, eq=False)
class Problem:
    """A solve whose arguments are read."""

    field: Callable[..., Any]
    state: Tree
    params: Any
    tree: Tree
    """The structure of params."""
    controls: Tree
    sampling: str
    times: list[float]
    method: Method
    stepping: Stepping
    adjoint: str
    taps: Taps

    def sweep(self, captured: list[torch.Tensor]) -> Sweep:
        """A new sweep with a new field, which captures these tensors beside the parameters of a module."""
        state, stepping, controls = self.state, self.stepping, self.controls
        is_shared = stepping.batch_axis is None
        backend = find_backend("torch") if is_shared else lanes_backend(stepping, self.adjoint, state.leaves)
        implicit = [*_implicit_parameters(self.field), *captured]
        seen = TorchField(self.field, state, self.params, self.tree, controls, implicit, may_discover=not captured)
        clock, taps = arguments.widest(state.leaves, xp), self.taps.all()
        sweep = make_sweep(
            "solve", stepping, backend, self.method, seen, self.times, seen.theta, clock, state, xp, taps
        )
        if not is_shared:
            sweep = in_lanes(sweep, state.leaves[0].device)
        if controls.spec is None:
            return sweep
        return with_controls("solve", sweep, self.sampling, controls.leaves, controls.paths)


def pose(
    field: Callable[..., Any],
    y0: Any,
    ts: Any,
    params: Any,
    controls: Any,
    sampling: str,
    method: Method,
    stepping: Stepping,
    adjoint: str,
) -> Problem:
    """The solve that the arguments describe; they are checked, and the field is not evaluated yet."""
    state, tree = Tree(y0, "y0"), Tree(params, "params")
    has_knots = isinstance(controls, Knots)
    nodes = Tree(controls.values, "controls.values") if has_knots else Tree(controls, "controls")
    _check_tensors(state, tree, nodes)
    arguments.check_field("solve", field)
    times, backend = _read_times(ts), find_backend("torch")
    refuse_batches("solve", [*state.leaves, *tree.leaves, *nodes.leaves])
    check_start("solve", backend, state.leaves)
    taps = Taps(stepping.event, stepping.dense, state, params)
    if has_knots:
        check_knots("solve", controls, nodes.leaves, nodes.paths, sampling)
        stepping = stop_at_knots("solve", controls, stepping, method, times)
        weights = Weights(controls, xp, backend.time(0.0, state.leaves[arguments.widest(state.leaves, xp)]))
        field = KnotsField(field, params is not None, xp, weights, nodes.flatten, nodes.build)
        params = (params, controls.values)
        tree, nodes = Tree(params, "params"), Tree(None, "controls")
    return Problem(field, state, params, tree, nodes, sampling, times, method, stepping, adjoint, taps)


def _read_times(ts: Any) -> list[float]:
    if isinstance(ts, torch.Tensor):
        return arguments.read_times("solve", ts.tolist())
    if isinstance(ts, list | tuple) and any(getattr(t, "requires_grad", False) for t in ts):
        raise InputError(
            "solve: ts must be one tensor to get a gradient; got a sequence of tensors that require gradient. Stack "
            "them with torch.stack."
        )
    return arguments.read_times("solve", ts)


def _check_tensors(state: Tree, params: Tree, controls: Tree) -> None:
    trees = (state, params, controls)
    leaves, paths = [leaf for tree in trees for leaf in tree.leaves], [path for tree in trees for path in tree.paths]
    for leaf, path in zip(leaves, paths, strict=True):
        if not isinstance(leaf, torch.Tensor):
            raise InputError(
                f"solve: {path} must be a torch.Tensor; got {type(leaf).__name__}. Convert it with torch.as_tensor."
            )
    arguments.check_state("solve", state.leaves, xp, state.paths)
    arguments.check_parameters("solve", controls.leaves, xp, controls.paths)
    arguments.check_devices("solve", leaves, paths)


def _implicit_parameters(field: Callable[..., Any]) -> list[torch.Tensor]:
    if isinstance(field, KnotsField):
        return _implicit_parameters(field.field)
    owner = field if isinstance(field, torch.nn.Module) else getattr(field, "__self__", None)
    if not isinstance(owner, torch.nn.Module):
        return []
    return [parameter for parameter in owner.parameters() if parameter.requires_grad]
