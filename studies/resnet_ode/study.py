"""The study put together: its parts at two scales, its claims and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any

import numpy as np

from studies.claims import Claim, order_of
from studies.parts import Part, Tick
from studies.tables import Table, claims_table

from . import digits, linear
from .problem import KINDS, start, weights

Results = Mapping[str, Any]
GRADIENTS = {
    "euler": ("euler", "reconstruct"),
    "euler, predicted": ("euler", "predict"),
    "heun": ("heun", "reconstruct"),
    "leapfrog": ("leapfrog", "reconstruct"),
}
"""Memory-free gradients: scheme and adjoint."""
MEMORY = ("euler reconstruct", "leapfrog reconstruct", "euler symplectic", "euler backprop")


class Library(StrEnum):
    """The array library whose stacks are measured."""

    TORCH = "torch"
    JAX = "jax"


@dataclass(frozen=True)
class Scale:
    """How much is computed."""

    depths: tuple[int, ...]
    draws: int
    """Weights that are not smooth are drawn so many times; the median is taken."""
    gradient_depths: tuple[int, ...]
    linear_depths: tuple[int, ...]
    iterations: int
    memory_depths: tuple[int, ...]
    memory_sizes: tuple[int, int, int]
    """Width of the state, of the hidden layer, and batch."""
    digits: digits.Scale


QUICK = Scale(
    (32, 64, 128, 256),
    3,
    (16, 32, 64, 128, 256),
    (50, 100, 200),
    1500,
    (32, 128, 512),
    (100, 8, 100),
    digits.Scale(4, 4, 3, 2, 1),
)
FULL = Scale(
    (16, 32, 64, 128, 256, 512),
    5,
    (16, 32, 64, 128, 256, 512),
    (50, 100, 200),
    10_000,
    (32, 64, 128, 256, 512),
    (500, 8, 500),
    digits.Scale(4, 8, 6, 4, 3),
)


def settings(scale: Scale, library: Library, device: str) -> dict[str, Any]:
    """What the results depend on, as plain data."""
    return {"library": str(library), "device": device, **asdict(scale)}


def parts(scale: Scale, library: Library, device: str) -> list[Part]:
    """All parts; fine-tuning is done by PyTorch, whatever the library."""
    stacks = import_module(f"studies.resnet_ode.{library}_stack")
    found = [_gap(stacks, kind, scale, device) for kind in KINDS]
    found += [_gradient(stacks, name, scale, device) for name in GRADIENTS]
    found += [_linear(depth, scale.iterations) for depth in scale.linear_depths]
    found += [_memory(stacks, way, scale, device) for way in MEMORY]
    return found + [_digits(scale.digits, seed, device) for seed in range(scale.digits.seeds)]


def _gap(stacks: Any, kind: str, scale: Scale, device: str) -> Part:
    draws = 1 if kind == "smooth" else scale.draws
    keys = ("relative", "bound", "smoothness", "doubling")

    def compute(_: Results, tick: Tick) -> dict[str, Any]:
        found: dict[str, Any] = {key: [] for key in keys}
        for depth in scale.depths:
            gaps = []
            for seed in range(draws):
                gaps.append(stacks.gap(weights(kind, depth, seed), start(), device))
                tick()
            for key in keys:
                found[key].append(float(np.median([getattr(gap, key) for gap in gaps])))
            # The bound is one on the distance itself.
            found.setdefault("distance", []).append(float(np.median([gap.distance for gap in gaps])))
        return found

    return Part(f"gap/{kind}", draws * len(scale.depths), compute)


def _gradient(stacks: Any, name: str, scale: Scale, device: str) -> Part:
    scheme, memory_free = GRADIENTS[name]

    def compute(_: Results, tick: Tick) -> dict[str, Any]:
        found: dict[str, Any] = {"errors": [], "cosines": []}
        for depth in scale.gradient_depths:
            given = weights("smooth", depth), start(), scheme
            near, exact = (stacks.gradient(*given, adjoint, device) for adjoint in (memory_free, "symplectic"))
            found["errors"].append(float(np.linalg.norm(near - exact) / np.linalg.norm(exact)))
            found["cosines"].append(float(near @ exact / np.linalg.norm(near) / np.linalg.norm(exact)))
            tick()
        return found

    return Part(f"gradient/{name}", len(scale.gradient_depths), compute)


def _linear(depth: int, iterations: int) -> Part:
    def compute(_: Results, tick: Tick) -> dict[str, Any]:
        return linear.train(depth, iterations, tick)

    return Part(f"linear/{depth}", linear.num_ticks(iterations), compute)


def _memory(stacks: Any, way: str, scale: Scale, device: str) -> Part:
    def compute(_: Results, tick: Tick) -> list[int]:
        found = []
        for depth in scale.memory_depths:
            found.append(stacks.peak_bytes(depth, scale.memory_sizes, *way.split(), device))
            tick()
        return found

    return Part(f"memory/{way}", len(scale.memory_depths), compute)


def _digits(scale: digits.Scale, seed: int, device: str) -> Part:
    def compute(_: Results, tick: Tick) -> dict[str, Any]:
        return digits.tune(scale, seed, device, tick)

    return Part(f"digits/{seed}", digits.num_ticks(scale), compute)


def accuracies(results: Results, scale: Scale, adjoint: str) -> list[float]:
    """The accuracy of each seed's network, fine-tuned by an adjoint."""
    return [results[f"digits/{seed}"][adjoint]["accuracy"] for seed in range(scale.digits.seeds)]


