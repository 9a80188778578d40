"""The command ``python -m janode.conformance``."""

from __future__ import annotations

import sys

try:
    import rich  # noqa: F401
    import typer  # noqa: F401
except ImportError as missing:
    sys.exit(f"janode.conformance: the cli extra must be installed; got {missing}. Run `pip install janode[cli]`.")

from .command import app

if __name__ == "__main__":
    app(prog_name="python -m janode.conformance")
