"""The contracts between the parts: state, field, method, record, recovery, backend.

A *state* is a tuple of arrays, the leaves of the user's pytree. Every driver in the core is written once, against
these protocols; which array library is at work only the backend knows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

Array = Any
State = tuple[Array, ...]
Cotangent = tuple[Array | None, ...]
Carry = tuple[Any, ...]
Time = Any
"""A Python float on eager libraries, a 0-d array of one time dtype on traced ones."""


class Linearization(Protocol):
    """The field at one point: its value and its pullback."""

    @property
    def f(self) -> State:
        """The value f(t, y, theta)."""

    def pull(self, f_bar: State) -> tuple[Array | None, State, Cotangent]:
        """The cotangents (t_bar, y_bar, theta_bar) of f_bar; t_bar is None where no time gradient is wanted."""


class Field(Protocol):
    """The right-hand side dy/dt = f(t, y, theta). Differentiation belongs to it.

    ``theta`` is a flat tuple of arrays: shared ones, then, if there are controls, those valid at this stage. ``t`` is a
    0-d array of the state's real dtype, on its device.
    """

    needs_time: bool
    """Whether the cotangent of t is wanted."""

    def __call__(self, t: Array, y: State, theta: State) -> State:
        """The value f(t, y, theta)."""

    def linearize(self, t: Array, y: State, theta: State) -> Linearization:
        """The value and the pullback at one point; the graph lives as long as the result."""

    def wanted(self, theta: State) -> State:
        """The shared leaves of theta whose cotangents ``pull`` returns first, in its order; then come the controls'."""


class StageReply(NamedTuple):
    """What a pullback of a step gets for one stage."""

    f: State | None
    """The field's value, or None where no time gradient is wanted."""
    y_bar: State
    """The cotangent of the stage's input."""


StepRequests = Generator[State, State, Carry]
"""A step asks for field values: it yields stage inputs, receives field values and returns the next carry."""
StepPullRequests = Generator[tuple[int, State], StageReply, tuple[Carry, Array | None]]
"""A pullback yields (stage, cotangent of its field value), last stage first, and returns (carry_bar, h_bar)."""


