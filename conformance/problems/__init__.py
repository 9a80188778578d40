"""The problems of the suite by name, one file each."""

from __future__ import annotations

import dataclasses

from janode.core.controllers import PIController

from ..problem import Problem
from .affine import AFFINE
from .clipped import CLIPPED
from .knotted import HELD, KNOTTED
from .linear import LINEAR
from .lorenz import LORENZ
from .lotka_volterra import LOTKA_VOLTERRA
from .network import NETWORK
from .rotation import ROTATION
from .stack import STACK
from .steered import STEERED
from .thrown import THROWN
from .van_der_pol import VAN_DER_POL

ADAPTIVE = dataclasses.replace(
    LOTKA_VOLTERRA,
    name="adaptive",
    tolerances=(1e-5, 1e-7),
    # Steps that grow by the largest factor have errors near rounding, and what follows from these differs by libraries.
    extras=(("controller", PIController(first_step=0.4)),),
    condition=16.0,
)
"""Lotka-Volterra with steps of the controller's own; they amplify rounding errors, and so its condition is larger."""

PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        *(AFFINE, LOTKA_VOLTERRA, VAN_DER_POL, LORENZ, ROTATION, LINEAR, NETWORK, STEERED, KNOTTED, STACK),
        *(ADAPTIVE, CLIPPED, THROWN, HELD),
    )
}
