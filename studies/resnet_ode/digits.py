"""Fine-tuning a convolutional residual stack on the digits that scikit-learn ships, memory-free and by backpropagation.

A shallow network is trained by backpropagation; it is grown by copying its layers, with a smaller step; the deep one is
fine-tuned in both ways from the same weights, with the same batches.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits

import janode.torch as jo

NUM_TEST = 397
BATCH = 100
CHANNELS = 16


@dataclass(frozen=True)
class Scale:
    """How much is trained."""

    depth: int
    factor: int
    epochs: int
    tuning_epochs: int
    seeds: int


class Network(torch.nn.Module):
    """A stem, a residual stack and a linear classifier, for 8 x 8 images."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.stack = jo.ResidualStack([_block() for _ in range(depth)], adjoint="backprop")
        self.head = torch.nn.Linear(CHANNELS * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of each class."""
        features = torch.nn.functional.avg_pool2d(self.stack(self.stem(x)), 2)
        return self.head(features.flatten(1))


def _block() -> torch.nn.Module:
    """conv-bn-relu-conv-bn."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        torch.nn.BatchNorm2d(CHANNELS),
        torch.nn.ReLU(),
        torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        torch.nn.BatchNorm2d(CHANNELS),
    )


def tune(scale: Scale, seed: int, device: str, tick: Callable[[], None]) -> dict[str, Any]:
    """Accuracies on the test set, how far the two gradients were apart at the start, what each keeps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        images, labels = (torch.tensor(part, device=device) for part in load_digits(return_X_y=True))
        images = (images.float() / 8.0 - 1.0).reshape(-1, 1, 8, 8)
        order = torch.randperm(len(images))
        train, test = order[NUM_TEST:], order[:NUM_TEST]
        data = images[train], labels[train]
        network = Network(scale.depth).to(device)
        _train(network, data, scale.epochs, 3e-3, seed, tick)
        network.stack = jo.deepen(network.stack, scale.factor)
        grown = _accuracy(network, images[test], labels[test])
        probe = network.stem(data[0][:BATCH]).detach()
        found: dict[str, Any] = {
            "grown": grown,
            "depth": scale.depth * scale.factor,
            "gradient_error": jo.gradient_gap(network.stack, probe).relative_error,
            "bytes": jo.kept_bytes(network.stack, probe),
        }
        for adjoint in ("backprop", "reconstruct"):
            deep = copy.deepcopy(network)
            deep.stack.adjoint = adjoint
            losses = _train(deep, data, scale.tuning_epochs, 1e-3, seed + 1, tick)
            found[adjoint] = {"accuracy": _accuracy(deep, images[test], labels[test]), "losses": losses}
        return found


def num_ticks(scale: Scale) -> int:
    """How often a run says that it goes on."""
    return scale.epochs + 2 * scale.tuning_epochs


def _train(network: Network, data: Any, epochs: int, rate: float, seed: int, tick: Callable[[], None]) -> list[float]:
    images, labels = data
    optimiser = torch.optim.Adam(network.parameters(), rate)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    losses = []
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
            optimiser.zero_grad()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # the error of the way back is in the results
                loss.backward()
            optimiser.step()
            total += loss.item() * len(batch)
        losses.append(total / len(images))
        tick()
    return losses


@torch.no_grad()
def _accuracy(network: Network, images: torch.Tensor, labels: torch.Tensor) -> float:
    network.eval()
    return float((network(images).argmax(1) == labels).float().mean())
