"""Binomial checkpointing: schedules that keep their promise, exact gradients, exact counts, and files that go away."""

import gc
import math
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import janode.array
import janode.jax
import janode.numpy as jo
import janode.torch
from janode.backends.numpy import BACKEND
from janode.core.adjoint import RECOVERIES
from janode.core.disk import Disk
from janode.core.methods import find_method
from janode.core.revolve import make_schedule

from .controlled import LIBRARIES, by_numpy, controls, ys_bar_of
from .jax_reference import equations, jit
from .problems import FIELD, TARGETS, TS, Y0, YS_BAR, Counted, packed, params
from .test_torch_costs import Live
from .torch_oracle import Net, one_thread

__all__ = ["one_thread"]

Revolve = jo.Revolve
METHODS = ["euler", "rk4", "dopri5", "leapfrog", "ab4", "reversible_heun"]


def least_steps(num_steps: int, checkpoints: int) -> int:
    """The fewest steps of any schedule, those of the solve but the last included (Griewank and Walther 2000)."""
    r = 0
    while math.comb(checkpoints + r, r) < num_steps:
        r += 1
    return r * num_steps - (math.comb(checkpoints + r, r - 1) if r else 0)


# Schedules.

SIZES = [(n, c) for n in (1, 2, 3, 10, 57, 200) for c in (1, 2, 3, 7, 20, 300)]


@pytest.mark.parametrize(("num_steps", "checkpoints"), [*SIZES, (1000, 20)])
def test_so_few_steps_are_taken_again(num_steps: int, checkpoints: int) -> None:
    again = sum(len(entry.steps) for entry in make_schedule(num_steps, checkpoints).again)
    assert again == least_steps(num_steps, checkpoints) - (num_steps - 1)


@given(num_steps=st.integers(1, 60), checkpoints=st.integers(1, 9))
def test_a_schedule_finds_in_every_slot_what_it_needs(num_steps: int, checkpoints: int) -> None:
    plan = make_schedule(num_steps, checkpoints)
    assert plan.num_slots <= min(checkpoints + 1, num_steps)
    slots = {slot: n for n, (slot, saves) in enumerate(zip(plan.slots, plan.saves, strict=True)) if saves}
    assert len(slots) == sum(plan.saves)
    for n in reversed(range(num_steps)):
        carry = slots[plan.sources[n]]
        for step, slot, saves in zip(*plan.again[n], strict=True):
            assert step == carry
            if saves:
                slots[slot] = carry
            carry += 1
        assert carry == n
        assert set(slots) <= set(range(plan.num_slots))


# Gradients.


def gradient(method: Any, adjoint: Any, steps: int, ts: Any = (0.25, 0.75, 1.25)) -> np.ndarray:
    _, pullback = jo.solve_vjp(FIELD, Y0, ts, params(), method=method, steps=steps, adjoint=adjoint)
    return packed(pullback(YS_BAR[: len(ts)]))


