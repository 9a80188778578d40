"""The callbacks of a function of torchdiffeq's kind, as what a sweep calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")


class Hooks:
    """The callbacks of a function object, as what a sweep calls."""

    def __init__(self, func: Any, build: Callable[[Any], Any], like: torch.Tensor) -> None:
        self._step, self._accept, self._reject = (getattr(func, name, None) for name in CALLBACKS)
        self._build, self._like = build, like
        self._y: Any = None
        self._last: tuple[float, float] | None = None

    def refuse_tries(self, where: str) -> None:
        """Warn of callbacks that fixed steps never make."""
        if self._accept is not None or self._reject is not None:
            warnings.warn(
                f"{where}: fixed steps call callback_step alone; no step is accepted or rejected", stacklevel=4
            )

    @property
    def before(self) -> Callable[[Any, Any, Any], None] | None:
        """Called before every step."""
        return self._before if self._step or self._accept or self._reject else None

    @property
    def observe(self) -> Callable[[Any, Any, Any, Any], None] | None:
        """Called after every adaptive step."""
        return self._observe if self._accept or self._reject else None

    def _before(self, t: Any, h: Any, y: Any) -> None:
        time, size = self._time(t), self._time(h).abs()
        if self._last == (time.item(), size.item()):
            return  # the solve has begun again, with tensors that it had not known
        self._y, self._last = self._build(y), (time.item(), size.item())
        if self._step is not None:
            self._step(time, self._y, size)

    def _observe(self, t: Any, h: Any, y_next: Any, is_accepted: Any) -> None:
        call = self._accept if is_accepted else self._reject
        if call is not None:
            call(self._time(t), self._y, self._time(h).abs())

    def _time(self, t: Any) -> torch.Tensor:
        return torch.as_tensor(t, dtype=self._like.dtype, device=self._like.device).detach()


def warn_of_adjoint_callbacks(where: str, func: Any) -> None:
    """Warn of callbacks of an adjoint that takes steps of its own."""
    names = [f"{name}_adjoint" for name in CALLBACKS if hasattr(func, f"{name}_adjoint")]
    if names:
        warnings.warn(f"{where}: the adjoint takes no steps of its own, so it never calls {names}", stacklevel=3)
