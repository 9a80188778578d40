"""Compares a user's own model, written once for each library: solutions, gradients, counts, and where they part."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optree

from janode.core.errors import InputError, unknown_name
from janode.core.knots import Knots

from . import golden
from .comparison import EPS, Comparison, Difference, measure
from .problem import Inputs, Problem
from .runtimes import Absent, Options, Runtime
from .targets import TARGETS, present
from .tracing import (
    Counts,
    Divergence,
    Trace,
    find_divergence,
    find_pullback_divergence,
    find_slope_divergence,
    is_adaptive,
    trace,
)

Tree = Any
Side = tuple[Runtime, Problem]
_NUDGE = 4.0
"""By how many eps inputs are moved to see how far rounding errors grow."""


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """How near the solves of one model by several libraries are.

    Attributes:
        reference: the target that the others are compared with.
        facts: for every target its versions and device.
        differences: for every other target one for each array of the solution and its gradients.
        counts: for every target its steps and field evaluations.
        divergences: for every target that differs where it first does, or None if no stage shows it.
        values: what the reference gave, as NumPy arrays by name.
        solve: the method and its options, and the times.
        eps: of the precision at work.
    """

    reference: str
    facts: dict[str, dict[str, str]]
    differences: dict[str, list[Difference]]
    counts: dict[str, Counts]
    divergences: dict[str, Divergence | None]
    values: dict[str, Tree]
    solve: dict[str, Any]
    eps: float

    @property
    def failures(self) -> list[str]:
        """What does not conform, one line each, the target first."""
        lines = [f"{name}: {d}" for name, found in self.differences.items() for d in found if not d.is_ok]
        expected = self.counts[self.reference]
        # What is read between adaptive steps may cost one library more evaluations than another.
        size = 3 if is_adaptive(self.solve) else 4
        lines += [
            f"{name}: must take the steps and evaluations of {self.reference}, {expected}; got {counts}"
            for name, counts in self.counts.items()
            if counts[:size] != expected[:size]
        ]
        told = {name: divergence or "no field value shows where" for name, divergence in self.divergences.items()}
        return lines + [f"{name}: first divergence: {divergence}" for name, divergence in told.items()]

    @property
    def conforms(self) -> bool:
        """Whether all targets agree with the reference."""
        return not self.failures

    def __str__(self) -> str:
        """The failures, or the largest error of each target."""
        if self.failures:
            return "\n".join(self.failures)
        lines = [f"reference: {self.reference}"]
        for name, found in self.differences.items():
            worst = max(found, key=lambda d: d.error / d.tolerance)
            lines.append(f"{name}: at most {worst.error:.3g} eps, in {worst.where}; {worst.tolerance:.3g} allowed")
        return "\n".join(lines)

    def record(self, path: str | Path) -> None:
        """Write the reference's results, with versions and a checksum, to a file for ``check``."""
        golden.record(Path(path), self.values, self.solve, self.facts[self.reference])

    def check(self, path: str | Path) -> None:
        """Compare the reference's results with those of a file.

        Raises:
            InputError: the file is none of ``record``'s, is of another version, cut or changed, or of another solve.
            AssertionError: the results differ, with the arrays and the versions that they were recorded with.
        """
        tolerance = max((d.tolerance for found in self.differences.values() for d in found), default=_default())
        golden.check(Path(path), self.values, self.solve, Comparison(tolerance / _default(), self.eps))


def _default() -> float:
    return Comparison(1.0).tolerance


