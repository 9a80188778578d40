"""What a solve asks its field, evaluation by evaluation, on any library; and where two solves first part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import optree

from janode.core.methods import find_method

from .comparison import Comparison, measure
from .problem import Inputs, Problem
from .runtimes import Jax, Options, Runtime, Torch

Tree = Any


class Counts(NamedTuple):
    """The counts of a solve."""

    num_steps: int
    num_accepted: int
    num_rejected: int
    num_field_evals: int

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.num_steps} steps ({self.num_accepted} accepted, {self.num_rejected} rejected) with "
            f"{self.num_field_evals} field evaluations"
        )


class Evaluation(NamedTuple):
    """One call of the field: its step and stage, or None, and NumPy arrays."""

    step: int | None
    stage: int | None
    t: float
    y: Tree
    f: Tree
    rest: tuple[Tree, ...]
    """Parameters and control."""


class Trace(NamedTuple):
    """All calls of the field by one solve, in order, and its counts."""

    evaluations: list[Evaluation]
    counts: Counts


@dataclasses.dataclass(frozen=True)
class Divergence:
    """Where two solves first part.

    Attributes:
        what: what differs: the input of a stage, its slope, or the pullback of the field there.
        step, stage: which, counted from 0, of adaptive steps among all that were tried; None where they cannot be told.
        evaluation: the number of the field's evaluation, counted from 0.
        leaf: which array.
        t: the time of the stage.
        error, tolerance: in eps.
    """

    what: str
    step: int | None
    stage: int | None
    evaluation: int
    leaf: str
    t: float
    error: float
    tolerance: float

    def __str__(self) -> str:
        """In one line."""
        where = f"step {self.step}, stage {self.stage}" if self.step is not None else f"evaluation {self.evaluation}"
        sizes = f"{self.error:.3g} eps, {self.tolerance:.3g} allowed"
        return f"{where}, t = {self.t:.6g}, {self.leaf}: {self.what} differs ({sizes})"


def trace(runtime: Runtime, problem: Problem, inputs: Inputs, options: Options) -> Trace:
    """Solve once more, and note every call of the field."""
    noted: list[tuple[Any, ...]] = []
    options = {key: value for key, value in options.items() if key not in ("correction",)}
    with runtime.active():
        if isinstance(runtime, Jax):
            stats = _solve_jax(runtime, problem, inputs, options, noted)
        else:
            stats = _solve_eager(runtime, problem, inputs, options, noted)
        counts = Counts(*(int(getattr(stats, name)) for name in Counts._fields))  # arrays where steps are found
    # JAX takes adaptive steps twice in a solve that it could differentiate by itself: the first time it looks for them.
    noted = noted[: counts.num_field_evals]
    find_places = _places_tried if is_adaptive(options) else _places
    places = list(find_places(options, counts.num_steps))
    if len(places) != len(noted):
        places = [(None, None)] * len(noted)
    return Trace([Evaluation(*place, *call) for place, call in zip(places, noted, strict=True)], counts)


def is_adaptive(options: Options) -> bool:
    """Whether a solve with these options finds its steps."""
    return options.get("steps") is None and options.get("step_size") is None


def _places_tried(options: Options, num_steps: int) -> Iterator[tuple[int | None, int | None]]:
    """Those of adaptive steps, of pairs whose last stage is the first of the next step, without further evaluations."""
    controller = options.get("controller")
    is_estimated = controller is None or controller.first_step is None
    yield from [(None, None)] * (1 + is_estimated)
    num_stages = len(find_method(options["method"]).tableau.c)  # type: ignore[attr-defined]
    yield from ((step, stage) for step in range(num_steps) for stage in range(1, num_stages))


def _places(options: Options, num_steps: int) -> Iterator[tuple[int | None, int | None]]:
    """The step and stage of every evaluation of a solve with known steps."""
    step = 0
    for phase in find_method(options["method"]).phases(num_steps):
        for _ in range(phase.num_steps):
            yield from ((step, stage) for stage in range(len(phase.stepper.c)))
            step += 1


def _noting(field: Any, note: Callable[..., Any]) -> Any:
    """The field, with every call noted."""

    def noted(t: Any, y: Tree, *rest: Tree) -> Tree:
        f = field(t, y, *rest)
        note(t, y, f, rest)
        return f

    return noted


def _solve_eager(runtime: Any, problem: Problem, inputs: Inputs, options: Options, noted: list[Any]) -> Any:
    def note(t: Any, y: Tree, f: Tree, rest: tuple[Tree, ...]) -> None:
        to_numpy = runtime.to_numpy
        # A copy: the next step may reuse the memory.
        given: Any = (y, f, rest)
        trees = (optree.tree_map(lambda leaf: np.array(to_numpy(leaf)), tree) for tree in given)
        noted.append((float(t), *trees))

    y0, params, controls = (
        optree.tree_map(runtime.asarray, tree) for tree in (inputs.y0, inputs.params, inputs.controls)
    )
    return runtime.frontend.solve(
        _noting(problem.field, note), y0, inputs.ts, params, **options, **problem.given(controls)
    ).stats


def _solve_jax(runtime: Jax, problem: Problem, inputs: Inputs, options: Options, noted: list[Any]) -> Any:
    """The compiled solve calls back at every evaluation, in order."""
    from jax.experimental import io_callback

    def append(*call: Any) -> None:
        t, *trees = runtime.jax.tree.map(np.array, call)
        noted.append((float(t), *trees))

    def note(*call: Any) -> None:
        io_callback(append, None, *call, ordered=True)

    (y0, params, _, controls), _ = runtime.arguments(inputs)
    options = {**options, **problem.given(controls)}
    if is_adaptive(options):  # room for just the steps there are, for all of it is gone through
        found = runtime.frontend.solve(problem.field, y0, inputs.ts, params, **{**options, "adjoint": "symplectic"})
        options["max_steps"] = max(1, int(found.stats.num_steps))
    options["adjoint"] = "backprop"  # one that leaves the callbacks alone
    solution = runtime.frontend.solve(_noting(problem.field, note), y0, inputs.ts, params, **options)
    runtime.jax.block_until_ready(solution.ys)
    runtime.jax.effects_barrier()
    return solution.stats


def find_divergence(expected: Trace, got: Trace, comparison: Comparison) -> Divergence | None:
    """The first input of a stage, or slope, that differs by more than rounding; None if none can be told."""
    if len(expected.evaluations) != len(got.evaluations):  # other steps were tried: nothing stands beside its like
        return None
    scales = {what: _scales([getattr(one, what) for one in expected.evaluations]) for what in ("y", "f")}
    words = {"y": "the input of the stage", "f": "the slope"}
    for number, (right, other) in enumerate(zip(expected.evaluations, got.evaluations, strict=False)):
        for what, sizes in scales.items():
            trees = (getattr(other, what), getattr(right, what))
            for leaf, size, a, b in zip(_paths(what, trees[1]), sizes, *map(optree.tree_leaves, trees), strict=True):
                error = measure(a, b, comparison.eps, size)
                if not error <= comparison.tolerance:
                    place = (right.step, right.stage, number, leaf, right.t)
                    return Divergence(words[what], *place, error, comparison.tolerance)
    return None


def find_slope_divergence(reference: tuple[Any, Problem], other: Trace, comparison: Comparison) -> Divergence | None:
    """The first slope of a solve that is not the reference's field at the same point: whatever steps either took."""
    runtime, problem = reference
    sizes = _scales([one.f for one in other.evaluations])
    for number, at in enumerate(other.evaluations):
        with runtime.active():
            t, y, *rest = (optree.tree_map(runtime.asarray, tree) for tree in (np.asarray(at.t), at.y, *at.rest))
            right = optree.tree_map(lambda leaf: np.array(runtime.to_numpy(leaf)), problem.field(t, y, *rest))
        leaves = zip(_paths("f", right), sizes, *map(optree.tree_leaves, (at.f, right)), strict=True)
        for leaf, size, a, b in leaves:
            error = measure(a, b, comparison.eps, size)
            if not error <= comparison.tolerance:
                return Divergence("the slope", at.step, at.stage, number, leaf, at.t, error, comparison.tolerance)
    return None


