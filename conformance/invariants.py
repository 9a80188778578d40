"""What must hold for every library whatever the numbers are: symmetries of the solve, and what it may not do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from janode.array import Field

from .comparison import EPS, FACTOR, Difference, measure
from .problem import Inputs, Problem
from .reference import random_direction
from .runtimes import Runtime
from .textbook import CENTRAL_LOSS, derivative

Tree = Any
Run = Callable[[Inputs], dict[str, Tree]]
"""The solution and its gradients as NumPy arrays, for other inputs of the same shapes."""
_BARS = ("y0_bar", "params_bar", "ts_bar", "controls_bar")


def check_invariant(
    name: str, runtime: Runtime, problem: Problem, inputs: Inputs, options: dict[str, Any]
) -> list[Difference]:
    """The differences of an invariant from what it says."""
    if name in _WATCHED:
        return _WATCHED[name](runtime, problem, inputs, options)
    eps = EPS["f32" if _is_single(runtime) else "f64"]
    return _CHECKS[name](_Solver(runtime, options, eps), problem, inputs)


def _is_single(runtime: Runtime) -> bool:
    return runtime.precision == "f32"


@dataclasses.dataclass(frozen=True)
class _Solver:
    """A runtime with the options of its solves."""

    runtime: Runtime
    options: dict[str, Any]
    eps: float

    def __call__(self, problem: Problem, inputs: Inputs) -> dict[str, Tree]:
        got = self.runtime.run(problem, inputs, self.options).got
        return {name: optree.tree_map(self.runtime.to_numpy, tree) for name, tree in got.items()}

    def compare(
        self, problem: Problem, got: dict[str, Tree], expected: dict[str, Tree], scale: dict[str, Tree] | None = None
    ) -> list[Difference]:
        """How far trees of arrays are from each other, relative to the largest entry expected, or of ``scale``."""
        return [
            Difference(name, measure(a, b, self.eps, float(np.max(np.abs(c))) or 1.0), FACTOR * problem.condition)
            for name in expected
            for a, b, c in zip(*(_leaves(trees[name]) for trees in (got, expected, scale or expected)), strict=True)
        ]


def _leaves(tree: Tree) -> list[Any]:
    return [np.asarray(leaf) for leaf in optree.tree_leaves(tree)]


def _mapped(function: Callable[..., Any], *trees: Tree) -> Tree:
    return optree.tree_map(function, *trees)


def _dot_product(solve: _Solver, problem: Problem, inputs: Inputs) -> list[Difference]:
    """<ys_bar, J u> = <J^T ys_bar, u>, J u by central differences of the library's own solves."""
    rng, found, bars = np.random.default_rng(11), [], solve(problem, inputs)
    for name in ("y0", "params", "controls", "ts"):
        tree = getattr(inputs, name)
        if tree is None:
            continue
        start = _mapped(np.asarray, tree) if name != "ts" else np.asarray(tree)
        # Steps that must be equal stay so: the times are stretched.
        direction = start if name == "ts" else _mapped(lambda leaf: random_direction(rng, leaf), start)

        def loss(e: float, name: str = name, start: Tree = start, direction: Tree = direction) -> float:
            moved = _mapped(lambda a, b: a + e * b, start, direction)
            value = tuple(moved.tolist()) if name == "ts" else moved
            ys = solve(problem, dataclasses.replace(inputs, **{name: value}))["ys"]
            pairs = zip(_leaves(inputs.ys_bar), _leaves(ys), strict=True)
            return float(sum(np.sum(np.real(np.conj(bar) * y)) for bar, y in pairs))

        products = [
            np.real(np.conj(bar) * way)
            for bar, way in zip(_leaves(bars[f"{name}_bar"]), _leaves(direction), strict=True)
        ]
        # The differences lose what rounding makes of the loss itself, which may be larger than its derivative.
        scale = sum(float(np.sum(np.abs(p))) for p in products) + sum(
            float(np.sum(np.abs(bar * y))) for bar, y in zip(_leaves(inputs.ys_bar), _leaves(bars["ys"]), strict=True)
        )
        error = measure(sum(np.sum(p) for p in products), derivative(loss, is_analytic=False), solve.eps, scale)
        found.append(Difference(f"{name}_bar", error, FACTOR * problem.condition * CENTRAL_LOSS))
    return found


def _linearity(solve: _Solver, problem: Problem, inputs: Inputs) -> list[Difference]:
    """The pullback of 2 u - v / 2 is that combination of the pullbacks of u and v."""
    u = inputs.ys_bar
    v = _mapped(lambda leaf: np.flip(leaf, axis=0) * 0.75, u)
    of_u, of_v, of_both = (
        solve(problem, dataclasses.replace(inputs, ys_bar=bar))
        for bar in (u, v, _mapped(lambda a, b: 2.0 * a - 0.5 * b, u, v))
    )
    names = [name for name in _BARS if name in of_u]
    expected = {name: _mapped(lambda a, b: 2.0 * a - 0.5 * b, of_u[name], of_v[name]) for name in names}
    scale = {name: _mapped(lambda a, b: 2 * abs(a) + 0.5 * abs(b), of_u[name], of_v[name]) for name in names}
    return solve.compare(problem, of_both, expected, scale)