def compare(
    fields: Mapping[str, Any],
    params: Any = None,
    *,
    y0: Tree,
    ts: Sequence[float],
    controls: Tree = None,
    ys_bar: Tree = None,
    reference: str | None = None,
    condition: float | None = None,
    adjoint: str = "symplectic",
    **options: Any,
) -> ModelReport:
    """Solve one model with several libraries, pull the same cotangent back, and compare everything.

    Args:
        fields: the field by the library it is written for: ``"numpy"``, ``"torch"``, ``"jax"``, ``"cupy"``, or the id
            of a target such as ``"torch-cuda-f32"``. Libraries without autodiff need a field with its VJP.
        params: a pytree of arrays of any library, for all; or one for each library, by the keys of ``fields``.
        y0, controls: pytrees of arrays of any library; controls may be ``Knots`` of them. The dtype of y0 says in which
            precision is compared.
        ts: the times, as numbers.
        ys_bar: the cotangent of the states at all times; by default random numbers, always the same.
        reference: the library the others are compared with; by default ``"numpy"``, or else the first.
        condition: by how much rounding errors may grow; by default it is measured, by a solve from inputs that are
            moved by a few eps.
        adjoint: as for the solve; not ``"auto"``, which may choose another one for each library.
        options: as for the solve: ``method``, ``steps``, ``sampling``, ``correction`` and so on.

    Raises:
        InputError: a library is unknown or absent, the parameters differ between libraries, or there is an event; or
            what the solve says.

    Cost: for each library a solve with its gradient, and one more solve.

    Example:
        >>> import numpy as np
        >>> import janode.numpy as jo
        >>> decay = jo.Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -np.sum(y * f_bar)))
        >>> fields = {"numpy": decay, "torch": lambda t, y, k: -k * y}
        >>> compare(fields, np.asarray(0.5), y0=np.ones(3), ts=[0.0, 1.0], method="rk4", steps=10).conforms
        True
    """
    if not fields:
        raise InputError("compare: fields must have at least one library; got none. Give {'numpy': field, ...}.")
    if options.get("event") is not None:
        raise InputError(
            "compare: event must be left out, for the states behind it are NaN; got one. Compare up to before it."
        )
    knots = controls if isinstance(controls, Knots) else None
    y0, controls = as_numpy(y0), as_numpy(controls if knots is None else knots.values)
    precision = "f32" if _is_single(y0) else "f64"
    runtimes = {name: find_runtime(name, precision) for name in fields}
    inputs = Inputs(y0, _shared_params(params, fields), tuple(map(float, ts)), _bar(ys_bar, y0, len(ts)), controls)
    first = reference or ("numpy" if "numpy" in fields else next(iter(fields)))
    if first not in fields:
        raise unknown_name("compare", "reference", first, fields)
    chosen: Options = {"method": "dopri5", "adjoint": adjoint, **options}
    sides = {name: (runtimes[name], _problem(name, field, inputs, chosen, knots)) for name, field in fields.items()}
    values = {name: _values(*side, inputs, chosen) for name, side in sides.items()}
    if condition is None:
        condition = _measured(*sides[first], inputs, chosen, values[first], EPS[precision])
    comparison = Comparison(condition, EPS[precision])
    traces = {name: trace(*side, inputs, chosen) for name, side in sides.items()}
    differences = {name: _differences(comparison, values[first], values[name]) for name in fields if name != first}
    divergences = {
        name: _divergence((sides[first], sides[name]), (traces[first], traces[name]), inputs, comparison, chosen)
        for name, found in differences.items()
        if any(not d.is_ok for d in found)
    }
    facts = {name: runtime.facts() for name, runtime in runtimes.items()}
    counts = {name: found.counts for name, found in traces.items()}
    solve = {**{key: str(value) for key, value in chosen.items()}, "ts": list(inputs.ts)}
    return ModelReport(first, facts, differences, counts, divergences, values[first], solve, EPS[precision])


def _differences(comparison: Comparison, expected: dict[str, Tree], got: dict[str, Tree]) -> list[Difference]:
    """One for each array of one library's results; the dtype of the gradient of times is the library's own."""
    return [
        difference
        for key, tree in expected.items()
        if key in got  # JAX has no gradient of ts where adaptive steps end at knots
        for difference in comparison.trees(key, got[key], got[key] if key == "ts_bar" else tree, tree)
    ]


def _divergence(
    sides: tuple[Side, Side], traces: tuple[Trace, Trace], inputs: Inputs, comparison: Comparison, options: Options
) -> Divergence | None:
    """Where the second of two solves first parts from the first, or None if no stage shows it."""
    # Adaptive steps are never quite alike: the fields are compared where one of them was asked.
    found = find_slope_divergence(sides[0], traces[1], comparison) if is_adaptive(options) else None
    found = found or find_divergence(*traces, comparison)
    return found or find_pullback_divergence(traces[0], *sides, inputs, comparison)


def assert_conforms(fields: Mapping[str, Any], params: Any = None, **arguments: Any) -> ModelReport:
    """Do what ``compare`` does, and raise an AssertionError with what differs, and where it first does."""
    report = compare(fields, params, **arguments)
    if not report.conforms:
        raise AssertionError(f"the libraries differ:\n{report}")
    return report


def find_runtime(name: str, precision: str) -> Runtime:
    """The runtime of a target, or of a library on the CPU (CuPy: on the GPU), as it is compiled if it can be."""
    if name in TARGETS:
        target = TARGETS[name]
    else:
        device = "cuda" if name == "cupy" else "cpu"
        fits = [
            target
            for target in TARGETS.values()
            if name in (target.library, target.id.split("-")[0])
            and (target.device, target.precision) == (device, precision)
        ]
        if not fits:
            libraries = {target.id.split("-")[0] for target in TARGETS.values()}
            raise unknown_name("compare", "library", name, [*libraries, *TARGETS])
        target = fits[0]
    try:
        return target.load(target.device, target.precision)
    except Absent as absence:
        raise InputError(
            f"compare: {name} must be on this machine; got: {absence}. Here are: {', '.join(present())}."
        ) from None


