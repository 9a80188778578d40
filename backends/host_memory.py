"""How much memory the host has free."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

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
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)
