"""The second opinion on janode.torch: Runge-Kutta steps written in plain torch, which autograd differentiates."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optree
import pytest
import torch

from janode.core.tableaus import TABLEAUS

EXACT = ("symplectic", "aca", "stages", "restart", "backprop")
RECOMPUTING = EXACT[:-1]
METHODS = ("euler", "rk4", "dopri5", "dopri8")
F64 = torch.float64


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads, and the tests run beside each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def reference(
    field: Callable[..., Any],
    y0: Any,
    ts: Sequence[float] | torch.Tensor,
    params: Any = None,
    *,
    method: str = "rk4",
    counts: Sequence[int],
) -> Any:
    """The states at all ts, ``counts[k]`` equal steps between two of them; autograd records every operation."""
    floats = TABLEAUS[method].floats
    arguments = () if params is None else (params,)
    y, rows, time = y0, [y0], optree.tree_leaves(y0)[0].real.dtype

    def combine(base: Any, h: Any, row: Sequence[float], slopes: Sequence[Any]) -> Any:
        for a, slope in zip(row, slopes, strict=True):
            base = optree.tree_map(lambda leaf, k, a=a: leaf + h * a * k, base, slope)
        return base

    for k, count in enumerate(counts):
        h = (ts[k + 1] - ts[k]) / count
        for i in range(count):
            t = ts[k] + i * h
            slopes: list[Any] = []
            for c, row in zip(floats.c, floats.a, strict=True):
                stage_time = torch.as_tensor(t + c * h, dtype=time)
                slopes.append(field(stage_time, combine(y, h, row, slopes), *arguments))
            y = combine(y, h, floats.b, slopes)
        rows.append(y)
    return optree.tree_map(lambda *leaves: torch.stack(leaves), *rows)


def loss(ys: Any) -> torch.Tensor:
    """A real number that depends on every entry of every leaf at every time, on each in its own way."""
    total = torch.zeros((), dtype=F64)
    for place, leaf in enumerate(optree.tree_leaves(ys)):
        weights = torch.linspace(0.3 + place, 1.1, leaf.numel(), dtype=F64).reshape(leaf.shape)
        total = total + (weights * (leaf.abs() ** 2 + leaf.real)).sum()
    return total


def gradients(ys: Any, leaves: Sequence[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    """The gradient of the loss with respect to each leaf, None where there is none; the graph stays."""
    return torch.autograd.grad(loss(ys), list(leaves), allow_unused=True, retain_graph=True)


def assert_equal_gradients(
    got: Sequence[torch.Tensor | None], expected: Sequence[torch.Tensor | None], rtol: float = 1e-13
) -> None:
    """Each gradient agrees to rtol of its own largest entry, in dtype and shape exactly, and None stands for None."""
    assert [bar is None for bar in got] == [bar is None for bar in expected]
    for place, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a is not None and b is not None:
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            error, size = float((a - b).abs().max()), float(b.abs().max())
            assert size > 0.0, f"gradient {place} is zero: it tests nothing"
            assert error <= rtol * size, f"gradient {place} is off by {error / size:.1e}"


class Net(torch.nn.Module):
    """A small field whose output depends on t, y and all of its parameters."""

    def __init__(self, size: int = 2, width: int = 5, dtype: torch.dtype = F64) -> None:
        super().__init__()
        self.first = torch.nn.Linear(size + 1, width, dtype=dtype)
        self.last = torch.nn.Linear(width, size, dtype=dtype)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        clock = t.expand(*y.shape[:-1], 1).to(y.dtype)
        return self.last(torch.tanh(self.first(torch.cat([y, clock], -1))))


def vector(*entries: float, dtype: torch.dtype = F64) -> torch.Tensor:
    """A leaf that requires gradient."""
    return torch.tensor(entries, dtype=dtype, requires_grad=True)
