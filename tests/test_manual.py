"""The frontends with hand-written VJPs: pytrees, dtypes, shapes, networks, and cotangents left out."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_compat.torch as torch_xp
import jax.numpy as jax_xp
import numpy as np
import optree
import pytest
import torch

import janode.array as jo
from janode.core.adjoint import RECOVERIES
from janode.core.layers import MLP, Tanh
from janode.core.tableaus import RK4

from .problems import (
    FIELD,
    TARGETS,
    TS,
    Y0,
    YS_BAR,
    A,
    Counted,
    Target,
    X,
    assert_close,
    gradient,
    pack,
    params,
    textbook,
    value,
    vjp,
)

torch.set_num_threads(1)

PRESETS = list(RECOVERIES)


# Pytrees: the numbers are those of the same problem on one array.


class Pair(NamedTuple):
    u: Any
    v: Any


U, V, W = Y0, np.array(0.3), np.array([[0.1, -0.7]])
TREES: dict[str, Any] = {
    "tuple": (U, V, W),
    "list": [U, V, W],
    "dict": {"c": W, "a": U, "b": V},
    "nested": {"x": (U, [V]), "y": {"z": W}},
    "named tuple": Pair(U, Pair(V, W)),
    "with None": {"a": U, "b": None, "c": (None, V), "d": W},
    "one leaf": [np.concatenate([U, [V], W[0]])],
}
M = np.linspace(-1.0, 1.0, 25).reshape(5, 5)


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in optree.tree_leaves(tree)])


def like(tree: Any, numbers: np.ndarray, lead: tuple[int, ...] = ()) -> Any:
    """The numbers, shape (*lead, 5), in the structure and shapes of the tree."""
    leaves, spec = optree.tree_flatten(tree)
    parts = np.split(numbers, np.cumsum([leaf.size for leaf in leaves])[:-1], axis=-1)
    return spec.unflatten([part.reshape(lead + leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def flat_value(t: Any, y: Any, p: Any) -> Any:
    return np.cos(t) * (p @ np.tanh(y))


def flat_vjp(t: Any, y: Any, p: Any, f_bar: Any) -> Any:
    z = np.tanh(y)
    y_bar = np.cos(t) * (p.T @ f_bar) * (1.0 - z * z)
    return -np.sin(t) * np.sum(f_bar * (p @ z)), y_bar, np.cos(t) * np.outer(f_bar, z)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tree", TREES)
def test_states_of_any_structure(tree: str, preset: str) -> None:
    y0 = TREES[tree]
    ys_bar = np.sin(np.arange(15.0)).reshape(3, 5)

    def tree_vjp(t: Any, y: Any, p: Any, f_bar: Any) -> Any:
        t_bar, y_bar, p_bar = flat_vjp(t, flat(y), p, flat(f_bar))
        return t_bar, like(y, y_bar), p_bar

    field = jo.Field(lambda t, y, p: like(y, flat_value(t, flat(y), p)), tree_vjp)
    options = {"method": "rk4", "steps": 2, "adjoint": preset}
    expected, expected_pullback = jo.solve_vjp(jo.Field(flat_value, flat_vjp), flat(y0), TS, M, **options)
    solution, pullback = jo.solve_vjp(field, y0, TS, M, **options)
    gradients, expected_gradients = pullback(like(y0, ys_bar, (3,))), expected_pullback(ys_bar)
    assert optree.tree_structure(solution.ys) == optree.tree_structure(y0)
    assert optree.tree_structure(gradients.y0) == optree.tree_structure(y0)
    shapes = [(3, *leaf.shape) for leaf in optree.tree_leaves(y0)]
    assert [leaf.shape for leaf in optree.tree_leaves(solution.ys)] == shapes
    ys = np.concatenate([leaf.reshape(3, -1) for leaf in optree.tree_leaves(solution.ys)], axis=1)
    assert_close(ys, expected.ys)
    assert_close(flat(gradients.y0), expected_gradients.y0)
    assert_close(gradients.params, expected_gradients.params)
    assert_close(gradients.ts, expected_gradients.ts)


@pytest.mark.parametrize("tree", TREES)
def test_params_of_any_structure(tree: str) -> None:
    p, y0 = TREES[tree], flat(TREES["tuple"])
    field = jo.Field(
        lambda t, y, p: flat(p) * np.tanh(y),
        lambda t, y, p, f_bar: (
            None,
            flat(p) * (1.0 - np.tanh(y) ** 2) * f_bar,
            like(p, np.tanh(y) * f_bar),
        ),
    )
    _, pullback = jo.solve_vjp(field, y0, TS, p, method="rk4", steps=2)
    _, expected = jo.solve_vjp(field, y0, TS, flat(p), method="rk4", steps=2)
    params_bar, ys_bar = pullback(np.ones((3, 5))).params, np.ones((3, 5))
    assert optree.tree_structure(params_bar) == optree.tree_structure(p)
    assert [leaf.shape for leaf in optree.tree_leaves(params_bar)] == [leaf.shape for leaf in optree.tree_leaves(p)]
    np.testing.assert_array_equal(flat(params_bar), expected(ys_bar).params)


@pytest.mark.parametrize(
    ("p", "arguments"), [(None, 2), ((), 3), ({}, 3), ({"k": None}, 3), (np.array(1.0), 3)], ids=repr
)
def test_params_are_an_argument_of_the_field_if_given(p: Any, arguments: int) -> None:
    seen = []

    def fn(*args: Any) -> Any:
        seen.append(len(args))
        return -args[1]

    field = jo.Field(fn, lambda *args: (None, -args[-1], p)[: len(args) - 1])
    _, pullback = jo.solve_vjp(field, Y0, TS, p, method="euler", steps=1)
    gradients = pullback(YS_BAR)
    assert set(seen) == {arguments}
    assert optree.tree_structure(gradients.params) == optree.tree_structure(p)


# Cotangents left out stand for zero.

NONES: dict[str, Callable[..., Any]] = {
    "t_bar": lambda bars: (None, *bars[1:]),
    "y_bar": lambda bars: (bars[0], None, bars[2]),
    "params_bar": lambda bars: (*bars[:2], None),
    "A_bar": lambda bars: (*bars[:2], {"A": None, "b": bars[2]["b"]}),
    "b_bar": lambda bars: (*bars[:2], {"A": bars[2]["A"], "b": None}),
    "all": lambda bars: (None, None, None),
}


def zeros_for_none(bars: Any, full: Any) -> Any:
    leaves = optree.tree_leaves(bars, none_is_leaf=True)
    if len(leaves) == 3:
        leaves = [*leaves[:2], None, None]
    filled = [0.0 * b if a is None else a for a, b in zip(leaves, optree.tree_leaves(full), strict=True)]
    return optree.tree_structure(full).unflatten(filled)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("case", NONES)
def test_none_stands_for_a_zero_cotangent(case: str, preset: str) -> None:
    left_out = Counted(vjp=lambda *args: NONES[case](vjp(*args)))
    zero = Counted(vjp=lambda *args: zeros_for_none(NONES[case](vjp(*args)), vjp(*args)))
    options = {"method": "rk4", "steps": 2, "adjoint": preset}
    gradients = jo.solve_vjp(left_out.field, Y0, TS, params(), **options)[1](YS_BAR)
    expected = jo.solve_vjp(zero.field, Y0, TS, params(), **options)[1](YS_BAR)
    np.testing.assert_array_equal(
        pack(gradients.y0, gradients.params, gradients.ts), pack(expected.y0, expected.params, expected.ts)
    )


def test_some_leaves_of_y_bar_may_be_none() -> None:
    field = jo.Field(
        lambda t, y: {"u": -y["u"], "v": 0.0 * y["v"]}, lambda t, y, f_bar: (None, {"u": -f_bar["u"], "v": None})
    )
    _, pullback = jo.solve_vjp(field, {"u": U, "v": V}, TS, method="rk4", steps=2)
    gradients = pullback({"u": None, "v": np.ones(3)})
    np.testing.assert_array_equal(gradients.y0["u"], [0.0, 0.0])
    assert gradients.y0["v"] == 3.0


def test_no_cotangent_gives_no_gradient() -> None:
    gradients = jo.solve_vjp(FIELD, Y0, TS, params(), steps=1)[1](None)
    np.testing.assert_array_equal(pack(gradients.y0, gradients.params, gradients.ts), np.zeros(10))


# Dtypes and shapes.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "complex64", "complex128"])
def test_dtypes_are_kept(dtype: str, preset: str) -> None:
    seen = set()
    real = np.zeros(0, dtype).real.dtype

    def fn(t: Any, y: Any, k: Any) -> Any:
        seen.add((t.dtype, t.shape))
        return -k * y

    field = jo.Field(fn, lambda t, y, k, f_bar: (None, -np.conj(k) * f_bar, -np.sum(np.conj(y) * f_bar)))
    y0, k = Y0.astype(dtype), np.asarray(0.5, dtype)
    solution, pullback = jo.solve_vjp(field, y0, TS, k, method="rk4", steps=2, adjoint=preset)
    gradients = pullback(YS_BAR.astype(dtype))
    assert seen == {(real, ())}
    assert (solution.ys.dtype, gradients.y0.dtype, gradients.params.dtype) == (y0.dtype,) * 3
    assert gradients.ts.dtype == (np.float32 if dtype == "float16" else real)


def test_totals_of_half_precision_are_single() -> None:
    # 3000 steps, each with a parameter cotangent of 1: a total in float16 would stop at 2048.
    field = jo.Field(
        lambda t, y, k: np.full_like(y, 0.0), lambda t, y, k, f_bar: (np.float16(0.0), None, np.float16(3000.0) * f_bar)
    )
    _, pullback = jo.solve_vjp(field, np.float16(0.0), [0.0, 1.0], np.float16(0.0), method="euler", steps=3000)
    gradients = pullback(np.array([0.0, 1.0], np.float16))
    assert abs(float(gradients.params) - 3000.0) < 2.0


def test_times_of_half_precision_are_summed_in_single() -> None:
    # ts[1] gets 1 / 3000 of h's cotangent from each step: 1 in all.
    field = jo.Field(lambda t, y: np.full_like(y, 1.0), lambda t, y, f_bar: (None, None))
    _, pullback = jo.solve_vjp(field, np.float16(0.0), [0.0, 1.0], method="euler", steps=3000)
    np.testing.assert_allclose(pullback(np.array([0.0, 1.0], np.float16)).ts, [-1.0, 1.0], rtol=1e-3)


def test_leaves_of_several_precisions() -> None:
    seen = set()

    def fn(t: Any, y: Any) -> Any:
        seen.add(t.dtype)
        return {"u": -y["u"], "v": -y["v"]}

    field = jo.Field(fn, lambda t, y, f_bar: (None, {"u": -f_bar["u"], "v": -f_bar["v"]}))
    y0 = {"u": np.ones(2, np.float32), "v": np.ones(2, np.float64)}
    solution, pullback = jo.solve_vjp(field, y0, TS, method="rk4", steps=2)
    gradients = pullback({"u": np.ones((3, 2), np.float32), "v": np.ones((3, 2))})
    assert seen == {np.dtype(np.float64)}
    assert (solution.ys["u"].dtype, solution.ys["v"].dtype) == (np.float32, np.float64)
    assert (gradients.y0["u"].dtype, gradients.y0["v"].dtype) == (np.float32, np.float64)
    assert gradients.ts.dtype == np.float64
    assert_close(gradients.y0["u"], gradients.y0["v"].astype(np.float32))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)], ids=str)
def test_shapes(shape: tuple[int, ...], target: str, preset: str) -> None:
    made, xp = TARGETS[target], TARGETS[target].xp
    field = jo.Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -xp.sum(y * f_bar)))
    y0 = made.array(np.full(shape, 2.0))
    solution, pullback = jo.solve_vjp(field, y0, [0.0, 1.0], made.array(0.5), method="rk4", steps=8, adjoint=preset)
    gradients = pullback(made.array(np.stack([np.zeros(shape), np.ones(shape)])))
    size = np.prod(shape, dtype=int)
    assert_close(solution.ys[1, ...], np.full(shape, 2.0 * np.exp(-0.5)), factor=1e9)
    assert_close(gradients.y0, np.full(shape, np.exp(-0.5)), factor=1e9)
    np.testing.assert_allclose(float(gradients.params), -2.0 * size * np.exp(-0.5), rtol=1e-6)
    np.testing.assert_allclose(float(gradients.ts[1]), -1.0 * size * np.exp(-0.5), rtol=1e-6)
    assert gradients.y0.shape == shape
    assert gradients.params.shape == ()
    assert gradients.ts.shape == (2,)


# Complex states: a gradient is dL/dx + i dL/dy.


def complex_value(t: Any, y: Any, p: Any) -> Any:
    """Neither analytic nor autonomous."""
    return p * y + 0.3 * np.conj(y) * np.exp(1j * t)


def complex_vjp(t: Any, y: Any, p: Any, f_bar: Any) -> Any:
    turned = 0.3 * np.exp(1j * t)
    t_bar = np.sum(np.real(np.conj(f_bar) * 1j * turned * np.conj(y)))
    return t_bar, np.conj(p) * f_bar + turned * np.conj(f_bar), np.sum(np.conj(y) * f_bar)


def real_value(t: Any, y: Any, p: Any) -> Any:
    """The same on (real part, imaginary part), analytic in each of them."""
    a, b = y
    c, s = 0.3 * np.cos(t), 0.3 * np.sin(t)
    return np.stack([p[0] * a - p[1] * b + c * a + s * b, p[0] * b + p[1] * a + s * a - c * b])


@pytest.mark.parametrize("preset", PRESETS)
def test_complex_states(preset: str) -> None:
    y0, p = np.array([0.4 - 1.1j, 0.9 + 0.2j]), np.array(-0.2 + 1.3j)
    ys_bar = YS_BAR + 1j * YS_BAR[::-1]
    field = jo.Field(complex_value, complex_vjp)
    solution, pullback = jo.solve_vjp(field, y0, TS, p, method="rk4", steps=3, adjoint=preset)
    gradients = pullback(ys_bar)
    x = np.concatenate([y0.real, y0.imag, [p.real, p.imag], TS])
    bars = np.stack([ys_bar.real, ys_bar.imag], axis=1)

    def outputs(x: Any) -> Any:
        return textbook(RK4, real_value, x[:4].reshape(2, 2), x[6:], x[4:6], (3, 3))

    reference = np.array([np.sum(bars * np.imag(outputs(x + 1e-30j * dx))) / 1e-30 for dx in np.eye(9)])
    got = [*gradients.y0.real, *gradients.y0.imag, gradients.params.real, gradients.params.imag, *gradients.ts]
    assert_close(np.stack([solution.ys.real, solution.ys.imag], axis=1), outputs(x))
    assert_close(np.array(got), reference)


# Networks bring their own VJP.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("target", ["numpy-f64", "strict-device1-f64"])
def test_networks(target: str, preset: str) -> None:
    made = TARGETS[target]
    net = MLP((2, 3, 2), time=True)
    p = net.init(np.random.default_rng(0), made.xp, made.xp.float64, made.device)
    options = {"method": "rk4", "steps": 2, "adjoint": preset}
    y0, ys_bar = made.array(Y0), made.array(YS_BAR)
    by_hand = jo.solve_vjp(jo.Field(net, net.vjp), y0, TS, p, **options)[1](ys_bar)
    gradients = jo.solve_vjp(net, y0, TS, p, **options)[1](ys_bar)
    assert_close(gradients.ts, by_hand.ts, factor=0.0)
    assert_close(gradients.y0, by_hand.y0, factor=0.0)
    assert_close(gradients.params[1]["weight"], by_hand.params[1]["weight"], factor=0.0)


def test_a_network_without_parameters_takes_empty_ones() -> None:
    solution, pullback = jo.solve_vjp(Tanh(), Y0, TS, (), method="rk4", steps=2)
    assert_close(solution.ys, textbook(RK4, lambda t, y, p: np.tanh(y), Y0, TS, (), (2, 2)))
    assert pullback(YS_BAR).params == ()


# The modules.

NAMES = {"Field", "Gradients", "InputError", "JanodeError", "NonFiniteState", "Solution", "SolveError", "Stats"}


@pytest.mark.parametrize("module", ["janode.numpy", "janode.cupy", "janode.array"])
def test_the_frontends_are_one(module: str) -> None:
    frontend = importlib.import_module(module)
    assert {*NAMES, "solve", "solve_vjp"} <= set(frontend.__all__)
    assert all(getattr(frontend, name) is getattr(jo, name) for name in NAMES)
    assert (frontend.solve, frontend.solve_vjp) == (jo.solve, jo.solve_vjp)


@pytest.mark.parametrize(
    "target", [Target(torch_xp, "float64"), Target(jax_xp, "float64")], ids=["torch-f64", "jax-eager-f64"]
)
def test_any_array_library(target: Target) -> None:
    _, pullback = jo.solve_vjp(FIELD, target.array(Y0), TS, params(target), method="rk4", steps=3)
    gradients = pullback(target.array(YS_BAR))
    assert_close(pack(gradients.y0, gradients.params, gradients.ts), gradient(X, YS_BAR, RK4))
    assert target.owns(gradients.y0)


def test_times_in_a_table_are_refused_even_if_they_are_numbers() -> None:
    with pytest.raises(jo.InputError, match="solve: ts must be a sequence of real numbers; got tensor"):
        jo.solve(lambda t, y: y, torch.ones(2), torch.tensor([[0.0], [1.0]]), steps=1)


def test_a_solution_holds_the_times_as_given() -> None:
    ts = np.array(TS)
    assert jo.solve(value, Y0, ts, params(), steps=1).ts is ts


def test_a_field_is_its_function() -> None:
    np.testing.assert_array_equal(FIELD(0.5, Y0, {"A": A, "b": 0.1}), value(0.5, Y0, {"A": A, "b": 0.1}))
