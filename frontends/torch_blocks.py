"""The blocks of a residual stack as the core sees them: evaluated, and again as they were in the forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.modules.batchnorm import _NormBase

from janode.core.errors import InputError
from janode.core.protocols import Cotangent, State

from .torch_field import Surroundings
from .torch_replay import Draws, have_moved, random_numbers, random_state, version, without_statistics
from .torch_watch import edge_of, ends
from .trees import Tree

Parts = Sequence[tuple[str, torch.nn.Module]]
"""The modules of a block, itself included, with their names in it."""


class Visit(NamedTuple):
    """Which block is evaluated, and which of the forward pass's evaluations that is."""

    block: int
    number: int


class _Linearization:
    """A block at one point with its graph."""

    def __init__(self, blocks: Blocks, n: int, x: torch.Tensor, f: torch.Tensor) -> None:
        self._blocks, self._n, self._x = blocks, n, x
        self._edge = torch.autograd.graph.get_gradient_edge(f) if f.requires_grad else None
        self._f: torch.Tensor | None = f.detach()

    @property
    def f(self) -> State:
        """The value, without its graph; gone once its cotangent was pulled back."""
        assert self._f is not None
        return (self._f,)

    def pull(self, f_bar: State) -> tuple[None, State, Cotangent]:
        """The cotangent of the block's input; those of its parameters and of the extra arguments are collected."""
        self._f = None
        if self._edge is None:
            return None, (torch.zeros_like(self._x),), ()
        wanted = self._blocks.wanted_by(self._n)
        x_bar, *found = torch.autograd.grad([self._edge], [self._x, *wanted], f_bar, allow_unused=True)
        self._blocks.collect(wanted, found)
        return None, (torch.zeros_like(self._x) if x_bar is None else x_bar,), ()


