"""``outlay evidence``: take the proof of a payout along, and check it where no server is."""

import os
import sys
from pathlib import Path

from cyclopts import App

from outlay.cli.profile import FROM_PROFILE, Caller, path_of

evidence = App(name="evidence")


@evidence.command
def export(payout: str, /, *, out: Path | None = None, caller: Caller = FROM_PROFILE) -> None:
    """Write the proof of a payout, as soon as its transaction is signed.

    Parameters
    ----------
    payout
        id of the payout.
    out
        a new file of mode 0600; without it the proof is printed.
    """
    from outlay.evidence.canonical import canonical

    found = caller.read(path_of("v1", "evidence", "transfers", payout))
    data = canonical(found)
    if out is None:
        sys.stdout.write(data.decode("ascii"))
        return
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    caller.tell({"file": str(out)}, f"the proof of {payout} is in {out}\n")


@evidence.command
def verify(file: Path, /, *, root: str) -> int:
    """Check a proof offline; exits 1 and names the first step that fails.

    Parameters
    ----------
    file
        what outlay evidence export wrote.
    root
        the organization's root fingerprint, as outlay init printed it; not from the same source as the file.
    """
    from outlay.evidence.audit import check

    return check(file, root)


@evidence.command
def verifier() -> None:
    """Print a program that checks proofs where only Python and the package cryptography are installed."""
    from outlay.cli.single_file import build_verifier

    sys.stdout.write(build_verifier())