def _scales(trees: list[Tree]) -> list[float]:
    """The largest magnitude of each leaf."""
    columns = zip(*map(optree.tree_leaves, trees), strict=True)
    return [max(float(np.max(np.abs(leaf), initial=0.0)) for leaf in column) or 1.0 for column in columns]


def _paths(name: str, tree: Tree) -> list[str]:
    return [name + "".join(f"[{key!r}]" for key in path) for path in optree.tree_structure(tree).paths()]


def find_pullback_divergence(
    expected: Trace,
    reference: tuple[Runtime, Problem],
    other: tuple[Runtime, Problem],
    inputs: Inputs,
    comparison: Comparison,
) -> Divergence | None:
    """The stage, the last one first as in a backward pass, at which two fields' VJPs differ at the same point."""
    rng = np.random.default_rng(5)
    f_bar = optree.tree_map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), inputs.y0)
    for number, at in reversed(list(enumerate(expected.evaluations))):
        right, found = (_pull(runtime, problem.field, at, f_bar) for runtime, problem in (reference, other))
        names = ["y_bar", *(["params_bar"] if inputs.params is not None else [])]
        names += ["control_bar"] if inputs.controls is not None else []
        for name, a_tree, b_tree in zip(names, found, right, strict=True):
            leaves = zip(_paths(name, b_tree), *map(optree.tree_leaves, (a_tree, b_tree)), strict=True)
            for leaf, a, b in leaves:
                error = measure(a, b, comparison.eps)
                if not error <= comparison.tolerance:
                    place = (at.step, at.stage, number, leaf, at.t)
                    return Divergence("the pullback of the field", *place, error, comparison.tolerance)
    return None


