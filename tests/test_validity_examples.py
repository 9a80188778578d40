"""The examples of monitors train: their steps change, and the model is valid at the end."""

from __future__ import annotations

import math

import pytest

from examples import spheres_lightning, spheres_torch
from janode.core.validity import StepSizeMonitor


def has_worked(monitor: StepSizeMonitor, iterations: int) -> bool:
    """Whether the history is that of a monitor that was asked every 50 iterations and moved."""
    asked = [check.iteration for check in monitor.history] == list(range(50, iterations + 1, 50))
    return asked and any(check.after != check.before for check in monitor.history)


def test_plain_torch_loop() -> None:
    model, monitor = spheres_torch.train(iterations=150)
    assert has_worked(monitor, 150)
    assert model.flow.step_size == monitor.h


def test_lightning_callback() -> None:
    monitor = spheres_lightning.main(max_epochs=7)
    assert has_worked(monitor, 7 * math.ceil(2000 / 128))


def test_jax_loop(capsys: pytest.CaptureFixture[str]) -> None:
    from examples import spheres_jax

    monitor, found = spheres_jax.main(iterations=150)
    assert has_worked(monitor, 150)
    assert (found.method, found.size) == ("euler", monitor.h)
    assert found.verdict in capsys.readouterr().out
