"""What a process does before it holds keys. Linux only."""

import ctypes
import os
import resource
import signal
from typing import Final

from outlay.core.errors import SignerUnavailable

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
"""Source: prctl(2) and mlockall(2), values of <linux/prctl.h> and <asm-generic/mman.h>."""

_libc = ctypes.CDLL(None, use_errno=True)


def harden() -> None:
    """No core file, no debugger, no file that others can read: memory of this process stays its own.

    Raises:
        SignerUnavailable: the system does not allow it.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def lock_memory() -> bool:
    """Keep keys out of the swap file, as far as the limits of this process go; return whether all of it is kept.

    Called once the keys are open: what opens them needs much memory for a moment.
    """
    flags = _MCL_CURRENT | _MCL_ONFAULT
    _, limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        flags |= _MCL_FUTURE  # under a limit, it would make later allocations fail
    return bool(_libc.mlockall(flags) == 0)


def die_with(parent: int) -> None:
    """End this process when the process ``parent``, which started it, ends, however it ends.

    Raises:
        SignerUnavailable: it has ended already.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SignerUnavailable("the server that started this signer has ended")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise SignerUnavailable(f"prctl: {os.strerror(ctypes.get_errno())}")
