"""What one evaluation of a PyTorch field, its graph and its pullback take: measured once per field and shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from janode.backends.torch_memory import LiveBytes
from janode.core.dry import Footprint, Sizes
from janode.core.protocols import State

from .footprints import known_footprint
from .torch_field import TorchField
from .torch_watch import Watch


def footprint_of(field: TorchField, t: torch.Tensor) -> tuple[Footprint, Sizes]:
    """What the field takes at the initial state, and the sizes of the state, of what wants a gradient, of one control.

    Known already if it was measured for such shapes before. Tensors that the field captures want a gradient too.

    Cost: one plain evaluation and one with its pullback.
    """
    leaves = (*field.state.leaves, *field.theta, *field.controls.leaves)
    key = tuple([(leaf.shape, leaf.dtype, leaf.device, leaf.requires_grad) for leaf in leaves]), field.surroundings
    footprint, captured = known_footprint(field.fn, key, lambda: _measured(field, t))
    wanted = *_bytes(field.wanted(field.theta)), *captured
    node = tuple([leaf.nbytes // len(leaf) for leaf in field.controls.leaves])
    return footprint, Sizes(_bytes(field.state.leaves), wanted, node)


def _bytes(leaves: Sequence[torch.Tensor]) -> tuple[int, ...]:
    return tuple([leaf.nbytes for leaf in leaves])


def _measured(field: TorchField, t: torch.Tensor) -> tuple[Footprint, tuple[int, ...]]:
    """(footprint, sizes of captured tensors), leaving generators and statistics as they are."""
    state = tuple([leaf.detach().clone() for leaf in field.state.leaves])  # for a field that changes them
    theta = field.theta + tuple([leaf[0] for leaf in field.controls.leaves])
    watch = Watch((t, *state, *theta), t.device)
    try:
        with field.surroundings.restored():
            with torch.no_grad(), LiveBytes((t, *state, *theta)) as live, watch:
                field.probe(t, state, theta)
            captured = watch.differentiable()
            watch.release()
            given = (t, *state, *theta, *captured)
            return _linearized(field, live.peak, given, state, theta, captured), _bytes(captured)
    finally:
        watch.undo()


def _linearized(
    field: TorchField, evaluation: int, given: State, state: State, theta: State, captured: Sequence[torch.Tensor]
) -> Footprint:
    t, known = given[0], {leaf.untyped_storage()._cdata for leaf in given}
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    y = tuple([leaf.requires_grad_() for leaf in state])
    with LiveBytes(given) as live, torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            f = field.probe(t, y, theta)
        linearization = live.peak
        values, inputs = ({leaf.untyped_storage()._cdata for leaf in part} for part in (f, state))
        graph = sum(size for key, size in saved.items() if key not in values | known)
        outputs = [leaf for leaf in f if leaf.requires_grad]
        bars = [torch.ones_like(leaf) for leaf in outputs]
        live.restart()
        if outputs:
            torch.autograd.grad(outputs, [*y, *field.wanted(theta), *captured], bars, allow_unused=True)
    holds_input, holds_value = (bool(part & saved.keys()) for part in (inputs, values))
    return Footprint(evaluation, linearization, graph, holds_input, holds_value, live.peak, frees_graph=True)
