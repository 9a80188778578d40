"""torchdiffeq's functions: ``odeint`` and its kin, with its arguments, method names and options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from janode.core.errors import InputError
from janode.core.events import Event
from janode.core.interpolation import ContinuousSolution
from janode.core.stepping import Stepping

from .torch_odeint_callbacks import Hooks, warn_of_adjoint_callbacks
from .torch_odeint_field import Adapted, only_for
from .torch_odeint_grids import between, grid_of, mapped
from .torch_odeint_options import check_options, find, read_adaptive, read_fixed, read_tolerance
from .torch_solve import solve_as


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: torch.Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Callable[..., Any] | None = None,
) -> Any:
    """The solution y(t) of dy/dt = func(t, y), y(t[0]) = y0, as ``torchdiffeq.odeint`` returns it.

    Gradients are those of autograd through the solver's own operations (``adjoint="backprop"`` of :func:`solve`):
    they reach everything, and can be differentiated again.

    Args:
        func: ``func(t, y)``, a function or an ``nn.Module``; its methods ``callback_step``, ``callback_accept_step``
            and ``callback_reject_step``, if any, are called with (t, y, size of the step).
        y0: a tensor or a tuple of tensors, real or complex.
        t: a 1-D tensor of times, strictly increasing or strictly decreasing.
        rtol, atol: > 0; numbers, tensors like y0, or for a tuple one of these per part. Fixed steps ignore them.
        method: ``"dopri5"`` (the default), ``"dopri8"``, ``"tsit5"``, ``"bosh3"``, ``"fehlberg2"``,
            ``"adaptive_heun"``; with fixed steps ``"euler"``, ``"midpoint"``, ``"heun2"``, ``"heun3"``, ``"rk4"``
            (the 3/8 rule) and ``"explicit_adams"`` (Adams-Bashforth of order 4, equal steps).
        options: adaptive: ``norm``, ``first_step``, ``min_step``, ``max_step``, ``max_num_steps``, ``safety``,
            ``ifactor``, ``dfactor``, ``step_t``, ``jump_t``, ``dtype``; fixed: ``step_size``, ``grid_constructor``,
            ``interp``, ``perturb``.
        event_fn: ``event_fn(t, y)``, a tensor: the solve goes from t[0] towards t[1], and beyond it, until an entry
            changes its sign; one that is zero at the start ends it there. Adaptive methods only.

    Returns:
        The states at all t: a tensor with a leading axis ``len(t)``, or a tuple of these. With event_fn, (time of the
        event, states at the start and at the event); both depend on all that the event depends on.

    Raises:
        InputError: an argument breaks a rule, a method is implicit, or an option is unknown.
        SolveError: the solve failed; :func:`solve` says how.

    Cost: as :func:`solve` with ``adjoint="backprop"``.
    Source: Chen, Rubanova, Bettencourt, Duvenaud 2018, arXiv 1806.07366; the interface is torchdiffeq 0.2.5's.

    Example:
        >>> import torch
        >>> from janode.torch import odeint
        >>> ys = odeint(lambda t, y: -y, torch.ones(2, dtype=torch.float64), torch.tensor([0.0, 1.0]))
        >>> bool((ys[-1] - torch.exp(torch.tensor(-1.0))).abs().max() < 1e-6)
        True
    """
    return _odeint("odeint", func, func, y0, t, (rtol, atol), method, options, event_fn, "backprop")


def odeint_adjoint(
    func: Callable[..., Any],
    y0: Any,
    t: torch.Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Callable[..., Any] | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: str | None = None,
    adjoint_options: Mapping[str, Any] | None = None,
    adjoint_params: Iterable[torch.Tensor] | None = None,
) -> Any:
    """As :func:`odeint`, with the memory of one state per step: the exact gradient of the discrete solution.

    The gradient is that of :func:`odeint` to rounding, not the solution of an adjoint problem, so it has no error to
    control: ``adjoint_rtol``, ``adjoint_atol``, ``adjoint_method`` and ``adjoint_options`` are checked for unknown
    names and have no further effect.

    Args:
        func, y0, t, rtol, atol, method, options, event_fn: as for :func:`odeint`.
        adjoint_params: the tensors that get a gradient besides y0 and t, all others none; None for the parameters of
            func and what else it uses.

    Returns:
        As :func:`odeint`.

    Raises:
        InputError: as :func:`odeint`; or func changes buffers other than the statistics of norm layers, for it is
            evaluated again in the backward pass.
        SolveError: the solve failed.

    Cost: as :func:`solve` with ``adjoint="symplectic"``.
    Source: Matsubara, Miyatake, Yaguchi 2021, arXiv 2102.09750; the interface is torchdiffeq 0.2.5's.

    Example:
        >>> import torch
        >>> from janode.torch import odeint_adjoint
        >>> net = torch.nn.Linear(2, 2).double()
        >>> t = torch.linspace(0.0, 1.0, 3)
        >>> ys = odeint_adjoint(lambda t, y: net(y), torch.ones(2).double(), t, adjoint_params=[net.weight])
        >>> ys.sum().backward()
        >>> net.weight.grad is not None, net.bias.grad is None
        (True, True)
    """
    where = "odeint_adjoint"
    name, is_adaptive = find(where, adjoint_method or method, "adjoint_method")
    check_options(where, "adjoint_options", adjoint_options, name, is_adaptive)
    warn_of_adjoint_callbacks(where, func)
    field = func if adjoint_params is None else only_for(where, func, adjoint_params)
    return _odeint(where, func, field, y0, t, (rtol, atol), method, options, event_fn, "symplectic")


def odeint_event(
    func: Callable[..., Any],
    y0: Any,
    t0: torch.Tensor,
    *,
    event_fn: Callable[..., Any],
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] = odeint,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """(time of the first event after t0, states at the start and at the event), with gradients of both.

    Args:
        func, y0: as for :func:`odeint`.
        t0: the start, a tensor of one entry.
        event_fn: as for :func:`odeint`.
        reverse_time: whether to go towards earlier times.
        odeint_interface: :func:`odeint` or :func:`odeint_adjoint`.
        **kwargs: the keyword arguments of odeint_interface.

    Returns:
        As :func:`odeint` with event_fn.

    Raises:
        InputError, SolveError: as :func:`odeint`. Where the event never happens the solve goes on without end, unless
            ``options={"max_num_steps": ...}`` limits it.

    Cost: as odeint_interface, and a few evaluations of event_fn per step.
    Source: Chen, Amos, Nickel 2021, arXiv 2011.03902; the interface is torchdiffeq 0.2.5's.

    Example:
        >>> import torch
        >>> from janode.torch import odeint_event
        >>> fall = lambda t, y: torch.stack([y[1], torch.tensor(-2.0)])
        >>> y0 = torch.tensor([1.0, 0.0])
        >>> t, _ = odeint_event(fall, y0, torch.tensor(0.0), event_fn=lambda t, y: y[0], atol=1e-6, rtol=1e-6)
        >>> bool(abs(t - 1.0) < 1e-4)
        True
    """
    start = torch.as_tensor(t0).reshape(-1)
    if len(start) != 1:
        raise InputError(f"odeint_event: t0 must have one entry; got {len(start)}. Give the start.")
    end = start.detach() + (-1.0 if reverse_time else 1.0)
    return odeint_interface(func, y0, torch.cat([start, end]), event_fn=event_fn, **kwargs)


def odeint_dense(
    func: Callable[..., Any],
    y0: Any,
    t0: torch.Tensor,
    t1: torch.Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> ContinuousSolution:
    """The solution between t0 and t1 as a function of time, which takes one time or a sequence of them.

    Args:
        func, y0, rtol, atol, method, options: as for :func:`odeint`; adaptive methods only.
        t0, t1: the start and the end, tensors of one entry.

    Returns:
        The interpolant of :func:`solve`, also with ``derivative`` and ``step_ts``; gradients flow through it.

    Raises:
        InputError, SolveError: as :func:`odeint`.

    Cost: as :func:`odeint`; all stages of every step are kept.
    Source: the interface is torchdiffeq 0.2.5's.

    Example:
        >>> import torch
        >>> from janode.torch import odeint_dense
        >>> y = odeint_dense(lambda t, y: -y, torch.ones(1).double(), torch.tensor(0.0), torch.tensor(2.0))
        >>> bool(abs(y(0.5) - torch.exp(torch.tensor(-0.5))) < 1e-6)
        True
    """
    where = "odeint_dense"
    name, is_adaptive = find(where, method)
    check_options(where, "options", options, name, is_adaptive)
    if not is_adaptive:
        raise InputError(f"{where}: method must be adaptive; got {method!r}. Use 'dopri5'.")
    t = torch.cat([torch.as_tensor(time).reshape(-1) for time in (t0, t1)])
    _check(where, y0, t)
    stepping = replace(_adaptive(where, func, y0, t, (rtol, atol), options), dense=True)
    return solve_as(stepping, Adapted(func, y0), y0, t, method=name, adjoint="backprop").interpolant


def _odeint(
    where: str,
    func: Callable[..., Any],
    field: Callable[..., Any],
    y0: Any,
    t: torch.Tensor,
    tolerances: tuple[Any, Any],
    method: str | None,
    options: Mapping[str, Any] | None,
    event_fn: Callable[..., Any] | None,
    adjoint: str,
) -> Any:
    name, is_adaptive = find(where, method)
    check_options(where, "options", options, name, is_adaptive)
    _check(where, y0, t)
    if event_fn is not None:
        return _until(where, func, field, y0, t, tolerances, method, options, event_fn, adjoint)
    if len(t) == 1:
        return mapped(lambda leaf: leaf[None], y0)
    adapted = Adapted(field, y0)
    if is_adaptive:
        stepping = _adaptive(where, func, y0, t, tolerances, options)
        return solve_as(stepping, adapted, y0, t, adapted.params, method=name, adjoint=adjoint).ys
    fixed, stepping = read_fixed(where, options or {}, Hooks(func, _builder(y0), t))
    grid = grid_of(where, fixed, func, y0, t)
    ys = solve_as(stepping, adapted, y0, grid, adapted.params, method=name, adjoint=adjoint).ys
    return ys if grid is t else between(fixed.interp, adapted, grid, ys, t)


def _adaptive(
    where: str, func: Any, y0: Any, t: torch.Tensor, tolerances: tuple[Any, Any], options: Mapping[str, Any] | None
) -> Stepping:
    read = [read_tolerance(where, *pair, y0) for pair in zip(("rtol", "atol"), tolerances, strict=True)]
    hooks = Hooks(func, _builder(y0), torch.empty((), dtype=torch.float64, device=t.device))
    return read_adaptive(where, options or {}, (read[0], read[1]), t, y0, hooks)


def _builder(y0: Any) -> Callable[[Any], Any]:
    return tuple if isinstance(y0, tuple) else lambda leaves: leaves[0]


def _until(
    where: str,
    func: Callable[..., Any],
    field: Callable[..., Any],
    y0: Any,
    t: torch.Tensor,
    tolerances: tuple[Any, Any],
    method: str | None,
    options: Mapping[str, Any] | None,
    event_fn: Callable[..., Any],
    adjoint: str,
) -> tuple[torch.Tensor, Any]:
    """(time of the first event, states at the start and at the event)."""
    name, is_adaptive = find(where, method)
    if not is_adaptive:
        raise InputError(f"{where}: event_fn must come with an adaptive method; got {method!r}. Use 'dopri5'.")
    if len(t) != 2:
        raise InputError(f"{where}: t must have 2 entries with event_fn, the second for the direction; got {len(t)}.")
    leaf = y0[0] if isinstance(y0, tuple) else y0
    with torch.no_grad():
        signs = event_fn(t[0].to(leaf.real), y0).sign().reshape(-1)
    if not bool(signs.all()):
        return t[0], mapped(lambda leaf: torch.stack([leaf, leaf]), y0)
    adapted = Adapted(field, y0)
    far = torch.finfo(t.dtype).max / 4 * (t[1] - t[0]).detach().sign()
    ts = torch.stack([t[0], far])
    # One function that is positive until one of the entries changes its sign.
    event = Event(lambda t, y, *_: (event_fn(t, y).reshape(-1) * signs).min(), direction=-1)
    stepping = replace(_adaptive(where, func, y0, ts, tolerances, options), event=event)
    found = solve_as(stepping, adapted, y0, ts, adapted.params, method=name, adjoint=adjoint).event
    assert found is not None
    return found.t.to(t), mapped(lambda *leaves: torch.stack(leaves), y0, found.y)


def _check(where: str, y0: Any, t: Any) -> None:
    leaves = y0 if isinstance(y0, tuple) else (y0,)
    if not leaves or not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        raise InputError(
            f"{where}: y0 must be a tensor or a tuple of tensors; got {type(y0).__name__}. Use solve for other pytrees."
        )
    if not (isinstance(t, torch.Tensor) and t.ndim == 1 and t.is_floating_point() and len(t)):
        got = f"shape {tuple(t.shape)} and dtype {t.dtype}" if isinstance(t, torch.Tensor) else type(t).__name__
        raise InputError(f"{where}: t must be a 1-D tensor of real floating-point numbers; got {got}. Stack the times.")
