"""Monitors: whether a model in training still is an ODE, or depends on its solver; they adapt its step or tolerance.

A monitor compares a metric under the training solver with that under a test solver of smaller error, on one batch.
Where they differ it takes smaller steps, where they agree it tries larger ones. It holds no arrays and decides by
numbers alone: the same metrics lead to the same steps.

Source: Ott, Katiyar, Hennig, Tiemann 2021, arXiv 2007.15386.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple, TypedDict, Unpack

from .errors import InputError
from .methods import find_method
from .validity_checks import AnyMethod, Check, Evaluate, Run
from .validity_metrics import Comparison, summary, widest
from .validity_pairs import check_pair, num_field_evals, num_steps, paired_steps, paired_tolerance

Solver = tuple[AnyMethod, float]
"""A method and its step size."""


class Settings(TypedDict, total=False):
    """The settings that both monitors share; :class:`StepSizeMonitor` says what each is."""

    interval: int
    threshold: float
    shrink: float
    growth: float
    compare: str | Callable[[Any, Any], float]
    metric_range: tuple[float, float] | None
    confidence: float | None
    checksum: Callable[[], Any] | None


class Tested(NamedTuple):
    """A test solver, and the metric under it."""

    method: AnyMethod
    size: float
    metric: Any


class _Monitor:
    """What both monitors do; ``size`` is the step size or the tolerance."""

    def __init__(
        self,
        method: AnyMethod,
        size: float,
        limits: tuple[float, float],
        *,
        interval: int = 50,
        threshold: float = 0.1,
        shrink: float = 0.5,
        growth: float = 1.1,
        compare: str | Callable[[Any, Any], float] = "absolute",
        metric_range: tuple[float, float] | None = None,
        confidence: float | None = None,
        checksum: Callable[[], Any] | None = None,
    ) -> None:
        self.method, self._size, self._limits = method, float(size), limits
        self._require("interval", interval, "an integer >= 1", isinstance(interval, int) and interval >= 1)
        self._require("threshold", threshold, "a positive number", 0.0 < threshold < math.inf)
        self._require("shrink", shrink, "a number in (0, 1)", 0.0 < shrink < 1.0)
        self._require("growth", growth, "a finite number above 1", 1.0 < growth < math.inf)
        self.interval, self.threshold, self.shrink, self.growth = interval, threshold, shrink, growth
        self.comparison, self.checksum = Comparison(compare, metric_range, confidence), checksum
        self.history: list[Check] = []
        self.num_field_evals = 0

    def _require(self, argument: str, got: object, rule: str, is_met: bool) -> None:
        if not is_met:
            where = type(self).__name__
            raise InputError(f"{where}: {argument} must be {rule}; got {got!r}. The class says what each argument is.")

    @property
    def size(self) -> float:
        """The step size, or the tolerance, to train with."""
        return self._size

    def is_due(self, iteration: int) -> bool:
        """Whether to check after that many training iterations."""
        return iteration > 0 and iteration % self.interval == 0

    @property
    def is_valid(self) -> bool | None:
        """What the last check found; None before the first."""
        return self.history[-1].is_valid if self.history else None

    def update(self, evaluate: Evaluate, iteration: int | None = None) -> Check:
        """Check the model and adapt the size.

        Args:
            evaluate: ``evaluate(method, size)`` returns the metric of the model on a batch, the same one in all calls
                of this check, or the tuple (metric, number of field evaluations). It must not change the model.
            iteration: noted in the history.

        Returns:
            What was found and decided, also kept in ``history``.

        Raises:
            InputError: a metric is not finite, out of its range or of another kind, or evaluate changed the model
                (found if there is a ``checksum``). The monitor is left as it was.

        Cost: two or three solves of the batch, one with the training solver, one with the test solver, and one with the
        larger size where the two agree.
        """
        before = self._size
        run = Run(f"{type(self).__name__}.update", evaluate, self.comparison, self._count, self.checksum)
        training, cost = run(self.method, before)
        tests = self._tests(run, cost)
        gaps = [run.gap(training, test.metric) for test in tests]
        gap, test = widest(gaps), tests[max(range(len(tests)), key=lambda place: gaps[place].value)]
        after, trial, trial_gap = before, None, None
        larger = min(self.growth * before, self._limits[1])
        if gap.low > self.threshold:
            after = max(self.shrink * before, self._limits[0])
        elif gap.high <= self.threshold and larger > before:
            trial, trial_cost = run(self.method, larger)
            trial_gap = widest([run.gap(trial, one.metric) for one in tests])
            if trial_gap.high <= self.threshold and not self._is_idle(cost, trial_cost):
                after = larger
        self._size = after
        self._note(cost)
        self.num_field_evals += run.num_field_evals
        check = Check(
            iteration,
            before,
            after,
            find_method(test.method).name,
            test.size,
            summary(training),
            summary(test.metric),
            summary(trial),
            gap.value,
            None if trial_gap is None else trial_gap.value,
            gap.low <= self.threshold,
            run.num_field_evals,
        )
        self.history.append(check)
        return check

    def state_dict(self) -> dict[str, Any]:
        """The size, the counts and the history, as plain data that JSON can hold."""
        return {
            "method": find_method(self.method).name,
            "size": self._size,
            "num_field_evals": self.num_field_evals,
            "history": [asdict(check) for check in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that ``state_dict`` returned; settings stay those of this monitor.

        Raises:
            InputError: the state is that of another method, or its size is out of this monitor's limits.
        """
        name, size = find_method(self.method).name, state["size"]
        if state["method"] != name or not self._limits[0] <= size <= self._limits[1]:
            raise InputError(
                f"{type(self).__name__}.load_state_dict: the state must be of method {name!r} and of a size in "
                f"[{self._limits[0]:g}, {self._limits[1]:g}]; got {state['method']!r} and {size:g}. Make the monitor "
                "as that of the run that is continued."
            )
        self._size, self.num_field_evals = size, state["num_field_evals"]
        self.history = [Check(**check) for check in state["history"]]

    def _tests(self, run: Run, cost: int) -> list[Tested]:
        """What the test solvers find; ``cost`` is that of the training solver."""
        raise NotImplementedError

    def _count(self, method: AnyMethod, size: float) -> int:
        """The field evaluations of a solve, where evaluate does not say."""
        raise NotImplementedError

    def _is_idle(self, cost: int, trial_cost: int) -> bool:
        """Whether the larger size would save nothing."""
        return False

    def _note(self, cost: int) -> None:
        """Keep what the training solver cost."""


