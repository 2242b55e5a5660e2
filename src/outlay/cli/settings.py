"""``outlay settings``: what decides about money, and signing it."""

import difflib
import json
from pathlib import Path
from typing import Any

from cyclopts import App

from outlay.cli.output import Yes, facts, said
from outlay.cli.profile import FROM_PROFILE, Caller

settings = App(name="settings")


@settings.command
def show(*, caller: Caller = FROM_PROFILE) -> None:
    """Print the money settings the server has loaded, and whether they are the signed ones."""
    shown = caller.read("/v1/config")
    state = "signed" if shown["applied"] else "NOT signed: nothing is admitted. Next: outlay settings apply"
    caller.tell(shown, lambda: _text(shown["moneySettings"]) + facts([("state", state), ("digest", shown["digest"])]))


@settings.command
def apply(*, file: Path | None = None, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Sign the money settings the server has loaded, so that it admits payouts under them.

    Where changes wait for approval, sign those of a new file instead, before the server loads it: it goes on paying
    under the old ones until people agreed, the wait is over, and it is restarted with the new file.

    Parameters
    ----------
    file
        a configuration file that the server has not loaded yet.
    """
    caller.expect_key()
    shown = caller.read("/v1/config")
    wanted = shown["moneySettings"]
    if file is not None:
        from outlay.config import load

        wanted = load(file).money_settings()
    elif shown["applied"]:
        caller.tell(shown, "the loaded settings are the signed ones already\n")
        return
    old = [] if wanted == shown["moneySettings"] else _text(shown["moneySettings"]).splitlines()
    caller.note(
        "".join(f"{line}\n" for line in list(difflib.ndiff(old, _text(wanted).splitlines()))) if old else _text(wanted)
    )
    caller.confirm("Sign these settings?", yes=yes)
    answer = caller.write("PUT", "/v1/config", {"moneySettings": wanted})
    then = "" if file is None else "Restart the server with the new file.\n"
    caller.tell(answer, said(answer, "signed") + then)


def _text(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"
