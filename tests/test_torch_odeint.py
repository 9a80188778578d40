"""janode.torch's odeint and odeint_adjoint against torchdiffeq's own, called with the same words."""

import inspect
import warnings
from typing import Any

import pytest
import torch
import torchdiffeq

import janode.torch as jo
from tests.torch_odeint_calls import (
    BACKWARD,
    FORWARD,
    INTERFACES,
    PAIR,
    TIMES,
    Counted,
    Pair,
    assert_close,
    no_params,
    ragged,
    solved,
)
from tests.torch_oracle import F64, Net, one_thread

__all__ = ["one_thread"]
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
GRIDS: dict[str, dict[str, Any]] = {
    "one step each": {},
    "step_size": {"step_size": 0.07},
    "step_size, cubic": {"step_size": 0.07, "interp": "cubic"},
    "step_size of all": {"step_size": 5.0},
    "grid_constructor": {"grid_constructor": ragged},
    "perturb": {"perturb": True},
}


@pytest.mark.parametrize("name", ["odeint", "odeint_adjoint", "odeint_event", "odeint_dense"])
def test_signatures_are_those_of_torchdiffeq(name: str) -> None:
    got, expected = (inspect.signature(getattr(lib, name)).parameters for lib in (jo, torchdiffeq))
    assert list(got) == list(expected)
    for a, b in zip(got.values(), expected.values(), strict=True):
        assert a.kind == b.kind
        assert a.default == b.default or (a.name, b.default.__name__) == ("odeint_interface", "odeint")


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps_give_the_numbers_of_torchdiffeq(method: str, grid: str, interface: str) -> None:
    options = {"method": method, "options": GRIDS[grid]}
    expected = solved(torchdiffeq, "odeint", **options)
    assert_close(solved(jo, interface, **options), expected, 1e-11)


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("grid", [name for name in GRIDS if name != "perturb"])
def test_fixed_steps_run_backwards(grid: str, interface: str) -> None:
    options = {"ts": BACKWARD, "method": "rk4", "options": GRIDS[grid]}
    expected = solved(torchdiffeq, "odeint", **options)
    assert_close(solved(jo, interface, **options), expected, 1e-11)


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("ts", [FORWARD, BACKWARD], ids=["forward", "backward"])
@pytest.mark.parametrize("method", [*ADAPTIVE, "tsit5", None])
def test_adaptive_steps_keep_the_tolerance(method: str | None, ts: tuple[float, ...], interface: str) -> None:
    exact = solved(torchdiffeq, "odeint", ts, method="dopri8", rtol=1e-12, atol=1e-13, options={"max_step": 0.02})
    got = solved(jo, interface, ts, method=method, rtol=1e-6, atol=1e-8)
    assert_close(got, exact, 2e-4 if method in ("fehlberg2", "adaptive_heun") else 2e-5)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_steps_err_no_more_than_those_of_torchdiffeq(method: str) -> None:
    exact = solved(torchdiffeq, "odeint", method="dopri8", rtol=1e-12, atol=1e-13, options={"max_step": 0.02})[0]
    errors = [
        float((solved(lib, "odeint", method=method, rtol=1e-6, atol=1e-8)[0] - exact).abs().max().detach())
        for lib in (jo, torchdiffeq)
    ]
    assert errors[0] <= 1.5 * errors[1] + 1e-8


