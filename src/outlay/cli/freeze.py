"""``outlay freeze``: stop signing, whether the signer runs or not."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from outlay import locks
from outlay.config import Config, load
from outlay.core.errors import InvalidInput, SignerUnavailable
from outlay.layout import Layout
from outlay.signer import Freeze, Scope
from outlay.signer.client import SignerClient
from outlay.signing import open_signer
from outlay.system import SystemClock

PATIENCE_S: Final = 20.0
"""How long a signer that is just starting is waited for."""


def stop(directory: Path, scopes: Mapping[str, str | None], reason: str) -> None:
    """Freeze the one scope that is given and say how to lift it.

    Raises:
        InvalidInput: not exactly one scope is given.
        SignerUnavailable: neither the signer nor its journal can be reached: nothing is stopped.
    """
    given = [(Scope(scope), subject) for scope, subject in scopes.items() if subject is not None]
    if len(given) != 1:
        raise InvalidInput("give one of --wallet, --network, --identity and --all", field="scope")
    layout = Layout(directory)
    made = asyncio.run(_freeze(layout, load(layout.config), *given[0], reason))
    what = "everything" if made.scope is Scope.ALL else f"{made.scope} {made.subject}"
    sys.stdout.write(f"frozen: {what}\n")
    sys.stdout.write(f"  freeze {made.id}\n")
    sys.stdout.write("Nothing new is signed for it from now on. What was signed before may still be mined.\n")
    sys.stdout.write(f"To let it go on: outlay unfreeze {made.id}, signed by who may.\n")


async def _freeze(layout: Layout, config: Config, scope: Scope, subject: str, reason: str) -> Freeze:
    """Ask the signer; if none holds the journal, write into it as the signer would."""
    deadline = time.monotonic() + PATIENCE_S
    client = SignerClient(layout.socket(config))
    while True:
        try:
            return await client.freeze(scope, subject, reason)
        except SignerUnavailable:
            held = locks.take(layout.journal_lock)
            if held is None and time.monotonic() > deadline:
                raise
        finally:
            await client.close()
        if held is not None:
            try:
                return await open_signer(layout, config, SystemClock()).freeze(scope, subject, reason)
            finally:
                os.close(held)
        await asyncio.sleep(0.02)
