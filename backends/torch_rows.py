"""The PyTorch backend with a lane for each sample of a batch: its own times, its own steps, one field call for all.

Leaves have the batch as their leading axis. Times, errors and counts are tensors of one entry per sample, conditions
too; a buffer has a row of lanes at each place, and each lane may be at another place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.torch as xp
import optree
import torch

from janode.core.protocols import State

from .torch import TorchBackend


class Rows:
    """A buffer that grows: for each leaf of a row a tensor (capacity, batch, ..)."""

    def __init__(self, leaves: list[torch.Tensor], spec: Any) -> None:
        self.leaves, self.spec = leaves, spec


class TorchRowsBackend(TorchBackend):
    """For one batch size and one device."""

    def __init__(self, size: int, device: torch.device) -> None:
        super().__init__(xp, "torch")
        self._size, self._device = size, device
        self._lanes = torch.arange(size, device=device)
        self._reads_cheaply = device.type == "cpu"
        self._constants: dict[Any, torch.Tensor] = {}

    def while_loop(self, condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        """Until the condition holds in no lane: one host read per pass."""
        while self.may(condition(state)):
            state = body(state)
        return state

    def scalar(self, value: torch.Tensor) -> torch.Tensor:
        """One number per lane, without gradient."""
        return value.detach().to(torch.float64)

    def num_entries(self, state: State) -> int:
        """The number of entries of one sample."""
        return sum(leaf[0].numel() for leaf in state)

    def may(self, condition: Any) -> bool:
        """Whether it holds in any lane."""
        return bool(condition.any()) if isinstance(condition, torch.Tensor) else bool(condition)

    def choose(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """Lane by lane; buffers are those of ``then``."""
        if not isinstance(condition, torch.Tensor):
            return then() if condition else otherwise()
        if self._reads_cheaply:  # most conditions hold in all lanes or in none
            if condition.all():
                return then()
            if not condition.any():
                return otherwise()
        new, spec = optree.tree_flatten(then(), none_is_leaf=True)
        old = optree.tree_leaves(otherwise(), none_is_leaf=True)
        chosen = [self._chosen(condition, a, b) for a, b in zip(new, old, strict=True)]
        return optree.tree_unflatten(spec, chosen)

    def _chosen(self, condition: torch.Tensor, new: Any, old: Any) -> Any:
        if new is None or isinstance(new, Rows) or new is old:
            return new
        new, old = self._tensor(new), self._tensor(old)
        dims = max(new.dim(), old.dim())
        return torch.where(condition.reshape(condition.shape + (1,) * max(0, dims - 1)), new, old)

    def _tensor(self, value: Any) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value
        key = type(value), value
        if key not in self._constants:
            dtype = torch.float64 if isinstance(value, float) else None
            self._constants[key] = torch.tensor(value, dtype=dtype, device=self._device)
        return self._constants[key]

    def expanded(self, value: Any) -> torch.Tensor:
        """One number for each lane."""
        return self._tensor(value).expand(self._size).clone()

    def buffer(self, length: int, row: State) -> Any:
        """Tensors of this many rows."""
        leaves, spec = self._wide(row)
        return Rows([leaf[None].repeat((length,) + (1,) * leaf.dim()) for leaf in leaves], spec)

    def recorder(self, capacity: int, row: Any) -> Any:
        """Tensors that grow by doubling."""
        return self.buffer(min(capacity, 16), row)

    def _wide(self, row: Any) -> tuple[list[torch.Tensor], Any]:
        leaves, spec = optree.tree_flatten(row)
        tensors = [self._tensor(leaf) for leaf in leaves]
        return [leaf.expand(self._size) if leaf.dim() == 0 else leaf for leaf in tensors], spec

    def _places(self, index: Any) -> torch.Tensor:
        return self._tensor(index).expand(self._size)

    def put(self, buffer: Any, index: Any, row: Any, where: Any = True) -> Any:
        """The same tensors, one row of each lane replaced in place."""
        places, (leaves, _) = self._places(index), self._wide(row)
        lanes = self._lanes
        if isinstance(where, torch.Tensor):
            is_here = where.expand(self._size)
            places, lanes = places[is_here], lanes[is_here]
            leaves = [leaf[is_here] for leaf in leaves]
        elif not where:
            return buffer
        if len(places) and buffer.leaves:
            needed = int(places.max()) + 1
            while buffer.leaves[0].shape[0] < needed:
                buffer.leaves = [torch.cat([leaf, leaf]) for leaf in buffer.leaves]
        # A record may lack the stages that only the continuous extension needs: no lane pulls back through them then.
        for total, leaf in zip(buffer.leaves, leaves, strict=False):
            total[places, lanes] = leaf.detach().to(total.dtype)
        return buffer

    def take(self, buffer: Any, index: Any) -> Any:
        """The row of each lane."""
        places = self._places(index)
        return optree.tree_unflatten(buffer.spec, [leaf[places, self._lanes] for leaf in buffer.leaves])

    def stack(self, buffer: Any) -> State:
        """The tensors themselves."""
        stacked: Any = optree.tree_unflatten(buffer.spec, buffer.leaves)
        return stacked

    def unstack(self, states: State) -> Any:
        """A buffer of these tensors."""
        leaves: list[Any]
        leaves, spec = optree.tree_flatten(tuple(states))  # type: ignore[arg-type]
        return Rows(leaves, spec)

    def linear_combination(
        self, base: State | None, scale: Any, coefficients: Sequence[Any], terms: Sequence[State]
    ) -> State:
        """base + scale * sum_j c_j terms_j, where the scale and each c_j may be one number per lane."""
        if not any(isinstance(factor, torch.Tensor) for factor in (scale, *coefficients)):
            return super().linear_combination(base, scale, coefficients, terms)
        leaves = []
        for place, first in enumerate(terms[0]):
            total = self._times(coefficients[0], first)
            for coefficient, term in zip(coefficients[1:], terms[1:], strict=True):
                total = total + self._times(coefficient, term[place])
            total = self._times(scale, total)
            leaves.append(total if base is None else base[place] + total.to(base[place].dtype))
        return tuple(leaves)

    def _times(self, factor: Any, leaf: torch.Tensor) -> torch.Tensor:
        if not isinstance(factor, torch.Tensor):
            return factor * leaf
        dtype = leaf.dtype.to_real() if leaf.dtype.is_complex else leaf.dtype
        factor = factor.to(dtype)
        return (factor.reshape(factor.shape + (1,) * (leaf.dim() - factor.dim())) if factor.dim() else factor) * leaf

    def time(self, t: Any, like: torch.Tensor) -> torch.Tensor:
        """One time per lane."""
        dtype = like.dtype.to_real() if like.dtype.is_complex else like.dtype
        return self._tensor(t).to(dtype).expand(self._size)

    def pair(self, left: State, right: State) -> torch.Tensor:
        """Re sum conj(left) right, lane by lane."""
        total: Any = 0.0
        for a, b in zip(left, right, strict=True):
            product = (a.conj() * b).real if a.is_complex() else a * b
            wide = torch.float32 if product.dtype.itemsize == 2 else None
            total = total + product.reshape(self._size, -1).sum(1, dtype=wide)
        return total

    def all_finite(self, states: State) -> torch.Tensor:
        """Lane by lane."""
        found = torch.ones(self._size, dtype=torch.bool, device=self._device)
        for leaf in states:
            found = found & torch.isfinite(leaf.detach()).reshape(self._size, -1).all(1)
        return found