class StepSizeMonitor(_Monitor):
    """Keeps the fixed steps of a model in training so small that the model stays an ODE, and no smaller.

    Every ``interval`` iterations it compares the training solver with a test solver of higher order and smaller error.
    Where they differ by more than ``threshold``, h becomes ``shrink`` h, but never T / max_steps or less; else h
    becomes min(``growth`` h, T), if the training solver with that step is within the threshold, too.

    Args:
        T: the length of the interval of integration, > 0, in the unit of time.
        h: the first step size, in (0, T], and at least T / max_steps.
        method: the training method: its name, a tableau or a method object.
        test_solver: ``test_solver(h)`` returns (method, step size) of the test solver, or a list of several, which must
            all agree with the training solver; None: :func:`paired_steps`.
        max_steps: the most steps of a solve, >= 1.
        interval: the number of training iterations between checks, >= 1.
        threshold: the largest difference of a valid model, > 0, in the unit of the metric; with ``compare="relative"``
            dimensionless.
        shrink, growth: factors in (0, 1) and above 1.
        compare: ``"absolute"``, |training - test|; ``"relative"``, |training - test| / |test|, for losses; or a
            function of what evaluate returns, such as :func:`relative_distance` of gradients or trajectories.
        metric_range: (low, high) of legal metrics; unless given (0, 1) for ``"absolute"``, else unlimited.
        confidence: for metrics given per sample, in (0, 1): h shrinks only if the difference is beyond the threshold
            with this confidence, and grows only if it is within; else it stays. It takes some 30 samples or more.
        checksum: for debugging, a function that returns a checksum of the model: evaluate must not change it.

    Raises:
        InputError: an argument breaks a rule above.

    Example:
        >>> monitor = StepSizeMonitor(T=1.0, h=0.5)
        >>> def evaluate(method, step):
        ...     return 0.9 if method == "euler" else 0.6
        >>> for iteration in range(1, 101):
        ...     if monitor.is_due(iteration):
        ...         check = monitor.update(evaluate, iteration)
        >>> monitor.h, monitor.is_valid
        (0.125, False)
    """

    def __init__(
        self,
        *,
        T: float,
        h: float,
        method: AnyMethod = "euler",
        test_solver: Callable[[float], Solver | list[Solver]] | None = None,
        max_steps: int = 500,
        **settings: Unpack[Settings],
    ) -> None:
        self._require("T", T, "a positive finite number", 0.0 < T < math.inf)
        self._require("max_steps", max_steps, "an integer >= 1", isinstance(max_steps, int) and max_steps >= 1)
        self._require("h", h, f"a step size in (0, T], T = {T:g}", 0.0 < h <= T)
        least = T / max_steps
        self._require("h", h, f"at least T / max_steps = {least:g}", h >= least * (1 - 1e-9))
        super().__init__(method, max(h, least), (least, float(T)), **settings)
        self.T, self.max_steps, self._test_solver = float(T), max_steps, test_solver
        find_method(method)

    @property
    def h(self) -> float:
        """The step size to train with."""
        return self._size

    @property
    def steps(self) -> int:
        """The number of steps to train with: the fewest equal ones on [0, T] that are not longer than h."""
        return self.steps_of(self.h)

    def steps_of(self, step: float) -> int:
        """The fewest equal steps on [0, T] that are not longer than ``step``, as a solve takes them."""
        return num_steps(step, self.T)

    @property
    def test_solvers(self) -> list[Solver]:
        """The methods and step sizes that test the present ones."""
        if self._test_solver is None:
            return [paired_steps(self.method, self.h, self.T)]
        found = self._test_solver(self.h)
        solvers = found if isinstance(found, list) else [found]
        rule = f"a function that returns a step in (0, {self.T:g}], or a list of one or more such solvers"
        self._require("test_solver", solvers, rule, bool(solvers))
        for _, step in solvers:
            self._require("test_solver", step, rule, 0.0 < step <= self.T)
        return solvers

    def _tests(self, run: Run, cost: int) -> list[Tested]:
        return [Tested(method, step, run(method, step)[0]) for method, step in self.test_solvers]

    def _count(self, method: AnyMethod, size: float) -> int:
        return num_field_evals(method, size, self.T)