class Blocks:
    """The field of a stack in one pass. It collects the gradients of parameters and extra arguments itself.

    Blocks differ in their parameters, and what they share is not the same for all: each asks for its own alone.
    """

    needs_time = False

    def __init__(self, modules: Sequence[torch.nn.Module], x: torch.Tensor, extra: Tree) -> None:
        self.modules, self.extra = modules, extra
        self.surroundings = Surroundings.now(x.device.type)
        self._parts = [list(module.named_modules()) for module in modules]
        self._given = [_parameters(parts) for parts in self._parts]
        self.parameters = list({id(p): p for given in self._given for p in given}.values())
        self._places = [place for place, leaf in enumerate(extra.leaves) if _requires_grad(leaf)]
        self.inputs = [*self.parameters, *[extra.leaves[place] for place in self._places]]
        self.records = False
        self._args = extra.build(extra.leaves)
        self._extras: list[torch.Tensor] = []
        self._totals: dict[int, torch.Tensor] = {}
        self._is_forward = True
        self._random: dict[int, Draws] = {}
        self._modes = self._training()
        self._norms = [
            [part for _, part in parts if isinstance(part, _NormBase) and part.training] for parts in self._parts
        ]
        self._buffers = [_other_buffers(parts) for parts in self._parts]

    def refuse_generators(self) -> None:
        """Raise for blocks that keep a generator of random numbers, whose state is not replayed."""
        for n, parts in enumerate(self._parts):
            if any(type(value) is torch.Generator for _, part in parts for value in vars(part).values()):
                raise InputError(
                    f"ResidualStack: a block that is recomputed must draw from torch's default generator; block {n} "
                    'keeps one of its own. Remove it, or use adjoint="backprop".'
                )

    def __call__(self, t: None, y: State, visit: Visit) -> State:
        """The value of a block."""
        return (self._evaluate(y[0], visit),)

    def linearize(self, t: None, y: State, visit: Visit) -> _Linearization:
        """The value with the graph of one evaluation, which must end at known tensors."""
        x = y[0].detach().requires_grad_()
        with torch.enable_grad():
            f = self._evaluate(x, visit)
        known = [x, *self.wanted_by(visit.block)]
        stops = {edge_of(leaf): id(leaf) for leaf in known if leaf.grad_fn is not None}
        if ends((f,), set(map(id, known)), stops)[1]:
            raise InputError(
                f"ResidualStack: tensors that require gradient must reach a block in x, in extra or as its parameters; "
                f'got another one in block {visit.block}. Pass it as an extra argument, or use adjoint="backprop".'
            )
        return _Linearization(self, visit.block, x, f)

    def wanted_by(self, n: int) -> list[torch.Tensor]:
        """The tensors whose cotangents block n gives, beside that of its input."""
        return self._given[n] + self._extras

    def begin_backward(self) -> None:
        """Go over to evaluations that repeat those of the forward pass, and change nothing."""
        modes = self._training()
        if modes != self._modes or any(map(_differ, map(_parameters, self._parts), self._given)):
            what = "modes (train or eval)" if modes != self._modes else "parameters"
            raise InputError(
                f"ResidualStack: blocks must have the same {what} in the backward pass as in the forward pass; theirs "
                "were changed between. Change them after the backward pass."
            )
        self._is_forward, self._totals = False, {}
        leaves = list(self.extra.leaves)
        for place in self._places:
            leaves[place] = leaves[place].detach().requires_grad_()
        self._extras = [leaves[place] for place in self._places]
        self._args = self.extra.build(leaves)

    def collect(self, wanted: Sequence[torch.Tensor], bars: Sequence[torch.Tensor | None]) -> None:
        """Add cotangents to the totals, which are of at least single precision."""
        for leaf, bar in zip(wanted, bars, strict=True):
            if bar is not None:
                total = self._totals.get(id(leaf))
                if total is None:
                    self._totals[id(leaf)] = bar.float() if bar.dtype.itemsize == 2 else bar
                else:
                    self._totals[id(leaf)] = total + bar

    def collected(self) -> list[torch.Tensor | None]:
        """The totals, in the order of ``inputs`` and in their dtypes; None where nothing came."""
        leaves, totals = [*self.parameters, *self._extras], self._totals
        found = [totals[id(leaf)].to(leaf.dtype) if id(leaf) in totals else None for leaf in leaves]
        self._totals = {}
        return found

    def _training(self) -> list[bool]:
        return [part.training for parts in self._parts for _, part in parts]

    def _evaluate(self, x: torch.Tensor, visit: Visit) -> torch.Tensor:
        if self._is_forward:
            return self._first(x, visit)
        with contextlib.ExitStack() as replayed:
            if self._norms[visit.block]:
                replayed.enter_context(without_statistics(self._norms[visit.block]))
            if visit.number in self._random:
                replayed.enter_context(random_numbers(self._random[visit.number]))
            return self.modules[visit.block](x, *self._args).to(x.dtype)

    def _first(self, x: torch.Tensor, visit: Visit) -> torch.Tensor:
        n = visit.block
        before = random_state(x.device) if self.records else []
        versions = [version(buffer) for _, buffer in self._buffers[n]]
        x_version = version(x)
        f = self.modules[n](x, *self._args)
        if version(x) != x_version:
            raise InputError(
                f"ResidualStack: a block must not change its input in place; block {n} did (a first layer with "
                "inplace=True does). Make a new tensor there."
            )
        if self.records:
            if have_moved(before):
                self._random[visit.number] = before
            for (name, buffer), old in zip(self._buffers[n], versions, strict=True):
                if version(buffer) != old:
                    raise InputError(
                        f"ResidualStack: a block that is recomputed must change no buffers but those of norm layers; "
                        f'block {n} changed {name!r}. Call eval() on it, or use adjoint="backprop".'
                    )
        return self._checked(f, x, n)

    def _checked(self, f: Any, x: torch.Tensor, n: int) -> torch.Tensor:
        if isinstance(f, torch.Tensor) and f.dtype != x.dtype and self.surroundings.enabled:
            f = f.to(x.dtype)
        if not isinstance(f, torch.Tensor) or (f.shape, f.dtype, f.device) != (x.shape, x.dtype, x.device):
            got = _described(f) if isinstance(f, torch.Tensor) else type(f).__name__
            raise InputError(
                f"ResidualStack: blocks must return a tensor of the shape, dtype and device of x, {_described(x)}; got "
                f"{got} from block {n}. Leave layers that change it outside of the stack."
            )
        return f


def _described(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def _requires_grad(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.requires_grad


def _parameters(parts: Parts) -> list[torch.Tensor]:
    """The parameters of a block that require gradient, each once."""
    found = {id(p): p for _, part in parts for p in part._parameters.values() if p is not None and p.requires_grad}
    return list(found.values())


def _differ(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    return list(map(id, left)) != list(map(id, right))


def _other_buffers(parts: Parts) -> list[tuple[str, torch.Tensor]]:
    """The buffers that no norm layer owns."""
    return [
        (f"{name}.{leaf}" if name else leaf, buffer)
        for name, part in parts
        if not isinstance(part, _NormBase)
        for leaf, buffer in part._buffers.items()
        if buffer is not None
    ]
