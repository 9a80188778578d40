"""The same monitor as a callback of Lightning: ``python -m examples.spheres_lightning``.

Lightning calls the hooks of its own ``Callback`` class; a monitor becomes one by a class with two bases. Where
Lightning is not installed, a trainer of a few lines stands in for it, with the same module and the same callback.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch

import janode.torch as jo
from examples.spheres import make_spheres
from examples.spheres_torch import SPAN, Classifier, is_right

HAS_LIGHTNING = find_spec("lightning") is not None


class StandInTrainer:
    """What this example needs of ``lightning.Trainer``: the loop, the step count and the hook."""

    def __init__(self, callbacks: list[Any], max_epochs: int, **_: Any) -> None:
        self.callbacks, self.max_epochs, self.global_step = callbacks, max_epochs, 0

    def fit(self, module: Any, loader: Any) -> None:
        optimiser = module.configure_optimizers()
        for _ in range(self.max_epochs):
            for batch_idx, batch in enumerate(loader):
                loss = module.training_step(batch, batch_idx)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                self.global_step += 1
                for callback in self.callbacks:
                    callback.on_train_batch_end(self, module, loss, batch, batch_idx)


if HAS_LIGHTNING:
    lightning = import_module("lightning")
else:
    lightning = SimpleNamespace(LightningModule=torch.nn.Module, Callback=object, Trainer=StandInTrainer)


class Spheres(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.model = Classifier()

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.model(points)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        points, labels = batch
        return torch.nn.functional.cross_entropy(self(points), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


class Monitor(jo.MonitorCallback, lightning.Callback):  # type: ignore[misc, name-defined]
    """janode's callback, with all hooks that Lightning looks for."""


def main(max_epochs: int = 20) -> jo.StepSizeMonitor:
    torch.manual_seed(0)
    points, labels = (torch.tensor(array) for array in make_spheres(2000, seed=0))
    data = torch.utils.data.TensorDataset(points, labels)
    module = Spheres()
    h = jo.starting_step(module.model.flow.field, points, SPAN)
    monitor = jo.StepSizeMonitor(T=1.0, h=h)
    callback = Monitor(monitor, module.model.flow, is_right)
    trainer = lightning.Trainer(callbacks=[callback], max_epochs=max_epochs, logger=False, enable_checkpointing=False)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=128, shuffle=True))
    for check in monitor.history:
        print(f"{check.iteration:5d}  h {check.before:.3f} -> {check.after:.3f}  difference {check.difference:.2f}")
    return monitor


if __name__ == "__main__":
    main()
