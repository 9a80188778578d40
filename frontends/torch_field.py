"""A PyTorch field as the core sees it: evaluated, watched once, differentiated by autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import torch

from janode.core import arguments
from janode.core.errors import InputError
from janode.core.protocols import Cotangent, State
from janode.core.solution import Stats

from .torch_engine import pulled
from .torch_replay import Effects, Replay, version
from .torch_watch import NewCaptures, Watch, edge_of, ends, find_derived, refuse_capture
from .trees import Tree


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

    def __init__(
        self, field: TorchField, inputs: list[torch.Tensor], t: torch.Tensor | None, f: State, reached: set[int]
    ) -> None:
        self._field, self._inputs, self._t, self._f, self._reached = field, inputs, t, f, reached

    @property
    def f(self) -> State:
        """The value, without its graph."""
        return tuple([leaf.detach() for leaf in self._f])

    def pull(self, f_bar: State) -> tuple[torch.Tensor | None, State, Cotangent]:
        """Every cotangent by one call of autograd; the graph is freed."""
        field = self._field
        field.stats.num_vjps += 1
        field.reached |= self._reached
        inputs = self._inputs
        outputs = [(f, bar) for f, bar in zip(self._f, f_bar, strict=True) if f.requires_grad]
        found: tuple[torch.Tensor | None, ...] = (None,) * len(inputs)
        if outputs:
            fs, bars = zip(*outputs, strict=True)
            found = pulled(fs, inputs, bars, field.keeps_graphs)
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

    ``theta`` is (given leaves, implicit tensors, leaves of the control). The implicit ones reach the callable by
    themselves; they stand in theta so that their gradients are asked for.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        state: Tree,
        params: Any,
        tree: Tree,
        controls: Tree,
        implicit: list[torch.Tensor],
        may_discover: bool,
    ) -> None:
        self.fn, self.state, self.tree, self.controls, self.implicit = fn, state, tree, controls, tuple(implicit)
        self.has_params = params is not None
        self.stats = Stats()
        self.needs_time = False
        self.surroundings = Surroundings.now(state.leaves[0].device.type)
        self.theta = tree.leaves + self.implicit
        self.differentiable = [i for i, leaf in enumerate(self.theta) if leaf.requires_grad]
        self.watches = False
        self.is_recomputed = False
        self.is_rechecked = False
        self.constants: list[torch.Tensor] = []
        self.keeps_graphs = False
        """Whether the backward pass is to leave graphs for another one."""
        self.reached: set[int] = set()
        self._expected: set[int] | None = None
        self._may_discover = may_discover
        self._cast = self.surroundings.enabled
        self.replay = Replay(state.leaves[0].device)
        self._args: tuple[State | None, list[Any]] = (None, [])
        self._is_first = True

    @cached_property
    def _edges(self) -> dict[Any, int]:
        return {edge_of(leaf): id(leaf) for leaf in self.implicit}

    def __call__(self, t: torch.Tensor, y: State, theta: State) -> State:
        """The value of the field; the first one of a pass is checked."""
        self.stats.num_field_evals += 1
        if self._is_first:
            return self._first(t, y, theta)
        f = self.replay.run(self._plain, t, y, theta) if self.replay.is_active else self._plain(t, y, theta)
        leaves, spec = ((f,), self.state.spec) if self.state.is_leaf else self.state.flatten(f)
        if spec == self.state.spec and arguments.is_like(leaves, y):
            return leaves
        return self._checked(f, y)  # which casts under autocast, or says what is wrong

    def linearize(self, t: torch.Tensor, y: State, theta: State) -> _Linearization:
        """The value with the graph of one evaluation, which must end at known tensors."""
        inputs = [leaf.detach().requires_grad_() for leaf in y]
        shared = theta[: len(self.theta)]
        control = tuple([leaf.detach().requires_grad_() for leaf in theta[len(self.theta) :]])
        theta = shared + control if control else theta
        with torch.enable_grad():
            if self.needs_time:
                t = t.detach().requires_grad_()
            f = self(t, tuple(inputs), theta)
        if self.needs_time:
            inputs.append(t)
        inputs += (*self.wanted(shared), *control)
        reached, others = ends(f, {id(t), *map(id, inputs)}, self._edges)
        if others:
            refuse_capture("one that came later")
        return _Linearization(self, inputs, t if self.needs_time else None, f, reached)

    def wanted(self, theta: State) -> State:
        """The shared leaves that require gradient."""
        return tuple([theta[i] for i in self.differentiable])

    def own_theta(self, theta: State) -> State:
        """Given leaves cut off from their history and from each other, and the tensors the callable itself uses.

        A tensor may be given twice, or be captured as well, or be computed from one that is captured: each of its
        places gets its own share of the gradient, and autograd adds them up.
        """
        given = theta[: len(self.tree.leaves)]
        return (*[leaf.detach().requires_grad_(leaf.requires_grad) for leaf in given], *self.implicit)

    def begin_backward(self) -> None:
        """The first evaluation of a backward pass is watched as that of the forward pass was."""
        self._is_first, self._may_discover = True, False
        self.reached = set()
        self.replay.begin_backward()

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Evaluations that repeat those of the way forward and are recorded by autograd."""
        self.begin_backward()
        self.watches = False
        try:
            yield
            self.replay.end_backward()
        finally:
            self.watches = True

    def end_backward(self) -> None:
        """Refuse a gradient that lacks tensors or random numbers which the forward pass used."""
        self.replay.end_backward()
        if self._expected is not None and not self._expected <= self.reached:
            raise InputError(
                "solve: a field that is recomputed must use the same tensors again; in the backward pass it used none "
                "in the place of one (torch.func.functional_call around the solve does so, or a cache of weights). "
                'Pass them in params, or use adjoint="backprop".'
            )

    def probe(self, t: torch.Tensor, y: State, theta: State) -> State:
        """The value, of an evaluation that is no part of the solve: no random numbers or statistics remain of it."""
        effects = Effects(self.replay.device)
        try:
            with effects:
                f = self._plain(t, y, theta)
            return self._checked(f, y)
        finally:
            effects.undo()
            self._is_first = True

    def _plain(self, t: torch.Tensor, y: State, theta: State) -> Any:
        return self.fn(t, self.state.build(y), *self._arguments(theta))

    def _arguments(self, theta: State) -> list[Any]:
        if self._args[0] is not theta:
            args = [self.tree.build(theta[: len(self.tree.leaves)])] if self.has_params else []
            if self.controls.leaves:
                args.append(self.controls.build(theta[len(self.theta) :]))
            self._args = (theta, args)
        return self._args[1]

    def _in_state_dtype(self, f: State, y: State) -> State:
        return tuple([slope.to(leaf.dtype) for slope, leaf in zip(f, y, strict=True)])

    def _first(self, t: torch.Tensor, y: State, theta: State) -> State:
        if self.watches:
            return self._watched(t, y, theta)
        versions = [version(leaf) for leaf in (t, *y)]
        f = self._checked(self.replay.run(self._plain, t, y, theta, effects=Effects(self.replay.device)), y)
        if versions != [version(leaf) for leaf in (t, *y)]:
            _refuse_changes()
        return f

    def _watched(self, t: torch.Tensor, y: State, theta: State) -> State:
        is_linearized = torch.is_grad_enabled()
        if not is_linearized:
            y = tuple([leaf.detach() for leaf in y])  # the initial state may be captured as well
        given = (t, *y, *theta)
        watch = Watch(given, y[0].device)
        with torch.enable_grad():
            f = self.replay.run(self._plain, t, y, theta, effects=watch)
            if watch.changed_arguments():
                _refuse_changes()
            leaves = self._checked(f, y)
        try:
            self._examine(watch, leaves, set(map(id, given)))
        except NewCaptures:
            watch.undo()
            raise
        return leaves if is_linearized else tuple([leaf.detach() for leaf in leaves])

    def _examine(self, watch: Watch, f: State, known: set[int]) -> None:
        """Find what was captured; refuse what cannot be recomputed."""
        reached, others = ends(f, known, self._edges, watch.begin)
        if others:
            watch.report(others, f, self._may_discover)
        if self._expected is None:
            self._expected = reached.intersection(map(id, self.implicit))
            self.constants = watch.constants()
            find_derived(self.implicit)
        if not self.is_recomputed:
            return
        if changed := watch.changed():
            raise InputError(
                "solve: a field that is recomputed must not change its buffers, but for the statistics of norm layers; "
                f'it changed {", ".join(changed)}. Call eval() on it, or use adjoint="backprop".'
            )

    def _checked(self, f: Any, y: State) -> State:
        leaves, spec = self.state.flatten(f)
        arguments.check_structure("solve", spec, self.state.spec)
        if self._cast and all(isinstance(leaf, torch.Tensor) for leaf in leaves):
            leaves = self._in_state_dtype(leaves, y)
        arguments.check_slope("solve", leaves, y, self.state.paths)
        self._is_first = False
        return leaves


def _refuse_changes() -> None:
    raise InputError("solve: the field must not change its arguments in place; it did. Return a new tensor.")
