"""Fields as layers of PyTorch: with one set of parameters, or with one set per node of the solve."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from janode.core.errors import InputError
from janode.core.protocols import Method
from janode.core.tableaus import Tableau

from .controls import control_times, refine_controls
from .torch_solve import solve
from .trees import Tree


class NeuralODE(torch.nn.Module):
    """A field as a layer: maps an initial state to the states at all ts.

    Args:
        field: the vector field, an ``nn.Module`` called as ``field(t, y)``.
        method, steps, step_size, rtol, atol, adjoint: as for :func:`solve`.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> class Decay(torch.nn.Module):
        ...     def forward(self, t, y):
        ...         return -y
        >>> layer = jo.NeuralODE(Decay(), method="rk4", steps=10)
        >>> layer(torch.ones(4, 2), [0.0, 1.0]).shape
        torch.Size([2, 4, 2])
    """

    def __init__(
        self,
        field: torch.nn.Module,
        *,
        method: str | Tableau | Method = "dopri5",
        steps: int | None = None,
        step_size: float | None = None,
        rtol: Any = None,
        atol: Any = None,
        adjoint: str = "auto",
    ) -> None:
        super().__init__()
        self.field = field
        self.method, self.steps, self.step_size, self.adjoint = method, steps, step_size, adjoint
        self.rtol, self.atol = rtol, atol

    def forward(self, y0: Any, ts: Sequence[float] | torch.Tensor) -> Any:
        """The states at all ts: the pytree of y0 with a leading axis ``len(ts)`` on every leaf."""
        return solve(self.field, y0, ts, **self._options()).ys

    def _options(self) -> dict[str, Any]:
        names = ("method", "steps", "step_size", "rtol", "atol", "adjoint")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        """The settings, those that are given."""
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items() if value is not None)


class ControlledODE(torch.nn.Module):
    """A stack of equal blocks as one ODE, dy/dt = block(t, y): maps the state at the first time to that at the last.

    The block's parameters depend on time: each keeps its name and gets a leading axis, one entry per node of the solve.

    Args:
        block: an ``nn.Module`` called as ``block(t, y)``, whose parameters every node starts with; or one such module
            for each node, all of the same structure and without buffers. Modules are copied.
        ts: the start and the end, and times between them that the solve is to step on.
        method, steps, sampling, adjoint, correction: as for :func:`solve`.

    Raises:
        InputError: the blocks are not as many as the nodes or not alike, or an argument breaks a rule of the solve.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> class Block(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear = torch.nn.Linear(2, 2)
        ...     def forward(self, t, y):
        ...         return torch.tanh(self.linear(y))
        >>> layer = jo.ControlledODE(Block(), method="leapfrog", steps=10)
        >>> {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
        {'block.linear.weight': (11, 2, 2), 'block.linear.bias': (11, 2)}
        >>> layer(torch.ones(4, 2)).sum().backward()
    """

    def __init__(
        self,
        block: torch.nn.Module | Sequence[torch.nn.Module],
        ts: Sequence[float] = (0.0, 1.0),
        *,
        method: str | Tableau | Method = "leapfrog",
        steps: int,
        sampling: str = "nodes",
        adjoint: str = "auto",
        correction: str = "auto",
    ) -> None:
        super().__init__()
        self.ts, self.method, self.steps, self.sampling = tuple(ts), method, steps, sampling
        self.adjoint, self.correction = adjoint, correction
        num_nodes = len(self.times)
        blocks = [block] * num_nodes if isinstance(block, torch.nn.Module) else list(block)
        _check_blocks(blocks, num_nodes)
        self.block = copy.deepcopy(blocks[0])
        rows = [dict(block.named_parameters()) for block in blocks]
        _replace(self.block, {name: torch.stack([row[name].detach() for row in rows]) for name in rows[0]})
        self._names = [(name, first) for name, first, _ in _named(self.block)]

    @property
    def times(self) -> list[float]:
        """The time of every node."""
        return control_times(self.method, self.ts, steps=self.steps, sampling=self.sampling)

    def forward(self, y0: Any) -> Any:
        """The state at the last time: the pytree of y0."""

        def field(t: torch.Tensor, y: Any, control: dict[str, torch.Tensor]) -> Any:
            # Tied here: where a submodule has two names, torch would leave the control of the last call in it.
            tensors = {name: control[first] for name, first in self._names}
            return torch.func.functional_call(self.block, tensors, (t, y), tie_weights=False)

        solution = solve(
            field,
            y0,
            self.ts,
            controls=dict(self.block.named_parameters()),
            sampling=self.sampling,
            method=self.method,
            steps=self.steps,
            adjoint=self.adjoint,
            correction=self.correction,
        )
        ys = Tree(solution.ys, "ys")
        return ys.build([leaf[-1] for leaf in ys.leaves])

    def refined(self, steps: int, *, order: int = 4) -> ControlledODE:
        """A copy that takes other steps, its parameters interpolated from these: see :func:`refine_controls`."""
        finer = copy.deepcopy(self)
        finer.steps = steps
        parameters = {name: parameter.detach() for name, parameter in self.block.named_parameters()}
        _replace(finer.block, refine_controls(parameters, self.times, finer.times, order=order))
        return finer

    def extra_repr(self) -> str:
        """The settings."""
        names = ("ts", "method", "steps", "sampling", "adjoint", "correction")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


def _check_blocks(blocks: Sequence[torch.nn.Module], num_nodes: int) -> None:
    if len(blocks) != num_nodes:
        raise InputError(
            f"ControlledODE: block must be one module, or {num_nodes} of them, one for each node; got {len(blocks)}. "
            "control_times(method, ts, ...) gives the time of each node."
        )
    first = blocks[0]
    for n, other in enumerate(blocks):
        if repr(other) != repr(first) or list(_described(other)) != list(_described(first)):
            raise InputError(
                f"ControlledODE: all blocks must have one structure; got block {n} = {other} and block 0 = {first}. "
                "Give blocks that differ in the values of their parameters only."
            )
        if other is not first and next(other.buffers(), None) is not None:
            raise InputError(
                f"ControlledODE: blocks of their own for each node must have no buffers; got some in block {n}. Give "
                "one block, whose buffers all nodes share, or register them as parameters."
            )


def _described(block: torch.nn.Module) -> Iterator[tuple[Any, ...]]:
    for name, parameter in block.named_parameters():
        yield name, parameter.shape, parameter.dtype, parameter.device


def _named(block: torch.nn.Module) -> Iterator[tuple[str, str, torch.nn.Parameter]]:
    """(name, first name, parameter) for each place that holds a parameter; a tied one has several places."""
    names = {id(parameter): name for name, parameter in block.named_parameters()}
    for prefix, module in block.named_modules():
        for leaf, parameter in module.named_parameters(prefix, recurse=False, remove_duplicate=False):
            yield leaf, names[id(parameter)], parameter


def _replace(block: torch.nn.Module, values: dict[str, torch.Tensor]) -> None:
    """Give the parameters of a block other values, of any shape; what was tied stays so."""
    new: dict[str, torch.nn.Parameter] = {}
    for name, first, old in list(_named(block)):
        if first not in new:
            new[first] = torch.nn.Parameter(values[first], requires_grad=old.requires_grad)
        owner, _, leaf = name.rpartition(".")
        block.get_submodule(owner).register_parameter(leaf, new[first])