@pytest.mark.parametrize("storage", ["memory", "disk"])
@pytest.mark.parametrize("checkpoints", [1, 2, 3, 20])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_equals_that_of_kept_states_bitwise(method: str, checkpoints: int, storage: str) -> None:
    found = gradient(method, Revolve(checkpoints, storage), 6)
    np.testing.assert_array_equal(found, gradient(method, "symplectic", 6))


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4])
@pytest.mark.parametrize("method", ["rk4", "leapfrog", "ab4"])
def test_few_steps(method: str, num_steps: int) -> None:
    found, expected = (gradient(method, adjoint, num_steps, (0.0, 1.0)) for adjoint in (Revolve(2), "symplectic"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_every_target(storage: str, target: Any) -> None:
    y0, ys_bar = target.array(Y0), target.array(YS_BAR)
    found, expected = (
        janode.array.solve_vjp(FIELD, y0, TS, params(target), method="heun2", steps=4, adjoint=adjoint)[1](ys_bar)
        for adjoint in (Revolve(2, storage), "symplectic")
    )
    assert target.owns(found.y0)
    np.testing.assert_array_equal(packed(found), packed(expected))


def torch_gradient(adjoint: Any) -> list[np.ndarray]:
    net = Net()
    y0 = torch.tensor([0.3, -0.8], dtype=torch.float64, requires_grad=True)
    ts = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    (janode.torch.solve(net, y0 * 2.0, ts, method="rk4", steps=8, adjoint=adjoint).ys ** 2).sum().backward()
    return [leaf.grad.numpy() for leaf in (y0, ts, *net.parameters())]  # type: ignore[union-attr]


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_torch_agrees_with_autograd(storage: str) -> None:
    torch.manual_seed(0)
    found = torch_gradient(Revolve(3, storage))
    torch.manual_seed(0)
    for got, expected in zip(found, torch_gradient("backprop"), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0.0, atol=1e-13 * np.max(np.abs(expected)))


def jax_gradient(method: str, adjoint: Any, steps: int) -> Any:
    def field(t: Any, y: Any, p: Any) -> Any:
        return jnp.cos(t) * jnp.tanh(p @ y)

    def loss(y0: Any, ts: Any, p: Any) -> Any:
        return (janode.jax.solve(field, y0, ts, p, method=method, steps=steps, adjoint=adjoint).ys * YS_BAR).sum()

    return jax.grad(loss, (0, 1, 2)), (
        jnp.asarray(Y0),
        jnp.array([0.0, 0.5, 1.0]),
        jnp.array([[0.2, 1.0], [-0.7, 0.1]]),
    )


@pytest.mark.parametrize("method", ["rk4", "leapfrog", "ab3"])
def test_jax_agrees_with_its_own_autodiff(method: str) -> None:
    found, expected = (
        jit(function)(*arguments)
        for function, arguments in (jax_gradient(method, adjoint, 6) for adjoint in (Revolve(3), "backprop"))
    )
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-13)


def test_jax_maps_over_initial_states() -> None:
    function, (y0, ts, p) = jax_gradient("rk4", Revolve(2), 4)
    batch = jnp.stack([y0, 2.0 * y0])
    found = jit(jax.vmap(function, (0, None, None)))(batch, ts, p)
    expected = [function(row, ts, p) for row in batch]
    for got, *wanted in zip(found, *expected, strict=True):
        np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-13)


def test_the_program_of_jax_does_not_grow_with_the_steps() -> None:
    sizes = []
    for steps in (20, 200):
        function, arguments = jax_gradient("rk4", Revolve(3), steps)
        sizes.append(len(list(equations(jax.make_jaxpr(function)(*arguments).jaxpr))))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("sampling", ["nodes", "steps"])
