"""The vector fields of the benchmarks: networks whose weights are the same in every library."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from janode.core.layers import MLP, Sequential


class Problem(NamedTuple):
    """A network of tanh layers as an autonomous field on a batch of states, on the time interval [0, 1]."""

    sizes: tuple[int, ...]
    batch: int

    @property
    def name(self) -> str:
        """The sizes, as a table shows them."""
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch}"

    @property
    def network(self) -> Sequential:
        """The layers, with their hand-written VJP."""
        return MLP(self.sizes)

    @property
    def state_bytes(self) -> int:
        """The size of one state in float32."""
        return 4 * self.batch * self.sizes[0]

    def params(self) -> Any:
        """The weights in float32."""
        return self.network.init(np.random.default_rng(0), np, np.float32)

    def y0(self) -> np.ndarray:
        """The initial states in float32."""
        return np.random.default_rng(1).standard_normal((self.batch, self.sizes[0]), dtype=np.float32)


SMALL = Problem((2, 64, 64, 2), 128)
WIDE = Problem((16, 256, 256, 16), 256)
TINY = Problem((2, 32, 2), 4)
BROAD = Problem((64, 16, 64), 512)
"""A large state and a small network."""
