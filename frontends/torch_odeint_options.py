"""What torchdiffeq's method names, tolerances and options mean here: as the description of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from janode.core.controllers import PIDController
from janode.core.errors import InputError, unknown_name
from janode.core.stepping import Stepping

from .torch_odeint_callbacks import Hooks

FIXED = {
    "euler": "euler",
    "midpoint": "midpoint",
    "heun2": "heun2",
    "heun3": "heun3",
    "rk4": "rk38",
    "explicit_adams": "ab4",
}
ADAPTIVE = {name: name for name in ("dopri5", "dopri8", "tsit5", "bosh3", "fehlberg2", "adaptive_heun")}
IMPLICIT = (
    "implicit_adams",
    "fixed_adams",
    "implicit_euler",
    "implicit_midpoint",
    "trapezoid",
    "radauIIA3",
    "radauIIA5",
    "gl4",
    "gl6",
    "sdirk2",
    "trbdf2",
)
FIXED_OPTIONS = ("step_size", "grid_constructor", "interp", "perturb", "norm")
ADAPTIVE_OPTIONS = (
    "norm",
    "first_step",
    "min_step",
    "max_step",
    "max_num_steps",
    "safety",
    "ifactor",
    "dfactor",
    "step_t",
    "jump_t",
    "dtype",
)
UNLIMITED = 2**31 - 1


def find(where: str, method: str | None, argument: str = "method") -> tuple[str, bool]:
    """(the name here, whether its steps are adaptive)."""
    name = "dopri5" if method is None else method
    if name in ADAPTIVE:
        return ADAPTIVE[name], True
    if name in FIXED:
        return FIXED[name], False
    if name in IMPLICIT:
        raise InputError(
            f"{where}: {argument} must be explicit; got {name!r}, which is implicit. Use 'dopri5', or with fixed steps "
            "'rk4' or 'explicit_adams'; a stiff problem needs small steps with these."
        )
    if name == "scipy_solver":
        raise InputError(
            f"{where}: {argument} must be one of this library's own; got 'scipy_solver'. Use 'dopri5' for RK45, "
            "'bosh3' for RK23, 'dopri8' for DOP853."
        )
    raise unknown_name(where, argument, method, [*ADAPTIVE, *FIXED])


def check_options(where: str, argument: str, given: Mapping[str, Any] | None, name: str, is_adaptive: bool) -> None:
    """Refuse an option that the method does not know."""
    known = ADAPTIVE_OPTIONS if is_adaptive else FIXED_OPTIONS
    for key in given or ():
        if key in ("max_order", "max_iters") and name == FIXED["explicit_adams"]:
            raise InputError(
                f"{where}: {argument} must not have {key!r}, for 'explicit_adams' is the Adams-Bashforth method of "
                f"order 4; got {key}={given[key]!r}. Leave it out."  # type: ignore[index]
            )
        if key not in known:
            raise unknown_name(where, f"the keys of {argument} for this method", key, known)


@dataclass(frozen=True)
class Fixed:
    """How fixed steps lie, beyond their description."""

    step_size: float | None
    grid_constructor: Callable[..., torch.Tensor] | None
    interp: str


def read_fixed(where: str, options: Mapping[str, Any], hooks: Hooks) -> tuple[Fixed, Stepping]:
    """The fixed steps that the options describe."""
    size, constructor = options.get("step_size"), options.get("grid_constructor")
    if size is not None and constructor is not None:
        raise InputError(
            f"{where}: options must have at most one of step_size and grid_constructor; got both. Leave one out."
        )
    if size is not None:
        size = float(size)
        if not 0.0 < size < float("inf"):
            raise InputError(f"{where}: step_size must be positive and finite; got {size}. Give its magnitude.")
    interp = options.get("interp", "linear")
    if interp not in ("linear", "cubic"):
        raise InputError(
            f'{where}: interp must be "linear" or "cubic"; got {interp!r}. It tells how ts between steps are met.'
        )
    hooks.refuse_tries(where)
    is_perturbed = bool(options.get("perturb", False))
    return Fixed(size, constructor, interp), Stepping(steps=1, before=hooks.before, is_perturbed=is_perturbed)


def read_adaptive(
    where: str, options: Mapping[str, Any], tolerances: tuple[Any, Any], ts: torch.Tensor, y0: Any, hooks: Hooks
) -> Stepping:
    """The adaptive steps that the options describe: an integral controller, as in torchdiffeq."""
    dtype = options.get("dtype", torch.float64)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"{where}: dtype must be a real floating-point dtype of torch; got {dtype}. Leave it out.")
    most = int(options.get("max_num_steps", UNLIMITED))
    if most < 1:
        raise InputError(f"{where}: max_num_steps must be at least 1; got {most}. Give the most tries of a solve.")
    step_ts, jump_ts = (_times_within(options.get(name), ts) for name in ("step_t", "jump_t"))
    if len({*step_ts, *jump_ts}) < len(step_ts) + len(jump_ts):
        raise InputError(
            f"{where}: step_t and jump_t must not repeat a time; got {step_ts} and {jump_ts}. Give it once, in jump_t "
            "if the field jumps there."
        )
    first = options.get("first_step")
    try:
        controller = PIDController(
            proportional=0.0,
            integral=1.0,
            derivative=0.0,
            safety=float(options.get("safety", 0.9)),
            min_factor=float(options.get("dfactor", 0.2)),
            max_factor=float(options.get("ifactor", 10.0)),
            min_step=float(options.get("min_step", 0.0)),
            max_step=float(options.get("max_step", float("inf"))),
            first_step=None if first is None else float(first),
            accepts_min_step=True,
            step_ts=step_ts,
            jump_ts=jump_ts,
            norm=_norm(options.get("norm"), y0),
        )
    except InputError as error:
        raise InputError(f"{where}: options (dfactor is min_factor, ifactor is max_factor): {error}") from None
    return Stepping(
        rtol=tolerances[0],
        atol=tolerances[1],
        controller=controller,
        max_steps=None if most >= UNLIMITED else most * max(1, len(ts) - 1),
        before=hooks.before,
        observe=hooks.observe,
    )


def read_tolerance(where: str, name: str, given: Any, y0: Any) -> Any:
    """A number, or what stands for one at the leaves of y0."""
    is_iterable = (isinstance(given, torch.Tensor) and given.ndim > 0) or isinstance(given, list | tuple)
    if not isinstance(y0, tuple):
        return _entry(where, name, given, y0)
    if not is_iterable:
        return _entry(where, name, given, y0[0])
    entries = tuple(given)
    if len(entries) != len(y0):
        raise InputError(
            f"{where}: {name} must have one entry for each part of y0, {len(y0)}; got {len(entries)}. Or give one "
            "number."
        )
    return tuple(_entry(where, name, entry, leaf) for entry, leaf in zip(entries, y0, strict=True))


def _entry(where: str, name: str, given: Any, leaf: torch.Tensor) -> Any:
    if isinstance(given, torch.Tensor) and given.requires_grad:
        raise InputError(f"{where}: {name} must not require gradient; got a tensor that does. Detach it.")
    if isinstance(given, int | float):
        return given
    entry = torch.as_tensor(given, dtype=leaf.real.dtype, device=leaf.device)
    return float(entry) if entry.ndim == 0 else entry


def _times_within(given: Any, ts: torch.Tensor) -> tuple[float, ...]:
    """The times inside the interval of ts; others are never met."""
    if given is None:
        return ()
    start, *_, end = ts.tolist()
    times = given.tolist() if isinstance(given, torch.Tensor) else list(given)
    return tuple(float(t) for t in times if min(start, end) <= t <= max(start, end))


def _norm(given: Callable[[Any], Any] | None, y0: Any) -> Callable[[Any], Any] | None:
    """The norm; without one, a tuple has the largest of its parts' root mean squares."""
    if given is not None:
        return lambda ratios: torch.as_tensor(given(ratios))
    if not isinstance(y0, tuple):
        return None
    return lambda ratios: torch.stack([leaf.square().mean().sqrt() for leaf in ratios if leaf.numel()]).max()
