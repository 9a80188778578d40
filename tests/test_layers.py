"""The layers' hand-written VJPs against complex steps, torch and JAX, on every library, device and dtype."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import array_api_compat.numpy as numpy_xp
import array_api_compat.torch as torch_xp
import array_api_strict
import jax
import numpy as np
import optree
import pytest
import torch
from array_api_compat import array_namespace
from hypothesis import given, settings
from hypothesis import strategies as st

from janode.core.errors import InputError
from janode.core.layers import MLP, ConcatTime, Layer, Linear, ReLU, Sequential, Softplus, Tanh

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)

RTOL = {"float64": 1e-13, "float32": 2e-6}
LAYERS: dict[str, Callable[[int], Layer]] = {
    "linear": lambda features: Linear(features, 4),
    "tanh": lambda features: Tanh(),
    "softplus": lambda features: Softplus(),
    "relu": lambda features: ReLU(),
    "concat_time": lambda features: ConcatTime(),
    "identity": lambda features: Sequential(()),
    "sequential_nested": lambda features: Sequential((Sequential((Linear(features, 2), Tanh())), Softplus())),
    "time_twice": lambda features: Sequential((ConcatTime(), Tanh(), ConcatTime(), Linear(features + 2, 3))),
    "mlp_tanh": lambda features: MLP((features, 5, 6, 2), "tanh"),
    "mlp_softplus_time": lambda features: MLP((features, 5, 2), "softplus", time=True),
    "mlp_relu_time": lambda features: MLP((features, 5, 2), "relu", time=True),
}


@dataclass(frozen=True)
class Target:
    """One array library on one device with one dtype, and how it is entered and called."""

    xp: Any
    dtype: str
    device: Any = None
    is_readonly: bool = False
    is_jitted: bool = False
    enter: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    def asarray(self, value: Any, dtype: str | None = None) -> Any:
        array = self.xp.asarray(np.array(value), dtype=getattr(self.xp, dtype or self.dtype), device=self.device)
        if self.is_readonly:
            array.flags.writeable = False
        return array

    def vjp(self, layer: Layer, *arguments: Any) -> Any:
        return (jax.jit(layer.vjp) if self.is_jitted else layer.vjp)(*arguments)


@contextlib.contextmanager
def strict_jax(x64: bool = True) -> Any:
    with jax.enable_x64(x64), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def strictest() -> Any:
    return array_api_strict.ArrayAPIStrictFlags(
        api_version="2023.12", boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )


STRICT_DEVICE = array_api_strict.Device
TARGETS = {
    "numpy-f64": Target(numpy_xp, "float64"),
    "numpy-f32": Target(numpy_xp, "float32"),
    "numpy-readonly-f64": Target(numpy_xp, "float64", is_readonly=True),
    "strict-f64": Target(array_api_strict, "float64"),
    "strictest-device1-f64": Target(array_api_strict, "float64", STRICT_DEVICE("device1"), enter=strictest),
    "strict-no_float64-f32": Target(array_api_strict, "float32", STRICT_DEVICE("no_float64")),
    "torch-f64": Target(torch_xp, "float64"),
    "torch-f32": Target(torch_xp, "float32"),
    "jax-f64": Target(jax.numpy, "float64", enter=strict_jax),
    "jax-jit-f64": Target(jax.numpy, "float64", is_jitted=True, enter=strict_jax),
    "jax-jit-x64_off-f32": Target(jax.numpy, "float32", is_jitted=True, enter=lambda: strict_jax(x64=False)),
}
each_layer = pytest.mark.parametrize("make_layer", LAYERS.values(), ids=LAYERS)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Any:
    chosen = TARGETS[request.param]
    with chosen.enter():
        yield chosen


def evaluate(layer: Layer, t: Any, x: Any, params: Any) -> Any:
    """The layers written a second time, in NumPy, for complex numbers."""
    match layer:
        case Sequential():
            for inner, inner_params in zip(layer.layers, params, strict=True):
                x = evaluate(inner, t, x, inner_params)
            return x
        case Linear():
            return np.einsum("...i,oi->...o", x, params["weight"]) + params["bias"]
        case ConcatTime():
            return np.concatenate([x, np.full((*x.shape[:-1], 1), t)], axis=-1)
        case Tanh():
            return np.tanh(x)
        case Softplus():
            return np.log1p(np.exp(x))
        case ReLU():
            return np.where(x.real > 0, x, 0)


def directional_derivative(layer: Layer, inputs: Any, direction: Any) -> Any:
    """J u by a complex step, exact to rounding."""
    return evaluate(layer, *optree.tree_map(lambda a, u: a + 1e-100j * u, inputs, direction)).imag / 1e-100


def complex_step_vjp(layer: Layer, inputs: Any, out_bar: Any) -> Any:
    """The cotangents of (t, x, params), one complex step for each number among them."""
    leaves, structure = optree.tree_flatten(inputs)
    bars = [np.zeros_like(leaf) for leaf in leaves]
    for number, bar in enumerate(bars):
        for index in np.ndindex(bar.shape):
            unit = [np.zeros_like(leaf) for leaf in leaves]
            unit[number][index] = 1
            direction = optree.tree_unflatten(structure, unit)
            bar[index] = np.sum(out_bar * directional_derivative(layer, inputs, direction))
    return optree.tree_unflatten(structure, bars)


def draw(layer: Layer, batch: tuple[int, ...], features: int, seed: int = 0) -> tuple[Any, Any]:
    """(t, x, params) and a cotangent of the output, as NumPy float64 arrays that float32 holds exactly."""
    rng = np.random.default_rng(seed)
    inputs = (rng.normal(size=()), rng.normal(size=(*batch, features)), layer.init(rng, numpy_xp, np.float64))
    out_bar = rng.normal(size=evaluate(layer, *inputs).shape)
    return optree.tree_map(lambda a: np.asarray(a, dtype=np.float32).astype(np.float64), (inputs, out_bar))


def to_numpy(array: Any) -> Any:
    if array_namespace(array) is array_api_strict:
        array = array.to_device(STRICT_DEVICE("CPU_DEVICE"))
    return np.asarray(array).astype(np.float64)


def assert_close(actual: Any, expected: Any, like: Any, rtol: float) -> None:
    """Leaf by leaf the namespace, dtype, device and shape of ``like``; values relative to the largest expected one."""
    largest = max((np.max(np.abs(leaf), initial=0) for leaf in optree.tree_leaves(expected)), default=0)

    def compare(actual: Any, expected: Any, like: Any) -> None:
        assert array_namespace(actual) is array_namespace(like)
        assert (actual.shape, actual.dtype, actual.device) == (like.shape, like.dtype, like.device)
        values = to_numpy(actual)
        assert np.all(np.isfinite(values))
        error = np.max(np.abs(values - expected), initial=0)
        assert error <= rtol * largest, f"error {error:.2e} > {rtol:.0e} x {largest:.2e}"

    optree.tree_map(compare, actual, expected, like)


def without_none(bars: Any, like: Any) -> Any:
    """The cotangents with zeros instead of None for a time that the layer ignores."""
    return (array_namespace(like[0]).zeros_like(like[0]) if bars[0] is None else bars[0], *bars[1:])


def assert_vjp(target: Target, layer: Layer, batch: tuple[int, ...]) -> None:
    """The value and all cotangents of one layer on one target against the complex step."""
    inputs, out_bar = draw(layer, batch, 3)
    arrays, cotangent = optree.tree_map(target.asarray, (inputs, out_bar))
    expected = evaluate(layer, *inputs)
    assert_close(layer(*arrays), expected, target.asarray(expected), RTOL[target.dtype])
    bars = without_none(target.vjp(layer, *arrays, cotangent), arrays)
    assert_close(bars, complex_step_vjp(layer, inputs, out_bar), arrays, RTOL[target.dtype])


@each_layer
@pytest.mark.parametrize("batch", [(), (2, 1, 3), (2, 0)], ids=["vector", "rank4", "empty"])
def test_vjp_equals_complex_step(target: Target, make_layer: Any, batch: tuple[int, ...]) -> None:
    assert_vjp(target, make_layer(3), batch)


@each_layer
def test_vjp_equals_torch_autograd(make_layer: Any) -> None:
    layer = make_layer(3)
    inputs, out_bar = optree.tree_map(torch.tensor, draw(layer, (2, 3), 3))
    tracked = optree.tree_map(lambda leaf: leaf.clone().requires_grad_(), inputs)
    expected = torch.autograd.grad(layer(*tracked), optree.tree_leaves(tracked), out_bar, materialize_grads=True)
    bars = without_none(layer.vjp(*inputs, out_bar), inputs)
    assert_close(optree.tree_leaves(bars), [bar.numpy() for bar in expected], optree.tree_leaves(inputs), 1e-13)


@each_layer
def test_vjp_equals_jax_vjp(make_layer: Any) -> None:
    layer = make_layer(3)
    inputs, out_bar = optree.tree_map(jax.numpy.asarray, draw(layer, (2, 3), 3))
    expected = jax.jit(lambda inputs, out_bar: jax.vjp(layer, *inputs)[1](out_bar))(inputs, out_bar)
    bars = jax.jit(layer.vjp)(*inputs, out_bar)
    assert_close(without_none(bars, inputs), optree.tree_map(np.asarray, expected), inputs, 1e-13)


@each_layer
@settings(max_examples=25)
@given(batch=st.lists(st.integers(0, 4), max_size=3).map(tuple), features=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_dot_product_identity(make_layer: Any, batch: tuple[int, ...], features: int, seed: int) -> None:
    layer = make_layer(features)
    inputs, out_bar = draw(layer, batch, features, seed)
    rng = np.random.default_rng(seed + 1)
    direction = optree.tree_map(lambda leaf: rng.normal(size=leaf.shape), inputs)
    bars = without_none(layer.vjp(*inputs, out_bar), inputs)
    pushed = out_bar * directional_derivative(layer, inputs, direction)
    pulled = np.concatenate([np.ravel(t) for t in optree.tree_leaves(optree.tree_map(np.multiply, bars, direction))])
    scale = np.sum(np.abs(pushed)) + np.sum(np.abs(pulled))
    assert abs(np.sum(pushed) - np.sum(pulled)) <= 1e-13 * scale


@each_layer
def test_init_is_bitwise_equal_to_numpy(target: Target, make_layer: Any) -> None:
    layer, dtype = make_layer(3), getattr(target.xp, target.dtype)
    actual = layer.init(np.random.default_rng(7), target.xp, dtype, target.device)
    expected = layer.init(np.random.default_rng(7), numpy_xp, np.dtype(target.dtype))
    assert_close(actual, expected, optree.tree_map(target.asarray, expected), 0.0)


def test_init_draws_weight_then_bias_within_the_bound() -> None:
    params = Linear(16, 5).init(np.random.default_rng(0), numpy_xp, np.float64)
    draws = np.random.default_rng(0).uniform(-0.25, 0.25, 16 * 5 + 5)
    np.testing.assert_array_equal(params["weight"], draws[:80].reshape(5, 16))
    np.testing.assert_array_equal(params["bias"], draws[80:])


@each_layer
def test_inputs_stay_as_they_are_and_pull_repeats(target: Target, make_layer: Any) -> None:
    layer = make_layer(3)
    inputs, out_bar = draw(layer, (4,), 3)
    arrays, cotangent = optree.tree_map(target.asarray, (inputs, out_bar))
    _, pull = layer.linearize(*arrays)
    first, second = pull(cotangent), pull(cotangent)
    optree.tree_map(lambda a, b: np.testing.assert_array_equal(to_numpy(a), to_numpy(b)), first, second)
    after = optree.tree_map(to_numpy, (arrays, cotangent))
    optree.tree_map(np.testing.assert_array_equal, after, (inputs, out_bar))


@each_layer
def test_torch_meta_reads_no_value(make_layer: Any) -> None:
    layer = make_layer(3)
    inputs, out_bar = optree.tree_map(lambda a: torch.tensor(a, device="meta"), draw(layer, (4,), 3))
    bars = without_none(layer.vjp(*inputs, out_bar), inputs)
    optree.tree_map(torch.testing.assert_close, bars, inputs)


@pytest.mark.parametrize("target", [name for name in TARGETS if TARGETS[name].dtype == "float64"], indirect=True)
def test_time_keeps_its_own_dtype(target: Target) -> None:
    t, x = target.asarray(0.3), target.asarray(np.ones((2, 3)), "float32")
    t_bar, x_bar, _ = target.vjp(ConcatTime(), t, x, (), target.asarray(np.ones((2, 4)), "float32"))
    assert_close((t_bar, x_bar), (np.array(2.0), np.ones((2, 3))), (t, x), 0.0)


def test_softplus_far_out(target: Target) -> None:
    x = target.asarray([-1000.0, -80.0, 0.0, 80.0, 1000.0])
    ones, t = target.asarray(np.ones(5)), target.asarray(0.0)
    out, (_, x_bar, _) = Softplus()(t, x, ()), target.vjp(Softplus(), t, x, (), ones)
    np.testing.assert_allclose(to_numpy(out), [0, math.exp(-80), math.log(2), 80, 1000], rtol=RTOL[target.dtype])
    np.testing.assert_allclose(to_numpy(x_bar), [0, math.exp(-80), 0.5, 1, 1], rtol=RTOL[target.dtype])


def test_relu_at_zero_and_nan(target: Target) -> None:
    x, ones, t = target.asarray([0.0, -0.0, np.nan]), target.asarray(np.ones(3)), target.asarray(0.0)
    np.testing.assert_array_equal(to_numpy(ReLU()(t, x, ())), [0, 0, np.nan])
    np.testing.assert_array_equal(to_numpy(target.vjp(ReLU(), t, x, (), ones)[1]), [0, 0, 1])


def test_relu_at_zero_by_torch_autograd() -> None:
    x = torch.zeros(1, requires_grad=True)
    assert torch.autograd.grad(ReLU()(torch.tensor(0.0), x, ())[0], x)[0].item() == 0


def test_relu_at_zero_by_jax_grad() -> None:
    assert jax.grad(lambda x: ReLU()(0.0, x, ())[0])(jax.numpy.zeros(1))[0] == 0


class TransposedWeight(Linear):
    def linearize_with(self, xp: Any, t: Any, x: Any, params: Any) -> Any:
        out, pull = super().linearize_with(xp, t, x, params)
        return out, lambda out_bar: (None, xp.matmul(out_bar, params["weight"].mT), pull(out_bar)[2])


class BiasOfOneMate(Linear):
    def linearize_with(self, xp: Any, t: Any, x: Any, params: Any) -> Any:
        out, pull = super().linearize_with(xp, t, x, params)
        return out, lambda out_bar: (*pull(out_bar)[:2], {**pull(out_bar)[2], "bias": out_bar[0, ...]})


class WrongSign(Tanh):
    def linearize_with(self, xp: Any, t: Any, x: Any, params: Any) -> Any:
        out = xp.tanh(x)
        return out, lambda out_bar: (None, out_bar * (1.0 + out * out), ())


class TimeForgotten(ConcatTime):
    def linearize_with(self, xp: Any, t: Any, x: Any, params: Any) -> Any:
        out, pull = super().linearize_with(xp, t, x, params)
        return out, lambda out_bar: (None, *pull(out_bar)[1:])


class DoubledPrecision(Softplus):
    def linearize_with(self, xp: Any, t: Any, x: Any, params: Any) -> Any:
        out, pull = super().linearize_with(xp, t, x, params)
        return out, lambda out_bar: (None, xp.astype(pull(out_bar)[1], xp.float64), ())


BROKEN = [TransposedWeight(3, 3), BiasOfOneMate(3, 3), WrongSign(), TimeForgotten(), DoubledPrecision()]


@pytest.mark.parametrize("layer", BROKEN, ids=lambda layer: type(layer).__name__)
def test_a_broken_layer_is_caught(layer: Layer) -> None:
    with pytest.raises(AssertionError):
        assert_vjp(TARGETS["numpy-f32"], layer, (4,))


ZERO, X, NET = np.zeros(()), np.ones((4, 3)), MLP((3, 2))
WEIGHTS = Linear(3, 2).init(np.random.default_rng(0), numpy_xp, np.float64)
REFUSALS = {
    "size_zero": (lambda: Linear(0, 2), r"Linear: in_features must be a positive integer; got 0\. Count"),
    "size_float": (lambda: Linear(2, 3.0), r"Linear: out_features must be a positive integer; got 3\.0\."),
    "one_size": (lambda: MLP((3,)), r"MLP: sizes must be two or more positive integers; got \(3,\)\. Name"),
    "hidden_time": (lambda: MLP((0, 2), time=True), r"MLP: sizes must be .* got \(0, 2\)\."),
    "activation": (
        lambda: MLP((3, 2), "tahn"),
        r"MLP: activation must be one of: tanh, relu, softplus; got 'tahn'\. Choose",
    ),
    "layer_class": (lambda: Sequential((Tanh,)), r"Sequential: layers must be a tuple of layers; got \(<class .*Give"),
    "layer_list": (lambda: Sequential([Tanh()]), r"Sequential: layers must be a tuple of layers; got \[Tanh\(\)\]\."),
    "complex": (
        lambda: Tanh()(ZERO, X + 0j, ()),
        r"Tanh: x must be a real floating array .* dtype complex128\. .* real and imaginary",
    ),
    "integer": (lambda: ReLU()(ZERO, np.ones(3, int), ()), r"ReLU: x must .* got shape \(3,\), dtype int64\. Cast"),
    "scalar": (lambda: ReLU()(ZERO, ZERO, ()), r"ReLU: x must .* of shape \(\.\.\., features\); got shape \(\)"),
    "features": (
        lambda: Linear(2, 2)(ZERO, X, {}),
        r"Linear\(in_features=2, out_features=2\): x must have 2 features on its last axis; got shape \(4, 3\)\.",
    ),
    "no_dict": (lambda: Linear(3, 2)(ZERO, X, ()), r"params must be a dict of weight and bias; got tuple\. Take"),
    "keys": (lambda: Linear(3, 2)(ZERO, X, {"w": X}), r"params must be a dict .* got the keys \['w'\]\."),
    "weight_shape": (
        lambda: Linear(3, 2)(ZERO, X, {**WEIGHTS, "weight": X}),
        r"weight must have shape \(2, 3\) and x's dtype float64; got \(4, 3\) and float64\. Take params",
    ),
    "bias_shape": (
        lambda: Linear(3, 2)(ZERO, X, {**WEIGHTS, "bias": np.ones(1)}),
        r"bias must have shape \(2,\) .* got \(1,\) and float64",
    ),
    "params_dtype": (
        lambda: Linear(3, 2)(ZERO, X.astype("f4"), WEIGHTS),
        r"weight must .* x's dtype float32; got \(2, 3\) and float64",
    ),
    "params_count": (
        lambda: NET(ZERO, X, (WEIGHTS, ())),
        r"Sequential: params must be a tuple of 1 entries, one per layer; got 2 entries\. Take",
    ),
    "params_list": (lambda: NET(ZERO, X, [WEIGHTS]), r"Sequential: params must be a tuple .* got list\."),
    "time_float": (lambda: ConcatTime()(0.5, X, ()), r"ConcatTime: t must be a 0-d real .* got 0\.5\. Give"),
    "time_shape": (lambda: ConcatTime()(np.ones(1), X, ()), r"t must be .* got shape \(1,\), dtype float64\."),
    "time_integer": (lambda: ConcatTime()(np.array(1), X, ()), r"t must be .* got shape \(\), dtype int64\."),
    "cotangent_shape": (
        lambda: Tanh().vjp(ZERO, X, (), np.ones(3)),
        r"Tanh: out_bar must have the shape and dtype of the output, \(4, 3\) and float64; got \(3,\) and float64\. R",
    ),
    "cotangent_dtype": (lambda: Tanh().vjp(ZERO, X, (), X.astype("f4")), r"out_bar must .* got \(4, 3\) and float32"),
}


@pytest.mark.parametrize(("call", "text"), REFUSALS.values(), ids=REFUSALS)
def test_refusal(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
