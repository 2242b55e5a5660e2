"""People with passkeys at a real server: what a browser's page would call, call by call."""

import json
from dataclasses import dataclass, replace
from typing import Any

from outlay.core.seams import SECOND
from tests.door import Answer, Door
from tests.passkeys import Passkey

PARTY, ORIGIN = "localhost", "http://localhost:8000"


def passkey(kind: str = "P-256", **stated: Any) -> Passkey:
    """Return a new passkey of this server."""
    return Passkey.make(kind, relying_party=PARTY, origin=ORIGIN, **stated)


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody with a passkey."""

    user_id: str
    email: str
    passkey: Passkey
    uuid: str
    token: str = ""

    @property
    def named(self) -> dict[str, str]:
        """Return the body that names the passkey."""
        return {"credentialUuid": self.uuid}


def invite(door: Door, email: str) -> tuple[str, str]:
    """Invite a person and return id and code."""
    made = door.write(door.admin, "POST", "/auth/users", {"email": email, "kind": "CustomerEmployee"}).ok()
    return made["userId"], made["registrationCode"]


def begin(door: Door, email: str, code: str) -> Any:
    return door.call("POST", "/auth/registration/init", {"username": email, "registrationCode": code}).ok()


def finish(door: Door, begun: Any, info: Any, kind: str = "Fido2") -> Answer:
    body = {"firstFactorCredential": {"credentialKind": kind, "credentialInfo": info, "credentialName": "phone"}}
    return door.call("POST", "/auth/registration", body, token=begun["temporaryAuthenticationToken"])


def register(door: Door, email: str, key: Passkey, *, vouched: bool = True, form: str = "none") -> Person:
    """Let a person take up an invitation with a passkey."""
    user_id, code = invite(door, email)
    begun = begin(door, email, code)
    made = finish(door, begun, key.created(begun["challenge"], form=form)).ok()
    if vouched:
        door.write(door.admin, "PUT", f"/auth/users/{user_id}/activate").ok()
    return Person(user_id=user_id, email=email, passkey=key, uuid=made["credential"]["uuid"])


def begin_login(door: Door, email: str) -> Any:
    return door.call("POST", "/auth/login/init", {"username": email}).ok()


def answer_login(door: Door, begun: Any, factor: Any) -> Answer:
    body = {"challengeIdentifier": begun["challengeIdentifier"], "firstFactor": factor}
    return door.call("POST", "/auth/login", body)


def log_in(door: Door, who: Person) -> Person:
    begun = begin_login(door, who.email)
    return replace(who, token=answer_login(door, begun, who.passkey.used(begun["challenge"])).ok()["token"])


def person(door: Door, email: str, kind: str = "P-256") -> Person:
    return log_in(door, register(door, email, passkey(kind)))


def open_(door: Door, who: Person, method: str, path: str, payload: str = "") -> Any:
    body = {"userActionHttpMethod": method, "userActionHttpPath": path, "userActionPayload": payload}
    return door.call("POST", "/auth/action/init", body, token=who.token).ok()


def exchange(door: Door, who: Person, opened: Any, factor: Any) -> Answer:
    body = {"challengeIdentifier": opened["challengeIdentifier"], "firstFactor": factor}
    return door.call("POST", "/auth/action", body, token=who.token)


def write(door: Door, who: Person, method: str, path: str, body: Any = None) -> Answer:
    """Sign a call with the person's passkey and make it."""
    opened = open_(door, who, method, path, "" if body is None else json.dumps(body))
    action = exchange(door, who, opened, who.passkey.used(opened["challenge"])).ok()["userAction"]
    return door.call(method, path, body, token=who.token, action=action)


def code_for(door: Door, who: Person, **changes: Any) -> Any:
    body = {"expiration": door.clock.now() // SECOND + 3600, **changes}
    return write(door, who, "POST", "/auth/credentials/code", body)


def begin_with(door: Door, code: str, kind: str = "Fido2") -> Answer:
    return door.call("POST", "/auth/credentials/code/init", {"credentialKind": kind, "code": code})


def finish_with(door: Door, begun: Any, info: Any, kind: str = "Fido2") -> Answer:
    body = {
        "credentialKind": kind,
        "credentialInfo": info,
        "credentialName": "phone",
        "challengeIdentifier": begun["challengeIdentifier"],
    }
    return door.call("POST", "/auth/credentials/code/verify", body)
