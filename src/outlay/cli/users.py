"""``outlay users``: people: invite, register, vouch for, switch off, remove, give a way back in."""

import sys
from pathlib import Path
from typing import Any

from cyclopts import App

from outlay.cli.output import PRINTED, Output, Yes, facts, said, table, when
from outlay.cli.profile import FROM_PROFILE, Caller, Opaque, join_link, path_of
from outlay.core.errors import InvalidInput

users = App(name="users")


@users.command(name="list")
def list_people(*, limit: int = 500, caller: Caller = FROM_PROFILE) -> None:
    """List people, and whether their votes count.

    Parameters
    ----------
    limit
        how many at most.
    """
    found = list(caller.items("/auth/users", limit=limit))
    columns = ("user", "username", "state", "keys", "may vote")
    rows = (
        (each["userId"], each["username"], _state(each), len(each["credentials"]), "yes" if each["mayVote"] else "no")
        for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, right={"keys"}, nothing="nobody"))


def _state(user: dict[str, Any]) -> str:
    if not user["isRegistered"]:
        return "invited"
    return "active" if user["isActive"] else "off"


@users.command
def show(user: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a person: their keys with fingerprints, and what they may do.

    Parameters
    ----------
    user
        id of the person.
    """
    found = caller.read(path_of("auth", "users", user))
    caller.tell(found, lambda: told(found, _state(found)))


def told(user: dict[str, Any], state: str) -> str:
    """Return a person or service account in the words of the terminal."""
    pairs = [
        ("user", user["userId"]),
        ("name", user["username"]),
        ("state", state),
        ("may vote", "yes" if user["mayVote"] else "no: nobody vouches for a key of theirs"),
        ("externalId", user.get("externalId")),
    ]
    pairs += [(f"key {number}", _key(each)) for number, each in enumerate(user["credentials"], start=1)]
    pairs += [
        ("permission", f"{each['permissionId']} {each['permissionName']}") for each in user["permissionAssignments"]
    ]
    pairs += [("may", ", ".join(user["permissions"]) or "nothing")]
    return facts(pairs)


def _key(key: dict[str, Any]) -> str:
    off = "" if key["isActive"] else " (off)"
    return f"{key['name']}{off}: credential {key['credentialId']}, fingerprint {key['fingerprint']}"


@users.command
def invite(*, email: str, public_key: Path | None = None, caller: Caller = FROM_PROFILE) -> None:
    """Invite a person; prints their registration code and link, once.

    Parameters
    ----------
    email
        whom to invite.
    public_key
        PEM file of the person's public key: only it can take up the invitation, and it is vouched for at once.
    """
    named = {} if public_key is None else {"publicKey": public_key.read_text()}
    made = caller.write("POST", "/auth/users", {"email": email, "kind": "CustomerEmployee", **named})
    link = join_link(caller.identity, username=email, code=made["registrationCode"])
    shown = facts(
        [
            ("user", made["userId"]),
            ("code", made["registrationCode"]),
            ("link", link if public_key is None else None),
            ("or", f"outlay users register --url {caller.identity.url} --email {email} --code CODE --key-file KEY"),
        ]
    )
    caller.tell({**made, "link": link}, f"{shown}The code is shown this once: give it to nobody else.\n")


@users.command
def register(*, email: str, code: Opaque, url: str, key_file: Path, output: Output = PRINTED) -> None:
    """Take up an invitation: makes a key at the given path, or uses the one that is there; prints its fingerprint.

    Tell the fingerprint to the admin who invited you, by another way than the code came.

    Parameters
    ----------
    email
        as it was invited.
    code
        the registration code.
    url
        base URL of the server.
    key_file
        PEM file of your private key.
    """
    from outlay.client import register as take_up
    from outlay.client import write_new_key

    if not key_file.exists():
        write_new_key(key_file)
    with output.waiting(f"waiting for {url} …"):
        made = take_up(url, username=email, code=code, private_key=key_file.read_text())
    shown = facts(
        [
            ("user", made["user"]["id"]),
            ("credential", made["credentialId"]),
            ("fingerprint", made["fingerprint"]),
        ]
    )
    then = f"Next: outlay login --url {url} --username {email} --key-file {key_file}\n"
    output.tell(made, f"{shown}Tell the fingerprint to who invited you, by another way than the code came.\n{then}")


@users.command
def activate(user: str, /, *, fingerprint: list[str] | None = None, caller: Caller = FROM_PROFILE) -> None:
    """Switch a person on and vouch for the keys they registered: from now on what they sign counts.

    Shows the fingerprints on record and asks whether they are what the person told you, unless you give those.

    Parameters
    ----------
    user
        id of the person.
    fingerprint
        a fingerprint the person told you; once for each of their keys.
    """
    caller.expect_key()
    keys = caller.read(path_of("auth", "users", user))["credentials"]
    on_record = {each["fingerprint"]: each["name"] for each in keys}
    compare(on_record, fingerprint)
    # What was compared is signed: whoever changed what the server keeps gets no other key let in.
    made = caller.write("PUT", path_of("auth", "users", user, "activate"), {"fingerprints": sorted(on_record)})
    caller.tell(made, lambda: said(made, f"{user} is on, and what they sign counts"))


def compare(on_record: dict[str, str], told: list[str] | None) -> None:
    """Refuse to vouch for keys nobody compared.

    Raises:
        InvalidInput: the fingerprints are not exactly those told, or whoever was asked did not say yes.
    """
    if told:
        if {each.lower() for each in told} != set(on_record):
            raise InvalidInput(f"the keys on record are {', '.join(on_record) or 'none'}", field="fingerprint")
        return
    sys.stderr.write(facts((value, name) for value, name in on_record.items()))
    if not sys.stdin.isatty():
        raise InvalidInput("give the fingerprints the person told you, so that they are compared", field="fingerprint")
    sys.stderr.write("Are these, and no others, what the person told you? Type yes: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "yes":
        raise InvalidInput("not activated", field="fingerprint")


@users.command
def deactivate(user: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Switch a person off at once; their votes on what is open stop counting.

    Parameters
    ----------
    user
        id of the person.
    """
    made = caller.write("PUT", path_of("auth", "users", user, "deactivate"))
    caller.tell(made, said(made, f"{user} is off"))


@users.command
def remove(user: str, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Remove a person for good.

    Parameters
    ----------
    user
        id of the person.
    """
    caller.expect_key()
    found = caller.read(path_of("auth", "users", user))
    caller.confirm(f"Remove {found['username']} for good?", yes=yes)
    made = caller.write("DELETE", path_of("auth", "users", user))
    caller.tell(made, said(made, f"{found['username']} is removed"))


@users.command
def recover(user: str, /, *, reason: str, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Withdraw all keys of a person who lost them, and print a code for a new one, once.

    What is registered with the code counts once somebody vouched for it: outlay users activate.

    Parameters
    ----------
    user
        id of the person.
    reason
        how you know that it is them; it is signed and recorded.
    """
    caller.expect_key()
    found = caller.read(path_of("auth", "users", user))
    caller.note(told(found, _state(found)))
    caller.confirm("Withdraw all these keys?", yes=yes)
    made = caller.write("POST", path_of("v1", "users", user, "recovery"), {"reason": reason})
    link = join_link(caller.identity, code=made["code"])
    lines = facts([("code", made["code"]), ("link", link), ("good until", when(made["expiration"]))])
    told_once = f"{lines}The code is shown this once. Next, once it was used: outlay users activate {user}\n"
    caller.tell(made, told_once)
