"""Forward mode by hand: the tangent of a solve is exact, and adjoint to the pullback of the same solve."""

from typing import Any

import array_api_strict
import numpy as np
import pytest

import janode.array
import janode.numpy as jo
from janode.core.layers import MLP, ConcatTime, Layer, Linear, ReLU, Sequential, Softplus, Tanh

METHODS = ["euler", "rk4", "dopri5", "dopri8", "leapfrog", "ab2", "ab4", "alf", "reversible_heun", "reversible(tsit5)"]
PAIRS = ["bosh3", "dopri5", "dopri8"]
FIXED = [0.0, 1.0, 2.0]
FREE = [2.0, 1.3, 0.4, -1.0]
RNG = np.random.default_rng(5)
Y0, P = RNG.standard_normal(3), {"W": RNG.standard_normal((3, 3)), "b": RNG.standard_normal(3)}
KNOTS = jo.Knots([-1.0, 0.0, 1.0, 2.0], RNG.standard_normal((4, 3)), kind="cubic")


def fn(t: Any, y: Any, p: Any, u: Any = 0.0) -> Any:
    """tanh(W y + b cos t + u reversed(y))."""
    return np.tanh(p["W"] @ y + p["b"] * np.cos(t) + u * y[::-1])


def vjp(t: Any, y: Any, p: Any, *rest: Any) -> Any:
    *control, f_bar = rest
    g = (1.0 - fn(t, y, p, *control) ** 2) * f_bar
    t_bar, p_bar = -np.sin(t) * np.sum(g * p["b"]), {"W": np.outer(g, y), "b": g * np.cos(t)}
    if not control:
        return t_bar, p["W"].T @ g, p_bar
    return t_bar, p["W"].T @ g + (control[0] * g)[::-1], p_bar, g * y[::-1]


def jvp(t: Any, y: Any, p: Any, *rest: Any) -> Any:
    u, t_dot, y_dot, p_dot, u_dot = rest if len(rest) == 5 else (0.0, *rest, 0.0)
    z_dot = p_dot["W"] @ y + p["W"] @ y_dot + p_dot["b"] * np.cos(t) - p["b"] * np.sin(t) * t_dot
    return (1.0 - fn(t, y, p, u) ** 2) * (z_dot + u_dot * y[::-1] + u * y_dot[::-1])


FIELD = jo.Field(fn, vjp, jvp)


def dots(num_times: int, controls: Any = None) -> dict[str, Any]:
    """A random direction."""
    rng = np.random.default_rng(6)
    values = getattr(controls, "values", controls)
    return {
        "y0_dot": rng.standard_normal(3),
        "params_dot": {"W": rng.standard_normal((3, 3)), "b": rng.standard_normal(3)},
        "ts_dot": rng.standard_normal(num_times),
        "controls_dot": None if values is None else rng.standard_normal(values.shape),
    }


