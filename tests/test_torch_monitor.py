"""The monitor's callback in PyTorch: what it sets, counts and leaves as it was, in loops and by Lightning's hook."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import janode.torch as jo
from janode.core.errors import InputError

SPAN = [0.0, 1.0]


class Growth(torch.nn.Module):
    """y' = rate y, behind a batch normalisation that does nothing but keep statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(-3.0))

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.rate * y


class Model(torch.nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(1)
        self.frozen = torch.nn.Dropout().eval()
        self.layer = jo.NeuralODE(Growth(), **options)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.layer(self.norm(y), SPAN)[-1]


def mean(model: torch.nn.Module, y: torch.Tensor) -> torch.Tensor:
    assert not model.training
    assert not torch.is_grad_enabled()
    return model(y).mean()


def euler(h: float) -> float:
    return (1 - 3 * h) ** round(1 / h)


BATCH = torch.ones(4, 1)


def test_a_layer_tied_to_its_solver_gets_smaller_steps() -> None:
    model = Model(method="rk4", steps=3)
    monitor = jo.StepSizeMonitor(T=1.0, h=0.5, metric_range=(-2, 2))
    callback = jo.MonitorCallback(monitor, model.layer, mean)
    assert (model.layer.method, model.layer.steps, model.layer.step_size) == ("euler", None, 0.5)
    assert [callback(iteration, model, BATCH) for iteration in (0, 1, 49, 51)] == [None] * 4
    check = callback(50, model, BATCH)
    assert check is not None
    assert check.training == pytest.approx(euler(0.5), rel=1e-4)
    assert (check.iteration, monitor.h, model.layer.step_size, model.layer.method) == (50, 0.25, 0.25, "euler")
    assert check.num_field_evals == 2 + 2 * 10


def test_the_model_is_left_as_it_was() -> None:
    model = Model(method="euler", step_size=0.5).train()
    model.frozen.eval()
    monitor = jo.StepSizeMonitor(T=1.0, h=0.5, metric_range=(-2, 2), checksum=lambda: jo.checksum(model))
    before = jo.checksum(model)
    jo.MonitorCallback(monitor, model.layer, mean)(50, model, BATCH)
    assert (model.training, model.norm.training, model.frozen.training) == (True, True, False)
    assert jo.checksum(model) == before
    assert not model.layer.field._forward_hooks


def test_a_metric_that_changes_the_model_is_found_and_the_layer_keeps_its_step() -> None:
    model = Model(method="euler", step_size=0.5)
    monitor = jo.StepSizeMonitor(T=1.0, h=0.5, metric_range=(-2, 2), checksum=lambda: jo.checksum(model))

    def trains(model: Model, y: torch.Tensor) -> torch.Tensor:
        return model.train()(y).mean()

    with pytest.raises(InputError, match="evaluate must not change the model; got another checksum after 'euler'"):
        jo.MonitorCallback(monitor, model.layer, trains)(50, model, BATCH)
    assert (model.layer.step_size, model.norm.training, len(monitor.history)) == (0.5, True, 0)


def test_tolerances_are_set_and_counted() -> None:
    model = Model(method="euler", step_size=0.5)
    monitor = jo.ToleranceMonitor(tol=1e-2, metric_range=(-2, 2))
    callback = jo.MonitorCallback(monitor, model.layer, mean)
    assert (model.layer.step_size, model.layer.rtol, model.layer.atol) == (None, 1e-2, 1e-2)
    check = callback(50, model, BATCH)
    assert check is not None
    assert (model.layer.rtol, monitor.tol) == (pytest.approx(1.1e-2), pytest.approx(1.1e-2))
    start = model.eval().norm(BATCH)
    total = 0
    for tol in (1e-2, check.test_size, 1.1e-2):
        total += jo.solve(model.layer.field, start, SPAN, rtol=tol, atol=tol).stats.num_field_evals
    assert check.num_field_evals == total


class Trainer:
    """What Lightning does with a callback, in the order in which it does it."""

    def __init__(self) -> None:
        self.global_step = 0

    def fit(self, model: Model, callback: Any, iterations: int) -> None:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
        for index in range(iterations):
            loss = model(BATCH).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.global_step += 1
            callback.on_train_batch_end(self, model, loss, BATCH, index)


def test_lightnings_hook_and_state() -> None:
    model = Model(method="euler", step_size=0.5).eval()
    monitor = jo.StepSizeMonitor(T=1.0, h=0.5, interval=3, metric_range=(-2, 2))
    callback = jo.MonitorCallback(monitor, model.layer, mean)
    Trainer().fit(model, callback, 7)
    assert [check.iteration for check in monitor.history] == [3, 6]
    assert monitor.h == 0.275
    other = Model(method="euler", step_size=1.0)
    resumed = jo.MonitorCallback(jo.StepSizeMonitor(T=1.0, h=1.0, interval=3, metric_range=(-2, 2)), other.layer, mean)
    resumed.load_state_dict(json.loads(json.dumps(callback.state_dict())))
    assert (other.layer.step_size, resumed.monitor.history) == (0.275, monitor.history)


def test_a_model_is_no_layer() -> None:
    with pytest.raises(
        InputError, match=r"layer must have the setting step_size; got Model\. Give the NeuralODE itself"
    ):
        jo.MonitorCallback(jo.StepSizeMonitor(T=1.0, h=0.5), Model(steps=1), mean)  # type: ignore[arg-type]