def as_numpy(tree: Tree) -> Tree:
    """A pytree of arrays of any library as NumPy arrays."""
    return optree.tree_map(_one_as_numpy, tree)


def _one_as_numpy(array: Any) -> Any:
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    try:
        made = np.asarray(array)
    except (TypeError, ValueError):
        made = np.from_dlpack(array)
    return made


def _is_single(tree: Tree) -> bool:
    leaves = optree.tree_leaves(tree)
    return bool(leaves) and all(leaf.dtype in (np.float32, np.complex64) for leaf in leaves)


def _shared_params(params: Any, fields: Mapping[str, Any]) -> Tree:
    """The parameters, which must be the same arrays if every library has its own."""
    is_own = isinstance(params, Mapping) and set(params) == set(fields)
    if not is_own:
        return as_numpy(params)
    own = {name: as_numpy(tree) for name, tree in params.items()}
    first, *others = own
    expected = _by_path(own[first])
    for name in others:
        got = _by_path(own[name])
        for path in [*expected, *got]:
            told = {key: _told(found.get(path)) for key, found in ((first, expected), (name, got))}
            if told[first] != told[name] or not np.allclose(expected[path], got[path], rtol=1e-6, atol=0):
                what = told if told[first] != told[name] else dict.fromkeys(told, "other values")
                raise InputError(
                    f"compare: {path} must be the same for every library; got "
                    f"{', '.join(f'{text} with {key}' for key, text in what.items())}. Make the parameters of one from "
                    "those of the other."
                )
    return own[first]


def _by_path(tree: Tree) -> dict[str, Any]:
    leaves, spec = optree.tree_flatten(tree)
    return {
        "params" + "".join(f"[{key!r}]" for key in path): leaf for path, leaf in zip(spec.paths(), leaves, strict=True)
    }


def _told(array: Any) -> str:
    return "nothing" if array is None else f"shape {array.shape}"


def _bar(ys_bar: Tree, y0: Tree, num_times: int) -> Tree:
    if ys_bar is not None:
        return as_numpy(ys_bar)
    rng = np.random.default_rng(7)

    def draw(leaf: Any) -> Any:
        shape = (num_times, *leaf.shape)
        bar = rng.normal(size=shape) + (1j * rng.normal(size=shape) if np.iscomplexobj(leaf) else 0.0)
        return bar.astype(leaf.dtype)

    return optree.tree_map(draw, y0)


def _problem(name: str, field: Any, inputs: Inputs, options: Options, knots: Knots | None = None) -> Problem:
    def draw(rng: np.random.Generator) -> tuple[Tree, Tree]:
        return inputs.y0, inputs.params

    made = Problem(name, field, draw, inputs.ts, 0, 1.0, None)
    if knots is not None:
        made = dataclasses.replace(made, knots=tuple(knots.times), kind=knots.kind)
    return dataclasses.replace(made, tolerances=(0.0, 0.0)) if is_adaptive(options) else made


def _values(runtime: Runtime, problem: Problem, inputs: Inputs, options: Options) -> dict[str, Tree]:
    """The solution and its gradients as NumPy arrays."""
    with runtime.active():
        outcome = runtime.run(problem, inputs, options)
    got = {key: tree for key, tree in outcome.got.items() if key not in outcome.lacks}
    return {key: optree.tree_map(runtime.to_numpy, tree) for key, tree in got.items()}


def _measured(
    runtime: Runtime, problem: Problem, inputs: Inputs, options: Options, values: dict[str, Tree], eps: float
) -> float:
    """By how much more than themselves errors in the inputs move the results; at least 1."""
    rng = np.random.default_rng(3)

    def moved(leaf: Any) -> Any:
        return (leaf * (1.0 + _NUDGE * eps * rng.choice([-1.0, 1.0], leaf.shape))).astype(leaf.dtype)

    y0, params, controls = (optree.tree_map(moved, tree) for tree in (inputs.y0, inputs.params, inputs.controls))
    nudged = dataclasses.replace(inputs, y0=y0, params=params, controls=controls)
    trees: Any = (_values(runtime, problem, nudged, options), values)
    pairs: Any = zip(*map(optree.tree_leaves, trees), strict=True)
    found = max(measure(a, b, eps) for a, b in pairs) / _NUDGE
    return max(1.0, found) if math.isfinite(found) else 1.0
