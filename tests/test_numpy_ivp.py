"""janode.numpy's solve_ivp against SciPy's, called with the same words, and its pullback against differences."""

import inspect
import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate

import janode.numpy as jo

METHODS = ("RK45", "RK23", "DOP853")
TOLERANCES = {"RK45": (1e-8, 1e-5), "RK23": (1e-6, 1e-3), "DOP853": (1e-8, 1e-5)}
"""For each method what is asked for, and how near results of two libraries then are."""
SCIPY = scipy.integrate
LIBRARIES = pytest.mark.parametrize("lib", [jo, SCIPY], ids=["janode", "scipy"])


def lotka_volterra(t: float, z: np.ndarray, a: float, b: float, c: float, d: float) -> list[float]:
    x, y = z
    return [a * x - b * x * y, -c * y + d * x * y]


RATES = (1.5, 1, 3, 1)
RUN = {"fun": lotka_volterra, "t_span": [0, 5], "y0": [10, 5], "args": RATES}

CALLS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "t_eval": {"t_eval": np.linspace(0.0, 5.0, 7)},
    "t_eval inside": {"t_eval": [1.0, 2.5]},
    "no t_eval at all": {"t_eval": []},
    "backwards": {"t_span": (5.0, 0.0), "t_eval": [4.0, 0.5], "y0": [1.0, 0.7]},
    "dense": {"dense_output": True},
    "dense and t_eval": {"dense_output": True, "t_eval": [0.0, 1.0]},
    "tolerances": {"atol": [1e-10, 1e-9]},
    "limits": {"max_step": 0.1, "first_step": 0.01},
}


def test_its_signature_is_that_of_scipy() -> None:
    got, expected = (inspect.signature(lib.solve_ivp).parameters.values() for lib in (jo, SCIPY))
    assert [(p.name, p.kind, p.default) for p in got] == [(p.name, p.kind, p.default) for p in expected]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", METHODS)
def test_results_are_those_of_scipy(method: str, call: str) -> None:
    rtol, close = TOLERANCES[method]
    options = {**RUN, "method": method, "rtol": rtol, "atol": 0.01 * rtol, **CALLS[call]}
    got, expected = (lib.solve_ivp(**options) for lib in (jo, SCIPY))
    assert {field for field in dir(expected) if field in expected} <= set(vars(got))
    assert (got.status, got.success, got.njev, got.nlu) == (0, True, 0, 0)
    assert (got.t_events, got.y_events) == (None, None)
    assert got.nfev <= 1.35 * expected.nfev
    if options.get("t_eval") is None:
        assert got.t[[0, -1]].tolist() == expected.t[[0, -1]].tolist()
        assert got.y.shape == (2, len(got.t))
        assert len(got.t) <= 1.1 * len(expected.t) + 2
        assert np.allclose(got.y[:, -1], expected.y[:, -1], rtol=close)
    else:
        assert np.array_equal(got.t, expected.t)
        assert np.shape(got.y) == np.shape(expected.y) or not len(got.t)
        assert np.allclose(got.y, expected.y, rtol=close) or not len(got.t)
    assert (got.sol is None) == (expected.sol is None)


def test_a_solution_as_a_function_is_that_of_scipy() -> None:
    options = {**RUN, "rtol": 1e-9, "atol": 1e-11, "dense_output": True}
    got, expected = (lib.solve_ivp(**options).sol for lib in (jo, SCIPY))
    assert (got.t_min, got.t_max) == (expected.t_min, expected.t_max)
    for t in (0.0, 2.345, 5.0, np.array([0.1, 3.0, 4.9])):
        assert got(t).shape == expected(t).shape
        assert np.allclose(got(t), expected(t), rtol=1e-6)
    assert np.all(np.diff(got.ts) > 0.0)


def test_steps_end_where_it_says() -> None:
    got = jo.solve_ivp(**RUN, rtol=1e-6, dense_output=True)
    assert np.allclose(got.sol.ts, got.t, rtol=1e-14)
    assert np.allclose(got.sol(got.t), got.y, rtol=1e-12)


@LIBRARIES
@pytest.mark.parametrize("y0", [[1], np.array([1], dtype=np.float32), (1.0,)], ids=["integers", "single", "tuple"])
def test_states_become_double(y0: Any, lib: Any) -> None:
    assert lib.solve_ivp(lambda t, y: -y, (0, 1), y0).y.dtype == np.float64


@pytest.mark.parametrize("method", METHODS)
def test_complex_states(method: str) -> None:
    a = np.array([[0.2j, 1.0], [0.0, -0.1]])
    got, expected = (
        lib.solve_ivp(lambda t, y: a @ y, (0, 3), np.array([1j, 2]), method, rtol=1e-8, atol=1e-10)
        for lib in (jo, SCIPY)
    )
    assert got.y.dtype == expected.y.dtype
    assert np.allclose(got.y[:, -1], expected.y[:, -1], rtol=1e-6)


