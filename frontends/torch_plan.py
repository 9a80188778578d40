"""The plan of a PyTorch gradient that is to fit a memory budget."""

from __future__ import annotations

import torch

from janode.backends.torch_rows import TorchRowsBackend
from janode.core.auto import Auto
from janode.core.errors import InputError
from janode.core.plan import Offers, Plan, Planner
from janode.core.sweep import Sweep

from .torch_field import TorchField
from .torch_footprint import footprint_of


def make_plan(auto: Auto, sweep: Sweep, field: TorchField, has_framework: bool) -> Plan | None:
    """The plan, or None where nothing can be measured: in batches of solves, transforms, and without data.

    ``has_framework``: whether autograd may record the solver's operations.
    """
    leaf = field.state.leaves[sweep.clock]
    is_transformed = torch._C._functorch.peek_interpreter_stack() is not None
    if is_transformed or leaf.is_meta or isinstance(sweep.backend, TorchRowsBackend):
        if auto.memory_budget is not None:
            raise InputError(
                "solve: memory_budget must have a solve that can be measured; got one with batch_axis, inside a "
                'transform of torch.func or without data. Choose the adjoint by name, such as "symplectic".'
            )
        return None
    # Autograd sums the cotangents of parameters in their own dtype.
    is_half = any(part.dtype.itemsize == 2 for part in field.wanted(field.theta))
    footprint, sizes = footprint_of(field, sweep.backend.time(0.0, leaf))
    planner = Planner(sweep, footprint, sizes, Offers(has_framework and not is_half, graphs=True))
    return planner.plan(auto, sweep.backend.free_memory(leaf), field.stats)