def _splitting(solve: _Solver, problem: Problem, inputs: Inputs) -> list[Difference]:
    """A solve in two parts, and its pullback through both, is the whole solve."""
    cut = 1
    whole = solve(problem, inputs)
    head = dataclasses.replace(
        inputs, ts=inputs.ts[: cut + 1], ys_bar=_mapped(lambda leaf: leaf[: cut + 1], inputs.ys_bar)
    )
    middle = _mapped(lambda leaf: np.asarray(leaf[-1]), solve(problem, head)["ys"])
    tail = dataclasses.replace(
        inputs, y0=middle, ts=inputs.ts[cut:], ys_bar=_mapped(lambda leaf: leaf[cut:], inputs.ys_bar)
    )
    second = solve(problem, tail)
    bar = _mapped(lambda leaf, last: np.concatenate([leaf[:cut], last[None]]), head.ys_bar, second["y0_bar"])
    first = solve(problem, dataclasses.replace(head, ys_bar=bar))
    got = {
        "ys": _mapped(lambda a, b: np.concatenate([a[:cut], b]), first["ys"], second["ys"]),
        "y0_bar": first["y0_bar"],
        "params_bar": _mapped(np.add, first["params_bar"], second["params_bar"]),
        "ts_bar": np.concatenate([first["ts_bar"], np.zeros(len(inputs.ts) - cut - 1)])
        + np.concatenate([np.zeros(cut), second["ts_bar"]]),
    }
    return solve.compare(problem, got, {name: whole[name] for name in got})


def _time_reversal(solve: _Solver, problem: Problem, inputs: Inputs) -> list[Difference]:
    """With the sign of time changed in the field and in ts the states are the same, and ts_bar changes its sign."""
    field = problem.field

    def fn(t: Any, y: Tree, *rest: Any) -> Tree:
        return _mapped(lambda f: -f, field(-t, y, *rest))

    def vjp(t: Any, y: Tree, *rest: Any) -> Tree:
        t_bar, *others = field.vjp(-t, y, *rest[:-1], _mapped(lambda f: -f, rest[-1]))
        return (None if t_bar is None else -t_bar, *others)

    turned = dataclasses.replace(problem, field=Field(fn, vjp))
    expected = solve(problem, inputs)
    expected["ts_bar"] = -expected["ts_bar"]
    got = solve(turned, dataclasses.replace(inputs, ts=tuple(-t for t in inputs.ts)))
    return solve.compare(problem, got, expected)


def _batch_mates(solve: _Solver, problem: Problem, inputs: Inputs) -> list[Difference]:
    """The first row of a batch, and its gradient, do not depend on the others."""
    others = inputs.y0.copy()
    others[1:] = -0.5 * others[1:]
    got, expected = (solve(problem, dataclasses.replace(inputs, y0=y0)) for y0 in (others, inputs.y0))
    rows = [{"ys": run["ys"][:, 0], "y0_bar": run["y0_bar"][0]} for run in (got, expected)]
    return solve.compare(problem, *rows)


def _precision(runtime: Runtime, problem: Problem, inputs: Inputs, options: dict[str, Any]) -> list[Difference]:
    """No array of double precision is made for inputs in single precision."""
    wide = runtime.watch(problem, inputs, options).wide
    fault = f"no array may be of double precision; got {', '.join(wide[:3])} among {len(wide)}" if wide else ""
    return [Difference("dtypes", float(len(wide)), 0.5, fault)]


def _host_reads(runtime: Runtime, problem: Problem, inputs: Inputs, options: dict[str, Any]) -> list[Difference]:
    """How often the host waits for a number does not depend on how many steps are taken."""
    fine = dataclasses.replace(problem, steps=2 * problem.steps)
    few, many = (runtime.watch(problem, inputs, {**options, **one.stepping()}).reads for one in (problem, fine))
    fault = "" if few == many else f"must not read numbers in its steps; got {many} reads, and {few} at half the steps"
    return [Difference("reads", float(abs(many - few)), 0.5, fault)]


_CHECKS: dict[str, Callable[[_Solver, Problem, Inputs], list[Difference]]] = {
    "dot_product": _dot_product,
    "linearity": _linearity,
    "splitting": _splitting,
    "time_reversal": _time_reversal,
    "batch_mates": _batch_mates,
}
_WATCHED: dict[str, Callable[[Runtime, Problem, Inputs, dict[str, Any]], list[Difference]]] = {
    "precision": _precision,
    "host_reads": _host_reads,
}
