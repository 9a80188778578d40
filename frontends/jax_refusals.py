"""What a compiled program cannot have: adjoints that are refused by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.backsolve import Backsolve
from janode.core.errors import InputError
from janode.core.protocols import Recovery
from janode.core.revolve import Revolve
from janode.core.stepped_back import SteppedBack

FORWARD = "forward"
"""The name of the adjoint that JAX alone has: none, for derivatives in forward mode."""


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


def is_differentiated(recovery: Recovery, correction: str) -> bool:
    """Whether the gradient is the derivative of the discrete solution, so that its derivative is the second one."""
    if isinstance(recovery, SteppedBack):
        return "approximate" not in recovery.inverses and correction == "none"
    return not isinstance(recovery, Backsolve) and correction == "none"


@jax.custom_jvp
def once(found: Any) -> Any:
    """A gradient that cannot be differentiated again."""
    return found


@once.defjvp
def _once_jvp(primals: Any, tangents: Any) -> Any:
    raise InputError(
        'solve: second derivatives must be those of an exact adjoint with correction="none"; got a gradient of another '
        "to differentiate again. Leave out adjoint and correction."
    )


@contextlib.contextmanager
def forward_mode_named(adjoint: str) -> Iterator[None]:
    """Says which adjoints have forward mode, where JAX meets it in a call of its own."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise InputError(
            f'solve: forward mode must have the adjoint "forward", or "backprop" for both modes; got {adjoint!r}. '
            "Choose one of them, or use solve_jvp."
        ) from None