def test_controls(sampling: str, library: str) -> None:
    ts, ys_bar, options = (0.0, 0.5, 1.0), ys_bar_of(3), {"method": "leapfrog", "steps": 5, "sampling": sampling}
    u = controls(len(jo.control_times("leapfrog", ts, steps=5, sampling=sampling)))
    expected = by_numpy(ts, u, ys_bar, adjoint="stages", **options)
    for got, wanted in zip(LIBRARIES[library](ts, u, ys_bar, adjoint=Revolve(2), **options), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_a_pullback_can_be_called_again(storage: str) -> None:
    _, pullback = jo.solve_vjp(FIELD, Y0, TS, params(), method="rk4", steps=6, adjoint=Revolve(2, storage))
    first = packed(pullback(YS_BAR))
    pullback(np.ones_like(YS_BAR))
    np.testing.assert_array_equal(packed(pullback(YS_BAR)), first)


@pytest.mark.parametrize("checkpoints", [2, 5, 1000])
def test_adaptive_steps_are_thinned_out(checkpoints: int) -> None:
    def found(adjoint: Any) -> np.ndarray:
        _, pullback = jo.solve_vjp(FIELD, Y0, TS, params(), rtol=1e-7, atol=1e-7, adjoint=adjoint)
        return packed(pullback(YS_BAR))

    np.testing.assert_allclose(found(Revolve(checkpoints)), found("symplectic"), rtol=1e-13)


# Counts and memory.


@pytest.mark.parametrize("storage", ["memory", "disk"])
@pytest.mark.parametrize(("method", "stages"), [("euler", 1), ("rk4", 4), ("dopri5", 6)])
@pytest.mark.parametrize("checkpoints", [1, 2, 3, 20])
def test_counts(checkpoints: int, method: str, stages: int, storage: str) -> None:
    counted, n = Counted(), 12
    again = least_steps(n, checkpoints) - (n - 1)
    solution, pullback = jo.solve_vjp(
        counted.field, Y0, TS, params(), method=method, steps=6, adjoint=Revolve(checkpoints, storage)
    )
    assert (counted.num_field_evals, counted.num_vjps) == (n * stages, 0)
    pullback(YS_BAR)
    expected = n * stages + again * stages + n * (2 * stages - 1), n * stages
    assert (counted.num_field_evals, counted.num_vjps) == expected
    assert (solution.stats.num_field_evals, solution.stats.num_vjps) == expected


def tape_of(checkpoints: int, steps: int, storage: str = "memory") -> Any:
    from janode.core.grids import equal_steps
    from janode.core.sweep import Sweep

    from .test_recovery import Decay

    sweep = Sweep(BACKEND, find_method("rk4"), Decay(), equal_steps(2, steps), (0.0, 1.0), ())
    return Revolve(checkpoints, storage).forward(sweep, (Y0,))[1]


@pytest.mark.parametrize(("checkpoints", "steps", "kept"), [(1, 9, 2), (3, 9, 4), (8, 9, 9), (20, 9, 9), (5, 100, 6)])
def test_so_many_states_are_kept(checkpoints: int, steps: int, kept: int) -> None:
    assert len(optree.tree_leaves(tape_of(checkpoints, steps))) == kept


def test_disk_keeps_the_start_alone_in_memory() -> None:
    tape = tape_of(5, 100, "disk")
    (start,) = optree.tree_leaves(tape)
    assert start is Y0
    (disk,) = tape[1]
    assert sorted(path.name for path in disk.folder.iterdir()) == ["1", "2", "3", "4", "5"]


def torch_peak(adjoint: Any, steps: int) -> int:
    net, y0 = Net(), torch.ones(16, 2, dtype=torch.float64)
    with Live([y0, *net.parameters()]) as live:
        janode.torch.solve(net, y0, [0.0, 1.0], method="heun2", steps=steps, adjoint=adjoint).ys.sum().backward()
    return live.peak


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_peak_memory_does_not_grow_with_the_steps(storage: str) -> None:
    assert torch_peak(Revolve(3, storage), 12) == torch_peak(Revolve(3, storage), 20)


def test_peak_memory_grows_by_two_states_per_checkpoint() -> None:
    """The checkpoints of the forward pass stay, for another backward pass, beside those that took their place."""
    assert torch_peak(Revolve(6), 20) - torch_peak(Revolve(3), 20) == 3 * 2 * 16 * 2 * 8


# Files.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


DISK = Revolve(2, "disk")


def test_files_go_with_the_pullback(folder: Path) -> None:
    _, pullback = jo.solve_vjp(FIELD, Y0, TS, params(), steps=6, adjoint=DISK)
    assert len(list(folder.iterdir())) == 1
    pullback(YS_BAR)
    assert len(list(folder.iterdir())) == 1  # the pullback may be called again
    del pullback
    gc.collect()
    assert list(folder.iterdir()) == []


def test_files_go_with_the_graph(folder: Path) -> None:
    net = Net()
    solution = janode.torch.solve(net, torch.ones(2, dtype=torch.float64), [0.0, 1.0], steps=6, adjoint=DISK)
    assert len(list(folder.iterdir())) == 1
    solution.ys.sum().backward()
    del solution
    gc.collect()
    assert list(folder.iterdir()) == []


class Interrupting:
    """A field that is interrupted at its n-th evaluation or VJP."""

    def __init__(self, count: int, error: type[BaseException]) -> None:
        self.count, self.error = count, error

    def _tick(self, value: Any) -> Any:
        self.count -= 1
        if self.count == 0:
            raise self.error
        return value

    @property
    def field(self) -> Any:
        return jo.Field(lambda t, y: self._tick(-y), lambda t, y, f_bar: self._tick((None, -f_bar)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("count", [20, 60], ids=["forward", "backward"])
def test_files_go_when_a_solve_is_interrupted(count: int, error: type[BaseException], folder: Path) -> None:
    def interrupted() -> None:
        field = Interrupting(count, error).field
        _, pullback = jo.solve_vjp(field, Y0, TS, method="rk4", steps=6, adjoint=DISK)
        assert count == 60
        pullback(YS_BAR)

    with pytest.raises(error):
        interrupted()
    gc.collect()
    assert list(folder.iterdir()) == []


def test_files_go_when_the_program_ends(tmp_path: Path) -> None:
    code = """
import numpy as np, janode.numpy as jo
field = jo.Field(lambda t, y: -y, lambda t, y, f_bar: (None, -f_bar))
keep = jo.solve_vjp(field, np.ones(2), [0.0, 1.0], steps=9, adjoint=jo.Revolve(2, "disk"))
import os; print(len(os.listdir(os.environ["TMPDIR"])))
raise KeyboardInterrupt
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout == "1\n", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pickle, "dump", full)
    text = r"a checkpoint could not be written to .*No space left on device. Free some space, .*storage=\"memory\""
    with pytest.raises(jo.SolveError, match=text):
        jo.solve_vjp(FIELD, Y0, TS, params(), steps=6, adjoint=DISK)
    gc.collect()
    assert list(folder.iterdir()) == []


# What is refused.


@pytest.mark.parametrize("got", [0, -3, 2.0, True, "20", None])
def test_checkpoints_are_checked(got: Any) -> None:
    with pytest.raises(jo.InputError, match=rf"Revolve: checkpoints must be an integer >= 1; got {got!r}"):
        Revolve(got)


def test_storage_is_checked() -> None:
    with pytest.raises(jo.InputError, match='Revolve: storage must be "memory" or "disk"; got \'tape\''):
        Revolve(2, "tape")


def test_jax_refuses_disk() -> None:
    with pytest.raises(jo.InputError, match=r"storage=\"disk\"\) must have an eager library.*got JAX"):
        janode.jax.solve(lambda t, y: -y, jnp.ones(2), [0.0, 1.0], steps=3, adjoint=DISK)


def test_adaptive_steps_refuse_disk() -> None:
    with pytest.raises(jo.InputError, match=r"storage=\"disk\"\) must have a fixed grid; got adaptive steps"):
        jo.solve_vjp(FIELD, Y0, TS, params(), rtol=1e-3, atol=1e-3, adjoint=DISK)


def test_adaptive_steps_refuse_one_checkpoint() -> None:
    with pytest.raises(jo.InputError, match="checkpoints must be an integer >= 2; got 1"):
        jo.solve_vjp(FIELD, Y0, TS, params(), rtol=1e-3, atol=1e-3, adjoint=Revolve(1))


def test_the_preset_has_twenty_checkpoints() -> None:
    assert RECOVERIES["revolve"] == Revolve(20, "memory")
    assert {module.Revolve for module in (janode.array, jo, janode.torch, janode.jax)} == {Revolve}


def test_the_schedules_are_imported_only_when_used() -> None:
    code = "import sys, janode.numpy, janode.core.revolve; sys.exit('checkpoint_schedules' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# What must be caught.


def test_a_slot_that_is_not_renewed_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "put", lambda self, index, carry, where: self)
    with pytest.raises(jo.SolveError, match="could not be read from"):
        gradient("rk4", DISK, 6)


def test_a_stale_slot_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    put = BACKEND.put
    monkeypatch.setattr(
        BACKEND,
        "put",
        lambda buffer, index, row, where=True: put(buffer, index, row, where and len(buffer) <= index),
        raising=False,
    )
    with pytest.raises(AssertionError):
        test_gradient_equals_that_of_kept_states_bitwise("rk4", 2, "memory")
