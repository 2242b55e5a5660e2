"""``outlay keys``: key pairs, made on this machine."""

import sys
from pathlib import Path

from cyclopts import App

from outlay.cli.output import PRINTED, Output

keys = App(name="keys")


@keys.command
def create(file: Path, /, *, output: Output = PRINTED) -> None:
    """Make an Ed25519 key pair: the private key goes to a new file of mode 0600, the public key is printed.

    Parameters
    ----------
    file
        where the private key goes; it must not be there yet.
    """
    from outlay.client import write_new_key

    public = write_new_key(file)
    output.tell({"privateKeyFile": str(file), "publicKey": public}, public)
    if sys.stdout.isatty():
        output.note(f"The private key is in {file}: nobody else may have it.\n")
