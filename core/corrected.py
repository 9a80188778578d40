"""Corrections by name: which gradient the controls of a solve get."""

from __future__ import annotations

from .adjoint import Correction, NoCorrection
from .errors import unknown_name
from .sweep import Sweep


def find_correction(where: str, correction: str, sweep: Sweep) -> Correction:
    """The correction of that name, if the method of the sweep has it."""
    legal: dict[str, Correction] = {"none": NoCorrection()}
    if correction not in legal:
        raise unknown_name(where, "correction", correction, legal)
    return legal[correction]
