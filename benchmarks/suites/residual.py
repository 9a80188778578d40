"""The suite `residual`: the gradient of a deep residual network with and without its activations kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from janode.core.residual import adjoints_of

from ..measure import Case, Effort, Race, Thunk, race, ratio
from ..report import Verdict, race_tables

TITLE = "Residual stacks"
ABOUT = """The gradient of the sum of a residual network's output with respect to its input and all weights, in float32:
N blocks `Linear, Tanh, Linear` with weights of their own, x + f(x) / N.

- `plain` is the loop in PyTorch, differentiated by autograd. `euler` is the same network as a `ResidualStack`,
  `leapfrog` the one of two steps back; `backprop`, `symplectic`, `reconstruct` and `predict` are its adjoints.
- What a gradient evaluates beyond backpropagation's N blocks and N VJPs: `symplectic` N more, `reconstruct` 2 N with
  Euler and N with leapfrog, whose step back needs the field where its VJP does, `predict` N + 1. A VJP costs about two
  evaluations, so that Euler takes 5/3 of backpropagation's time with `reconstruct` at best, and 4/3 with `predict`, as
  leapfrog does; unless memory is slow.
- `memory` is the peak of the bytes of live tensors beside the weights, their gradients and the input. Tensors of the
  size of a weight are taken for gradients; no activation has that size here.
"""
LIBRARIES = ("torch",)
PEERS = {"torch": ()}


class Network(NamedTuple):
    """The sizes of a residual network."""

    depth: int
    size: int
    width: int
    batch: int

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.size}-{self.width}-{self.size}, batch {self.batch}"


class Scale(NamedTuple):
    """How much is measured."""

    networks: tuple[Network, ...]
    effort: Effort


MAIN = Network(256, 256, 1024, 192)
SCALES = {
    "full": Scale((MAIN, Network(256, 64, 64, 128), Network(256, 500, 8, 500)), Effort(3, 7, 20.0)),
    "main": Scale((MAIN,), Effort(3, 7, 20.0)),
    "quick": Scale((Network(32, 64, 64, 128),), Effort(2, 3, 0.5)),
    "smoke": Scale((Network(3, 4, 4, 2),), Effort(1, 1, 0.0)),
}
HEADLINES = (MAIN.name,)
PLAIN = "plain"
WAYS = tuple(f"{scheme} {adjoint}" for scheme in ("euler", "leapfrog")
             for adjoint in ("backprop", "symplectic", "reconstruct", "predict")
             if adjoint in adjoints_of(scheme))  # fmt: skip


def races(library: str, device: str, scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    """Time and memory of a gradient, for every network."""
    import torch

    from janode.backends.torch_memory import LiveBytes

    torch.set_num_threads(1)
    for network in scale.networks:
        thunks, given = _gradients(network, device)
        synchronise: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None
        case = Case(library, network.name, network.depth, "", "gradient")
        yield race(case, thunks, scale.effort, synchronise=synchronise)
        sizes = {tensor.nbytes for tensor in given[1:]}

        class Activations(LiveBytes):
            """Live bytes beside gradients of weights."""

            def _note(self, storage: Any, sizes: set[int] = sizes) -> None:
                if storage.nbytes() not in sizes:
                    super()._note(storage)

        peaks = {}
        for name, thunk in thunks.items():
            with Activations(given) as live:
                thunk()
            peaks[name] = {"bytes": [float(live.peak)]}
        yield Race(case._replace(task="memory"), peaks)


def _gradients(network: Network, device: str) -> tuple[dict[str, Thunk], list[Any]]:
    import warnings

    import torch

    from janode.torch import ResidualStack

    torch.manual_seed(0)
    depth, size, width, batch = network
    blocks = [
        torch.nn.Sequential(torch.nn.Linear(size, width), torch.nn.Tanh(), torch.nn.Linear(width, size)).to(device)
        for _ in range(depth)
    ]
    weights = [parameter for block in blocks for parameter in block.parameters()]
    x = torch.randn(batch, size, device=device, requires_grad=True)

    def plain(x: torch.Tensor) -> torch.Tensor:
        for block in blocks:
            x = x + (1.0 / depth) * block(x)
        return x

    def gradient(run: Callable[[torch.Tensor], torch.Tensor]) -> Thunk:
        def thunk() -> list[torch.Tensor]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                found = torch.autograd.grad(run(x).sum(), [x, *weights])
            return [found[0]]

        return thunk

    thunks = {PLAIN: gradient(plain)}
    for way in WAYS:
        scheme, adjoint = way.split()
        thunks[way] = gradient(ResidualStack(blocks, scheme, adjoint))
    return thunks, [x, *weights]


TARGETS = {
    ("euler predict", "gradient"): 1.5,
    ("euler reconstruct", "gradient"): 1.5,
    ("leapfrog reconstruct", "gradient"): 1.5,
    ("euler predict", "memory"): 0.02,
    ("euler reconstruct", "memory"): 0.02,
    ("leapfrog reconstruct", "memory"): 0.02,
    ("euler symplectic", "gradient"): None,
    ("euler symplectic", "memory"): None,
}


def verdicts(found: Sequence[Race], measure: str) -> list[Verdict]:
    """Every target against every race."""
    rows = []
    for (way, task), limit in TARGETS.items():
        for one in found:
            if one.case.task == task and way in one.samples:
                value = ratio(one, way, PLAIN, "bytes" if task == "memory" else measure)
                rows.append(Verdict(f"{way} / {PLAIN}", one.case, value, limit))
    return rows


tables = race_tables
"""Every race stands in the tables of all suites."""


def figures() -> dict[str, Callable[[Sequence[Race], Path], bool]]:
    """The figures of this suite, by the end of their file's name."""
    return {}
