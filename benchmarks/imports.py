"""What an import costs, each time in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from .measure import Case, Effort, Race

STATEMENTS = {
    "import numpy, array_api_compat": "import numpy, array_api_compat",
    "import numpy, janode.numpy": "import numpy, janode.numpy",
    "import numpy, array_api_compat.numpy": "import numpy, array_api_compat.numpy",
    "import numpy, janode.numpy and solve once": (
        "import numpy, janode.numpy; janode.numpy.solve(lambda t, y: y, numpy.ones(1), [0.0, 1.0], steps=1)"
    ),
}
TIMED = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{}
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def import_race(effort: Effort) -> Race:
    """The seconds of each import, without those in which Python itself starts; a round before them compiles."""
    found = Race(Case("numpy", "", 0, "", "import"), {name: {"cpu": [], "wall": []} for name in STATEMENTS})
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(effort.most + 1):
            for name, samples in found.samples.items():
                command = [sys.executable, "-c", TIMED.format(STATEMENTS[name])]
                printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                for measure, seconds in zip(("cpu", "wall"), printed.split(), strict=True):
                    if turn:
                        samples[measure].append(float(seconds))
    return found
