"""The checking mode: a field that returns something else when it is evaluated again is found, and no other."""

import itertools
from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch

import janode.array
import janode.numpy as jo
import janode.torch
from janode.core.recheck import Evaluations

RECOMPUTING = {
    **{name: name for name in ("symplectic", "aca", "stages", "restart")},
    "auto": "auto",
    "memory": jo.Revolve(2),
    "disk": jo.Revolve(2, "disk"),
}
GRIDS = {
    "rk4": {"method": "rk4", "steps": 4},
    "leapfrog": {"method": "leapfrog", "steps": 4},
    "ab3": {"method": "ab3", "steps": 4},
    "dopri5": {"rtol": 1e-4, "atol": 1e-4},
    "dopri8": {"method": "dopri8", "rtol": 1e-4, "atol": 1e-4},
    "thinned": {"method": "bosh3", "rtol": 1e-4, "atol": 1e-4, "checkpoints": 4},
}
Y0, TS = np.array([1.0, -0.4]), [0.0, 0.5, 1.0]
YS_BAR = np.linspace(0.5, 1.5, 6).reshape(3, 2)


def random_field() -> Callable[..., Any]:
    rng = np.random.default_rng(0)
    return lambda t, y: -y * (1.0 + 1e-6 * rng.random(2))


def counting_field() -> Callable[..., Any]:
    calls = itertools.count()
    return lambda t, y: -y * (1.0 + 1e-6 * next(calls))


def caching_field() -> Callable[..., Any]:
    """It keeps the value of each time, whatever the state is: the first one of a time stays."""
    cache: dict[float, Any] = {}
    return lambda t, y: -y + 0.1 * cache.setdefault(round(float(t), 6), len(cache))


def training_field() -> Callable[..., Any]:
    """It changes when a certain number of calls is behind it, as one that follows a schedule does."""
    calls = itertools.count()
    return lambda t, y: -y * (1.0 if next(calls) < 6 else 0.9999)


BAD = {"random": random_field, "counting": counting_field, "schedule": training_field}


def with_vjp(fn: Callable[..., Any]) -> jo.Field:
    return jo.Field(fn, lambda t, y, f_bar: (None, -f_bar))


CASES = [
    pytest.param(options, adjoint, id=f"{grid}-{name}")
    for grid, options in GRIDS.items()
    for name, adjoint in RECOMPUTING.items()
    if "steps" in options or name != "disk"
]


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("options", "adjoint"), CASES)
def test_a_field_that_changes_is_found(options: dict[str, Any], adjoint: Any, make: Callable[[], Any]) -> None:
    _, pullback = jo.solve_vjp(with_vjp(make()), Y0, TS, adjoint=adjoint, check_recompute=True, **options)
    text = r"solve_vjp: a field that is recomputed must return the same value again; at t = \d\S* its y0 differs by \d"
    with pytest.raises(jo.InputError, match=text):
        pullback(YS_BAR)


