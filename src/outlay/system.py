"""The real clock, the operating system's randomness, and the end that the crash suite prepares for a process."""

import os
import secrets
import signal
import time

from outlay.core import faultpoint
from outlay.core.seams import Instant

CRASH_VARIABLE = "OUTLAY_CRASH_AT"
"""For the crash suite: ``LABEL`` or ``LABEL:N`` kills the process at the Nth passing of a labelled point."""

SIGNER_LABELS = "signer."
"""How the labels of points in the signer begin: they kill the signer's process, all others the server's."""


class SystemClock:
    """The time of this machine."""

    def now(self) -> Instant:
        """Return microseconds UTC."""
        return time.time_ns() // 1000


class SystemEntropy:
    """The operating system's random bytes."""

    def token(self, size: int) -> bytes:
        """Return ``size`` unpredictable bytes."""
        return secrets.token_bytes(size)


def arm_crash(*, in_signer: bool) -> None:
    """Let this process die where ``CRASH_VARIABLE`` says, if it names a point of this kind of process."""
    label, _, count = os.environ.get(CRASH_VARIABLE, "").partition(":")
    if not label or label.startswith(SIGNER_LABELS) is not in_signer:
        return
    left = int(count or 1)

    def hook(passed: str) -> None:
        nonlocal left
        if passed == label:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    faultpoint.install(hook)