def _pull(runtime: Any, field: Any, at: Evaluation, f_bar: Tree) -> list[Tree]:
    """The cotangents of y, the parameters and the control at one point, as NumPy arrays."""
    with runtime.active():
        t = runtime.asarray(np.asarray(at.t))
        y, bar, *rest = (optree.tree_map(runtime.asarray, tree) for tree in (at.y, f_bar, *at.rest))
        if isinstance(runtime, Torch):
            bars = _pull_torch(runtime.torch, field, t, [y, *rest], bar)
        elif isinstance(runtime, Jax):
            jax = runtime.jax
            bar = jax.tree.map(jax.numpy.conj, bar)
            bars = jax.vjp(lambda *trees: field(t, *trees), y, *rest)[1](bar)
            bars = jax.tree.map(jax.numpy.conj, list(bars))
        elif hasattr(field, "vjp"):
            bars = field.vjp(t, y, *rest, bar)[1:]
        else:
            bars = field.linearize(t, y, *rest)[1](bar)[1:]
        filled = (
            [
                optree.tree_map(runtime.xp.zeros_like, tree) if one is None else one
                for one, tree in zip(bars, [y, *rest], strict=True)
            ]
            if not isinstance(runtime, Torch | Jax)
            else bars
        )
        return [optree.tree_map(lambda leaf: np.array(runtime.to_numpy(leaf)), tree) for tree in filled]


def _pull_torch(torch: Any, field: Any, t: Any, trees: Any, bar: Tree) -> list[Tree]:
    leaves, spec = optree.tree_flatten(trees)
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    out = optree.tree_leaves(field(t.detach(), *spec.unflatten(leaves)))
    bars = torch.autograd.grad(out, leaves, optree.tree_leaves(bar), allow_unused=True, materialize_grads=True)
    return list(spec.unflatten(bars))
