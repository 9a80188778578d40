"""The PyTorch backend: eager, with fused vector operations that autograd can follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import array_api_compat.torch as xp
import torch

from janode.core.protocols import Cotangent, State

from .eager import EagerBackend
from .torch_memory import LiveBytes

_HALVES = (torch.float16, torch.bfloat16)


class TorchBackend(EagerBackend):
    """Differs from the generic backend in speed only."""

    def scalar(self, value: torch.Tensor) -> Any:
        """A Python float."""
        return value.item()

    def stack(self, buffer: Any) -> State:
        """Every leaf stacked along a new leading axis."""
        return tuple(torch.stack(leaves) for leaves in zip(*buffer, strict=True))

    def unstack(self, states: State) -> Any:
        """Views of the leaves along their leading axis."""
        return list(zip(*(leaf.unbind(0) for leaf in states), strict=True))

    def linear_combination(
        self, base: State | None, scale: float, coefficients: Sequence[float], terms: Sequence[State]
    ) -> State:
        """base + scale * sum_j c_j terms_j by fused multiply-adds into one new tensor per leaf."""
        has_gradient = isinstance(scale, torch.Tensor) or isinstance(coefficients[0], torch.Tensor)
        if has_gradient or any(leaf.dtype in _HALVES for leaf in terms[0]):
            combined = super().linear_combination(base, scale, coefficients, terms)
            # A 0-d double scale would make a 0-d single leaf double.
            likes = terms[0] if base is None else base
            return tuple(leaf.to(like.dtype) for leaf, like in zip(combined, likes, strict=True))
        if base is None or len(terms) == 1:
            coefficients, scale = [scale * coefficient for coefficient in coefficients], 1.0
        leaves = []
        for place, first in enumerate(terms[0]):
            if base is None:
                total = torch.mul(first, coefficients[0])
            elif scale == 1.0:
                total = torch.add(base[place], first, alpha=coefficients[0])
            else:
                total = torch.mul(first, coefficients[0])
            for i in range(1, len(terms)):
                total.add_(terms[i][place], alpha=coefficients[i])
            leaves.append(total if base is None or scale == 1.0 else torch.add(base[place], total, alpha=scale))
        return tuple(leaves)

    def accumulate(self, total: State, addends: Cotangent) -> State:
        """The same tensors, added to in place."""
        olds, news = [], []
        for old, new in zip(total, addends, strict=True):
            if new is not None:
                olds.append(old)
                news.append(new if new.dtype is old.dtype else new.to(old.dtype))
        if olds:
            torch._foreach_add_(olds, news)
        return total

    def time(self, t: float | torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """t as a 0-d tensor, filled on the device without a copy from the host; a time under autograd is converted."""
        dtype = like.dtype.to_real() if like.dtype.is_complex else like.dtype
        if isinstance(t, torch.Tensor):
            return t.to(dtype=dtype, device=like.device)
        return torch.full((), t, dtype=dtype, device=like.device)

    def free_memory(self, like: torch.Tensor) -> int | None:
        """What the driver has free, and what PyTorch keeps of it unused."""
        if like.device.type != "cuda":
            return super().free_memory(like)
        unused = torch.cuda.memory_reserved(like.device) - torch.cuda.memory_allocated(like.device)
        return torch.cuda.mem_get_info(like.device)[0] + unused

    def meter(self) -> Any:
        """Every tensor that an operation makes."""
        return LiveBytes(())

    def all_finite(self, states: State) -> Any:
        """Reads one truth value per leaf; tensors without data pass."""
        return all(leaf.is_meta or bool(torch.isfinite(leaf.detach()).all()) for leaf in states)


BACKEND = TorchBackend(xp, "torch")
