"""``outlay policies``: what goes by itself, what waits for people, what is blocked; from files, with what changes."""

import difflib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cyclopts import App

from outlay.cli.output import Yes, facts, paint, said, table, when
from outlay.cli.profile import FROM_PROFILE, Caller, path_of
from outlay.core.errors import Conflict, InvalidInput
from outlay.core.message import one_line
from outlay.core.policy_document import parse_policy, wire_document

policies = App(name="policies")

WRITTEN = ("name", "activityKind", "rule", "action", "filters")
"""What a file says of a policy; the rest is the server's."""


@policies.command(name="list")
def list_policies(
    *, status: Literal["Active", "Archived"] = "Active", limit: int = 100, caller: Caller = FROM_PROFILE
) -> None:
    """List policies.

    Parameters
    ----------
    status
        only those that stand so.
    limit
        how many at most.
    """
    found = list(caller.items("/v2/policies", limit=limit, status=status))
    columns = ("policy", "name", "of", "rule", "action")
    rows = (
        (each["id"], each["name"], each["activityKind"], each["rule"]["kind"], each["action"]["kind"]) for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, nothing="no policies"))


@policies.command
def show(policy: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a policy, as a file that update takes.

    Parameters
    ----------
    policy
        id of the policy.
    """
    found = caller.read(path_of("v2", "policies", policy))
    heading = facts(
        [
            ("policy", f"{found['id']}, {found['status']}, version {found.get('version')}"),
            ("changed", when(found.get("dateUpdated"))),
            ("waits", found.get("pendingChangeRequest", {}).get("approvalId")),
        ]
    )
    caller.tell(found, lambda: heading + "\n" + _text(found))


@policies.command
def create(file: Path, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Create a policy from a JSON file; it takes hold at once and counts what has left already.

    Parameters
    ----------
    file
        name, activityKind, rule, action and filters, as show prints them.
    """
    wanted = _read(file)
    caller.expect_key()
    caller.note(_diff({}, wanted))
    caller.confirm("Create this policy?", yes=yes)
    made = caller.write("POST", "/v2/policies", wanted)
    caller.tell(made, lambda: said(made, f"created {made['id']}"))


@policies.command
def update(policy: str, file: Path, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Replace a policy by what a JSON file says, after showing what changes.

    Parameters
    ----------
    policy
        id of the policy.
    file
        name, activityKind, rule, action and filters, as show prints them.
    """
    wanted = _read(file)
    caller.expect_key()
    found = caller.read(path_of("v2", "policies", policy))
    changes = _diff(found, wanted)
    if not changes:
        caller.tell(found, "the policy says that already: nothing was done\n")
        return
    caller.note(changes)
    caller.confirm("Change the policy so?", yes=yes)
    now = caller.read(path_of("v2", "policies", policy))
    if now.get("version") != found.get("version"):
        raise Conflict(
            f"the policy was changed meanwhile, to version {now.get('version')}: nothing was done; look at it again"
        )
    made = caller.write("PUT", path_of("v2", "policies", policy), wanted)
    caller.tell(made, lambda: said(made, f"{policy} is version {made.get('version')} now"))


@policies.command
def archive(policy: str, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Take a policy out of use.

    Parameters
    ----------
    policy
        id of the policy.
    """
    caller.expect_key()
    found = caller.read(path_of("v2", "policies", policy))
    caller.note(_text(found))
    caller.confirm("Take this policy out of use?", yes=yes)
    made = caller.write("DELETE", path_of("v2", "policies", policy))
    caller.tell(made, lambda: said(made, f"{policy} is archived"))


def _read(file: Path) -> dict[str, Any]:
    """Return a policy from a file; what only the server says of it is left out.

    Raises:
        InvalidInput: it is no JSON object.
    """
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise InvalidInput(f"{file} is not JSON: {error}", field="file") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} is not a JSON object", field="file")
    return {
        name: value
        for name, value in found.items()
        if name not in ("id", "status", "version", "dateCreated", "dateUpdated")
    }


def _text(policy: Mapping[str, Any]) -> str:
    """Return what a file says of a policy: the same for two that mean the same, with defaults written out.

    Raises:
        InvalidInput: it is no policy; ``field`` names what is wrong.
    """
    written = {name: policy[name] for name in WRITTEN if name in policy}
    meant = wire_document(parse_policy(written, id="", version=1, allow_empty=True))
    lines = json.dumps(meant, indent=2, sort_keys=True, ensure_ascii=False).split("\n")
    return "".join(one_line(line) + "\n" for line in lines)


def _diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the lines that go and come; empty if none do."""
    old, new = (_text(each).splitlines() if each else [] for each in (before, after))
    lines = list(difflib.unified_diff(old, new, n=2, lineterm=""))[2:]
    return "".join(_coloured(line) + "\n" for line in lines)


def _coloured(line: str) -> str:
    colour = {"+": "green", "-": "red"}.get(line[:1], "dim")
    return paint(line, colour, sys.stderr)
