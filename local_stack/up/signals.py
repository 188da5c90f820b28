"""How the stack is asked to stop."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM: stop in order."""


class Signals:
    """Ctrl-C, SIGTERM and a closed terminal: the first raises `Interrupted`, a later one asks to hurry.

    Attributes:
        hurry: Whether to leave out what takes long.
    """

    def __init__(self) -> None:
        self.hurry = False
        self._raises = True

    def install(self) -> None:
        """Take the signals."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._came)

    def hold_back(self) -> None:
        """From now on no signal interrupts."""
        self._raises = False

    def _came(self, _number: int, _frame: FrameType | None) -> None:
        if self._raises:
            self._raises = False
            raise Interrupted
        self.hurry = True
