"""Interrupts and full disks: no files stay behind, no half gradients, and what was interrupted can be done again."""

import errno
import gc
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import janode.numpy as jo
import janode.torch
from janode.core.disk import Disk

from .torch_oracle import F64, Net, one_thread

__all__ = ["one_thread"]

Y0, TS = np.array([1.0, -0.4]), [0.0, 0.5, 1.0]
YS_BAR = np.linspace(0.5, 1.5, 6).reshape(3, 2)
FIXED, ADAPTIVE = {"method": "rk4", "steps": 6}, {"method": "bosh3", "rtol": 1e-4, "atol": 1e-4}
CASES = {
    "backprop": {**FIXED, "adjoint": "backprop"},
    "stages": {**FIXED, "adjoint": "stages"},
    "symplectic": {**FIXED, "adjoint": "symplectic"},
    "restart": {**FIXED, "adjoint": "restart"},
    "revolve": {**FIXED, "adjoint": jo.Revolve(2)},
    "disk": {**FIXED, "adjoint": jo.Revolve(2, "disk")},
    "reversible": {**FIXED, "method": "reversible(rk4)", "adjoint": "reversible"},
    "adaptive": {**ADAPTIVE, "adjoint": "aca"},
    "thinned": {**ADAPTIVE, "checkpoints": 4, "adjoint": "symplectic"},
}
SOLVES = pytest.mark.parametrize("options", CASES.values(), ids=CASES)
SHARES = pytest.mark.parametrize("share", [0.0, 0.4, 0.99], ids=["first", "middle", "last"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def files(folder: Path) -> list[Path]:
    """What a solve left there."""
    return sorted(folder.glob("janode-*")) + sorted(folder.glob("janode-*/*"))


class Interrupting:
    """Counts calls, and raises an interrupt instead of answering a certain one."""

    def __init__(self) -> None:
        self.num_calls, self.last = 0, -1

    def tick(self) -> None:
        """One call."""
        self.num_calls += 1
        if self.num_calls == self.last:
            raise KeyboardInterrupt

    def after(self, num_calls: int) -> None:
        """Raise in the call after so many more; never again then."""
        self.num_calls, self.last = 0, num_calls + 1


def numpy_field(clock: Interrupting) -> jo.Field:
    def fn(t: Any, y: Any, k: Any) -> Any:
        clock.tick()
        return k * np.cos(t) * np.sin(y)

    def vjp(t: Any, y: Any, k: Any, f_bar: Any) -> Any:
        clock.tick()
        return (
            -k * np.sin(t) * np.sum(np.sin(y) * f_bar),
            k * np.cos(t) * np.cos(y) * f_bar,
            np.cos(t) * np.sum(np.sin(y) * f_bar),
        )

    return jo.Field(fn, vjp)


def as_rows(gradients: jo.Gradients[Any]) -> list[Any]:
    return [gradients.y0, gradients.params, gradients.ts]


@SHARES
@SOLVES
def test_numpy_pulls_back_again_after_an_interrupt(options: dict[str, Any], share: float, folder: Path) -> None:
    clock = Interrupting()
    _, pullback = jo.solve_vjp(numpy_field(clock), Y0, TS, np.array(0.7), **options)
    clock.num_calls = 0
    expected = as_rows(pullback(YS_BAR))
    before = files(folder)
    clock.after(int(share * clock.num_calls))
    with pytest.raises(KeyboardInterrupt):
        pullback(YS_BAR)
    assert files(folder) == before
    for got, wanted in zip(as_rows(pullback(YS_BAR)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    del pullback
    gc.collect()
    assert files(folder) == []


def check_solved_again(solve: Callable[[], np.ndarray], clock: Interrupting, share: float, folder: Path) -> None:
    """An interrupt after a share of the calls leaves no files, and the same solve then gives the same states."""
    expected = solve()
    clock.after(int(share * clock.num_calls))
    with pytest.raises(KeyboardInterrupt):
        solve()
    gc.collect()
    assert files(folder) == []
    np.testing.assert_array_equal(solve(), expected)


@SHARES
@SOLVES
def test_numpy_solves_again_after_an_interrupt(options: dict[str, Any], share: float, folder: Path) -> None:
    clock = Interrupting()
    field = numpy_field(clock)

    def solve() -> np.ndarray:
        return jo.solve_vjp(field, Y0, TS, np.array(0.7), **options)[0].ys

    check_solved_again(solve, clock, share, folder)


class Clocked(torch.nn.Module):
    """A network that may be interrupted in its evaluation, or in the pullback of its last layer."""

    def __init__(self, clock: Interrupting, in_pullback: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.clock, self.in_pullback = Net(), clock, in_pullback

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        f = self.net(t, y)
        if not self.in_pullback:
            self.clock.tick()
        elif f.requires_grad:
            f = f * 1.0
            f.register_hook(lambda bar: self.clock.tick())
        return f


TORCH_CASES = {name: options for name, options in CASES.items() if name != "backprop"}


@SHARES
@pytest.mark.parametrize("in_pullback", [False, True], ids=["evaluation", "pullback"])
@pytest.mark.parametrize("options", TORCH_CASES.values(), ids=TORCH_CASES)
def test_torch_has_no_half_gradients_and_goes_back_again(
    options: dict[str, Any], in_pullback: bool, share: float, folder: Path
) -> None:
    clock = Interrupting()
    field, y0 = Clocked(clock, in_pullback), torch.tensor(Y0, requires_grad=True)
    ts = torch.tensor(TS, dtype=F64, requires_grad=True)
    leaves = [y0, ts, *field.parameters()]
    ys = janode.torch.solve(field, y0, ts, **options).ys
    loss = (ys * torch.tensor(YS_BAR)).sum()
    clock.num_calls = 0
    expected = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert clock.num_calls > 10
    before = files(folder)
    clock.after(int(share * clock.num_calls))
    with pytest.raises(KeyboardInterrupt):
        loss.backward(retain_graph=True)
    assert [leaf.grad for leaf in leaves] == [None] * len(leaves)
    assert files(folder) == before
    loss.backward()
    for leaf, wanted in zip(leaves, expected, strict=True):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, wanted)
    del ys, loss
    gc.collect()
    assert files(folder) == []


@SHARES
@pytest.mark.parametrize("options", TORCH_CASES.values(), ids=TORCH_CASES)
def test_torch_solves_again_after_an_interrupt(options: dict[str, Any], share: float, folder: Path) -> None:
    clock = Interrupting()
    field, y0 = Clocked(clock, False), torch.tensor(Y0, requires_grad=True)

    def solve() -> np.ndarray:
        return janode.torch.solve(field, y0, TS, **options).ys.detach().numpy()

    check_solved_again(solve, clock, share, folder)


# Full disks.


def filling(count: int) -> Callable[..., None]:
    """A disk that takes so many checkpoints, and half of the next one."""
    left, dump = [count], pickle.dump

    def write(value: Any, file: Any, *args: Any, **options: Any) -> None:
        if hasattr(file, "name"):  # torch pickles into memory besides
            left[0] -= 1
            if left[0] < 0:
                file.write(pickle.dumps(value)[:40])
                raise OSError(errno.ENOSPC, "No space left on device")
        dump(value, file, *args, **options)

    return write


FULL = r"a checkpoint could not be written to .*: \[Errno 28\] No space left on device\. Free some space, set TMPDIR"
DISK = {**FIXED, "adjoint": jo.Revolve(3, "disk")}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_disk_that_is_full_in_the_forward_pass(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle, "dump", filling(count))
    with pytest.raises(jo.SolveError, match=FULL):
        jo.solve_vjp(numpy_field(Interrupting()), Y0, TS, np.array(0.7), **DISK)
    gc.collect()
    assert files(folder) == []


@pytest.mark.parametrize("count", [0, 2])
def test_a_disk_that_is_full_in_the_backward_pass(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pullback = jo.solve_vjp(numpy_field(Interrupting()), Y0, TS, np.array(0.7), **DISK)
    expected = as_rows(pullback(YS_BAR))
    before = files(folder)
    with monkeypatch.context() as patch:
        patch.setattr(pickle, "dump", filling(count))
        with pytest.raises(jo.SolveError, match=FULL):
            pullback(YS_BAR)
    assert files(folder) == before
    for got, wanted in zip(as_rows(pullback(YS_BAR)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("count", [0, 2])
def test_torch_on_a_disk_that_is_full_in_the_backward_pass(
    count: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, y0 = Net(), torch.tensor(Y0, requires_grad=True)
    ys = janode.torch.solve(field, y0, TS, **DISK).ys
    expected = torch.autograd.grad(ys.sum(), [y0, *field.parameters()], retain_graph=True)
    with monkeypatch.context() as patch:
        patch.setattr(pickle, "dump", filling(count))
        with pytest.raises(jo.SolveError, match=FULL):
            ys.sum().backward(retain_graph=True)
    assert [leaf.grad for leaf in (y0, *field.parameters())] == [None] * 5
    ys.sum().backward()
    for leaf, wanted in zip((y0, *field.parameters()), expected, strict=True):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, wanted)
    del ys
    gc.collect()
    assert files(folder) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file sizes")
def test_a_limit_of_the_system_on_file_sizes(tmp_path: Path) -> None:
    code = f"""
import gc, resource, tempfile
import numpy as np
import janode.numpy as jo
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
tempfile.tempdir = {str(tmp_path)!r}
field = jo.Field(lambda t, y: -y, lambda t, y, f_bar: (None, -f_bar))
for size in (100, 1000):
    try:
        jo.solve_vjp(field, np.ones(size), [0.0, 1.0], steps=9, adjoint=jo.Revolve(3, "disk"))
        print("done")
    except jo.SolveError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = run.stdout.splitlines()
    assert first == "done"
    assert "a checkpoint could not be written to" in second
    assert "File too large" in second
    assert files(tmp_path) == []


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(jo.SolveError, match=r"a checkpoint could not be written to a new directory: .*missing"):
        jo.solve_vjp(numpy_field(Interrupting()), Y0, TS, np.array(0.7), **DISK)


def test_files_that_others_removed(folder: Path) -> None:
    _, pullback = jo.solve_vjp(numpy_field(Interrupting()), Y0, TS, np.array(0.7), **DISK)
    for path in folder.glob("*/*"):
        path.unlink()
    with pytest.raises(jo.SolveError, match=r"a checkpoint could not be read from .*No such file"):
        pullback(YS_BAR)


def test_a_slot_that_was_half_written_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = Disk(start=(Y0,))
    below.put(1, (2.0 * Y0,), True)
    with below.overlaid((Y0,)) as above:
        with monkeypatch.context() as patch:
            patch.setattr(pickle, "dump", filling(0))
            with pytest.raises(jo.SolveError):
                above.put(1, (3.0 * Y0,), True)
        np.testing.assert_array_equal(above.take(1)[0], 2.0 * Y0)
