"""Residual stacks of JAX functions, differentiated without keeping activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from janode.backends.eager import EagerBackend
from janode.backends.jax import JaxBackend
from janode.backends.registry import find_backend
from janode.core import arguments
from janode.core.errors import InputError
from janode.core.ode_gap import OdeGap, measure
from janode.core.protocols import Array, Linearization, State
from janode.core.records import Carries, Nothing
from janode.core.residual import MEMORY_FREE, Stack, check_stack, find_scheme

from .jax_cotangents import Wanted, filled, in_places, values
from .jax_field import ClosedField, JaxField, close
from .jax_trees import named_leaves

WHERE = "residual_stack"


class _Unrolled(JaxBackend):
    """JAX's arithmetic with Python's loop: for blocks that differ."""

    scan = EagerBackend.scan


class _Blocks:
    """The field of a stack: block n gets what all blocks share, and its own parameters."""

    needs_time = False

    def __init__(self, fields: Sequence[JaxField], shared: State, rows: Sequence[State] | None) -> None:
        self.fields, self.shared, self.rows = fields, shared, rows

    def __call__(self, t: None, y: State, row: Any) -> State:
        """The value of a block."""
        field, clock, theta = self._at(y, row)
        return field(clock, y, theta)

    def linearize(self, t: None, y: State, row: Any) -> Linearization:
        """The value and the pullback."""
        field, clock, theta = self._at(y, row)
        return field.linearize(clock, y, theta)

    def _at(self, y: State, row: Any) -> tuple[JaxField, Array, State]:
        clock = jnp.zeros((), y[0].real.dtype)
        if self.rows is None:
            return self.fields[0], clock, self.shared + row
        return self.fields[row], clock, self.shared + self.rows[row]


@dataclass(frozen=True, eq=False)
class _Program:
    """What of a stack does not depend on the values of arrays; ``closed`` has one field, or one for each block."""

    scheme: str
    adjoint: str
    step: float
    num_blocks: int
    closed: tuple[ClosedField, ...]
    is_listed: bool

    def stack(self, shared: State, constants: Any, params: Any, wanted: Sequence[bool] = ()) -> Stack:
        """The steps for these arrays."""
        method = find_scheme(WHERE, self.scheme)
        if self.is_listed:
            fields: list[Any] = [JaxField(*each, False, wanted) for each in zip(self.closed, constants, strict=True)]
            last = self.num_blocks - 1
            rows: tuple[Any, ...] = ([*range(last + 1)], [*range(1, last + 1), last])
            backend: Any = _Unrolled()
            listed: Any = _Blocks(fields, shared, params)
            return Stack(backend, method, listed, self.step, last + 1, rows)
        blocks: Any = _Blocks([JaxField(self.closed[0], constants, False, wanted)], shared, None)
        rows = (
            (params, tuple(jnp.concatenate([leaf[1:], leaf[-1:]]) for leaf in params)) if self.has_ends else (params,)
        )
        return Stack(find_backend("jax"), method, blocks, self.step, self.num_blocks, rows)

    @property
    def has_ends(self) -> bool:
        """Whether a step evaluates the next block at its end."""
        return self.scheme == "heun"

    def run(self, x: State, shared: State, constants: Any, params: Any) -> State:
        """The last state."""
        return self.stack(shared, constants, params).run(x)

    def differentiable(self) -> Callable[..., State]:
        """``run`` with the gradient of the core."""
        apply = jax.custom_vjp(self.run)

        def fwd(*primals: Any) -> tuple[State, Any]:
            wanted = Wanted.of(primals[1])
            x, *others = values(primals)
            stack = self.stack(*others)
            record: Any = Nothing() if self.adjoint in MEMORY_FREE else Carries()
            last, records = stack.forward(x, record)
            tape = last if self.adjoint in MEMORY_FREE else records
            return stack.method.output(last), (wanted, others, tape)

        def bwd(residuals: Any, bars: Any) -> tuple[Any, ...]:
            wanted, (shared, constants, params), tape = residuals
            stack = self.stack(shared, constants, params, wanted)
            some = tuple(leaf for is_wanted, leaf in zip(wanted, shared, strict=True) if is_wanted)
            start = stack.start_bars(filled(bars), some)
            if self.adjoint in MEMORY_FREE:
                _, found, sent = stack.pull_from_last(self.adjoint, tape, start)
            else:
                found, sent = stack.pull_kept(tape, start)
            shared_bar = in_places(found.shared, wanted, shared)
            params_bar = _of_listed(sent, self.has_ends) if self.is_listed else _of_stacked(sent, self.has_ends)
            return stack.method.start_vjp(found.carry), shared_bar, None, params_bar

        apply.defvjp(fwd, bwd, symbolic_zeros=True)
        return apply


def _of_stacked(sent: Any, has_ends: bool) -> State:
    """The cotangents of stacked parameters, from what the steps of each phase sent to the blocks of their stages."""
    starts = tuple(jnp.concatenate(leaves) for leaves in zip(*[phase[0] for phase in sent], strict=True))
    if not has_ends:
        return starts
    ends = sent[0][1]
    return tuple(a.at[1:].add(b[:-1]).at[-1].add(b[-1]) for a, b in zip(starts, ends, strict=True))


def _of_listed(sent: Any, has_ends: bool) -> tuple[State, ...]:
    """The same for blocks in a list."""
    steps = [step for phase in sent for step in phase]
    bars = [step[0] for step in steps]
    for n, step in enumerate(steps if has_ends else []):
        following = min(n + 1, len(bars) - 1)
        bars[following] = tuple(a + b for a, b in zip(bars[following], step[1], strict=True))
    return tuple(bars)


def _arrays(given: Any, name: str) -> tuple[State, Any, list[str]]:
    """(leaves as arrays, structure, path of each leaf) of an argument that has a gradient."""
    found, tree, paths = named_leaves(given, name)
    leaves = tuple(map(jnp.asarray, found))
    arguments.check_parameters(WHERE, leaves, jnp, paths)
    return leaves, tree, paths


def _depth(leaves: State, paths: Sequence[str]) -> int:
    """The leading axis that all stacked leaves must have in common."""
    depths = {leaf.shape[0] if leaf.ndim else None: path for leaf, path in zip(leaves, paths, strict=True)}
    if len(depths) != 1 or None in depths:
        listed = ", ".join(f"{path}: {depth}" for depth, path in depths.items()) or "no array"
        raise InputError(
            f"{WHERE}: stacked params must be arrays with one leading axis, an entry for each block; got {listed}. "
            "Stack them, or give a list with the parameters of each block."
        )
    (depth,) = depths
    return depth or 0


def residual_stack(
    block: Callable[..., Any] | Sequence[Callable[..., Any]],
    params: Any,
    x: Any,
    *extra: Any,
    scheme: str = "euler",
    adjoint: str = "reconstruct",
    step: float | None = None,
) -> Any:
    """The output of a stack of residual blocks, x_{n+1} = x_n + step f_n(x_n), at memory that need not grow with depth.

    f_n(x) is ``block(x, params_n, *extra)``, the residual function alone, without the sum. N blocks take N steps;
    ``"heun"`` evaluates block n at the start of step n and at the end of step n - 1, and the last block at the end of
    the last step as well.

    Args:
        block: a function that returns the pytree of x, its shapes and dtypes; or a list of N of them.
        params: a list (not a tuple) with the parameters of each block, of any structures, whose loop is unrolled; or
            any other pytree, whose leaves have a leading axis of N, for a ``lax.scan``.
        x: any pytree of real or complex floating-point arrays.
        extra: pytrees that every block gets; gradients reach their inexact arrays, and arrays that a block closes over.
        scheme: ``"euler"``, the residual network; ``"heun"``, of second order, two evaluations a block; ``"leapfrog"``,
            x_{n+1} = x_{n-1} + 2 step f_n(x_n) after one Euler step: reversible, one evaluation a block.
        adjoint: ``"reconstruct"`` keeps the last state (leapfrog: the last two) and goes back from it: exact to
            rounding for leapfrog, else with an error that falls with the depth and that
            :func:`residual_errors` measures; ``"predict"``, for Euler, does so with one evaluation a block instead of
            two, at a predicted state: more accurate where f_n changes little with n, else less; ``"symplectic"`` keeps
            one state a block and is exact; ``"backprop"`` leaves it to JAX, which keeps every activation.
        step: h > 0; 1 / N by default.

    Raises:
        InputError: an argument breaks a rule above; a block of a list is named by its index.

    Cost with N blocks, e evaluations per block of the forward pass (2 for Heun, else 1): ``"reconstruct"`` 2 e N more
    evaluations (leapfrog N, Heun 5 N) and e N VJPs; ``"predict"`` N + 1 and N; ``"symplectic"`` N (Heun 3 N)
    and e N.
    Source: Sander, Ablin, Peyre 2022, arXiv 2205.14612, section 4.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import janode.jax as jo
        >>> weights = 0.1 * jax.random.normal(jax.random.key(0), (100, 4, 4))
        >>> def loss(weights):
        ...     block = lambda x, w: jnp.tanh(x @ w)
        ...     return jnp.sum(jo.residual_stack(block, weights, jnp.ones((2, 4)), scheme="leapfrog"))
        >>> jax.grad(loss)(weights).shape
        (100, 4, 4)
    """
    program, arrays, tree = _program(block, params, x, extra, scheme, adjoint, step)
    run = program.run if adjoint == "backprop" else program.differentiable()
    return jax.tree.unflatten(tree, run(*arrays))


def _program(
    block: Any, params: Any, x: Any, extra: Any, scheme: str, adjoint: str, step: float | None
) -> tuple[_Program, tuple[Any, ...], Any]:
    """(the program, its arrays, the structure of x)."""
    state, tree, paths = _arrays(x, "x")
    if not state:
        raise InputError(f"{WHERE}: x must have at least one array; got none. Give the input of the first block.")
    is_listed = isinstance(params, list)
    if isinstance(block, list) and not (is_listed and len(block) == len(params)):
        got = f"{len(params)} entries" if is_listed else "stacked params"
        raise InputError(
            f"{WHERE}: a list of {len(block)} blocks must come with a list of as many params; got {got}. Give one "
            "entry for each block, None for one without parameters."
        )
    leaves, _, params_paths = _arrays(params, "params")
    count = len(params) if is_listed else _depth(leaves, params_paths)
    h = check_stack(WHERE, count, scheme, adjoint, step)

    def closed(n: int, stacked: Any) -> tuple[State, ClosedField, State]:
        fn = block[n] if isinstance(block, list) else block
        where = f"{WHERE}, block {n}" if is_listed else WHERE

        def field(t: Array, y: Any, extra: Any, control: Any = None) -> Any:
            return fn(y, control, *extra)

        return close(field, jnp.zeros(2), state, tree, paths, extra, stacked, 0, where)

    if not is_listed:
        shared, field, constants = closed(0, params)
        return _Program(scheme, adjoint, h, count, (field,), False), (state, shared, constants, leaves), tree
    found = [closed(n, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], entry)) for n, entry in enumerate(params)]
    size = found[0][1].num_params
    rows = tuple(
        shared[size:] + tuple(jnp.asarray(leaf) for leaf in jax.tree.leaves(entry))
        for (shared, _, _), entry in zip(found, params, strict=True)
    )
    fields, constants = tuple(field for _, field, _ in found), tuple(others for *_, others in found)
    return _Program(scheme, adjoint, h, count, fields, True), (state, found[0][0][:size], constants, rows), tree


def residual_errors(
    block: Any, params: Any, x: Any, *extra: Any, scheme: str = "euler", step: float | None = None
) -> Array:
    """||x~_n - x_n|| / ||x_n|| for n = 0 .. N - 1: by how much the way back from x_N misses the states of a stack.

    Args: those of :func:`residual_stack`. The last entry is the error of one inverse step, the first that of all; the
    gradient by ``adjoint="reconstruct"`` is off by as much as the first, roughly.

    Raises:
        InputError: as :func:`residual_stack`.

    Cost: 2 e N evaluations and N states, e as there.
    """
    program, (state, *others), _ = _program(block, params, x, extra, scheme, "reconstruct", step)
    return jnp.stack(program.stack(*others).reconstruction_errors(state))


def ode_gap(
    block: Any,
    params: Any,
    x: Any,
    *extra: Any,
    scheme: str = "euler",
    step: float | None = None,
    substeps: int = 4,
) -> OdeGap:
    """How far the states of a stack are from the ODE through its blocks. Not for use under ``jit``.

    Args: those of :func:`residual_stack`; ``substeps`` steps of rk4, >= 1, resolve the ODE between two blocks.

    Returns:
        Distances, the factors of the bound, depth doubling, smoothness: see :class:`OdeGap`.

    Raises:
        InputError: as :func:`residual_stack`; or substeps is less than 1.

    Cost: about 7 substeps N evaluations, one after the other, and N states.
    """
    if substeps < 1:
        raise InputError(f"ode_gap: substeps must be at least 1; got {substeps}. 4 resolve a smooth stack.")
    program, (state, shared, constants, given), _ = _program(block, params, x, extra, scheme, "symplectic", step)
    stack = program.stack(shared, constants, given)
    rows = list(given)
    if not program.is_listed:
        rows = [tuple(leaf[n] for leaf in given) for n in range(program.num_blocks)]
        field: Any = _Compiled(stack.field)
        backend: Any = _Unrolled()
        stack = replace(stack, backend=backend, field=field, rows=(rows, [*rows[1:], rows[-1]]))
    return measure(stack, state, rows, substeps)


class _Compiled:
    """The field of equal blocks, each evaluation by one compiled function."""

    needs_time = False

    def __init__(self, field: Any) -> None:
        self._value = jax.jit(lambda y, row: field(None, y, row))
        self._pull = jax.jit(lambda y, row, f_bar: field.linearize(None, y, row).pull(f_bar)[1])

    def __call__(self, t: None, y: State, row: State) -> State:
        """The value of a block."""
        return self._value(y, row)

    def linearize(self, t: None, y: State, row: State) -> Any:
        """What pulls back to the block's input alone."""
        return _Pulled(lambda f_bar: self._pull(y, row, f_bar))


@dataclass(frozen=True)
class _Pulled:
    pullback: Callable[[State], State]

    def pull(self, f_bar: State) -> tuple[None, State, State]:
        """The cotangent of the block's input."""
        return None, self.pullback(f_bar), ()
