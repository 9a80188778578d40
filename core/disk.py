"""Checkpoints on disk: files in a temporary directory that does not outlive its use."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import SolveError
from .protocols import Carry, State


class Disk:
    """Slots that are files, but for slot 0, the start, which is the user's own.

    The directory goes with the last reference to it, and at exit.
    """

    def __init__(self, below: Disk | None = None, start: Carry = ()) -> None:
        with _failures("written to a new directory"):
            self.folder = Path(tempfile.mkdtemp(prefix="janode-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._below, self._start = below, start
        self._own: set[int] = set()

    def put(self, index: int, carry: Carry, where: bool) -> Disk:
        """The slots with one written, if ``where`` holds."""
        if where and index:
            with _failures(f"written to {self.folder}"), (self.folder / str(index)).open("wb") as file:
                pickle.dump(carry, file, pickle.HIGHEST_PROTOCOL)
            self._own.add(index)
        return self

    def take(self, index: int) -> Carry:
        """One slot, from the slots below if it was not written since."""
        if not index:
            return self._start
        if index not in self._own and self._below is not None:
            return self._below.take(index)
        with _failures(f"read from {self.folder}"), (self.folder / str(index)).open("rb") as file:
            return pickle.load(file)

    @contextmanager
    def overlaid(self, start: Carry) -> Iterator[Disk]:
        """Slots above these that leave them as they are, for as long as the context lasts."""
        above = Disk(self, start)
        try:
            yield above
        finally:
            above.remove()

    def tape(self, y0: State) -> tuple[State, dict[Disk, tuple[()]]]:
        """The start and the slots: a key of a pytree, for frameworks keep the leaves of a tape elsewhere."""
        return y0, {self: ()}


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turns what the disk refuses into an error of the solve."""
    try:
        yield
    except OSError as error:
        raise SolveError(
            f"solve: a checkpoint could not be {what}: {error}. Free some space, set TMPDIR to a larger disk, or "
            'use Revolve with fewer checkpoints or storage="memory".'
        ) from error
