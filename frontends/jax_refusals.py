"""What a compiled program cannot have: adjoints that are refused by name."""

from __future__ import annotations

import jax.numpy as jnp

from janode.core.backsolve import Backsolve
from janode.core.errors import InputError
from janode.core.protocols import Recovery
from janode.core.revolve import Revolve


def check_recovery(recovery: Recovery) -> None:
    """Refuse what a compiled program cannot have."""
    if isinstance(recovery, Revolve) and recovery.storage == "disk":
        raise InputError(
            'solve: Revolve(storage="disk") must have an eager library, for compiled programs write no files; got JAX. '
            'Use storage="memory".'
        )
    if getattr(recovery, "accumulate", None) == "float64" and jnp.result_type(float) != jnp.float64:
        raise InputError(
            'solve: accumulate must not be "float64" where JAX has no float64; got it with jax_enable_x64 off. Turn it '
            "on, or leave accumulate out."
        )
    if isinstance(recovery, Backsolve) and recovery.estimate:
        raise InputError(
            "solve: Backsolve(estimate=True) must have an eager library, for on JAX a gradient returns nothing beside "
            "itself; got JAX. Leave it out, and compare with an exact adjoint."
        )
