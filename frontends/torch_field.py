"""A PyTorch field as the core sees it: evaluated, watched once, differentiated by autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optree
import torch
from torch.overrides import TorchFunctionMode

from janode.core import arguments
from janode.core.errors import InputError
from janode.core.protocols import Cotangent, State
from janode.core.solution import Stats

from .trees import Tree


class NewCaptures(Exception):
    """The first evaluation met tensors that require gradient and that the solve did not know of."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        super().__init__(len(tensors))
        self.tensors = tensors


class _Watch(TorchFunctionMode):
    """Notes every tensor that an evaluation uses without having been given or having made it."""

    def __init__(self, given: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.known = {id(tensor): tensor for tensor in given}
        self.foreign: dict[int, tuple[torch.Tensor, int]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        used: list[Any] = optree.tree_leaves((args, kwargs))  # type: ignore[arg-type]
        for leaf in used:
            if isinstance(leaf, torch.Tensor) and id(leaf) not in self.known:
                self.foreign.setdefault(id(leaf), (leaf, leaf._version))
        out = func(*args, **kwargs)
        for leaf in optree.tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in self.foreign:
                self.known[id(leaf)] = leaf
        return out


class Surroundings(NamedTuple):
    """The autocast state of a forward pass, for its backward pass to run under."""

    device_type: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def now(cls, device_type: str) -> Surroundings:
        """As they are."""
        if not torch.amp.is_autocast_available(device_type):
            return cls(device_type, False, torch.float32)
        return cls(device_type, torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type))

    def restored(self) -> contextlib.AbstractContextManager[Any]:
        """A context with the same autocast state.

        Without its cache of cast weights: a weight cast while gradients are off would be found there, without its
        graph, when they are on.
        """
        if not torch.amp.is_autocast_available(self.device_type):
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.enabled, cache_enabled=False)


class _Linearization:
    """The field at one point with its graph."""

    def __init__(self, field: TorchField, inputs: list[torch.Tensor], t: torch.Tensor | None, f: State) -> None:
        self._field, self._inputs, self._t, self._f = field, inputs, t, f

    @property
    def f(self) -> State:
        """The value, without its graph."""
        return tuple([leaf.detach() for leaf in self._f])

    def pull(self, f_bar: State) -> tuple[torch.Tensor | None, State, Cotangent]:
        """Every cotangent by one call of autograd; the graph is freed."""
        field = self._field
        field.stats.num_vjps += 1
        inputs = self._inputs
        outputs = [(f, bar) for f, bar in zip(self._f, f_bar, strict=True) if f.requires_grad]
        found: tuple[torch.Tensor | None, ...] = (None,) * len(inputs)
        if outputs:
            fs, bars = zip(*outputs, strict=True)
            found = torch.autograd.grad(fs, inputs, bars, allow_unused=True)
        size = len(field.state.leaves)
        y_bar = tuple(
            [
                torch.zeros_like(leaf) if bar is None else bar
                for leaf, bar in zip(inputs[:size], found[:size], strict=True)
            ]
        )
        if self._t is None:
            return None, y_bar, found[size:]
        return found[size], y_bar, found[size + 1 :]


