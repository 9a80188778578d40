"""Calls of odeint that the tests against torchdiffeq share: the same words to either library."""

from collections.abc import Callable
from typing import Any

import torch

from tests.torch_oracle import F64, Net

INTERFACES = ("odeint", "odeint_adjoint")
FORWARD, BACKWARD = (0.0, 0.3, 1.0), (1.0, 0.35, 0.1, 0.0)
TIMES = torch.tensor([0.0, 0.5, 2.0], dtype=F64)


def solved(
    lib: Any, interface: str, ts: tuple[float, ...] = FORWARD, dtype: torch.dtype = F64, **options: Any
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(states, gradients of a loss with respect to y0, t and the parameters)."""
    torch.manual_seed(3)
    net = Net(dtype=dtype)
    y0 = torch.tensor([[0.5, -1.0], [1.5, 0.2]], dtype=dtype, requires_grad=True)
    t = torch.tensor(ts, dtype=dtype, requires_grad=True)
    ys = getattr(lib, interface)(net, y0, t, **options)
    weights = torch.linspace(0.3, 1.0, ys.numel(), dtype=dtype).reshape(ys.shape)
    return ys, list(torch.autograd.grad((weights * ys * ys).sum(), [y0, t, *net.parameters()]))


def assert_close(got: Any, expected: Any, tolerance: float) -> None:
    """The states and all gradients agree, relative to the largest entry of each."""
    for a, b in zip([got[0], *got[1]], [expected[0], *expected[1]], strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert float((a - b).abs().max().detach()) <= tolerance * float(b.abs().max().detach())


def ragged(func: Any, y0: Any, t: torch.Tensor) -> torch.Tensor:
    """A grid of steps of all sizes."""
    inner = t[0] + (t[-1] - t[0]) * torch.tensor([0.05, 0.2, 0.21, 0.7], dtype=t.dtype)
    return torch.cat([t[:1], inner, t[-1:]])


def no_params(interface: str) -> dict[str, Any]:
    return {"adjoint_params": ()} if interface == "odeint_adjoint" else {}


class Counted:
    """A field that counts its calls and notes its times."""

    def __init__(self, field: Callable[..., Any]) -> None:
        self.field, self.times = field, []

    def __call__(self, t: torch.Tensor, y: Any) -> Any:
        self.times.append(float(t))
        return self.field(t, y)

    @property
    def num_calls(self) -> int:
        return len(self.times)


class Pair(torch.nn.Module):
    """A tuple of states of different shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(0.7, dtype=F64))

    def forward(self, t: torch.Tensor, y: Any) -> Any:
        u, v = y
        return -self.rate * u + t * v.sum(), v * torch.cos(u[0]) - self.rate


PAIR = (torch.tensor([1.0, -0.5, 2.0], dtype=F64), torch.tensor([[0.3, 0.1]], dtype=F64))
