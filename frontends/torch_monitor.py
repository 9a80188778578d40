"""Monitors in training loops of PyTorch: a callback that keeps the solver of a layer as its monitor says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from janode.core.errors import InputError
from janode.core.validity import StepSizeMonitor, ToleranceMonitor
from janode.core.validity_checks import AnyMethod, Check

from .torch_modules import NeuralODE


class MonitorCallback:
    """Checks a layer while it trains, and sets its step size, or its tolerance.

    A plain loop calls it once per iteration. Lightning calls its hooks where it is combined with Lightning's own class:
    ``class Monitor(MonitorCallback, lightning.Callback): pass``.

    Args:
        monitor: a :class:`StepSizeMonitor` or :class:`ToleranceMonitor`; its method and first size are the layer's from
            now on. A tolerance needs a layer with ``rtol`` and ``atol``.
        layer: the :class:`NeuralODE`, somewhere in the model.
        metric: ``metric(model, batch)`` returns a number, or one for each sample; it runs the model, in evaluation mode
            and without gradients, and must not change it.

    Raises:
        InputError: the layer has no such setting.

    Example:
        >>> import torch
        >>> import janode.torch as jo
        >>> class Decay(torch.nn.Module):
        ...     def forward(self, t, y):
        ...         return -y
        >>> layer = jo.NeuralODE(Decay(), method="euler", step_size=1.0)
        >>> callback = jo.MonitorCallback(
        ...     jo.StepSizeMonitor(T=1.0, h=1.0), layer, lambda model, y0: model(y0, [0.0, 1.0])[-1].mean()
        ... )
        >>> check = callback(50, layer, torch.ones(4))
        >>> layer.step_size
        0.5
    """

    def __init__(
        self,
        monitor: StepSizeMonitor | ToleranceMonitor,
        layer: NeuralODE,
        metric: Callable[[Any, Any], Any],
    ) -> None:
        self.monitor, self.layer, self.metric = monitor, layer, metric
        self._names = ("step_size",) if isinstance(monitor, StepSizeMonitor) else ("rtol", "atol")
        for name in self._names:
            if not hasattr(layer, name):
                raise InputError(
                    f"MonitorCallback: layer must have the setting {name}; got {type(layer).__name__}. Give the "
                    "NeuralODE itself, not the model around it."
                )
        self._adopt()

    def __call__(self, iteration: int, model: torch.nn.Module, batch: Any) -> Check | None:
        """Check if it is due after that many iterations, and set the layer; returns what was found, or None."""
        if not self.monitor.is_due(iteration):
            return None

        def evaluate(method: AnyMethod, size: float) -> Any:
            self._set(method, size)
            with _evaluation(model), torch.no_grad(), _counted(self.layer.field) as calls:
                return self.metric(model, batch), len(calls)

        try:
            return self.monitor.update(evaluate, iteration)
        finally:
            self._adopt()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lightning's hook: check if it is due after ``trainer.global_step`` iterations."""
        self(trainer.global_step, pl_module, batch)

    def state_dict(self) -> dict[str, Any]:
        """The state of the monitor; Lightning keeps it in its checkpoints."""
        return self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, and set the layer."""
        self.monitor.load_state_dict(state_dict)
        self._adopt()

    def _adopt(self) -> None:
        self._set(self.monitor.method, self.monitor.size)

    def _set(self, method: AnyMethod, size: float) -> None:
        self.layer.method, self.layer.steps, self.layer.step_size = method, None, None
        for name in self._names:
            setattr(self.layer, name, size)


@contextmanager
def _evaluation(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode; every module is left in the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _counted(field: torch.nn.Module) -> Iterator[list[None]]:
    """A list with an entry for every call of the field."""
    calls: list[None] = []
    hook = field.register_forward_hook(lambda *_: calls.append(None))
    try:
        yield calls
    finally:
        hook.remove()