@LIBRARIES
def test_vectorized(lib: Any) -> None:
    def fun(t: float, y: np.ndarray) -> np.ndarray:
        assert y.shape == (2, 1)
        return np.stack([-y[0], y[0] - y[1]])

    assert lib.solve_ivp(fun, (0, 1), [1.0, 0.0], vectorized=True, t_eval=[1.0]).y == pytest.approx(
        math.exp(-1.0), rel=1e-2
    )


@LIBRARIES
def test_time_is_a_number(lib: Any) -> None:
    times = []
    lib.solve_ivp(lambda t, y: times.append(t) or [math.cos(t)], (0, 1), [0.0])
    assert all(isinstance(t, float) for t in times)


def cannon(t: float, y: np.ndarray) -> list[float]:
    return [y[1], -0.5]


def ground(t: float, y: np.ndarray) -> float:
    return y[0]


def apex(t: float, y: np.ndarray) -> float:
    return y[1]


ground.terminal, ground.direction = True, -1  # type: ignore[attr-defined]


def turns(limit: Any, direction: float) -> Any:
    """The zeros of a sine: at multiples of pi."""

    def event(t: float, y: np.ndarray) -> float:
        return y[0]

    event.terminal, event.direction = limit, direction  # type: ignore[attr-defined]
    return event


def passes(value: float, limit: Any) -> Any:
    """Where the first entry passes a value."""

    def event(t: float, y: np.ndarray) -> float:
        return y[0] - value

    event.terminal = limit  # type: ignore[attr-defined]
    return event


def steady(t: float, y: np.ndarray) -> list[float]:
    return [1.0]


def circle(t: float, y: np.ndarray) -> list[float]:
    return [y[1], -y[0]]


