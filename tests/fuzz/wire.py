"""Calls over HTTP for the fuzz run: connections, signatures, and the identifiers that calls have found."""

import collections
import http.client
import json
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outlay.evidence.keys import PrivateKey, load_private_key
from outlay.evidence.sign import sign_challenge
from tests.world import Identity

ID = re.compile(r"([a-z]+)-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{14,16}")
ADMIN, POWERLESS, UNSIGNED, NOBODY = "admin", "powerless", "unsigned", "nobody"
"""Who calls: with every permission; without any; an admin who does not sign; without a token."""

RECIPE = "recipe"
"""Calls made as a client makes them, by whoever it takes."""

OWN = ("/auth/credentials", "/auth/pats")
"""Paths about the caller's own keys and tokens."""


IDLE_S = 2.0
"""Seconds after which a connection is not used again."""


@dataclass(frozen=True)
class Sent:
    """One call and its answer."""

    label: str  #: method and path template
    mode: str  #: how the data were made
    caller: str
    target: str
    body: bytes | None
    is_signed: bool
    status: int
    content_type: str
    raw: bytes

    def __str__(self) -> str:
        """Return what a person needs to repeat it."""
        answer, body = self.raw.decode(errors="replace")[:400], repr(self.body)[:400]
        return f"{self.label} ({self.mode}, {self.caller}) {self.target} {body} -> {self.status} {answer}"


class Client:
    """The connection of one thread to the server."""

    def __init__(self, port: int) -> None:
        """Open nothing yet."""
        self._port = port
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0
        self._keys: dict[str, PrivateKey] = {}

    def send(
        self, method: str, target: str, body: bytes | None, token: str = "", action: str = ""
    ) -> tuple[int, str, bytes]:
        """Make one call and return status, content type and body."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["content-type"] = "application/json"
        if action:
            headers["x-dfns-useraction"] = action
        # The server hangs up on who says nothing for five seconds, which data that is slow to make may take.
        idle, self._used = time.monotonic() - self._used, time.monotonic()
        if self._connection is None or idle > IDLE_S:
            self.close()
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            self._connection.request(method, target, body, headers)
            answer = self._connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()  # the next call is not to suffer for this one
            raise
        if answer.will_close:
            self.close()
        return answer.status, answer.headers.get("content-type", ""), raw

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def post(self, path: str, body: object, token: str = "") -> Any:
        """Make one call that must succeed and return its parsed answer."""
        status, _, raw = self.send("POST", path, json.dumps(body).encode(), token)
        assert status == 200, f"{path}: {status} {raw.decode(errors='replace')[:400]}"
        return json.loads(raw)

    def answer(self, who: Identity, opened: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body that answers a challenge."""
        key = self._keys.setdefault(who.credential_id, load_private_key(who.private_key))
        factor = sign_challenge(key, who.credential_id, opened["challenge"])
        return {"challengeIdentifier": opened["challengeIdentifier"], "firstFactor": factor}

    def sign(self, who: Identity, method: str, target: str, body: bytes | None) -> str:
        """Return a user-action token for a call; empty if no challenge is to be had for it."""
        intent = {
            "userActionHttpMethod": method,
            "userActionHttpPath": target,
            "userActionPayload": (body or b"").decode(errors="replace"),
        }
        status, _, raw = self.send("POST", "/auth/action/init", json.dumps(intent).encode(), who.token)
        assert status in (200, 400, 413), raw
        if status != 200:
            return ""
        return str(self.post("/auth/action", self.answer(who, json.loads(raw)), who.token)["userAction"])

    def log_in(self, who: Identity, org_id: str) -> str:
        """Return a new bearer token."""
        opened = self.post("/auth/login/init", {"username": who.username, "orgId": org_id})
        return str(self.post("/auth/login", self.answer(who, opened))["token"])


def pool_name(prefix: str, template: str) -> str:
    """Return where identifiers are kept: people and machines apart, and one's own keys and tokens from others'."""
    if prefix == "us" and "service-accounts" in template:
        return "us of machines"
    return f"{prefix} of our own" if prefix in ("cr", "to") and template.startswith(OWN) else prefix


@dataclass
class Found:
    """Identifiers that answers have named, by ``pool_name``, so that later calls find something."""

    keep: Mapping[str, int]  #: prefix -> how many are remembered, where not 200
    hidden: set[str]  #: identifiers that no call may be about
    known: dict[str, collections.deque[str]] = field(default_factory=lambda: collections.defaultdict(collections.deque))
    within: dict[str, dict[str, str]] = field(default_factory=dict)  #: id -> what it belongs to, by parameter name
    lock: threading.Lock = field(default_factory=threading.Lock)

    def learn(self, answer: object, call: Mapping[str, str], template: str = "") -> list[str]:
        """Keep every identifier in an answer to a call with these path parameters; return those now too many."""
        surplus: list[str] = []
        if isinstance(answer, dict):
            texts = {name: value for name, value in answer.items() if isinstance(value, str) and ID.fullmatch(value)}
            for value in texts.values():
                surplus += self._add(value, {**call, **texts}, template)
        for each in answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list) else ():
            surplus += self.learn(each, call, template)
        return surplus

    def _add(self, known_id: str, within: dict[str, str], template: str) -> list[str]:
        prefix = known_id.partition("-")[0]
        surplus: list[str] = []
        with self.lock:
            self.within.setdefault(known_id, within)
            for name in {prefix, pool_name(prefix, template)}:
                ids = self.known[name]
                if known_id not in self.hidden and known_id not in ids:
                    ids.append(known_id)
                    surplus += [ids.popleft()] if len(ids) > self.keep.get(prefix, 200) else []
        return surplus

    def drop(self, known_id: str) -> None:
        """Forget an identifier of something that was removed."""
        with self.lock:
            for ids in self.known.values():
                if known_id in ids:
                    ids.remove(known_id)

    def pick(self, name: str, dice: random.Random) -> str | None:
        """Return one of the identifiers."""
        with self.lock:
            ids = self.known[name]
            return ids[dice.randrange(len(ids))] if ids else None

    def fill(self, names: Mapping[str, str], dice: random.Random) -> dict[str, str]:
        """Return path parameters (name -> pool, outer first) that belong together, as far as any are known."""
        if not names:
            return {}
        *outer, inner = names
        found = self.pick(names[inner], dice)
        if found is None:
            return self.fill({name: names[name] for name in outer}, dice)
        belongs = self.within.get(found, {})
        return {**{name: belongs[name] for name in outer if name in belongs}, inner: found}

    def exchange(self, value: Any, dice: random.Random) -> Any:
        """Return a body with every identifier in it exchanged for one that exists, if there is any of its kind."""
        if isinstance(value, dict):
            return {name: self.exchange(each, dice) for name, each in value.items()}
        if isinstance(value, list):
            made = [self.exchange(each, dice) for each in value]
            return list(dict.fromkeys(made)) if all(isinstance(each, str) for each in made) else made
        match = ID.fullmatch(value) if isinstance(value, str) else None
        return (self.pick(match[1], dice) or value) if match else value
