"""``outlay evidence``: take the proof of a payout along, and check it where no server is."""

import os
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from cyclopts import App, Parameter

evidence = App(name="evidence", help="Proofs of payouts, for auditors.")


@evidence.command
def export(
    *,
    payout: str,
    url: Annotated[str, Parameter(help="base URL of the server")],
    token_file: Annotated[Path, Parameter(name="--token-file", help="file that holds your bearer token")],
    out: Path | None = None,
) -> None:
    """Write the proof of a payout, as soon as its transaction is signed.

    Parameters
    ----------
    payout
        id of the transfer.
    out
        a new file of mode 0600; without it the proof is printed.
    """
    from outlay.client import call
    from outlay.evidence.canonical import canonical

    path = f"/v1/evidence/transfers/{quote(payout, safe='')}"
    data = canonical(call(url, "GET", path, token=token_file.read_text().strip()))
    if out is None:
        sys.stdout.write(data.decode("ascii"))
        return
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


@evidence.command
def verify(file: Path, *, root: str) -> None:
    """Check a proof offline; exits 1 and names the first step that fails.

    Parameters
    ----------
    file
        what ``outlay evidence export`` wrote.
    root
        the organization's root fingerprint, as ``outlay init`` printed it; not from the same source as the file.
    """
    from outlay.evidence.audit import check

    sys.exit(check(file, root))


@evidence.command
def verifier() -> None:
    """Print a program that checks proofs where only Python and the package cryptography are installed."""
    from outlay.cli.single_file import build_verifier

    sys.stdout.write(build_verifier())
