"""How much memory the host has free, and how much of it Python takes."""

from __future__ import annotations

import os
import time
import tracemalloc
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

_LASTS = 1.0
"""Seconds that an answer is given again."""


def free_host_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    return _read(int(time.monotonic() / _LASTS))


@lru_cache(maxsize=1)
def _read(moment: int) -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on Windows, nor on macOS
        return None


class HostMeter:
    """The bytes that Python and libraries that tell it, such as NumPy, hold more than at the start, and their peak."""

    def __enter__(self) -> Self:
        self._is_ours = not tracemalloc.is_tracing()
        if self._is_ours:
            tracemalloc.start()
        self.restart()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._is_ours:
            tracemalloc.stop()

    def restart(self) -> None:
        """Count from here."""
        tracemalloc.reset_peak()
        self._start = tracemalloc.get_traced_memory()[0]

    @property
    def now(self) -> int:
        """What is held more now."""
        return tracemalloc.get_traced_memory()[0] - self._start

    @property
    def peak(self) -> int:
        """The most that was."""
        return tracemalloc.get_traced_memory()[1] - self._start
