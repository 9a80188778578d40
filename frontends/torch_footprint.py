"""What one evaluation of a PyTorch field, its graph and its pullback take: measured once per field and shapes."""

from __future__ import annotations

import torch

from janode.backends.torch_memory import LiveBytes
from janode.core.dry import Footprint, Sizes
from janode.core.protocols import State

from .footprints import known_footprint
from .torch_field import TorchField
from .torch_replay import Effects


def sizes_of(field: TorchField) -> Sizes:
    """The bytes of the state, of what wants a gradient, and of one node of the controls."""
    node = [leaf.nbytes // len(leaf) for leaf in field.controls.leaves]
    return Sizes(tuple(_bytes(field.state.leaves)), tuple(_bytes(field.wanted(field.theta))), tuple(node))


def footprint_of(field: TorchField, t: torch.Tensor) -> Footprint:
    """What the field takes at the initial state; known already if it was measured for such shapes before.

    Cost: one plain evaluation and one with its pullback.
    """
    leaves = (*field.state.leaves, *field.theta, *field.controls.leaves)
    key = tuple([(leaf.shape, leaf.dtype, leaf.device, leaf.requires_grad) for leaf in leaves]), field.surroundings

    def measure() -> Footprint:
        effects = Effects(t.device)
        try:
            with effects, field.surroundings.restored():
                return _measured(field, t)
        finally:
            effects.undo()

    return known_footprint(field.fn, key, measure)


def _bytes(leaves: State) -> list[int]:
    return [leaf.nbytes for leaf in leaves]


def _measured(field: TorchField, t: torch.Tensor) -> Footprint:
    state = tuple([leaf.detach().clone() for leaf in field.state.leaves])  # for a field that changes them
    theta = field.theta + tuple([leaf[0] for leaf in field.controls.leaves])
    given = {leaf.untyped_storage()._cdata for leaf in (t, *state, *theta)}
    with torch.no_grad(), LiveBytes((t, *state, *theta)) as live:
        field.probe(t, state, theta)
    evaluation = live.peak
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    y = tuple([leaf.requires_grad_() for leaf in state])
    with LiveBytes((t, *state, *theta)) as live, torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            f = field.probe(t, y, theta)
        linearization = live.peak
        values = {leaf.untyped_storage()._cdata for leaf in f}
        inputs = {leaf.untyped_storage()._cdata for leaf in state}
        graph = sum(size for key, size in saved.items() if key not in values | given)
        outputs = [leaf for leaf in f if leaf.requires_grad]
        bars = [torch.ones_like(leaf) for leaf in outputs]
        live.peak = before = live.now
        if outputs:
            torch.autograd.grad(outputs, [*y, *field.wanted(theta)], bars, allow_unused=True)
        pullback = live.peak - before
    holds_input, holds_value = (bool(part & saved.keys()) for part in (inputs, values))
    return Footprint(evaluation, linearization, graph, holds_input, holds_value, pullback, frees_graph=True)