def assert_adjoint(ts: Any, controls: Any = None, **options: Any) -> None:
    """<ys_bar, jvp(dots)> = <pullback(ys_bar), dots>, for the same states."""
    direction = dots(len(ts), controls)
    solution, ys_dot = jo.solve_jvp(FIELD, Y0, ts, P, controls=controls, **direction, **options)
    expected, pullback = jo.solve_vjp(FIELD, Y0, ts, P, controls=controls, adjoint="stages", **options)
    np.testing.assert_array_equal(solution.ys, expected.ys)
    ys_bar = np.random.default_rng(7).standard_normal(ys_dot.shape)
    found = pullback(ys_bar)
    pairs = [(found.y0, "y0_dot"), (found.ts, "ts_dot")] + [(found.controls, "controls_dot")] * (controls is not None)
    pulled = sum(np.sum(bar * direction[name]) for bar, name in pairs)
    pulled += sum(np.sum(found.params[name] * direction["params_dot"][name]) for name in P)
    assert np.sum(ys_bar * ys_dot) == pytest.approx(pulled, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_fixed_steps_push_what_they_pull(method: str) -> None:
    assert_adjoint(FIXED, method=method, steps=7)


@pytest.mark.parametrize("sampling", ["nodes", "steps"])
@pytest.mark.parametrize("method", METHODS)
def test_controls_push_what_they_pull(method: str, sampling: str) -> None:
    times = jo.control_times(method, FIXED, steps=7, sampling=sampling)
    controls = np.random.default_rng(8).standard_normal((len(times), 3))
    assert_adjoint(FIXED, controls, method=method, steps=7, sampling=sampling)


@pytest.mark.parametrize("controls", [None, KNOTS], ids=["plain", "knots"])
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("method", PAIRS)
def test_adaptive_steps_push_what_they_pull(method: str, save: str, controls: Any) -> None:
    controller = jo.PIController(step_ts=(0.9,), jump_ts=(1.3,))
    assert_adjoint(FREE, controls, method=method, save=save, rtol=1e-4, atol=1e-6, controller=controller)


def by_complex_step(ts: Any, direction: dict[str, Any], **options: Any) -> np.ndarray:
    """The derivative along the tangents of y0 and params; the norm of an error sees none of so small a step."""
    y0 = Y0 + 1e-30j * direction["y0_dot"]
    params = {name: P[name] + 1e-30j * direction["params_dot"][name] for name in P}
    return jo.solve(fn, y0, ts, params, **options).ys.imag / 1e-30


@pytest.mark.parametrize("method", METHODS)
def test_fixed_steps_agree_with_complex_steps(method: str) -> None:
    direction = {**dots(3), "ts_dot": None}
    _, ys_dot = jo.solve_jvp(FIELD, Y0, FIXED, P, **direction, method=method, steps=7)
    np.testing.assert_allclose(ys_dot, by_complex_step(FIXED, direction, method=method, steps=7), rtol=1e-11)


@pytest.mark.parametrize("method", PAIRS)
def test_adaptive_steps_agree_with_complex_steps(method: str) -> None:
    direction, tolerances = {**dots(4), "ts_dot": None}, {"rtol": 1e-4, "atol": 1e-6}
    _, ys_dot = jo.solve_jvp(FIELD, Y0, FREE, P, **direction, method=method, **tolerances)
    np.testing.assert_allclose(ys_dot, by_complex_step(FREE, direction, method=method, **tolerances), rtol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_times_agree_with_differences(method: str) -> None:
    """By a motion that keeps the steps equal: a shift and a stretch."""
    ts, ts_dot = np.array(FIXED), 0.3 + 0.7 * np.array(FIXED)
    _, ys_dot = jo.solve_jvp(FIELD, Y0, FIXED, P, ts_dot=ts_dot, method=method, steps=7)
    plus, minus = (jo.solve(fn, Y0, ts + h * ts_dot, P, method=method, steps=7).ys for h in (1e-5, -1e-5))
    np.testing.assert_allclose(ys_dot, (plus - minus) / 2e-5, rtol=1e-7, atol=1e-8)


def test_adaptive_times_move_with_the_solution() -> None:
    """For all times at once, the states between them follow the ODE."""
    ts_dot, tolerances = np.array([0.0, 1.0, 1.0, 1.0]), {"rtol": 1e-10, "atol": 1e-12}
    solution, ys_dot = jo.solve_jvp(FIELD, Y0, FREE, P, ts_dot=ts_dot, **tolerances)
    slopes = np.stack([fn(t, y, P) for t, y in zip(FREE, solution.ys, strict=True)])
    np.testing.assert_allclose(ys_dot, ts_dot[:, None] * slopes, rtol=1e-6, atol=1e-8)


def test_it_costs_one_evaluation_and_one_jvp_a_stage() -> None:
    pushed = []
    field = jo.Field(fn, jvp=lambda *args: pushed.append(0) or jvp(*args))
    solution, _ = jo.solve_jvp(field, Y0, FIXED, P, y0_dot=Y0, method="rk4", steps=7)
    assert (solution.stats.num_field_evals, len(pushed)) == (2 * 7 * 4, 2 * 7 * 4)
    pushed.clear()
    solution, _ = jo.solve_jvp(field, Y0, FIXED, P, y0_dot=Y0, method="bosh3", save="clip")
    found = jo.solve(fn, Y0, FIXED, P, method="bosh3", save="clip").stats
    assert len(pushed) == 3 * found.num_accepted
    assert solution.stats.num_field_evals == found.num_field_evals + 3 * found.num_accepted


def test_zero_tangents_may_be_left_out() -> None:
    _, ys_dot = jo.solve_jvp(FIELD, Y0, FIXED, P, params_dot={"W": None, "b": np.zeros(3)}, steps=2)
    np.testing.assert_array_equal(ys_dot, np.zeros((3, 3)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.complex128, 1e-9), (np.float16, 1e-2)])
def test_states_keep_their_dtype(dtype: Any, tolerance: float) -> None:
    field = jo.Field(lambda t, y, k: k * y, jvp=lambda t, y, k, t_dot, y_dot, k_dot: k * y_dot + k_dot * y)
    y0, k = np.array([1.0, 2.0], dtype), np.array(0.5, dtype)
    _, ys_dot = jo.solve_jvp(field, y0, [0.0, 1.0], k, params_dot=np.array(1.0, dtype), method="rk4", steps=100)
    assert ys_dot.dtype == dtype
    np.testing.assert_allclose(ys_dot[-1], np.exp(0.5) * y0, rtol=tolerance)


def test_strict_arrays() -> None:
    xp = array_api_strict
    net = MLP((2, 4, 2), time=True)
    params = net.init(np.random.default_rng(0), xp, xp.float64)
    y0, ones = xp.asarray([[1.0, 0.5]]), xp.asarray([[1.0, 1.0]])
    options = {"method": "bosh3", "rtol": 1e-3, "atol": 1e-4}
    solution, ys_dot = janode.array.solve_jvp(net, y0, [0.0, 0.5, 1.0], params, y0_dot=ones, **options)
    _, pullback = janode.array.solve_vjp(net, y0, [0.0, 0.5, 1.0], params, **options)
    found = pullback(xp.ones_like(solution.ys))
    assert float(xp.sum(ys_dot)) == pytest.approx(float(xp.sum(found.y0)), rel=1e-12)


LAYERS = {
    "linear": Linear(3, 2),
    "tanh": Tanh(),
    "softplus": Softplus(),
    "relu": ReLU(),
    "time": ConcatTime(),
    "chain": MLP((3, 5, 3), "softplus", time=True),
    "nothing": Sequential(()),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_a_layer_pushes_what_it_pulls(layer: Layer) -> None:
    rng = np.random.default_rng(0)

    def like(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: like(leaf) for name, leaf in tree.items()}
        return tuple(map(like, tree)) if isinstance(tree, tuple) else rng.standard_normal(tree.shape)

    def inner(left: Any, right: Any) -> float:
        if isinstance(left, dict):
            return sum(inner(left[name], right[name]) for name in left)
        return sum(map(inner, left, right)) if isinstance(left, tuple) else float(np.sum(left * right))

    params, x, t = layer.init(rng, np, np.float64), rng.standard_normal((4, 3)), np.array(0.3)
    t_dot, x_dot, params_dot = like(t), like(x), like(params)
    out, out_dot = layer.push(t, x, params, t_dot, x_dot, params_dot)
    np.testing.assert_array_equal(out, layer(t, x, params))
    out_bar = like(out)
    t_bar, x_bar, params_bar = layer.vjp(t, x, params, out_bar)
    pulled = inner(x_bar, x_dot) + inner(params_bar, params_dot) + (0.0 if t_bar is None else inner(t_bar, t_dot))
    assert inner(out_bar, out_dot) == pytest.approx(pulled, rel=1e-12)


def refused(field: Any = FIELD, **options: Any) -> Any:
    return lambda: jo.solve_jvp(field, Y0, FIXED, P, method="rk4", steps=2, **options)


class Own(Layer):
    def linearize_with(self, xp: Any, t: Any, x: Any, params: Any) -> Any:
        return x, lambda out_bar: (None, out_bar, ())


REFUSED = {
    "no jvp": (refused(jo.Field(fn, vjp)), "solve_jvp: field must bring its JVP; got Field without"),
    "a function": (refused(fn), "solve_jvp: field must bring its JVP; got function without"),
    "a layer": (lambda: jo.solve_jvp(Own(), Y0, FIXED, (), steps=2), "Own: a layer must bring push_with"),
    "shape": (refused(y0_dot=np.ones(2)), r"y0_dot must have shape \(3,\) .* Give the tangent the shape"),
    "structure": (refused(params_dot=np.ones(3)), "params_dot must have the structure of params"),
    "too few times": (refused(ts_dot=[1.0]), r"ts_dot must be 3 finite numbers, one for each of ts; got \[1.0\]"),
    "infinite": (refused(ts_dot=[0.0, 1.0, np.inf]), "ts_dot must be 3 finite numbers"),
    "no derivative": (refused(jo.Field(fn, jvp=lambda *args: None)), "the field's jvp must return the derivative"),
    "its shape": (refused(jo.Field(fn, jvp=lambda *args: np.ones(1))), "the field's jvp must return the derivative"),
    "no vjp": (lambda: jo.solve_vjp(jo.Field(fn, jvp=jvp), Y0, FIXED, P, steps=2), "field must bring its VJP"),
}


@pytest.mark.parametrize(("call", "text"), REFUSED.values(), ids=list(REFUSED))
def test_refused(call: Any, text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        call()


def test_a_failure_is_raised() -> None:
    field = jo.Field(lambda t, y: y * y, jvp=lambda t, y, t_dot, y_dot: 2.0 * y * y_dot)
    with pytest.raises(jo.SolveError):
        jo.solve_jvp(field, np.array([1.0]), [0.0, 2.0], y0_dot=np.array([1.0]))
    _, ys_dot = jo.solve_jvp(field, np.array([1.0]), [0.0, 0.5, 2.0], y0_dot=np.array([1.0]), on_failure="return")
    np.testing.assert_allclose(ys_dot[:2, 0], [1.0, 4.0], rtol=1e-5)
    assert np.isnan(ys_dot[2, 0])
