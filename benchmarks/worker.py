"""The process that measures one library: started with the settings that make it run on one thread of one core."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .suites import find_suite

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_ENABLE_X64": "0",
}


def launch(suite: str, library: str, scale: str, device: str) -> dict[str, Any]:
    """The races of one library and who was absent, measured in a fresh process."""
    environment = {**os.environ, **ONE_THREAD, "JAX_PLATFORMS": device}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "races.json"
        command = [sys.executable, "-m", "benchmarks.worker", suite, library, scale, device, str(out)]
        subprocess.run(command, env=environment, cwd=Path(__file__).parents[1], check=True)
        return json.loads(out.read_text())


def run_on_one_core() -> None:
    """Keep this process and its threads on one core: XLA runs independent operations side by side despite its flags."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main(suite_name: str, library: str, scale: str, device: str, out: str) -> None:
    """Measure and write the races as JSON."""
    if device == "cpu" and scale != "smoke":
        run_on_one_core()
    suite = find_suite(suite_name)
    absent = {name: "not installed" for name in (library, *suite.PEERS[library]) if not importlib.util.find_spec(name)}
    if device != "cpu" and library == "numpy":
        absent[library] = f"does not run on {device}"
    races = []
    if library not in absent:
        for race in suite.races(library, device, suite.SCALES[scale], list(absent)):
            print("measured:", ", ".join(str(part) for part in race.case if part), flush=True)
            races.append(race.as_json())
    Path(out).write_text(json.dumps({"absent": absent, "races": races}))


if __name__ == "__main__":
    main(*sys.argv[1:])
