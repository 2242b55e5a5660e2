"""``outlay mandates``: standing orders under which nobody asks for each transaction."""

import json
from pathlib import Path

from cyclopts import App

from outlay.cli.output import Yes, facts, said, table, when
from outlay.cli.profile import FROM_PROFILE, Caller, path_of
from outlay.core.errors import InvalidInput

mandates = App(name="mandates")


@mandates.command(name="list")
def list_mandates(*, limit: int = 100, caller: Caller = FROM_PROFILE) -> None:
    """List mandates, archived ones too.

    Parameters
    ----------
    limit
        how many at most.
    """
    found = list(caller.items("/v1/mandates", limit=limit))
    columns = ("mandate", "name", "kind", "network", "status", "since")
    rows = (
        (each["id"], each["name"], each["kind"], each["network"], each["status"], when(each.get("dateCreated")))
        for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, nothing="no mandates"))


@mandates.command
def show(mandate: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a mandate, and how each wallet stands that it fills. Amounts are base units.

    Parameters
    ----------
    mandate
        id of the mandate.
    """
    found = caller.read(path_of("v1", "mandates", mandate))
    pairs = [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in found.items()
        if name != "balances"
    ]
    columns = ("wallet", "holds", "fill below", "coming", "empty in", "waits because")
    rows = [
        (
            each["walletId"],
            each["spendable"],
            each["threshold"],
            each["coming"],
            f"{each['hoursToEmpty']} h" if "hoursToEmpty" in each else None,
            each.get("waitingReason"),
        )
        for each in found.get("balances", [])
    ]
    shown = table(columns, rows, right={"holds", "fill below", "coming"}) if rows else ""
    caller.tell(found, lambda: facts(pairs) + "\n" + shown)


@mandates.command
def proposals(mandate: str, /, *, limit: int = 50, caller: Caller = FROM_PROFILE) -> None:
    """List what somebody has to send under a mandate whose treasury is not ours. Amounts are base units.

    Parameters
    ----------
    mandate
        id of the mandate.
    limit
        how many at most.
    """
    found = list(caller.items(path_of("v1", "mandates", mandate, "proposals"), limit=limit))
    shown = "\n".join(facts((name, value) for name, value in each.items()) for each in found) or "no proposals\n"
    caller.tell({"items": found}, shown)


@mandates.command
def create(file: Path, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Create a mandate from a JSON file.

    Parameters
    ----------
    file
        the body of POST /v1/mandates.
    """
    try:
        wanted = json.loads(file.read_text())
    except ValueError as error:
        raise InvalidInput(f"{file} is not JSON: {error}", field="file") from None
    caller.expect_key()
    caller.note(json.dumps(wanted, indent=2) + "\n")
    caller.confirm("Allow this?", yes=yes)
    made = caller.write("POST", "/v1/mandates", wanted)
    caller.tell(made, lambda: said(made, f"created {made['id']}"))


@mandates.command
def archive(mandate: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Take a mandate out of force: what waits under it is withdrawn, what was signed goes on.

    Parameters
    ----------
    mandate
        id of the mandate.
    """
    made = caller.write("POST", path_of("v1", "mandates", mandate, "archive"))
    caller.tell(made, said(made, f"{mandate} is archived"))
