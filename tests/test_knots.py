"""Controls on knots: weights against NumPy and SciPy, gradients against complex steps and across libraries, jumps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from array_api_compat import array_namespace
from scipy.interpolate import CubicHermiteSpline

import janode.jax
import janode.numpy
import janode.torch
from janode.core.knots import Weights
from janode.numpy import Knots

from .adaptive_oracle import freeze
from .adaptive_problems import TIMES

X = [-0.2, 0.4, 0.5, 1.3, 2.0]
KINDS = ["constant", "linear", "cubic"]
SMOOTH = ["linear", "cubic"]
Y0, PARAMS = np.array([1.2, -0.4]), np.array(5.0)
GENERATOR = np.random.default_rng(7)
VALUES = {"damping": GENERATOR.normal(size=5), "force": GENERATOR.normal(size=(5, 2))}
OPTIONS: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-7}


def field(t: Any, y: Any, stiffness: Any, u: Any) -> Any:
    xp = array_namespace(y)
    pull = -stiffness * xp.sin(y[0]) - u["damping"] * y[1] + xp.cos(t) * u["force"][0]
    return xp.stack([y[1] + u["force"][1], pull])


def vjp(t: Any, y: Any, stiffness: Any, u: Any, f_bar: Any) -> Any:
    y_bar = np.stack([-f_bar[1] * stiffness * np.cos(y[0]), f_bar[0] - f_bar[1] * u["damping"]])
    force_bar = np.stack([f_bar[1] * np.cos(t), f_bar[0]])
    bars = {"damping": -f_bar[1] * y[1], "force": force_bar}
    return -f_bar[1] * np.sin(t) * u["force"][0], y_bar, -f_bar[1] * np.sin(y[0]), bars


def values(kind: str) -> dict[str, np.ndarray]:
    return {name: leaf[: 4 if kind == "constant" else 5] for name, leaf in VALUES.items()}


def interpolated(kind: str, t: Any, leaf: np.ndarray) -> Any:
    """The same interpolants, by other means; anything may be complex."""
    i = int(np.clip(np.searchsorted(X, np.real(t), side="right") - 1, 0, 3))
    if kind == "constant":
        return leaf[i]
    if kind == "linear":
        return leaf[i] + (t - X[i]) / (X[i + 1] - X[i]) * (leaf[i + 1] - leaf[i])
    slopes = np.gradient(leaf, X, axis=0, edge_order=2)
    coefficients = CubicHermiteSpline(X, leaf, slopes).c[:, i]
    return sum(c * (t - X[i]) ** (3 - d) for d, c in enumerate(coefficients))


def numpy_gradients(kind: str, ts: Any, **options: Any) -> Any:
    knots = Knots(X, values(kind), kind)
    solution, pullback = janode.numpy.solve_vjp(
        janode.numpy.Field(field, vjp), Y0, ts, PARAMS, controls=knots, **options
    )
    bars = np.cos(np.arange(solution.ys.size)).reshape(solution.ys.shape)
    found = pullback(bars)
    return [solution.ys, found.y0, found.params, found.ts, found.controls["damping"], found.controls["force"]]


def torch_gradients(kind: str, ts: Any, **options: Any) -> Any:
    given = {name: torch.tensor(leaf, requires_grad=True) for name, leaf in values(kind).items()}
    y0, params, times = (torch.tensor(np.asarray(part), requires_grad=True) for part in (Y0, PARAMS, ts))
    ys = janode.torch.solve(field, y0, times, params, controls=janode.torch.Knots(X, given, kind), **options).ys
    (torch.cos(torch.arange(ys.numel(), dtype=ys.dtype)).reshape(ys.shape) * ys).sum().backward()
    return [ys.detach(), y0.grad, params.grad, times.grad, given["damping"].grad, given["force"].grad]


def jax_gradients(kind: str, ts: Any, **options: Any) -> Any:
    """Without ts, which stay known."""

    def loss(y0: Any, params: Any, knots: Any) -> Any:
        ys = janode.jax.solve(field, y0, ts, params, controls=knots, **options).ys
        return (jnp.cos(jnp.arange(ys.size)).reshape(ys.shape) * ys).sum(), ys

    knots = janode.jax.Knots(X, jax.tree.map(jnp.asarray, values(kind)), kind)
    found, ys = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(jnp.asarray(Y0), jnp.asarray(PARAMS), knots)
    return [ys, found[0], found[1], found[2].values["damping"], found[2].values["force"]]


@pytest.mark.parametrize("t", [-0.3, -0.2, 0.1, 0.4, 0.45, 1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_weights(kind: str, t: float) -> None:
    leaf = values(kind)["force"]
    weights = Weights(Knots(X, None, kind), np, np.zeros(()))
    expected = interpolated(kind, t + 1e-20j, leaf + 0j)
    np.testing.assert_allclose(weights(np.asarray(t)) @ leaf, np.real(expected), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(weights.derivative(np.asarray(t)) @ leaf, np.imag(expected) * 1e20, atol=1e-12)


@pytest.mark.parametrize("ts", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("kind", SMOOTH)
def test_complex_steps(monkeypatch: Any, kind: str, save: str, ts: list[float]) -> None:
    knots = Knots(X, values(kind), kind)
    whole = janode.numpy.Field(field, vjp)
    solution, pullback, frozen = freeze(monkeypatch, whole, Y0, ts, PARAMS, controls=knots, save=save, **OPTIONS)
    bars = np.cos(np.arange(solution.ys.size)).reshape(solution.ys.shape)
    gradients = pullback(bars)

    def moved(times: Any, **added: Any) -> float:
        leaves = {name: leaf + added.get(name, 0.0) for name, leaf in values(kind).items()}

        def at(t: Any, y: Any) -> Any:
            return field(t, y, PARAMS, {name: interpolated(kind, t, leaf) for name, leaf in leaves.items()})

        return float(np.sum(bars * frozen(at, Y0 + 0j, times)).imag * 1e20)

    direction = {name: np.sin(3.0 + np.arange(leaf.size)).reshape(leaf.shape) for name, leaf in VALUES.items()}
    steps = {name: 1e-20j * leaf for name, leaf in direction.items()}
    found = sum(np.sum(gradients.controls[name] * leaf) for name, leaf in direction.items())
    np.testing.assert_allclose(found, moved(ts, **steps), rtol=1e-11)
    along = np.cos(1.0 + np.arange(len(ts)))
    np.testing.assert_allclose(gradients.ts @ along, moved(np.asarray(ts) + 1e-20j * along), rtol=1e-11, atol=1e-11)


SAVED = {**OPTIONS, "save": "interpolate"}, {**OPTIONS, "save": "clip"}, {"steps": 9}


@pytest.mark.parametrize("options", SAVED, ids=["interpolate", "clip", "fixed"])
@pytest.mark.parametrize("name", ["many", "reversed"])
@pytest.mark.parametrize("kind", KINDS)
def test_torch_is_numpy(kind: str, name: str, options: dict[str, Any]) -> None:
    pairs = zip(
        numpy_gradients(kind, TIMES[name], **options), torch_gradients(kind, TIMES[name], **options), strict=True
    )
    for ours, found in pairs:
        np.testing.assert_allclose(found, ours, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [("constant", "reversed", SAVED[1]), ("linear", "many", SAVED[0]), ("cubic", "many", SAVED[2])],
    ids=["constant-clip", "linear-interpolate", "cubic-fixed"],
)
def test_jax_is_numpy(kind: str, name: str, options: dict[str, Any]) -> None:
    ys, y0_bar, params_bar, _, *rest = numpy_gradients(kind, TIMES[name], **options)
    for ours, found in zip((ys, y0_bar, params_bar, *rest), jax_gradients(kind, TIMES[name], **options), strict=True):
        np.testing.assert_allclose(found, ours, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("ts", [[0.0, 2.0], [2.0, 0.0], [0.0, 1.3], [1.3, 0.4]], ids=str)
def test_constant_is_read_on_the_right_side_of_jumps(ts: list[float]) -> None:
    """The integral of a staircase, and its gradient: the lengths of its treads."""
    pair = janode.numpy.Field(lambda t, y, u: u + 0.0 * y, lambda t, y, u, f_bar: (None, 0.0 * f_bar, np.sum(f_bar)))
    stairs = np.array([1.0, -20.0, 300.0, 4.0])
    solution, pullback = janode.numpy.solve_vjp(pair, np.zeros(1), ts, controls=Knots(X, stairs, "constant"))
    low, high = sorted(ts)
    treads = np.diff(np.clip(X, low, high)) * np.sign(ts[-1] - ts[0])
    np.testing.assert_allclose(solution.ys[-1], stairs @ treads, rtol=1e-13)
    np.testing.assert_allclose(pullback(np.array([[0.0], [1.0]])).controls, treads, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("ts", [[0.0, 2.0], [2.0, 0.0]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_end_at_knots(kind: str, ts: list[float]) -> None:
    controller = janode.numpy.PIController(step_ts=[0.7])
    knots = Knots(X, values(kind), kind)
    solution = janode.numpy.solve(
        field, Y0, ts, PARAMS, controls=knots, controller=controller, dense=True, rtol=1e-2, atol=1e-2
    )
    assert {0.4, 0.5, 0.7, 1.3} <= set(solution.interpolant.step_ts)


def test_event_and_knots() -> None:
    """The event reads params alone; its pullback leaves the values their part."""
    event = janode.numpy.Event(lambda t, y, c: y[0] - c, vjp=lambda t, y, c, bar: (None, np.array([bar]), -bar))
    pair = janode.numpy.Field(
        lambda t, y, c, u: u + 0.0 * y, lambda t, y, c, u, f_bar: (None, 0.0 * f_bar, None, np.sum(f_bar))
    )
    solution, pullback = janode.numpy.solve_vjp(
        pair, np.zeros(1), [0.0, 2.0], np.array(1.0), controls=Knots([0.0, 2.0], np.array([1.0, 1.0])), event=event
    )
    found = pullback(np.zeros_like(solution.ys), event_bar=(1.0, None))
    np.testing.assert_allclose(found.params, 1.0, rtol=1e-12)
    np.testing.assert_allclose(found.controls, [-0.75, -0.25], rtol=1e-12)  # minus the hats' integrals up to t = 1


def test_single_precision_keeps_jumps() -> None:
    y0, stairs = jnp.zeros(1, jnp.float32), jnp.asarray([1.0, 100.0], jnp.float32)
    knots = janode.jax.Knots([0.0, 0.1, 0.3], stairs, "constant")
    ys = janode.jax.solve(lambda t, y, u: u + 0.0 * y, y0, [0.0, 0.3], controls=knots).ys
    assert ys.dtype == jnp.float32
    np.testing.assert_allclose(ys[-1], 20.1, rtol=1e-6)


def test_lanes_read_their_own_times() -> None:
    knots = janode.torch.Knots(X, torch.tensor(VALUES["damping"]), "cubic")
    y0 = torch.tensor([[1.0], [30.0]], dtype=torch.float64)

    def solve(y0: Any, **options: Any) -> Any:
        rate = lambda t, y, u: u.reshape(-1, 1) * y - 0.1 * y**2  # noqa: E731
        return janode.torch.solve(rate, y0, [0.0, 2.0], controls=knots, **options, **OPTIONS).ys[-1]

    together = solve(y0, batch_axis=0)
    torch.testing.assert_close(together, torch.cat([solve(y0[:1]), solve(y0[1:])]), rtol=1e-12, atol=0.0)


BAD: dict[str, tuple[Any, str]] = {
    "one knot": (lambda: Knots([0.0], np.ones(1)), r"Knots: times must be at least 2 finite numbers .* got \[0\.0\]"),
    "not increasing": (lambda: Knots([0.0, 0.0], np.ones(2)), "that strictly increase; .* Sort them"),
    "no numbers": (lambda: Knots("knots", np.ones(2)), "times must be at least 2 .*; got 'knots'"),
    "NaN": (lambda: Knots([0.0, float("nan")], np.ones(2)), "at least 2 finite numbers"),
    "kind": (lambda: Knots(X, np.ones(5), "quintic"), "kind must be one of constant, linear, cubic; got 'quintic'"),
}


@pytest.mark.parametrize(("make", "text"), BAD.values(), ids=BAD)
def test_bad_knots(make: Any, text: str) -> None:
    with pytest.raises(janode.numpy.InputError, match=text):
        make()


FRONTENDS = {
    "numpy": (janode.numpy, np.asarray),
    "torch": (janode.torch, torch.tensor),
    "jax": (janode.jax, jnp.asarray),
}
FOUR = [1.0, 2.0, 3.0, 4.0]
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "too short": (X, {}, r"controls\.values must be .* leading axis of 5, one entry for each knot; got shape \(4,\)"),
    "intervals": (X[1:], {"kind": "constant"}, r"leading axis of 3, one entry for each interval; got shape \(4,\)"),
    "not covering": ([0.0, 0.1, 0.2, 1.5], {}, r"must cover ts, from 0\.0 to 2\.0; got 0\.0 to 1\.5\. Add knots"),
    "sampling": ([0.0, 0.1, 0.2, 2.0], {"sampling": "steps"}, "must not come with sampling, .* got 'steps'. Leave"),
    "correction": ([0.0, 0.1, 0.2, 2.0], {"correction": "filter"}, "must have controls at nodes|filter"),
}


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, frontend: str) -> None:
    (jo, array), (times, options, text) = FRONTENDS[frontend], REFUSED[case]
    knots = jo.Knots(times, array(FOUR), options.get("kind", "linear"))
    rest = {name: value for name, value in options.items() if name != "kind"}
    solve = jo.solve_vjp if frontend == "numpy" else jo.solve
    rate: Any = lambda t, y, u: u * y  # noqa: E731
    whole = jo.Field(rate, lambda t, y, u, f_bar: (None, u * f_bar, f_bar @ y)) if frontend == "numpy" else rate
    with pytest.raises(jo.InputError, match=text):
        solve(whole, array([1.0, 1.0]), [0.0, 2.0], controls=knots, **rest)


def test_traced_times_need_steps() -> None:
    knots = janode.jax.Knots([0.0, 1.0, 2.0], jnp.ones(3))

    def last(end: Any, **options: Any) -> Any:
        ts = jnp.stack([0.0 * end, end])
        return janode.jax.solve(lambda t, y, u: u * y, jnp.ones(1), ts, controls=knots, **options).ys[-1, 0]

    np.testing.assert_allclose(jax.grad(last)(1.5, steps=40, method="rk4"), np.exp(1.5), rtol=1e-6)
    with pytest.raises(janode.jax.InputError, match="Knots with adaptive steps must come with ts known when"):
        jax.grad(last)(1.5)


def test_vjp_of_the_wrong_length() -> None:
    wrong = janode.numpy.Field(lambda t, y, u: u * y, lambda t, y, u, f_bar: (None, u * f_bar))
    with pytest.raises(janode.numpy.InputError, match=r"vjp must return a tuple of 3 cotangents, .* got 2 entries"):
        janode.numpy.solve_vjp(wrong, np.ones(2), [0.0, 1.0], controls=Knots([0.0, 1.0], np.ones(2)))
