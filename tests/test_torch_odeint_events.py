"""odeint's events and dense output against torchdiffeq's own, called with the same words."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchdiffeq

import janode.torch as jo
from tests.torch_oracle import F64, one_thread

__all__ = ["one_thread"]

INTERFACES = ("odeint", "odeint_adjoint")
TIGHT = {"rtol": 1e-9, "atol": 1e-11}


class Fall(torch.nn.Module):
    """A body that falls with drag: (position, velocity)."""

    def __init__(self, dtype: torch.dtype = F64) -> None:
        super().__init__()
        self.gravity = torch.nn.Parameter(torch.tensor(-9.81, dtype=dtype))
        self.drag = torch.nn.Parameter(torch.tensor(0.1, dtype=dtype))

    def forward(self, t: torch.Tensor, y: Any) -> Any:
        _, v = y
        return v, self.gravity - self.drag * v


class FallInOne(Fall):
    """The same with both in one tensor."""

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat(super().forward(t, (y[:1], y[1:])))


EVENTS: dict[str, Callable[..., torch.Tensor]] = {
    "the first of several": lambda t, y: torch.cat([y[0] - 0.5, y[0] + 10.0, y[1] + 100.0]),
    "one that rises": lambda t, y: 0.5 - y[0],
    "one of time alone": lambda t, y: (t - 0.7) * (t + 0.9),
    "one of time and state": lambda t, y: y[1] * torch.cos(t) + 3.0,
}


def happened(
    lib: Any, interface: str, event: Callable[..., torch.Tensor], dtype: torch.dtype = F64, **options: Any
) -> list[torch.Tensor]:
    """(time, state, all their gradients) of the first event."""
    field = Fall(dtype)
    inputs = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in ([2.0], [0.5], 0.3)]
    options = {**TIGHT, **options, "odeint_interface": getattr(lib, interface)}
    t, ys = lib.odeint_event(field, tuple(inputs[:2]), inputs[2], event_fn=event, **options)
    inputs += list(field.parameters())
    found = [t, *ys]
    for output in (t, ys[0][-1].sum(), ys[1][-1].sum(), ys[1][0].sum()):
        output = output + 0.0 * inputs[2]  # one that depends on nothing may say so
        bars = torch.autograd.grad(output, inputs, retain_graph=True, allow_unused=True)
        found += [torch.zeros(1) if bar is None else bar for bar in bars]
    return found


@pytest.mark.parametrize("is_reversed", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("event", EVENTS)
def test_events_and_their_gradients_are_those_of_torchdiffeq(event: str, interface: str, is_reversed: bool) -> None:
    got, expected = (happened(lib, interface, EVENTS[event], reverse_time=is_reversed) for lib in (jo, torchdiffeq))
    for a, b in zip(got, expected, strict=True):
        assert float((a - b).abs().max().detach()) < 1e-5
    assert got[0].shape == expected[0].shape == ()
    assert got[1].shape == expected[1].shape == (2, 1)


def test_single_precision() -> None:
    options = {"rtol": 1e-5, "atol": 1e-6}
    got, expected = (
        happened(lib, "odeint", EVENTS["the first of several"], torch.float32, **options) for lib in (jo, torchdiffeq)
    )
    assert got[0].dtype == got[1].dtype == torch.float32
    for a, b in zip(got, expected, strict=True):
        assert float((a - b).abs().max().detach()) < 1e-2


def test_adjoint_params_alone_get_a_gradient() -> None:
    field = FallInOne()
    y0, t0 = torch.tensor([2.0, 0.5], dtype=F64, requires_grad=True), torch.tensor(0.0, dtype=F64)
    options = {"odeint_interface": jo.odeint_adjoint, "adjoint_params": (field.drag,), **TIGHT}
    t, _ = jo.odeint_event(field, y0, t0, event_fn=lambda t, y: y[0], **options)
    t.backward()
    assert y0.grad is not None
    assert field.drag.grad is not None
    assert field.gravity.grad is None


@pytest.mark.parametrize("lib", [jo, torchdiffeq], ids=["janode", "torchdiffeq"])
def test_a_ball_bounces(lib: Any) -> None:
    """Two falls in a row: the second starts from the first event, with its gradient."""
    field = FallInOne()
    y0, t = torch.tensor([2.0, 0.0], dtype=F64), torch.tensor(0.0, dtype=F64)
    times = []
    for _ in range(2):
        t, ys = lib.odeint_event(field, y0, t, event_fn=lambda t, y: y[0], **TIGHT)
        y0 = ys[-1] * torch.tensor([0.0, -0.9], dtype=F64) + torch.tensor([1e-7, 0.0], dtype=F64)
        times.append(t)
    (bar,) = torch.autograd.grad(times[-1], field.gravity)

    def end(gravity: float) -> float:
        from scipy.integrate import solve_ivp

        y, t, hit = [2.0, 0.0], 0.0, lambda t, y: y[0]
        hit.terminal = True
        for _ in range(2):
            fall = solve_ivp(lambda t, y: [y[1], gravity - 0.1 * y[1]], (t, 9.0), y, events=hit, rtol=1e-11, atol=1e-13)
            t, y = fall.t[-1], [1e-7, -0.9 * fall.y[1, -1]]
        return t

    assert float(times[-1].detach()) == pytest.approx(end(-9.81), abs=1e-7)
    assert float(bar) == pytest.approx((end(-9.81 + 1e-4) - end(-9.81 - 1e-4)) / 2e-4, rel=1e-5)


@pytest.mark.parametrize("lib", [jo, torchdiffeq], ids=["janode", "torchdiffeq"])
def test_an_event_at_the_start_happens_there(lib: Any) -> None:
    y0, t = torch.tensor([0.0, 1.0], dtype=F64), torch.tensor([0.5, 1.5], dtype=F64)
    found, ys = lib.odeint(FallInOne(), y0, t, event_fn=lambda t, y: y[0])
    assert float(found) == 0.5
    assert torch.equal(ys, torch.stack([y0, y0]))


def test_an_event_that_never_happens_is_a_failure_where_steps_are_limited() -> None:
    y0, t = torch.tensor([2.0, 1.0], dtype=F64), torch.tensor([0.0, 1.0], dtype=F64)
    with pytest.raises(jo.MaxStepsReached):
        jo.odeint(
            lambda t, y: torch.ones_like(y),
            y0,
            t,
            event_fn=lambda t, y: y[0] + 1.0,
            method="dopri5",
            options={"max_num_steps": 50},
        )


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "fixed steps": ({"method": "rk4"}, "event_fn must come with an adaptive method; got 'rk4'. Use 'dopri5'"),
    "three times": ({"t": torch.tensor([0.0, 1.0, 2.0])}, "t must have 2 entries with event_fn.*; got 3"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_bad_arguments_are_refused(fault: str) -> None:
    arguments, text = REFUSED[fault]
    with pytest.raises(jo.InputError, match=text):
        jo.odeint(
            **{
                "func": FallInOne(),
                "y0": torch.ones(2, dtype=F64),
                "t": torch.tensor([0.0, 1.0]),
                "event_fn": lambda t, y: y[0],
                **arguments,
            }
        )


def test_two_starts_are_refused() -> None:
    with pytest.raises(jo.InputError, match="t0 must have one entry; got 2"):
        jo.odeint_event(FallInOne(), torch.ones(2), torch.zeros(2), event_fn=lambda t, y: y[0])


def rotation(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A field whose solution is known: by the angle t^2 / 2."""
    return t * torch.stack([-y[1], y[0]])


