"""``outlay passkeys``: keys that live in browsers, added to the key file of whoever is logged in here."""

import time
from typing import Any

from cyclopts import App

from outlay.cli.output import Yes, facts, said, table, when
from outlay.cli.profile import FROM_PROFILE, Caller, Opaque, join_link, path_of
from outlay.core.errors import NotFound, Unavailable

passkeys = App(name="passkeys")

POLL_S = 2.0
"""Seconds between two looks at whether the passkey is there."""

_OWN = "/auth/credentials"


@passkeys.command(name="list")
def list_keys(*, caller: Caller = FROM_PROFILE) -> None:
    """List your keys: passkeys, and the key files of terminals."""
    found = _keys(caller)
    rows = (
        (each["credentialUuid"], each["name"], _KINDS[each["kind"]], "on" if each["isActive"] else "off", _print(each))
        for each in found
    )
    caller.tell({"items": found}, lambda: table(("key", "name", "kind", "state", "fingerprint"), rows, nothing="none"))


_KINDS = {"Fido2": "passkey", "Key": "key file"}


def _keys(caller: Caller) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = caller.read(_OWN)["items"]
    return items


def _print(key: dict[str, Any]) -> str:
    from outlay.evidence.keys import fingerprint

    return fingerprint(key["publicKey"])


@passkeys.command
def add(*, minutes: int = 60, wait: bool = True, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Add a passkey of a browser: prints a link, waits for it to be used, and switches the passkey on.

    The link holds a code that is good once. Open it in the browser that is to have the passkey, and compare the
    fingerprint that it shows with the one printed here: whoever else used the link has another.

    Parameters
    ----------
    minutes
        how long the link is good; at most seven days.
    wait
        wait until the link was used; else switch the passkey on with outlay passkeys activate.
    """
    caller.expect_key()
    before = {each["credentialUuid"] for each in _keys(caller)}
    made = caller.write("POST", f"{_OWN}/code", {"expiration": int(time.time()) + 60 * minutes})
    who = caller.identity
    made["link"] = join_link(who, code=made["code"])
    opened = facts([("link", made["link"]), ("good until", when(made["expiration"]))])
    if not wait:
        caller.tell(made, f"{opened}Next, once it was used: outlay passkeys list, outlay passkeys activate\n")
        return
    caller.tell_each(made, f"{opened}Open the link in the browser that is to have the passkey. Waiting …\n")
    key = _wait_for(caller, before, until=time.monotonic() + 60 * minutes)
    caller.note(facts([("passkey", f"{key['credentialUuid']} {key['name']}"), ("fingerprint", _print(key))]))
    caller.confirm("Does the browser show this fingerprint?", yes=yes)
    answer = _switch_on(caller, key)
    caller.tell_each(
        {**answer, "credentialUuid": key["credentialUuid"], "fingerprint": _print(key)},
        said(answer, f"the passkey {key['name']} is on: sign in with it at {made['link'].partition('/join')[0]}"),
    )


def _wait_for(caller: Caller, before: set[str], *, until: float) -> dict[str, Any]:
    """Return the passkey that was registered with the code.

    Raises:
        Unavailable: nobody used the link in its time.
    """
    while True:
        new = [each for each in _keys(caller) if each["credentialUuid"] not in before and not each["isActive"]]
        if new:
            return new[0]
        if time.monotonic() > until:
            raise Unavailable("nobody used the link in its time: nothing was added", hint="Begin again.")
        time.sleep(POLL_S)


def _switch_on(caller: Caller, key: dict[str, Any]) -> dict[str, Any]:
    # What was compared is signed: whoever changed what the server keeps gets no other key let in.
    compared = {"credentialUuid": key["credentialUuid"], "fingerprint": _print(key)}
    return caller.write("PUT", f"{_OWN}/activate", compared)


@passkeys.command
def activate(key: Opaque, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Switch one of your keys on, once you have compared its fingerprint.

    Parameters
    ----------
    key
        id of the key, as outlay passkeys list shows it.
    """
    found = _own(caller, key)
    caller.note(facts([("key", f"{key} {found['name']}"), ("fingerprint", _print(found))]))
    caller.confirm("Does the browser show this fingerprint?", yes=yes)
    answer = _switch_on(caller, found)
    caller.tell(answer, said(answer, f"{found['name']} is on"))


@passkeys.command
def remove(key: Opaque, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Remove one of your keys for good; what it signed and nobody has acted on stops counting.

    Parameters
    ----------
    key
        id of the key, as outlay passkeys list shows it. The key that signs here removes others, never itself.
    """
    found = _own(caller, key)
    caller.confirm(f"Remove {found['name']} for good?", yes=yes)
    answer = caller.write("DELETE", path_of("auth", "credentials", key))
    caller.tell(answer, said(answer, f"{found['name']} is removed"))


def _own(caller: Caller, key: str) -> dict[str, Any]:
    caller.expect_key()
    found = next((each for each in _keys(caller) if each["credentialUuid"] == key), None)
    if found is None:
        raise NotFound("no such key of yours", hint="outlay passkeys list shows them.")
    return found
