"""The affine equations with adaptive steps that end at all ts, kept as few checkpoints, by another controller."""

from __future__ import annotations

import dataclasses

from janode.core.controllers import PIDController

from .affine import AFFINE

CLIPPED = dataclasses.replace(
    AFFINE,
    name="clipped",
    tolerances=(1e-5, 1e-7),
    extras=(("controller", PIDController(first_step=0.1)), ("save", "clip"), ("checkpoints", 4)),
    condition=16.0,
)