@pytest.mark.parametrize(("method", "tolerance"), [("rk4", 1e-5), ("dopri5", 2e-3)])
def test_single_precision(method: str, tolerance: float) -> None:
    options = {"method": method, "dtype": torch.float32, "rtol": 1e-5, "atol": 1e-6}
    assert_close(solved(jo, "odeint", **options), solved(torchdiffeq, "odeint", **options), tolerance)


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize(
    "options",
    [
        {"method": "rk4"},
        {"method": "rk4", "options": {"step_size": 0.15, "interp": "cubic"}},
        {"rtol": 1e-8, "atol": 1e-10},
        {"rtol": (1e-8, 1e-7), "atol": (1e-10, torch.tensor([1e-9, 1e-8], dtype=F64))},
        {"rtol": torch.tensor([1e-8, 1e-9], dtype=F64), "atol": torch.tensor(1e-9)},
    ],
    ids=["fixed", "cubic", "adaptive", "tolerance per part", "tolerances as tensors"],
)
def test_a_tuple_comes_back_as_a_tuple(options: dict[str, Any], interface: str) -> None:
    field = Pair()
    got, expected = (getattr(lib, interface)(field, PAIR, TIMES, **options) for lib in (jo, torchdiffeq))
    assert isinstance(got, tuple)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max().detach()) < 1e-5


@pytest.mark.parametrize("lib", [jo, torchdiffeq], ids=["janode", "torchdiffeq"])
def test_a_tuple_has_the_norm_of_its_worst_part(lib: Any) -> None:
    quiet, loud = torch.ones(1000, dtype=F64), torch.ones(1, dtype=F64)

    def field(t: torch.Tensor, y: Any) -> Any:
        return 0.0 * y[0], torch.cos(20.0 * t) * 20.0 * loud

    sizes = []
    for norm in ({}, {"norm": lambda y: torch.cat([leaf.reshape(-1) for leaf in y]).square().mean().sqrt()}):
        counted = Counted(field)
        lib.odeint(counted, (quiet, loud), TIMES, method="dopri5", rtol=1e-5, atol=1e-6, options=norm)
        sizes.append(counted.num_calls)
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_complex_states(method: str, interface: str) -> None:
    found = []
    for lib in (jo, torchdiffeq):
        y0 = torch.tensor([1.0 + 0.5j, -0.3j], requires_grad=True)
        ys = getattr(lib, interface)(lambda t, y: 1j * t * y, y0, TIMES, method=method, **no_params(interface))
        (bar,) = torch.autograd.grad((ys[-1] * torch.tensor([1.0, 2.0j])).real.sum() + ys[1].abs().sum(), y0)
        found.append((ys, [bar]))
    assert_close(found[0], found[1], 1e-5)


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("y0", [torch.ones(2), (torch.ones(2), torch.ones(1))], ids=["tensor", "tuple"])
def test_one_time_gives_the_start(y0: Any, interface: str) -> None:
    field = Net(dtype=torch.float32) if isinstance(y0, torch.Tensor) else lambda t, y: y
    got = getattr(jo, interface)(field, y0, torch.tensor([0.5]))
    expected = torchdiffeq.odeint(field, y0, torch.tensor([0.5]))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_adams_bashforth_has_order_4() -> None:
    errors = []
    for steps in (20, 40):
        t = torch.linspace(0.0, 1.0, steps + 1, dtype=F64)
        ys = jo.odeint(lambda t, y: -(y**2), torch.ones(1, dtype=F64), t, method="explicit_adams")
        errors.append(float((ys[-1] - 0.5).abs()))
    assert 13.0 < errors[0] / errors[1] < 19.0


def test_odeint_can_be_differentiated_twice() -> None:
    y0 = torch.tensor([0.5], dtype=F64, requires_grad=True)
    ys = jo.odeint(lambda t, y: y**2, y0, torch.tensor([0.0, 1.0], dtype=F64), method="dopri5")
    (first,) = torch.autograd.grad(ys[-1].sum(), y0, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), y0)
    assert float(second) == pytest.approx(16.0, rel=1e-4)  # y0 / (1 - y0) has 2 / (1 - y0)^3


def test_too_many_steps_are_a_failure() -> None:
    with pytest.raises(jo.MaxStepsReached):
        jo.odeint(Net(), torch.ones(2, dtype=F64), TIMES, method="dopri5", options={"max_num_steps": 1})


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jo.odeint_adjoint(Net(), torch.ones(2, dtype=F64), TIMES, method="rk4", options={"step_size": 0.2})
