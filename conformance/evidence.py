"""The table of docs/conformance.md from the committed results: ``python -m janode.conformance.evidence`` prints it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .cells import FAILED, GAP, RAN

FOLDER = Path(__file__).with_name("evidence")


def table(results: dict[str, Any]) -> str:
    """What ran on which versions, in Markdown: for each target its cases, and its error nearest to what is allowed."""
    lines = [
        f"janode {results['janode']} at commit {results['commit'][:12]}, Python {results['python']}, "
        f"{results['platform']}, {results['cores']} cores, level {results['level']}:",
        "",
        "| target | on | ran | failed | gap | worst eps | allowed | in |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, target in results["targets"].items():
        if target["status"] != RAN:
            continue
        counts = target["cells"]
        on = ", ".join(f"{key} {target[key]}" for key in target if key not in ("status", "reason", "cells", "device"))
        ran = [cell for cell in results["cells"] if cell["target"] == name and cell["status"] == RAN]
        worst = max(ran, key=lambda cell: cell["eps"] / cell["allowed"])
        numbers = [str(counts.get(key, 0)) for key in (RAN, FAILED, GAP)]
        errors = [f"{worst[key]:.3g}" for key in ("eps", "allowed")]
        lines.append("| " + " | ".join([f"`{name}`", on, *numbers, *errors, f"`{worst['case']}`"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.json")):
        print(table(json.loads(path.read_text())) + "\n")
