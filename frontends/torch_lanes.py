"""Steps of its own for each sample of a batch: what of a PyTorch solve is different then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from janode.backends.torch_rows import TorchRowsBackend
from janode.core.adaptive import AdaptiveSweep
from janode.core.errors import InputError
from janode.core.protocols import State
from janode.core.solution import Report
from janode.core.stepping import Stepping
from janode.core.sweep import Sweep


def lanes_backend(stepping: Stepping, adjoint: str, leaves: State) -> TorchRowsBackend:
    """The backend of a batch, after refusing what cannot be had with one."""
    if stepping.batch_axis != 0:
        raise InputError(
            f"solve: batch_axis must be 0 or None; got {stepping.batch_axis!r}. Move the batch to the front."
        )
    others = {
        'adjoint="backprop"': adjoint == "backprop",
        'adjoint="backsolve"': adjoint.lower() == "backsolve",
        "event": stepping.event is not None,
        "dense=True": stepping.dense,
        "checkpoints": stepping.checkpoints is not None,
        "a norm of your own": stepping.controller is not None and stepping.controller.norm is not None,
        "steps or step_size": stepping.is_fixed,
    }
    for name, is_given in others.items():
        if is_given:
            raise InputError(f"solve: batch_axis must not come with {name}; got both. Leave out one of them.")
    sizes = {tuple(leaf.shape[:1]) for leaf in leaves}
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        raise InputError(
            f"solve: with batch_axis=0 all leaves of y0 must have the same leading axis, at least 1; got "
            f"{sorted(sizes)}. Give one entry per sample."
        )
    return TorchRowsBackend(int(leaves[0].shape[0]), leaves[0].device)


def in_lanes(sweep: Sweep, device: torch.device) -> Sweep:
    """The sweep with its times and stops as tensors, for every lane may be at another one."""
    if not isinstance(sweep, AdaptiveSweep):
        raise InputError(
            "solve: batch_axis must come with adaptive steps; got fixed ones, which all samples share. Leave it out."
        )
    grid = sweep.grid
    known, ts = (torch.tensor(list(times), dtype=torch.float64, device=device) for times in (grid.known, sweep.ts))
    rows, jumps = torch.tensor(grid.rows, device=device), torch.tensor(grid.jumps, device=device)
    stops = replace(grid, times=known, known=known, rows=rows, jumps=jumps)
    return replace(sweep, grid=stops, ts=ts, known_ts=ts)


def of_every_lane(report: Report, backend: TorchRowsBackend) -> Report:
    """The report with one number for each sample, also where all have the same."""
    names = ("status", "num_accepted", "num_rejected", "time")
    return report._replace(**{name: backend.expanded(getattr(report, name)) for name in names})


def failed(report: Report) -> Report | None:
    """The report of the first sample that failed, or None."""
    if not isinstance(report.status, torch.Tensor):
        return report if report.status else None
    places = torch.nonzero(report.status)
    if not len(places):
        return None
    place = int(places[0])
    picked: dict[str, Any] = {
        name: getattr(report, name)[place].item() for name in ("status", "num_accepted", "num_rejected", "time")
    }
    return report._replace(**picked)