def claims(results: Results, scale: Scale) -> list[Claim]:
    """All claims."""
    gap = {kind: results[f"gap/{kind}"] for kind in KINDS}
    orders = {kind: order_of(scale.depths, gap[kind]["relative"]) for kind in KINDS}
    gradient = {name: results[f"gradient/{name}"]["errors"] for name in GRADIENTS}
    jumps = [max(results[f"linear/{depth}"]["smoothness"]) for depth in scale.linear_depths]
    runs = [results[f"linear/{depth}"]["losses"] for depth in scale.linear_depths]
    losses = [run[-1] / run[0] for run in runs]
    falls = {name: order_of(scale.gradient_depths, errors) for name, errors in gradient.items()}
    peaks = {way: results[f"memory/{way}"] for way in MEMORY}
    apart = np.mean(accuracies(results, scale, "reconstruct")) - np.mean(accuracies(results, scale, "backprop"))
    over = max(d / b for d, b in zip(gap["smooth"]["distance"], gap["smooth"]["bound"], strict=True))
    rises = gap["random"]["smoothness"]
    return [
        Claim("distance to the ODE, smooth weights: order in 1/N", orders["smooth"], 0.9, 1.1),
        Claim("distance to the ODE, smooth weights, of its bound: largest", over, high=1.0),
        Claim("distance to the ODE, random signs: order in 1/N", orders["signs"], high=0.2),
        Claim("bound, independent weights: order in 1/N", order_of(scale.depths, gap["random"]["bound"]), high=0.2),
        Claim("largest jump times N, independent weights: order in N", -order_of(scale.depths, rises), 0.9),
        Claim("memory-free gradient, Euler: order in 1/N", falls["euler"], 0.8, 1.2),
        Claim("memory-free gradient, Euler, predicted: order in 1/N", falls["euler, predicted"], 1.8, 2.2),
        Claim("memory-free gradient, Heun: order in 1/N", falls["heun"], 1.8),
        Claim("memory-free gradient, leapfrog: largest relative error", max(gradient["leapfrog"]), high=1e-12),
        Claim("linear network: loss after training, of the first, largest", max(losses), high=1e-8),
        Claim("linear network: largest jump times N in training, largest N over smallest N",
              jumps[-1] / jumps[0], high=1.1),
        Claim("peak memory, Euler, memory-free: largest depth over smallest", _growth(peaks["euler reconstruct"]),
              high=1.1),
        Claim("peak memory, leapfrog, memory-free: largest depth over smallest", _growth(peaks["leapfrog reconstruct"]),
              high=1.1),
        Claim("peak memory, backpropagation: largest depth over smallest", _growth(peaks["euler backprop"]), low=4.0),
        Claim("digits: accuracy, memory-free less backpropagation", float(apart), -0.01, 0.01),
        Claim("digits: accuracy, memory-free", float(np.mean(accuracies(results, scale, "reconstruct"))), low=0.95),
    ]  # fmt: skip


def _growth(peaks: list[int]) -> float:
    return peaks[-1] / peaks[0]


def tables(results: Results, scale: Scale) -> list[Table]:
    """What was measured, and the claims."""
    rows = []
    for kind in KINDS:
        gap = results[f"gap/{kind}"]
        for k, depth in enumerate(scale.depths):
            keys = ("relative", "distance", "bound", "doubling", "smoothness")
            rows.append([kind, str(depth), *(f"{gap[key][k]:.2e}" for key in keys)])
    columns = ["weights", "N", "relative distance", "distance", "bound", "doubling", "N max jump"]
    found = [Table("Distance of the layers from the ODE through them", columns, rows)]
    rows = [
        [str(depth), *(f"{results[f'gradient/{name}'][key][k]:.{digits}}" for name in GRADIENTS
                       for key, digits in (("errors", "2e"), ("cosines", "8f")))]
        for k, depth in enumerate(scale.gradient_depths)
    ]  # fmt: skip
    columns = ["N", *(f"{name}: {what}" for name in GRADIENTS for what in ("error", "cosine"))]
    found.append(Table("The memory-free gradient of all weights against the exact one", columns, rows))
    rows = [
        [str(depth), *(f"{value:.3e}" for value in (run["losses"][0], run["losses"][-1], max(run["smoothness"])))]
        for depth in scale.linear_depths
        for run in [results[f"linear/{depth}"]]
    ]
    found.append(Table("The linear network", ["N", "first loss", "last loss", "largest N max jump"], rows))
    rows = [[way, *(f"{peak / 1e6:.3f}" for peak in results[f"memory/{way}"])] for way in MEMORY]
    found.append(Table("Peak memory [MB]", ["", *(f"N = {depth}" for depth in scale.memory_depths)], rows))
    rows = []
    for seed in range(scale.digits.seeds):
        run = results[f"digits/{seed}"]
        numbers = [run["grown"], run["backprop"]["accuracy"], run["reconstruct"]["accuracy"], run["gradient_error"]]
        kept = [f"{run['bytes'][adjoint] / 1e6:.2f}" for adjoint in ("backprop", "reconstruct")]
        rows.append([str(seed), str(run["depth"]), *(f"{number:.4f}" for number in numbers), *kept])
    columns = [
        "seed",
        "N",
        "as grown",
        "backprop",
        "memory-free",
        "gradient error at first",
        "kept [MB]",
        "memory-free",
    ]
    found.append(Table("Digits: accuracy after fine-tuning", columns, rows))
    return [*found, claims_table(claims(results, scale))]
