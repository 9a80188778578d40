"""A progress bar over the time of a solve."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

from janode.core.errors import InputError
from janode.core.sweep import Sweep

_FORMAT = "{l_bar}{bar}| {n:.3g}/{total:.3g} [{elapsed}<{remaining}]"
AnySweep = TypeVar("AnySweep", bound=Sweep)


class Bar:
    """A tqdm bar in the unit of ts; needs tqdm."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm  # type: ignore[import-untyped]
        except ImportError:
            raise InputError(
                'solve: progress=True must have tqdm; got an environment without it. Install "janode[cli]".'
            ) from None
        self._tqdm = tqdm
        self._bar: Any = None

    def at(self, t: Any, t0: Any, t1: Any) -> None:
        """Show that the solve is at t on its way from t0 to t1; a solve that starts again gets a bar of its own."""
        length = abs(float(t1) - float(t0))
        done = min(abs(float(t) - float(t0)), length)
        if self._bar is None or done < self._bar.n:
            self.close()
            self._bar = self._tqdm(total=length, bar_format=_FORMAT)
        self._bar.update(done - self._bar.n)
        if done >= length:
            self.close()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None


@contextlib.contextmanager
def shown(is_shown: bool, sweep: AnySweep) -> Iterator[AnySweep]:
    """The sweep of an eager library, which shows its progress if asked."""
    if not is_shown:
        yield sweep
        return
    bar, other, t0, t1 = Bar(), sweep.before, sweep.ts[0], sweep.ts[-1]
    is_open = True

    def before(t: Any, h: Any, state: Any) -> None:
        if is_open:
            bar.at(_middle(t), t0, t1)
        if other is not None:
            other(t, h, state)

    try:
        yield replace(sweep, before=before)
        bar.at(t1, t0, t1)
    finally:
        is_open = False
        bar.close()


def _middle(t: Any) -> float:
    """The time, or the mean of the times of samples that take steps of their own."""
    return float(t.mean()) if getattr(t, "shape", ()) else float(t)