class ToleranceMonitor(_Monitor):
    """Keeps the tolerance of adaptive steps so small that a model in training stays an ODE, and no smaller.

    As :class:`StepSizeMonitor`, with the tolerance for h. The test solver's tolerance is divided by 10 until it takes
    more field evaluations than the training solver. The tolerance is not raised where that would save nothing: where
    the last five solves of training and the trial took equally many field evaluations.

    Args:
        tol: the first tolerance, relative and absolute, in [min_tol, max_tol].
        method: the training method, one with an error estimate.
        min_tol: the smallest tolerance to train or test with, > 0; in single precision about 1e-6.
        max_tol: the largest to train with.
        interval, threshold, shrink, growth, compare, metric_range, confidence, checksum: as for
            :class:`StepSizeMonitor`.

    ``evaluate(method, tol)`` must return (metric, number of field evaluations).

    Example:
        >>> monitor = ToleranceMonitor(tol=1e-3)
        >>> check = monitor.update(lambda method, tol: (0.9, round(100 * tol**-0.2)))
        >>> check.test_method, monitor.tol
        ('dopri5', 0.0011)
    """

    def __init__(
        self,
        *,
        tol: float,
        method: AnyMethod = "dopri5",
        min_tol: float = 1e-12,
        max_tol: float = 1.0,
        **settings: Unpack[Settings],
    ) -> None:
        self._require("min_tol", min_tol, "a positive number <= max_tol", 0.0 < min_tol <= max_tol < math.inf)
        self._require("tol", tol, f"a tolerance in [{min_tol:g}, {max_tol:g}]", min_tol <= tol <= max_tol)
        check_pair("ToleranceMonitor", method)
        super().__init__(method, tol, (min_tol, max_tol), **settings)
        self._costs: deque[int] = deque(maxlen=5)

    @property
    def tol(self) -> float:
        """The tolerance to train with, relative and absolute."""
        return self._size

    def observe(self, num_field_evals: int) -> None:
        """Note the field evaluations of a solve of training; without, those of the checks stand for them."""
        self._note(num_field_evals)

    def state_dict(self) -> dict[str, Any]:
        """The size, the counts and the history, as plain data that JSON can hold."""
        return {**super().state_dict(), "costs": list(self._costs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that ``state_dict`` returned; see :class:`StepSizeMonitor`."""
        super().load_state_dict(state)
        self._costs = deque(state["costs"], maxlen=5)

    def _tests(self, run: Run, cost: int) -> list[Tested]:
        method, tolerance = paired_tolerance(self.method, self.tol)
        tolerance = max(tolerance, self._limits[0])
        while True:
            metric, test_cost = run(method, tolerance)
            if test_cost > cost or tolerance <= self._limits[0]:
                return [Tested(method, tolerance, metric)]
            tolerance = max(tolerance / 10, self._limits[0])

    def _count(self, method: AnyMethod, size: float) -> int:
        raise InputError(
            "ToleranceMonitor.update: evaluate must return (metric, number of field evaluations); got a metric alone. "
            "The number is in solution.stats.num_field_evals."
        )

    def _is_idle(self, cost: int, trial_cost: int) -> bool:
        costs = [*self._costs, cost][-5:]
        return len(costs) == 5 and set(costs) == {trial_cost}

    def _note(self, cost: int) -> None:
        self._costs.append(cost)
