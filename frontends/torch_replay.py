"""Evaluations made once more: with the same random numbers, and leaving the statistics of norm layers alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from janode.core.errors import InputError

Draws = list[tuple[torch.Generator, torch.Tensor]]
"""Generators of random numbers with a state of each."""
Statistics = list[tuple[torch.nn.Module, dict[str, torch.Tensor]]]
"""Norm layers with what their buffers held."""


def random_state(device: torch.device) -> Draws:
    """The default generators, of the CPU and of CUDA devices if ``device`` is one, as they are. Waits for no device."""
    found = [torch.default_generator, *(torch.cuda.default_generators if device.type == "cuda" else ())]
    return [(generator, generator.get_state()) for generator in found]


def have_moved(draws: Draws) -> bool:
    """Whether random numbers were drawn since."""
    return any(not torch.equal(generator.get_state(), state) for generator, state in draws)


def rewind(draws: Draws) -> None:
    """Set the generators to these states."""
    for generator, state in draws:
        generator.set_state(state)


@contextlib.contextmanager
def random_numbers(draws: Draws) -> Iterator[None]:
    """The random numbers that follow these states; those of the surroundings afterwards."""
    now = [(generator, generator.get_state()) for generator, _ in draws]
    rewind(draws)
    try:
        yield
    finally:
        rewind(now)


@contextlib.contextmanager
def without_statistics(norms: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Norm layers in training mode without running statistics: they neither read nor change them."""
    kept = [(part, dict(part._buffers)) for part in norms]
    for part, buffers in kept:
        part._buffers.update(dict.fromkeys(buffers))
    try:
        yield
    finally:
        for part, buffers in kept:
            part._buffers.update(buffers)


def restore(statistics: Statistics) -> None:
    """Give norm layers these statistics again."""
    with torch.no_grad():
        for norm, kept in statistics:
            for name, old in kept.items():
                norm._buffers[name].copy_(old)  # type: ignore[union-attr]


def version(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place; inference tensors do not say."""
    return 0 if tensor.is_inference() else tensor._version


class Effects(TorchFunctionMode):
    """Notes what an evaluation does beside returning a value: what it draws from, and which modules it calls."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.draws: Draws = []
        """The generators, the evaluation's own ones among them, as they were before it."""
        self.has_drawn = False
        self._device, self._thread = device, threading.get_ident()
        self._modules: dict[int, torch.nn.Module] = {}
        self._buffers: list[tuple[torch.nn.Module, str, torch.Tensor, int]] = []
        self.statistics: Statistics = []
        """The norm layers in training mode, which change their statistics but do not read them."""

    def __enter__(self) -> Self:
        self.draws = random_state(self._device)
        self._hook = register_module_forward_pre_hook(self._note_module)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._hook.remove()
        self.has_drawn = have_moved(self.draws)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.note_generator(kwargs.get("generator"))
        return func(*args, **kwargs)

    def note_generator(self, generator: Any) -> None:
        """Note a generator that is about to be drawn from."""
        if isinstance(generator, torch.Generator) and all(generator is not known for known, _ in self.draws):
            self.draws.append((generator, generator.get_state()))

    def _note_module(self, module: torch.nn.Module, args: Any) -> None:
        if threading.get_ident() != self._thread or id(module) in self._modules:
            return
        self._modules[id(module)] = module
        if isinstance(module, torch.jit.ScriptModule):  # whose parts call nobody
            self._buffers += [(module, name, buffer, version(buffer)) for name, buffer in module.named_buffers()]
            return
        buffers = {name: buffer for name, buffer in module._buffers.items() if buffer is not None}
        if isinstance(module, _NormBase) and module.training:
            if buffers:
                self.statistics.append((module, {name: buffer.clone() for name, buffer in buffers.items()}))
        else:
            self._buffers += [(module, name, buffer, version(buffer)) for name, buffer in buffers.items()]

    @property
    def buffer_ids(self) -> set[int]:
        """The ids of the other buffers of modules."""
        return {id(buffer) for _, _, buffer, _ in self._buffers}

    def changed_buffers(self) -> list[str]:
        """What other buffers of modules were changed, or replaced."""
        return [
            f"buffer {name!r} of {type(module).__name__}"
            for module, name, buffer, before in self._buffers
            if version(buffer) != before
            or not (isinstance(module, torch.jit.ScriptModule) or module._buffers.get(name) is buffer)
        ]

    def undo(self) -> None:
        """Leave generators and statistics as if there had been no evaluation."""
        rewind(self.draws)
        restore(self.statistics)


class Replay:
    """The evaluations of one solve as those of one function.

    If the field draws random numbers, every evaluation starts from the states of the generators that the first one
    which drew any found. In the backward pass norm layers in training mode leave their statistics alone.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_active = False
        """Whether evaluations must be made by ``run``."""
        self.is_searched = False
        """Whether every evaluation of the way forward is looked at until one draws, not only the first."""
        self.norms: list[torch.nn.Module] = []
        """The norm layers in training mode that the first evaluation called."""
        self._draws: Draws = []
        self._after: Draws = []
        self._before: Statistics | None = None
        self._is_backward = self._has_drawn = False

    def run(self, evaluate: Callable[..., Any], *args: Any, effects: Effects | None = None) -> Any:
        """What ``evaluate`` returns in its place among the evaluations; ``effects`` notes what it does."""
        if effects is None and self.is_searched and not self._draws:
            effects = Effects(self.device)
        norms = self.norms if self._is_backward else []
        with random_numbers(self._draws), without_statistics(norms), effects or contextlib.nullcontext():
            f = evaluate(*args)
            self._has_drawn = self._has_drawn or have_moved(self._draws)
        if effects is not None:
            self._note(effects)
        return f

    def _note(self, effects: Effects) -> None:
        norms = [norm for norm, _ in effects.statistics]
        if self._is_backward:
            if effects.has_drawn and not self._draws:
                _refuse_modes("draw random numbers", "backward")
            if norms and norms != self.norms:
                restore(effects.statistics)
                _refuse_modes("change the statistics of norm layers", "backward")
            return
        if self._before is None:
            self._before, self.norms = effects.statistics, norms
        if effects.has_drawn and not self._draws:
            self._draws = effects.draws
        self._after = [] if self._draws or self.is_searched else random_state(self.device)
        self.is_active = bool(self._draws) or self.is_searched

    def must_go_again(self) -> bool:
        """Whether random numbers were drawn behind the first evaluation alone, by the field or by someone else.

        Ends the way forward; norm layers then have the statistics from before it.
        """
        after, before = self._after, self._before or []
        self._after, self._before = [], []
        if not have_moved(after):
            return False
        restore(before)
        return True

    def begin_backward(self) -> None:
        """Go over to evaluations that repeat those of the way forward."""
        self._is_backward, self._has_drawn = True, False
        self.is_active = bool(self._draws or self.norms)
        if not all(norm.training for norm in self.norms):
            _refuse_modes("change the statistics of norm layers", "forward")

    def end_backward(self) -> None:
        """Refuse a backward pass without the random numbers of the forward pass."""
        if self._draws and not self._has_drawn:
            _refuse_modes("draw random numbers", "forward")


def _refuse_modes(what: str, which: str) -> None:
    raise InputError(
        f"solve: a field that is recomputed must {what} in both passes or in neither; it did in the {which} pass "
        'alone. Call train() and eval() before the solve or after the backward pass, or use adjoint="backprop".'
    )