@pytest.mark.parametrize("method", [None, "dopri8", "tsit5", "bosh3"])
def test_dense_output(method: str | None) -> None:
    y0 = torch.tensor([1.0, 0.0], dtype=F64, requires_grad=True)
    start, end = (torch.tensor(t, dtype=F64) for t in (0.0, 2.0))
    y = jo.odeint_dense(rotation, y0, start, end, method=method, rtol=1e-8, atol=1e-10)
    for t in (0.0, 0.3, 1.234, 2.0):
        exact = torch.tensor([math.cos(0.5 * t * t), math.sin(0.5 * t * t)], dtype=F64)
        assert torch.allclose(y(torch.tensor(t, dtype=F64)), exact, atol=1e-6)
    (bar,) = torch.autograd.grad(y(1.234)[1], y0)
    assert torch.allclose(bar, y(1.234).detach().flip(0), atol=1e-6)


def test_dense_output_is_that_of_torchdiffeq() -> None:
    y0 = torch.tensor([1.0, 0.0], dtype=F64, requires_grad=True)
    found = []
    for lib in (jo, torchdiffeq):
        y = lib.odeint_dense(rotation, y0, torch.tensor(0.0, dtype=F64), torch.tensor(2.0, dtype=F64))
        value = y(torch.tensor(1.234, dtype=F64))
        found.append([value, *torch.autograd.grad(value[0], y0)])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_dense_output_needs_adaptive_steps() -> None:
    with pytest.raises(jo.InputError, match="odeint_dense: method must be adaptive; got 'rk4'"):
        jo.odeint_dense(rotation, torch.ones(2), torch.tensor(0.0), torch.tensor(1.0), method="rk4")
