"""The loops and buffers of a library without tracing: loops are Python loops, buffers are lists of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .protocols import State


class Loops:
    """What a backend of an eager library has that looks into no array; the base of such backends."""

    def scan(
        self, body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, reverse: bool = False
    ) -> tuple[Any, Any]:
        """A Python loop; a list is a row of values, a tuple a structure of rows."""
        rows = _rows(xs)
        ys = []
        for x in reversed(list(rows)) if reverse else rows:
            carry, y = body(carry, x)
            ys.append(y)
        if reverse:
            ys.reverse()
        return carry, ys

    def while_loop(self, condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        """A Python loop."""
        while condition(state):
            state = body(state)
        return state

    def may(self, condition: Any) -> bool:
        """The condition itself."""
        return bool(condition)

    def choose(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """The one branch that is needed."""
        return then() if condition else otherwise()

    def buffer(self, length: int, row: State) -> Any:
        """A list of rows."""
        return [row] * length

    def recorder(self, capacity: int, row: Any) -> Any:
        """A list that grows."""
        return []

    def put(self, buffer: Any, index: Any, row: Any, where: Any = True) -> Any:
        """The same list, one row replaced or appended."""
        if where:
            if index == len(buffer):
                buffer.append(row)
            else:
                buffer[index] = row
        return buffer

    def take(self, buffer: Any, index: Any) -> Any:
        """One row."""
        return buffer[index]


def _rows(xs: Any) -> Iterable[Any]:
    if isinstance(xs, tuple):
        return zip(*(_rows(part) for part in xs), strict=True)
    return xs
