"""Comparing what two solvers make of one model: the difference of a metric, with bounds for the noise of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import InputError


class Gap(NamedTuple):
    """A difference |training - test|, and the bounds between which that of all data lies."""

    value: float
    low: float
    high: float


def widest(gaps: Sequence[Gap]) -> Gap:
    """The largest difference of several, and the largest of each bound."""
    return Gap(*map(max, zip(*gaps, strict=True)))


@dataclass(frozen=True)
class Comparison:
    """How metrics are read and compared.

    Attributes:
        compare: ``"absolute"``, |a - b|; ``"relative"``, |a - b| / |b| with b the test solver's; or a function
            ``compare(a, b)`` of whatever evaluate returns (gradients, trajectories), which returns a number >= 0.
        metric_range: the range of legal metrics; with ``"absolute"`` None is (0, 1), that of accuracies.
        confidence: for metrics given per sample, the probability with which the bounds hold; None: no bounds.
    """

    compare: str | Callable[[Any, Any], float] = "absolute"
    metric_range: tuple[float, float] | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.compare not in ("absolute", "relative") and not callable(self.compare):
            raise InputError(
                f'monitor: compare must be "absolute", "relative" or a function of two metrics; got {self.compare!r}. '
                'Use "relative" for losses.'
            )
        if self.confidence is not None and not 0.0 < self.confidence < 1.0:
            raise InputError(
                f"monitor: confidence must be a number in (0, 1), or None; got {self.confidence!r}. 0.95 is usual."
            )
        if self.confidence is not None and callable(self.compare):
            raise InputError(
                "monitor: confidence must be None where compare is a function, as it needs one number for each sample; "
                f"got {self.confidence!r}. Leave it out."
            )
        if self.metric_range is not None and not self.metric_range[0] < self.metric_range[1]:
            raise InputError(
                f"monitor: metric_range must be (low, high) with low < high; got {self.metric_range!r}. "
                "That of accuracies is (0, 1)."
            )

    def read(self, where: str, metric: Any, source: str) -> Any:
        """The metric as a float, or a list of them, one for each sample; anything where compare is a function."""
        if callable(self.compare):
            return metric
        try:
            plain = metric.tolist() if hasattr(metric, "tolist") else metric
            values = [float(value) for value in plain] if isinstance(plain, list | tuple) else [float(plain)]
        except (TypeError, ValueError):
            values = []
        if not values:
            raise InputError(
                f"{where}: the metric must be a number, or one for each sample; got {metric!r} from {source}. Return "
                "for example the accuracy; compare=... takes a function for anything else."
            )
        default = (0.0, 1.0) if self.compare == "absolute" else (-math.inf, math.inf)
        low, high = default if self.metric_range is None else self.metric_range
        for value in values:
            if not math.isfinite(value):
                raise InputError(
                    f"{where}: the metric must be finite; got {value} from {source}. Check the model, or take smaller "
                    "steps: the solution may have blown up."
                )
            if not low <= value <= high:
                raise InputError(
                    f"{where}: the metric must lie in [{low:g}, {high:g}]; got {value} from {source}. Give "
                    'metric_range for other metrics, or compare="relative" for losses.'
                )
        return values if isinstance(plain, list | tuple) else values[0]

    def gap(self, where: str, training: Any, test: Any) -> Gap:
        """The difference of two metrics that ``read`` returned."""
        if callable(self.compare):
            value = float(self.compare(training, test))
            if not value >= 0.0 or math.isinf(value):
                raise InputError(
                    f"{where}: compare must return a finite number >= 0; got {value}. Check what evaluate returns."
                )
            return Gap(value, value, value)
        first, second = (metric if isinstance(metric, list) else [metric] for metric in (training, test))
        if len(first) != len(second):
            raise InputError(
                f"{where}: the metrics of all solvers must be of the same samples; got {len(first)} and {len(second)} "
                "of them. Evaluate the same batch."
            )
        scale = abs(_mean(second)) if self.compare == "relative" else 1.0
        pairs = [a - b for a, b in zip(first, second, strict=True)]
        value, margin = abs(_mean(pairs)), self._margin(where, pairs)
        if scale == 0.0:
            return Gap(*(math.inf if bound > 0.0 else 0.0 for bound in (value, value - margin, value + margin)))
        return Gap(value / scale, max(value - margin, 0.0) / scale, (value + margin) / scale)

    def _margin(self, where: str, pairs: list[float]) -> float:
        """What the mean of the paired differences may be off by."""
        if self.confidence is None:
            return 0.0
        if len(pairs) < 2:
            raise InputError(
                f"{where}: the metric must be one number for each sample where confidence is given; got 1. Return for "
                "example whether each sample is classified rightly, as a list or an array."
            )
        from statistics import NormalDist, stdev  # not with the module: they take as long to import as all monitors

        return NormalDist().inv_cdf((1 + self.confidence) / 2) * stdev(pairs) / math.sqrt(len(pairs))


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def summary(metric: Any) -> float | None:
    """What the history keeps of a metric: the number, the mean over samples, or nothing."""
    if isinstance(metric, list):
        return _mean(metric)
    return metric if isinstance(metric, float) else None