class TorchField:
    """The user's callable, with its parameters: given ones, those of a module, and captured tensors.

    ``theta`` is (given leaves, implicit tensors). The implicit ones reach the callable by themselves; they stand in
    theta so that their gradients are asked for.
    """

    def __init__(
        self, fn: Callable[..., Any], state: Tree, params: Any, tree: Tree, implicit: list[torch.Tensor]
    ) -> None:
        self.fn, self.state, self.tree, self.implicit = fn, state, tree, implicit
        self.has_params = params is not None
        self.stats = Stats()
        self.needs_time = False
        self.surroundings = Surroundings.now(state.leaves[0].device.type)
        self.theta = tree.leaves + tuple(implicit)
        self.differentiable = [i for i, leaf in enumerate(self.theta) if leaf.requires_grad]
        self.watches = False
        self._cast = self.surroundings.enabled
        self._args: tuple[State | None, tuple[Any, ...]] = (None, ())
        self._is_first = True
        self._graph_unchecked = True

    def __call__(self, t: torch.Tensor, y: State, theta: State) -> State:
        """The value of the field; the first one is checked."""
        self.stats.num_field_evals += 1
        if self._is_first:
            return self._first(t, y, theta)
        f = self.fn(t, self.state.build(y), *self._arguments(theta))
        leaves = (f,) if self.state.is_leaf else self.state.flatten(f)[0]
        return self._in_state_dtype(leaves, y) if self._cast else leaves

    def linearize(self, t: torch.Tensor, y: State, theta: State) -> _Linearization:
        """The value with the graph of one evaluation."""
        inputs = [leaf.detach().requires_grad_() for leaf in y]
        with torch.enable_grad():
            if self.needs_time:
                t = t.detach().requires_grad_()
            f = self(t, tuple(inputs), theta)
        if self.needs_time:
            inputs = [*inputs, t]
        inputs += self.wanted(theta)
        if self._graph_unchecked:
            self._graph_unchecked = False
            _check_graph(f, inputs)
        return _Linearization(self, inputs, t if self.needs_time else None, f)

    def wanted(self, theta: State) -> State:
        """The leaves that require gradient; of the implicit ones the tensors that the callable itself uses."""
        own = (*theta[: len(self.tree.leaves)], *self.implicit)
        return tuple([own[i] for i in self.differentiable])

    def _arguments(self, theta: State) -> tuple[Any, ...]:
        if not self.has_params:
            return ()
        if self._args[0] is not theta:
            self._args = (theta, (self.tree.build(theta[: len(self.tree.leaves)]),))
        return self._args[1]

    def _in_state_dtype(self, f: State, y: State) -> State:
        return tuple([slope.to(leaf.dtype) for slope, leaf in zip(f, y, strict=True)])

    def _first(self, t: torch.Tensor, y: State, theta: State) -> State:
        if not self.watches:
            return self._checked(self.fn(t, self.state.build(y), *self._arguments(theta)), y)
        versions = [leaf._version for leaf in y]
        random = _random_state(y[0].device)
        watch = _Watch([t, *y, *theta, *self.implicit])
        with watch:
            f = self.fn(t, self.state.build(y), *self._arguments(theta))
        if versions != [leaf._version for leaf in y]:
            raise InputError("solve: the field must not change y in place; it did. Return a new tensor.")
        captured = [tensor for tensor, _ in watch.foreign.values() if tensor.requires_grad]
        if captured:
            raise NewCaptures(captured)
        if any(tensor._version != version for tensor, version in watch.foreign.values()):
            raise InputError(
                "solve: a field that is recomputed must not change its buffers; it did (batch norm in training mode "
                'does). Call eval() on it, or use adjoint="backprop".'
            )
        if not torch.equal(random, _random_state(y[0].device)):
            raise InputError(
                "solve: a field that is recomputed must not draw random numbers; it did (dropout in training mode "
                'does). Call eval() on it, or use adjoint="backprop".'
            )
        return self._checked(f, y)

    def _checked(self, f: Any, y: State) -> State:
        leaves, spec = self.state.flatten(f)
        arguments.check_structure("solve", spec, self.state.spec)
        if self._cast and all(isinstance(leaf, torch.Tensor) for leaf in leaves):
            leaves = self._in_state_dtype(leaves, y)
        arguments.check_slope("solve", leaves, y, self.state.paths)
        self._is_first = False
        return leaves


def _random_state(device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def _check_graph(f: State, inputs: Sequence[torch.Tensor]) -> None:
    """Refuse graphs that reach a tensor requiring gradient past the known ones."""
    known = {id(tensor) for tensor in inputs}
    stops = {tensor.grad_fn for tensor in inputs if tensor.grad_fn is not None}
    pending = [leaf.grad_fn for leaf in f if leaf.grad_fn is not None]
    seen = set(pending)
    while pending:
        node = pending.pop()
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in known:
            raise InputError(
                f"solve: every tensor that requires gradient must reach the field by its arguments, as a parameter of "
                f"the module, or through a torch function; got one of shape {tuple(variable.shape)} by another way. "
                'Pass it in params, or use adjoint="backprop".'
            )
        for child, _ in node.next_functions:
            if child is not None and child not in seen and child not in stops:
                seen.add(child)
                pending.append(child)