class Stepper(Protocol):
    """A one-step map on a carry. It knows no field: it asks for field values."""

    @property
    def c(self) -> Sequence[float]:
        """Where in a step the field is evaluated: stage i at t + c[i] h."""

    def step(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        """One step; yields stage inputs Y_i in order and receives k_i.

        Linear in the carry and in the k_i; h enters it as their factor alone, which forward mode relies on.
        """

    def step_vjp(self, ops: Backend, carry_bar: Carry, h: Time) -> StepPullRequests:
        """The pullback of one step; h_bar covers h as it stands in the step's formula, not the stage times.

        h_bar is a 0-d array of at least single precision, or None where no stage's field value was given.
        """


class Invertible(Stepper, Protocol):
    """A stepper that goes back as well: what recoveries that step back ask for."""

    @property
    def inverse(self) -> str | None:
        """``"exact"`` (to rounding) or ``"approximate"``; None for a stepper that has none after all."""

    @property
    def c_back(self) -> Sequence[float]:
        """Where in a step ``step_back`` evaluates the field: at t + c_back[i] h, t the start of the step."""

    def step_back(self, ops: Backend, carry: Carry, h: Time) -> StepRequests:
        """The carry before a step from the one behind it; asks for field values as ``step`` does."""


class Phase(NamedTuple):
    """A run of steps that one stepper takes."""

    stepper: Stepper
    num_steps: int


@runtime_checkable
class Method(Protocol):
    """Data, the carry it hands from step to step, and who takes the steps. A method knows no recovery."""

    @property
    def name(self) -> str:
        """How users call it."""

    @property
    def order(self) -> int:
        """The order of its solution."""

    @property
    def needs_equal_steps(self) -> bool:
        """Whether all steps of a solve must be equal."""

    @property
    def has_end_node(self) -> bool:
        """Whether controls have a node at the last time even if no step reads it."""

    def phases(self, num_steps: int) -> Sequence[Phase]:
        """The runs of steps of a solve, in order: one for a one-step method, start and rest for a multistep one."""

    def start(self, y0: State) -> Carry:
        """The carry before the first step."""

    def output(self, carry: Carry) -> State:
        """The solution a carry stands for."""

    def output_vjp(self, carry_bar: Carry, y_bar: State, ops: Backend) -> Carry:
        """carry_bar with the cotangent of ``output`` added."""

    def carry_zeros(self, zeros: State) -> Carry:
        """The cotangent of a carry nothing depends on, from a state of zeros."""

    def start_vjp(self, carry_bar: Carry) -> State:
        """The cotangent of y0."""


class Moment(NamedTuple):
    """One step as the sweep sees it: its step size, who takes it, and the time and theta of each of its stages."""

    h: Time
    stepper: Stepper
    times: tuple[Array, ...]
    thetas: tuple[State, ...]


class Record(Protocol):
    """What is kept of one step, and how the step is linearized from it: the granularity of the pullback."""

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        """One step forward: (next carry, what is kept)."""

    def evaluate(self, sweep: Any, t: Array, y: State, theta: State) -> tuple[State, Any]:
        """One field evaluation of a step that another takes: (value, what is kept of it)."""

    def keep(self, carry: Carry, evaluations: Sequence[Any]) -> Any:
        """What is kept of a step that another took."""

    def carry(self, record: Any) -> Carry:
        """The carry that a record was made from."""

    def linearizations(self, sweep: Any, record: Any, moment: Moment) -> Callable[[int], Linearization]:
        """Gives the linearization of stage i; asked for once each, last stage first."""


@runtime_checkable
class Recovery(Protocol):
    """How the backward pass gets each step's record back. It knows no method."""

    def forward(self, sweep: Any, y0: State) -> tuple[Any, Any]:
        """(outputs, tape): the whole solve, and what is kept of it."""

    def backward(self, sweep: Any, tape: Any, bars: Any) -> tuple[Any, Any]:
        """The cotangents pulled back through every step, and what each step sends to its stages' controls."""


class Backend(Protocol):
    """What the core needs of an array library beyond arithmetic on arrays."""

    name: str
    xp: Any
    """The array namespace: concat, stack, reshape, take, zeros_like."""

    def scan(
        self, body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, reverse: bool = False
    ) -> tuple[Any, Any]:
        """Fold ``body(carry, x) -> (carry, y)`` over xs, first or last first; the ys in the order of xs.

        xs is a tuple of equally long lists of Python numbers or of stacks made by a scan; so are the ys.
        """

    def while_loop(self, condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        """``state = body(state)`` while condition(state) holds.

        Where several lanes run at once, the body goes on until the condition holds in none: it must leave the state of
        a lane alone where it does not hold.
        """

    def scalar(self, value: Array) -> Time:
        """A number of the kind of times, without gradient, from a 0-d real array: the host read of eager libraries."""

    def num_entries(self, state: State) -> int:
        """The number of entries of all leaves."""

    def may(self, condition: Any) -> bool:
        """Whether a condition may hold: known on eager libraries, where it does; always so on traced ones."""

    def choose(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """then() where condition holds, else otherwise(); a traced library may run both."""

    def buffer(self, length: int, row: State) -> Any:
        """Room for ``length`` rows, each like ``row`` and equal to it."""

    def recorder(self, capacity: int, row: Any) -> Any:
        """A buffer for at most ``capacity`` rows like ``row``, a pytree of arrays and numbers, put in order."""

    def put(self, buffer: Any, index: Any, row: Any, where: Any = True) -> Any:
        """The buffer with one row replaced, if ``where`` holds; the old buffer must not be used again."""

    def take(self, buffer: Any, index: Any) -> Any:
        """One row of a buffer."""

    def stack(self, buffer: Any) -> State:
        """The buffer as arrays with a leading axis."""

    def unstack(self, states: State) -> Any:
        """The buffer whose ``stack`` is ``states``."""

    def linear_combination(
        self, base: State | None, scale: Time, coefficients: Sequence[float], terms: Sequence[State]
    ) -> State:
        """base + scale * sum_j coefficients[j] terms[j], leaf by leaf; the sum is taken first, in order.

        The result has the dtypes of base, or of the terms without one; half precision is summed in single.
        """

    def accumulate(self, total: State, addends: Cotangent) -> State:
        """total + addends, in total's dtype; None adds nothing; total's memory may be reused."""

    def zeros(self, like: State, wide: bool = False) -> State:
        """Zeros like ``like``; if wide, of at least single precision: totals for ``accumulate``."""

    def time(self, t: Time, like: Array) -> Array:
        """t as a 0-d array of the real dtype of ``like``, on its device."""

    def pair(self, left: State, right: State) -> Array:
        """The real inner product of a cotangent with a tangent in the library's own convention."""

    def free_memory(self, like: Array) -> int | None:
        """The bytes that the device of an array has free; None where nobody can tell."""

    def meter(self) -> Any:
        """A context that counts the bytes of new arrays: ``now``, the most so far as ``peak``, and ``restart()``."""

    def all_finite(self, states: State) -> bool | Array:
        """Whether every number is finite: the one host read of a fixed-step solve on eager libraries."""
