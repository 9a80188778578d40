"""What a solve of janode.torch costs: field evaluations, VJPs and bytes, as counted and as reported."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import janode.torch as jo
from tests.torch_oracle import F64, METHODS, RECOMPUTING, Net, one_thread, vector

__all__ = ["one_thread"]

STAGES = {"euler": 1, "rk4": 4, "dopri5": 6, "dopri8": 13}
"""Field evaluations per step: the solution of dopri5 does not use its last stage."""


class Counted(torch.nn.Module):
    """A field that counts its evaluations, and the pullbacks of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.num_evals = self.num_vjps = 0

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.num_evals += 1
        return CountPullbacks.apply(self, self.net(t, y))


class CountPullbacks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, owner: Counted, f: torch.Tensor) -> torch.Tensor:
        ctx.owner = owner
        return f.clone()

    @staticmethod
    def backward(ctx: Any, f_bar: torch.Tensor) -> Any:
        ctx.owner.num_vjps += 1
        return None, f_bar


def evaluations(adjoint: str, stages: int) -> int:
    """Field evaluations of a backward pass, per step."""
    return {"symplectic": 2 * stages - 1, "aca": stages, "stages": stages, "restart": 3 * stages - 1}[adjoint]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_counts_are_those_of_the_field(adjoint: str, method: str) -> None:
    field, stages = Counted(), STAGES[method]
    solution = jo.solve(field, vector(0.3, -0.8), [0.0, 0.5, 1.0], method=method, steps=3, adjoint=adjoint)
    stats = solution.stats
    assert (stats.num_steps, stats.num_accepted, stats.num_rejected) == (6, 6, 0)
    assert (stats.num_field_evals, stats.num_vjps) == (field.num_evals, field.num_vjps) == (6 * stages, 0)
    solution.ys.sum().backward()
    expected = (6 * stages + 6 * evaluations(adjoint, stages), 6 * stages)
    assert (stats.num_field_evals, stats.num_vjps) == (field.num_evals, field.num_vjps) == expected


def test_backprop_counts_evaluations_alone_for_the_framework_takes_the_vjps() -> None:
    field = Counted()
    solution = jo.solve(field, vector(0.3, -0.8), [0.0, 1.0], method="rk4", steps=3, adjoint="backprop")
    solution.ys.sum().backward()
    assert (field.num_evals, field.num_vjps) == (12, 12)
    assert (solution.stats.num_field_evals, solution.stats.num_vjps) == (12, 0)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_the_evaluation_that_finds_captured_tensors_counts(adjoint: str) -> None:
    field = Counted()
    solution = jo.solve(lambda t, y: field(t, y), vector(0.3, -0.8), [0.0, 1.0], steps=3, adjoint=adjoint)
    assert solution.stats.num_field_evals == field.num_evals == 18 + 1
    solution.ys.sum().backward()
    assert solution.stats.num_field_evals == field.num_evals == 18 + 1 + 3 * evaluations(adjoint, 6)


class Live(TorchDispatchMode):
    """The storages that operations made, without those of the given tensors."""

    def __init__(self, given: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.given = {tensor.untyped_storage()._cdata for tensor in given}
        self.peak = 0
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in out if isinstance(out, list | tuple) else (out,):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.given:
                    self.storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, self.num_bytes())
        return out

    def num_bytes(self) -> int:
        """How many bytes of them are still alive."""
        return sum(size for reference, size in self.storages.values() if not reference.expired())


def kept_bytes(adjoint: str, steps: int) -> int:
    """What a solve leaves alive, its solution included, until its backward pass."""
    net, y0 = Net(), torch.ones(16, 2, dtype=F64)
    with Live([y0, *net.parameters()]) as live:
        solution = jo.solve(net, y0, [0.0, 1.0], method="rk4", steps=steps, adjoint=adjoint)
        kept = live.num_bytes()
    solution.ys.sum().backward()
    assert net.last.weight.grad is not None
    return kept


STATE = 16 * 2 * 8


@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize(
    ("adjoint", "per_step"), [("symplectic", 1), ("aca", 1), ("stages", 4), ("restart", 0)], ids=RECOMPUTING
)
def test_memory_kept_is_exactly_the_solution_and_so_many_states_per_step(
    adjoint: str, per_step: int, steps: int
) -> None:
    """The solution holds the states at two times; the first state kept is the user's own."""
    start = 1 if per_step else 0
    assert kept_bytes(adjoint, steps) == (2 + per_step * steps - start) * STATE


def test_memory_kept_by_backprop_grows_by_the_graphs_of_all_stages() -> None:
    hidden = 16 * 5 * 8
    assert kept_bytes("backprop", 50) - kept_bytes("backprop", 10) >= 40 * 4 * (STATE + hidden)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_nothing_but_the_solution_outlives_a_solve_without_gradient(adjoint: str) -> None:
    net, y0 = Net().requires_grad_(False), torch.ones(16, 2, dtype=F64)
    with Live([y0, *net.parameters()]) as live:
        solution = jo.solve(net, y0, [0.0, 1.0], method="rk4", steps=10, adjoint=adjoint)
        kept = live.num_bytes()
    assert solution.ys.shape == (2, 16, 2)
    assert kept == 2 * STATE


def peak_bytes(adjoint: str, steps: int) -> int:
    """The most that is alive at any time of a solve and its backward pass."""
    net, y0 = Net(), torch.ones(16, 2, dtype=F64)
    with Live([y0, *net.parameters()]) as live:
        jo.solve(net, y0, [0.0, 1.0], method="rk4", steps=steps, adjoint=adjoint).ys.sum().backward()
    return live.peak


@pytest.mark.parametrize(
    ("adjoint", "per_step"), [("symplectic", 1), ("aca", 1), ("stages", 4), ("restart", 1)], ids=RECOMPUTING
)
def test_peak_memory_grows_by_exactly_so_many_states_per_step(adjoint: str, per_step: int) -> None:
    """However many steps there are, the graphs of one evaluation (of one step, for aca) live at a time."""
    assert peak_bytes(adjoint, 12) - peak_bytes(adjoint, 4) == 8 * per_step * STATE


def test_one_graph_at_a_time_is_less_than_those_of_a_step() -> None:
    hidden = 16 * 5 * 8
    assert peak_bytes("aca", 4) - peak_bytes("symplectic", 4) >= 2 * (STATE + hidden)
