"""What a process has of its machine: clock, randomness, memory, and the end that the crash suite prepares for it."""

import gc
import os
import secrets
import signal
import threading
import time

from outlay.core import faultpoint
from outlay.core.seams import Instant

CRASH_VARIABLE = "OUTLAY_CRASH_AT"
"""For the crash suite: ``LABEL`` or ``LABEL:N`` kills the process at the Nth passing of a labelled point."""

FREEZE_VARIABLE = "OUTLAY_FREEZE_AT"
"""The same, but the process stops there until it is let go on (SIGCONT), as one that was starved of its processor."""

SIGNER_LABELS = "signer."
"""How the labels of points in the signer begin: they kill the signer's process, all others the server's."""


_YOUNG_MAX = 10_000
"""Objects made before the collector looks for garbage among them: one group of payouts makes thousands."""

_IDENTIFIER, _PAGE = 17, 2040


def keep_what_is_loaded() -> None:
    """Have the garbage collector pass over all there is now; for a process that has loaded what it needs.

    Going over it again and again found nothing and stopped a busy server for 0.2 s each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX, *gc.get_threshold()[1:])


class SystemClock:
    """The time of this machine."""

    def now(self) -> Instant:
        """Return microseconds UTC."""
        return time.time_ns() // 1000


class SystemEntropy:
    """The operating system's random bytes.

    Those of identifiers are asked for by the page: a payout takes about ten. Whatever is longer may be a secret and
    waits nowhere.
    """

    def __init__(self) -> None:
        """Begin without a page; a process that is split off gets pages of its own."""
        self._page, self._at, self._turn = b"", 0, threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._page, self._at, self._turn = b"", 0, threading.Lock()

    def token(self, size: int) -> bytes:
        """Return ``size`` unpredictable bytes."""
        if size > _IDENTIFIER:
            return secrets.token_bytes(size)
        with self._turn:
            end = self._at + size
            if end > len(self._page):
                self._page, self._at, end = secrets.token_bytes(_PAGE), 0, size
            part, self._at = self._page[self._at : end], end
        return part


def arm_crash(*, in_signer: bool) -> None:
    """Let this process die or stop where a variable says, if it names a point of this kind of process."""
    given = os.environ.get(CRASH_VARIABLE, "")
    way = signal.SIGKILL if given else signal.SIGSTOP
    label, _, count = (given or os.environ.get(FREEZE_VARIABLE, "")).partition(":")
    if not label or label.startswith(SIGNER_LABELS) is not in_signer:
        return
    left = int(count or 1)

    def hook(passed: str) -> None:
        nonlocal left
        if passed == label:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), way)

    faultpoint.install(hook)
