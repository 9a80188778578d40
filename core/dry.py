"""A solve without numbers: the same drivers run on sizes, and what they hold and evaluate is counted.

Methods and recoveries are what they are in a real solve, so that memory and cost of any of them follow from one
measured :class:`Footprint` of the field, and no formula has to be kept in step with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .adjoint import Backward
from .controls import Controls, node_layout
from .grids import FixedGrid
from .loops import Loops
from .protocols import Array, Cotangent, Recovery, State
from .sweep import Sweep


class Footprint(NamedTuple):
    """The memory of one field evaluation and of its pullback, in bytes."""

    evaluation: int
    """The most that is alive during a plain evaluation, its value included."""
    linearization: int
    """The most that is alive while the graph is built, the value included."""
    graph: int
    """What the graph holds besides the field's input, its value and theta."""
    holds_input: bool
    holds_value: bool
    """Whether a graph that the framework keeps holds the value; the field's own linearizations always do."""
    pullback: int
    """The most that is alive beyond the graph while it is pulled, the cotangents included."""
    frees_graph: bool = False
    """Whether a graph that was pulled is gone, though somebody keeps it."""


class Meter:
    """Bytes alive now, and the most that were."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def add(self, size: int) -> None:
        """So many bytes more."""
        self.now += size
        self.peak = max(self.peak, self.now)


class Bytes:
    """An array without entries: it counts as alive for as long as it is referred to."""

    def __init__(self, meter: Meter, size: int, is_given: bool = False, base: Any = None) -> None:
        self.meter, self.size, self.held = meter, size, 0 if is_given or base is not None else size
        self.base = base
        meter.add(self.held)

    def __del__(self) -> None:
        self.meter.now -= self.held

    def combined(self, *others: Any) -> Bytes:
        """The result of an operation with others: as large as the largest."""
        return Bytes(self.meter, max(getattr(x, "size", 0) for x in (self, *others)))

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __pow__ = __gt__ = combined


class _Namespace:
    """Functions of arrays, as far as sizes go."""

    def __getattr__(self, name: str) -> Callable[..., Bytes]:
        return lambda first, *others, **options: first.combined(*others)


class DryBackend(Loops):
    """An eager backend whose arrays are :class:`Bytes`."""

    name = "dry"
    xp = _Namespace()

    def __init__(self, meter: Meter, num_times: int) -> None:
        self.meter, self.num_times = meter, num_times

    def stack(self, buffer: Any) -> State:
        """New arrays."""
        return tuple(Bytes(self.meter, sum(leaf.size for leaf in leaves)) for leaves in zip(*buffer, strict=True))

    def unstack(self, states: State) -> Any:
        """Views."""
        return [tuple(Bytes(self.meter, leaf.size // self.num_times, base=leaf) for leaf in states)] * self.num_times

    def linear_combination(self, base: Any, scale: Any, coefficients: Any, terms: Sequence[State]) -> State:
        """A sum, and from it the result."""
        leaves = []
        for place, first in enumerate(terms[0]):
            like = first if base is None else base[place]
            total = Bytes(self.meter, like.size) if base is not None and len(terms) > 1 else None
            leaves.append(Bytes(self.meter, like.size))
            del total
        return tuple(leaves)

    def accumulate(self, total: State, addends: Cotangent) -> State:
        """The same arrays."""
        return total

    def zeros(self, like: State, wide: bool = False) -> State:
        """New arrays."""
        return tuple(Bytes(self.meter, leaf.size) for leaf in like)

    def time(self, t: Any, like: Array) -> Bytes:
        """A number."""
        return Bytes(self.meter, 0)

    def pair(self, left: State, right: State) -> Bytes:
        """A number."""
        return Bytes(self.meter, 0)

    def all_finite(self, states: State) -> bool:
        """Sizes are."""
        return True


class _DryLinearization:
    def __init__(self, field: DryField, y: State, f: State) -> None:
        self._field, self._y, self._f = field, y, f
        self._held: tuple[Any, ...] = (
            Bytes(field.meter, field.footprint.graph),
            y if field.footprint.holds_input else (),
        )

    @property
    def f(self) -> State:
        """The value; a graph that does not hold it gives it away."""
        f = self._f
        if not self._field.footprint.holds_value:
            self._f = ()
        return f

    def pull(self, f_bar: State) -> tuple[Array | None, State, Cotangent]:
        """Cotangents of the sizes of their primals."""
        field = self._field
        field.num_vjps += 1
        wanted = field.wanted_theta
        total = sum(leaf.size for leaf in (*self._y, *wanted))
        beyond = Bytes(field.meter, max(0, field.footprint.pullback - total))
        y_bar, theta_bar = (tuple(Bytes(field.meter, leaf.size) for leaf in part) for part in (self._y, wanted))
        del beyond
        if field.footprint.frees_graph:
            self._held = ()
        return (Bytes(field.meter, 0) if field.needs_time else None), y_bar, theta_bar


class DryField:
    """A field that takes the memory of the real one, and counts."""

    def __init__(self, meter: Meter, footprint: Footprint, wanted: State, num_shared: int, needs_time: bool) -> None:
        self.meter, self.footprint, self.needs_time = meter, footprint, needs_time
        self.wanted_theta, self._num_shared = wanted, num_shared
        self.num_evals = self.num_vjps = 0

    def __call__(self, t: Array, y: State, theta: State) -> State:
        """Arrays like y."""
        return self._evaluated(y, self.footprint.evaluation)

    def linearize(self, t: Array, y: State, theta: State) -> _DryLinearization:
        """The graph alone holds memory."""
        beyond = self.footprint.linearization
        return _DryLinearization(self, y, self._evaluated(y, beyond))

    def wanted(self, theta: State) -> State:
        """The shared leaves that want a cotangent."""
        return self.wanted_theta[: self._num_shared]

    def _evaluated(self, y: State, peak: int) -> State:
        self.num_evals += 1
        beyond = Bytes(self.meter, max(0, peak - sum(leaf.size for leaf in y)))
        f = tuple(Bytes(self.meter, leaf.size) for leaf in y)
        del beyond
        return f


class Sizes(NamedTuple):
    """The bytes of the leaves of a problem."""

    state: tuple[int, ...]
    wanted: tuple[int, ...]
    """Of the shared leaves of theta that want a cotangent."""
    controls: tuple[int, ...]
    """Of one node of the controls."""


class Demand(NamedTuple):
    """What a gradient takes."""

    peak: int
    """The most bytes alive at once, beyond the arguments of the solve."""
    num_field_evals: int
    num_vjps: int


class _Everywhere(NamedTuple):
    """The same row at every place."""

    row: State

    def __getitem__(self, place: Any) -> Any:
        return self.row


def rehearse(sweep: Sweep, recovery: Recovery, footprint: Footprint, sizes: Sizes, counts: tuple[int, ...]) -> Demand:
    """What the gradient of a solve like ``sweep`` takes with these numbers of steps: forward and back, on sizes."""
    meter = Meter()
    grid = FixedGrid(counts)
    ops: Any = DryBackend(meter, len(counts) + 1)
    y0, shared, node = (tuple(Bytes(meter, size, is_given=True) for size in part) for part in sizes)
    field = DryField(meter, footprint, shared + node, len(shared), sweep.field.needs_time)
    controls = None
    if sweep.controls is not None:
        layout = node_layout("solve", sweep.method, grid.num_steps, sweep.controls.layout.sampling)
        controls = Controls(layout, _Everywhere(node))
    ts = [float(k) for k in range(len(counts) + 1)]
    dry = Sweep(ops, sweep.method, field, grid, ts, shared, controls=controls)
    outputs, tape = recovery.forward(dry, y0)
    ys = ops.stack(outputs)
    del outputs
    Backward(dry, recovery, y0, tape, tuple(Bytes(meter, leaf.size) for leaf in ys)).run()
    return Demand(meter.peak, field.num_evals, field.num_vjps)