@pytest.mark.parametrize(("options", "adjoint"), CASES)
def test_a_field_that_does_not_change_passes(options: dict[str, Any], adjoint: Any) -> None:
    def solved(**more: Any) -> tuple[Any, Any]:
        field = jo.Field(lambda t, y: np.cos(t) * np.sin(y), lambda t, y, f_bar: (None, np.cos(t) * np.cos(y) * f_bar))
        solution, pullback = jo.solve_vjp(field, Y0, TS, adjoint=adjoint, **options, **more)
        return solution.ys, [pullback(YS_BAR).y0 for _ in range(2)]

    found, expected = solved(check_recompute=True), solved()
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(("options", "adjoint"), CASES)
def test_everything_that_is_repeated_is_compared(
    options: dict[str, Any], adjoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the time at the start of a step may differ by rounding from that at the end of the one before."""
    near, found = Evaluations.near, []
    monkeypatch.setattr(Evaluations, "near", lambda *arguments: found.append(near(*arguments)) or found[-1])
    _, pullback = jo.solve_vjp(
        with_vjp(lambda t, y: -y), Y0, [0.1, 0.5, 0.9], adjoint=adjoint, check_recompute=True, **options
    )
    pullback(YS_BAR)
    assert len(found) >= 8
    assert [] not in found


@pytest.mark.parametrize("options", [GRIDS["rk4"], GRIDS["dopri5"]], ids=["rk4", "dopri5"])
def test_a_cache_that_holds_is_no_fault(options: dict[str, Any]) -> None:
    _, pullback = jo.solve_vjp(with_vjp(caching_field()), Y0, TS, check_recompute=True, **options)
    pullback(YS_BAR)


def test_one_evaluation_that_differs_is_enough_and_its_place_is_named() -> None:
    """The field is another one in the backward pass, in one leaf, from t = 0.7 on."""
    is_backward = False

    def fn(t: Any, y: Any) -> Any:
        return {"kept": -y["kept"], "moved": -y["moved"] * (1.5 if is_backward and t > 0.69 else 1.0)}

    field = jo.Field(fn, lambda t, y, f_bar: (None, {name: -bar for name, bar in f_bar.items()}))
    y0 = {"kept": Y0, "moved": np.array([[2.0]])}
    _, pullback = jo.solve_vjp(field, y0, [0.0, 1.0], method="euler", steps=10, check_recompute=True)
    is_backward = True
    with pytest.raises(jo.InputError, match=r"at t = 0\.9 its y0\['moved'\] differs by 5\.0e-01 of the largest entry"):
        pullback({"kept": np.zeros((2, 2)), "moved": np.ones((2, 1, 1))})


def test_rounding_is_no_fault() -> None:
    calls = itertools.count()
    field = with_vjp(lambda t, y: -y * (1.0 + 1e-15 * (next(calls) % 3)))
    _, pullback = jo.solve_vjp(field, Y0, TS, steps=4, check_recompute=True)
    pullback(YS_BAR)


def test_a_field_that_fills_one_array_anew_is_found() -> None:
    out = np.zeros(2)
    field = with_vjp(lambda t, y: np.multiply(y, -1.0 - t, out=out))
    _, pullback = jo.solve_vjp(field, Y0, TS, method="rk4", steps=4, adjoint="stages", check_recompute=True)
    pullback(YS_BAR)  # the value is the same again, if it is looked at at once
    calls = itertools.count()
    field = with_vjp(lambda t, y: np.multiply(y, -1.0 - next(calls), out=out))
    _, pullback = jo.solve_vjp(field, Y0, TS, method="rk4", steps=4, adjoint="stages", check_recompute=True)
    with pytest.raises(jo.InputError, match="must return the same value again"):
        pullback(YS_BAR)


def test_controls_of_two_steps_meet_at_one_time() -> None:
    controls = np.linspace(0.5, 2.0, 8)
    field = jo.Field(lambda t, y, u: -u * y, lambda t, y, u, f_bar: (None, -u * f_bar, -np.sum(y * f_bar)))
    options = {"method": "heun2", "steps": 4, "controls": controls, "sampling": "steps"}
    _, pullback = jo.solve_vjp(field, Y0, TS, check_recompute=True, **options)
    _, expected = jo.solve_vjp(field, Y0, TS, **options)
    np.testing.assert_array_equal(pullback(YS_BAR).controls, expected(YS_BAR).controls)


def test_a_discontinuity_has_two_values_at_one_time() -> None:
    field = with_vjp(lambda t, y: -y * (1.0 if t < 0.5 else 3.0))
    controller = jo.PIController(jump_ts=[0.5])
    _, pullback = jo.solve_vjp(field, Y0, TS, rtol=1e-4, atol=1e-4, controller=controller, check_recompute=True)
    pullback(YS_BAR)


@pytest.mark.parametrize("correction", ["filter", "consistent"])
def test_corrections_ask_for_the_field_elsewhere(correction: str) -> None:
    field = jo.Field(lambda t, y, u: -u * y, lambda t, y, u, f_bar: (None, -u * f_bar, -np.sum(y * f_bar)))
    controls = 1.0 + np.arange(len(jo.control_times("rk4", [0.0, 1.0], steps=6)), dtype=float)
    options = {"method": "rk4", "steps": 6, "controls": controls, "correction": correction}
    _, pullback = jo.solve_vjp(field, Y0, [0.0, 1.0], check_recompute=True, **options)
    _, expected = jo.solve_vjp(field, Y0, [0.0, 1.0], **options)
    np.testing.assert_array_equal(pullback(YS_BAR[:2]).controls, expected(YS_BAR[:2]).controls)


@pytest.mark.parametrize("is_bad", [True, False], ids=["bad", "good"])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_another_library(dtype: str, is_bad: bool) -> None:
    xp, calls = array_api_strict, itertools.count()
    y0, bars = (xp.asarray(part, dtype=getattr(xp, dtype)) for part in ([1.0, -0.4], YS_BAR.tolist()))
    field = jo.Field(lambda t, y: -y * (1.0 + 0.1 * is_bad * next(calls)), lambda t, y, f_bar: (None, -f_bar))
    _, pullback = janode.array.solve_vjp(field, y0, TS, rtol=1e-3, atol=1e-3, check_recompute=True)
    if is_bad:
        with pytest.raises(jo.InputError, match="must return the same value again"):
            pullback(bars)
    else:
        assert pullback(bars).y0.dtype == y0.dtype


# PyTorch.


def torch_gradient(fn: Callable[..., Any], adjoint: Any, **options: Any) -> Any:
    y0 = torch.tensor(Y0, requires_grad=True)
    ys = janode.torch.solve(fn, y0, TS, adjoint=adjoint, **options).ys
    (ys * torch.tensor(YS_BAR)).sum().backward()
    return y0.grad


def torch_counting() -> Callable[..., Any]:
    calls = itertools.count()
    return lambda t, y: -y * (1.0 + 1e-6 * next(calls))


def torch_numpy_noise() -> Callable[..., Any]:
    rng = np.random.default_rng(0)
    return lambda t, y: -y * torch.tensor(1.0 + 1e-6 * rng.random(2))


def torch_cache() -> Callable[..., Any]:
    """It returns what it returned before, if it was asked less than a few calls ago for the same time."""
    cache: dict[float, Any] = {}

    def fn(t: Any, y: Any) -> Any:
        if len(cache) > 5:
            cache.clear()
        return -y + cache.setdefault(float(t), 1e-6 * y.detach() * len(cache))

    return fn


TORCH_BAD = {"counting": torch_counting, "numpy noise": torch_numpy_noise, "cache": torch_cache}


@pytest.mark.parametrize("make", TORCH_BAD.values(), ids=TORCH_BAD)
@pytest.mark.parametrize(("options", "adjoint"), CASES)
def test_torch_finds_a_field_that_changes(options: dict[str, Any], adjoint: Any, make: Callable[[], Any]) -> None:
    text = r"solve: a field that is recomputed must return the same value again; at t = \d\S* its y0 differs"
    with pytest.raises(jo.InputError, match=text):
        torch_gradient(make(), adjoint, check_recompute=True, **options)


@pytest.mark.parametrize(("options", "adjoint"), CASES)
def test_torch_lets_random_fields_pass(options: dict[str, Any], adjoint: Any) -> None:
    found = []
    for check in (True, False):
        torch.manual_seed(0)
        dropout = torch.nn.Dropout(0.3)
        found.append(torch_gradient(lambda t, y: -dropout(y), adjoint, check_recompute=check, **options))  # noqa: B023
    assert torch.equal(*found)


def test_torch_takes_the_checking_mode_where_no_gradient_is_wanted() -> None:
    with torch.no_grad():
        janode.torch.solve(torch_counting(), torch.tensor(Y0), TS, steps=2, check_recompute=True)


def test_torch_refuses_it_with_steps_of_their_own() -> None:
    y0 = torch.tensor(Y0, requires_grad=True)
    with pytest.raises(jo.InputError, match="check_recompute must not come with batch_axis; got both"):
        janode.torch.solve(lambda t, y: -y, y0, TS, batch_axis=0, check_recompute=True)


# What is refused.


@pytest.mark.parametrize(
    ("adjoint", "method", "how"),
    [
        ("backprop", "rk4", "evaluates nothing again"),
        ("reversible", "alf", "at states that it computes anew"),
        ("reconstruct", "rk4", "at states that it computes anew"),
        ("backsolve", "rk4", "at states that it computes anew"),
    ],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_adjoints_that_repeat_nothing_are_refused(library: str, adjoint: str, method: str, how: str) -> None:
    options = {"method": method, "steps": 4, "adjoint": adjoint, "check_recompute": True}

    def solve() -> Any:
        if library == "numpy":
            return jo.solve_vjp(with_vjp(lambda t, y: -y), Y0, TS, **options)
        return janode.torch.solve(lambda t, y: -y, torch.tensor(Y0), TS, **options)

    with pytest.raises(jo.InputError, match=rf"check_recompute must come with an adjoint .* got '{adjoint}', .* {how}"):
        solve()
