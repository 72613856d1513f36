"""Touch a held claim from a thread, so that other workers see that its holder is alive."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class Heartbeat:
    """Touches one file four times in its lease (seconds) until `stop`.

    A thread does not live on in a forked child, so a child never gives signs of life for the claims of its parent.
    """

    def __init__(self, path: Path, lease: float):
        self._path, self._pause = path, lease / 4
        self._stopped = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name=f"claim {path.name}").start()

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self) -> None:
        while not self._stopped.wait(self._pause):
            try:
                os.utime(self._path)
            except OSError:  # taken over, or the store is gone: `Claim.holds` tells before anything is written
                return
