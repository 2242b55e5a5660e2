"""``outlay freeze``: stop signing, whether the signer runs or not."""

import asyncio
import os
import time
from pathlib import Path
from typing import Final

from outlay import locks
from outlay.cli.output import Output
from outlay.config import Config, load
from outlay.core.errors import SignerUnavailable
from outlay.layout import Layout
from outlay.signer import Freeze, Scope
from outlay.signer.client import SignerClient
from outlay.signing import open_signer
from outlay.system import SystemClock

PATIENCE_S: Final = 20.0
"""How long a signer that is just starting is waited for."""


def stop(directory: Path, scope: str, subject: str, reason: str, output: Output) -> None:
    """Freeze a scope and say what now.

    Raises:
        SignerUnavailable: neither the signer nor its journal can be reached: nothing is stopped.
    """
    layout = Layout(directory)
    made = asyncio.run(_freeze(layout, load(layout.config), Scope(scope), subject, reason))
    what = "everything" if made.scope is Scope.ALL else f"{made.scope} {made.subject}"
    document = {"id": made.id, "scope": str(made.scope), "subject": made.subject, "reason": reason}
    output.tell(
        document,
        f"frozen: {what}\n"
        f"  freeze {made.id}\n"
        "Nothing new is signed for it from now on, in any process.\n"
        "What was signed before may still be mined: outlay payouts list --state broadcast\n"
        "What is stopped: outlay freezes list\n"
        f"To let it go on: outlay unfreeze {made.id} --reason TEXT, signed by who may.\n",
    )


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