EVENTS: dict[str, dict[str, Any]] = {
    "one that ends it and one that does not": {
        "fun": cannon,
        "y0": [0, 10],
        "t_span": (0, 100),
        "events": (ground, apex),
    },
    "two in one look": {"fun": steady, "y0": [0], "t_span": (0, 90), "events": [passes(20, True), passes(19, False)]},
    "one after the end": {"fun": steady, "y0": [0], "t_span": (0, 90), "events": [passes(20, True), passes(21, False)]},
    "all": {"events": turns(False, 0)},
    "those that rise": {"events": [turns(None, 1)]},
    "those that fall": {"events": turns(0, -2.5)},
    "the third": {"events": turns(3, 0)},
    "the second that rises, and all": {"events": [turns(2, 1), turns(False, 0)]},
    "backwards": {"events": [turns(2, 1), turns(False, 0)], "t_span": (0.0, -20.0)},
    "none in time": {"events": turns(True, 0), "t_span": (0.0, 1.0)},
    "with t_eval": {"events": turns(3, 0), "t_eval": np.arange(1.0, 20.0)},
    "with a solution": {"events": turns(3, 0), "dense_output": True},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", EVENTS)
def test_events_are_those_of_scipy(case: str, method: str) -> None:
    rtol, close = TOLERANCES[method]
    options = {"fun": circle, "y0": [-1.0, 0.5], "t_span": (0.0, 20.0), "rtol": rtol, "atol": 0.01 * rtol}
    options |= EVENTS[case]
    got, expected = (lib.solve_ivp(method=method, **options) for lib in (jo, SCIPY))
    assert (got.status, got.success) == (expected.status, True)
    assert len(got.t_events) == len(expected.t_events)
    for times, others in zip(got.t_events, expected.t_events, strict=True):
        assert times == pytest.approx(others, abs=close)
    for states, others in zip(got.y_events, expected.y_events, strict=True):
        assert states.shape == others.shape
        assert np.allclose(states, others, atol=close)
    assert got.t[-1] == pytest.approx(expected.t[-1], abs=close)
    assert np.allclose(got.y[:, -1], expected.y[:, -1], atol=close)
    if got.sol is not None:
        assert got.sol.t_max == pytest.approx(expected.t[-1], abs=close)


def test_an_event_may_be_an_array_of_one_entry() -> None:
    got = jo.solve_ivp(circle, (0, 4), [-1.0, 0.0], events=lambda t, y: y[:1], rtol=1e-8, atol=1e-10)
    assert got.t_events[0] == pytest.approx([0.5 * math.pi], abs=1e-6)


@LIBRARIES
def test_events_get_the_arguments(lib: Any) -> None:
    def half(t: float, y: np.ndarray, rate: float) -> float:
        return y[0] - 0.5 * rate

    got = lib.solve_ivp(lambda t, y, rate: -rate * y, (0, 2), [2.0], args=(2.0,), events=half, rtol=1e-9, atol=1e-12)
    assert got.t_events[0] == pytest.approx([0.5 * math.log(2.0)], abs=1e-6)


@LIBRARIES
@pytest.mark.parametrize("t_eval", [None, [0.5, 2.0]], ids=["all steps", "t_eval"])
def test_a_failure_comes_back_with_what_there_is(t_eval: Any, lib: Any) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        got = lib.solve_ivp(lambda t, y: y**2, (0, 5), [1.0], t_eval=t_eval, rtol=1e-6)
    assert (got.status, got.success) == (-1, False)
    assert "step size" in got.message
    assert 0.4 < got.t[-1] < 1.01
    assert got.y[0, 0] == pytest.approx(1.0 if t_eval is None else 2.0, rel=1e-4)
    assert np.all(np.isfinite(got.y))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a stiff method": ({"method": "Radau"}, "method must be explicit; got 'Radau'.* Use 'RK45'"),
    "a method nobody knows": ({"method": "RK4"}, "method must be one of: RK45.*; got 'RK4'"),
    "an option of other methods": ({"jac": None}, "the options of an explicit method must be one of.*; got 'jac'"),
    "a tolerance of zero": ({"atol": 0.0}, "atol must be > 0"),
    "a step of zero": ({"max_step": 0.0}, "max_step must be > 0"),
    "a matrix": ({"y0": np.ones((2, 2))}, r"y0 must be an array of numbers of shape \(n,\); got shape \(2, 2\)"),
    "words": ({"y0": ["a"]}, "y0 must be an array of numbers"),
    "a state that is not finite": ({"y0": [math.nan]}, "y0 must be finite"),
    "three ends": ({"t_span": (0, 1, 2)}, r"t_span must have 2 entries; got shape \(3,\)"),
    "no interval": ({"t_span": (1.0, 1.0)}, "strictly increasing or strictly decreasing"),
    "times outside": ({"t_eval": [0.5, 6.0]}, "t_eval must lie within t_span, 0.0 to 5.0"),
    "times that turn": ({"t_eval": [0.5, 0.2]}, "t_eval must be sorted in the direction of t_span"),
    "a table of times": ({"t_eval": [[0.5]]}, r"t_eval must be 1-D; got shape \(1, 1\)"),
    "no function": ({"fun": 1.0}, "fun must be callable"),
    "an argument alone": ({"args": 1.0}, r"args must be a tuple; got float. Give \(value,\)"),
    "an event that is none": ({"events": [1.0]}, "an event must be callable"),
    "an end before the first": ({"events": turns(-1, 0)}, "terminal of an event must be a bool or a positive integer"),
    "a slope of another shape": ({"fun": lambda t, y: [1.0, 2.0]}, r"the field must return shape \(1,\)"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_bad_arguments_are_refused(fault: str) -> None:
    arguments, text = REFUSED[fault]
    with pytest.raises(jo.InputError, match=text):
        jo.solve_ivp(**{"fun": lambda t, y: -y, "t_span": (0.0, 5.0), "y0": [1.0], **arguments})


def pendulum(t: float, y: np.ndarray, k: Any, drive: Any) -> np.ndarray:
    return np.array([y[1], -k * np.sin(y[0]) + drive[0] * np.cos(drive[1] * t)])


def pendulum_vjp(t: float, y: np.ndarray, k: Any, drive: Any, f_bar: np.ndarray) -> Any:
    wave = np.cos(drive[1] * t), np.sin(drive[1] * t)
    t_bar = -f_bar[1] * drive[0] * drive[1] * wave[1]
    y_bar = np.array([-f_bar[1] * k * np.cos(y[0]), f_bar[0]])
    return t_bar, y_bar, -f_bar[1] * np.sin(y[0]), f_bar[1] * np.array([wave[0], -drive[0] * t * wave[1]])


FIELD = jo.Field(pendulum, pendulum_vjp)


@pytest.mark.parametrize("t_eval", [None, [0.0, 0.7, 2.0], [0.3, 1.9]], ids=["all steps", "with the ends", "inside"])
@pytest.mark.parametrize("method", METHODS)
def test_the_pullback_converges_to_the_derivative(method: str, t_eval: Any) -> None:
    """Of tight solves, whose gradients must agree with differences of tighter ones."""
    y0, span, args = np.array([1.0, 0.2]), np.array([0.0, 2.0]), (np.array(1.3), np.array([0.4, 2.0]))
    tight = {"rtol": 1e-9, "atol": 1e-11}
    result, pullback = jo.solve_ivp_vjp(FIELD, span, y0, method, t_eval, args, **tight)
    ends = [0.3, 1.1]  # the weights of the states, first and last ones only: the number of steps may differ
    y_bar = np.zeros_like(result.y)
    y_bar[:, 0], y_bar[:, -1] = ends[0], ends[1]
    bars = pullback(y_bar)
    inputs = [y0, *args, span, *([] if t_eval is None else [np.array(t_eval)])]

    def loss(*inputs: np.ndarray) -> float:
        y0, k, drive, span, *times = inputs
        with_times = {"t_eval": times[0]} if times else {}
        y = jo.solve_ivp(pendulum, span, y0, "DOP853", args=(k, drive), rtol=1e-12, atol=1e-13, **with_times).y
        return float(ends[0] * y[:, 0].sum() + ends[1] * y[:, -1].sum())

    got = [bars.y0, *bars.args, bars.t_span, *([] if t_eval is None else [bars.t_eval])]
    for place, (array, bar) in enumerate(zip(inputs, got, strict=True)):
        assert bar.shape == array.shape
        for index in np.ndindex(array.shape):
            if place == 4 and array[index] in (0.0, 2.0):
                assert bar[index] == 0.0, "an end of t_span has the share of t_eval"
                continue
            moved = []
            for sign in (1.0, -1.0):
                changed = [np.array(leaf, dtype=float) for leaf in inputs]
                changed[place][index] += sign * 1e-5
                if place == 3 and t_eval is not None:  # an end that is wanted moves with the interval
                    changed[4][np.array(t_eval) == array[index]] = changed[3][index]
                moved.append(loss(*changed))
            assert bar[index] == pytest.approx((moved[0] - moved[1]) / 2e-5, abs=2e-5)


def test_the_pullback_is_exact_on_its_steps() -> None:
    """At loose tolerances, against complex steps through the same steps of dopri5."""
    from janode.core.tableaus import DOPRI5

    y0, args = np.array([1.0, 0.2]), (np.array(1.3), np.array([0.4, 2.0]))
    result, pullback = jo.solve_ivp_vjp(FIELD, (0.0, 6.0), y0, args=args, rtol=1e-2, atol=1e-3)
    weights = np.random.default_rng(0).normal(size=result.y.shape)
    bars = pullback(weights)

    def loss(y: np.ndarray, k: Any, drive: np.ndarray, start: Any) -> Any:
        offsets, total = result.t - result.t[0], weights[:, 0] @ y
        a, b, c = DOPRI5.floats.a, DOPRI5.floats.b, DOPRI5.floats.c
        for n in range(len(offsets) - 1):
            t = start + offsets[n]
            h = 6.0 - t if n == len(offsets) - 2 else offsets[n + 1] - offsets[n]
            slopes: list[np.ndarray] = []
            for i in range(7):
                stage = y + h * sum((w * f for w, f in zip(a[i], slopes, strict=True)), np.zeros(2))
                slopes.append(pendulum(t + c[i] * h, stage, k, drive))
            y = y + h * sum(w * f for w, f in zip(b, slopes, strict=True))
            total = total + weights[:, n + 1] @ y
        return total

    point = [y0.astype(complex), args[0].astype(complex), args[1].astype(complex), np.array(0j)]
    got = [bars.y0, *bars.args, bars.t_span[0]]
    for place, bar in enumerate(got):
        for index in np.ndindex(np.shape(bar)):
            changed = [leaf.copy() for leaf in point]
            changed[place][index] += 1e-30j
            assert np.asarray(bar)[index] == pytest.approx(loss(*changed).imag / 1e-30, rel=1e-11)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"fun": pendulum}, "solve_ivp_vjp: fun must bring its VJP; got function"),
        ({"method": "BDF"}, "solve_ivp_vjp: method must be explicit"),
        ({"events": ground}, "got 'events'"),
    ],
)
def test_bad_arguments_of_the_pullback_are_refused(arguments: dict[str, Any], text: str) -> None:
    given = {"fun": FIELD, "t_span": (0, 1), "y0": [1.0, 0.0], "args": (1.0, [0.0, 1.0]), **arguments}
    with pytest.raises(jo.InputError, match=text):
        jo.solve_ivp_vjp(**given)


def test_a_cotangent_of_another_shape_is_refused() -> None:
    _, pullback = jo.solve_ivp_vjp(FIELD, (0, 1), [1.0, 0.0], t_eval=[1.0], args=(1.0, [0.0, 1.0]))
    with pytest.raises(jo.InputError, match=r"y_bar must have the shape of y, \(2, 1\); got \(1, 2\)"):
        pullback(np.ones((1, 2)))


def test_a_failure_of_the_pullback_is_raised() -> None:
    grow = jo.Field(lambda t, y: y**2, lambda t, y, f_bar: (None, 2 * y * f_bar))
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(jo.SolveError, match="as far as t = "):
        jo.solve_ivp_vjp(grow, (0, 5), [1.0])
