"""Train a neural ODE with the steps of a monitor, and ask if it is an ODE: ``python -m examples.spheres_torch``."""

from __future__ import annotations

import torch

import janode.torch as jo
from examples.spheres import make_spheres

SPAN = [0.0, 1.0]


class Field(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [torch.nn.Linear(3, 32), torch.nn.Linear(32, 32), torch.nn.Linear(32, 3)]
        for layer, scale in zip(layers, (1.0, 1.0, 0.1), strict=True):
            torch.nn.init.normal_(layer.weight, std=scale * (2 / layer.in_features) ** 0.5)
            torch.nn.init.zeros_(layer.bias)
        self.net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.net(y)


class Classifier(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flow = jo.NeuralODE(Field(), method="euler", step_size=1.0)
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.linear(self.flow(points, SPAN)[-1])


def is_right(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    points, labels = batch
    return (model(points).argmax(-1) == labels).double()


def train(iterations: int = 1000) -> tuple[Classifier, jo.StepSizeMonitor]:
    torch.manual_seed(0)
    points, labels = (torch.tensor(array) for array in make_spheres(2000, seed=0))
    model = Classifier()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    h = jo.starting_step(model.flow.field, points, SPAN)
    callback = jo.MonitorCallback(jo.StepSizeMonitor(T=1.0, h=h), model.flow, is_right)
    for iteration in range(1, iterations + 1):
        chosen = torch.randint(len(points), (128,))
        batch = points[chosen], labels[chosen]
        loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if check := callback(iteration, model, batch):
            print(f"{iteration:5d}  loss {loss:.3f}  h {check.before:.3f} -> {check.after:.3f}")
    return model, callback.monitor


def main() -> jo.Validity:
    model, monitor = train()
    points, labels = (torch.tensor(array) for array in make_spheres(1000, seed=1))
    found = jo.validate(
        model.flow.field,
        points,
        SPAN,
        trained_with=("euler", monitor.h),
        metric=lambda ys: (model.linear(ys[-1]).argmax(-1) == labels).double(),
    )
    jo.show_validity(found)
    return found


if __name__ == "__main__":
    main()
