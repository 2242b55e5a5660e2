"""Attacks on secrets: whoever reads a log, an answer, a copy of the database or of the data directory (F126)."""

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from outlay.app import initialize
from outlay.cli.logs import set_up_logs
from outlay.config import parse
from outlay.core import faultpoint
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.layout import Layout
from tests.attacks.attacker import calls
from tests.door import CONFIGURATION, Answer, Door, Who, transfer

CANARY = "canary-9f41c7d2"


@dataclass(frozen=True)
class Told:
    """What was handed out once, and to whom it was meant to be shown again."""

    bearers: dict[str, str]
    codes: dict[str, str]
    webhook: str
    private: dict[str, str]
    action: str

    def everything(self) -> dict[str, str]:
        """Return every secret that is nobody's to read again."""
        return {**self.bearers, **self.codes, **self.private, "webhook": self.webhook, "action": self.action}


def _body_of(pem: str) -> str:
    """Return the first line of a key's own bytes."""
    return next(line for line in pem.splitlines() if line and not line.startswith("-"))


@pytest.fixture(scope="module")
def told(door: Door, payer: Who, path: str) -> Told:
    """Have every kind of secret made."""
    body = {"url": "https://example.com/hook", "events": ["*"]}
    hook = door.write(door.admin, "POST", "/webhooks", body).ok()
    invite = {"email": "canary@example.com", "kind": "CustomerEmployee"}
    code = door.write(door.admin, "POST", "/auth/users", invite).ok()["registrationCode"]
    begun = door.call(
        "POST", "/auth/registration/init", {"username": "canary@example.com", "registrationCode": code}
    ).ok()
    person = door.person("secretive@example.com")
    return Told(
        bearers={"admin": door.admin.token, "payer": payer.token, "person": person.token},
        codes={"registration code": code, "temporary token": begun["temporaryAuthenticationToken"]},
        webhook=hook["secret"],
        private={name: _body_of(who.private) for name, who in (("key of the payer", payer), ("key", person))},
        action=door.sign(payer, "POST", path, transfer()),
    )


def test_somebody_may_read_everything_but_no_secret(door: Door, told: Told) -> None:
    """The attacker may make every read there is: no answer holds what was shown once."""
    listed = []
    for method, target, _, _ in calls(door):
        if method != "GET":
            continue
        listed.append(door.get(target))
    for target in ("/auth/users", "/auth/service-accounts", "/webhooks", "/auth/credentials", "/v1/config"):
        found = door.get(target).ok()
        for item in found.get("items", []) if isinstance(found, dict) else []:
            name = item.get("id") or item.get("userId") or item.get("userInfo", {}).get("userId")
            if name:
                listed.append(door.get(f"{target}/{name}"))
    shown = b"".join(answer.raw for answer in listed).decode()
    assert len(shown) > 2000
    for name, secret in told.everything().items():
        assert secret not in shown, name
    assert "registrationCode" not in shown and 'accessToken"' not in shown


def test_a_copy_of_the_database_holds_no_key_to_anything(door: Door, told: Told) -> None:
    """The attacker copied the database file: tokens, codes and private keys are not in it, only their hashes.

    A webhook's secret has to be: deliveries are signed with it. It opens nothing here.
    """
    path = Path(door.gate.db.path)
    raw = b"".join(file.read_bytes() for file in path.parent.glob("outlay.db*"))
    assert len(raw) > 100_000
    ring = json.loads((path.parent / "sealing-keys.json").read_text())
    keys = {f"sealing key {at}": text for at, text in enumerate(_long_texts(ring))}
    assert keys
    claims = [_claims(token)["secret"] for token in told.bearers.values()]
    secrets = {**told.everything(), **keys, **{f"secret of token {at}": text for at, text in enumerate(claims)}}
    del secrets["webhook"]
    for name, secret in secrets.items():
        assert secret.encode() not in raw, name
        assert _decoded(secret) not in raw, name


def _claims(token: str) -> dict[str, str]:
    part = token.split(".")[1]
    claims: dict[str, str] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def _long_texts(document: object) -> Iterator[str]:
    if isinstance(document, str) and len(document) > 20:
        yield document
    elif isinstance(document, dict):
        for value in document.values():
            yield from _long_texts(value)


def _decoded(secret: str) -> bytes:
    """Return what a secret in base64url stands for; of other secrets, something that is nowhere."""
    if re.fullmatch(r"[A-Za-z0-9_-]{20,}", secret) is None:
        return b"\x00not there\x00" + secret.encode()
    return base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Log as ``outlay serve`` does, into what the test can read."""
    before, written = structlog.get_config(), io.StringIO()
    set_up_logs()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=written))
    yield written
    structlog.configure(**before)
    faultpoint.install(None)


def test_a_crash_writes_secrets_into_the_log(door: Door, payer: Who, path: str, told: Told, log: io.StringIO) -> None:
    """The attacker reads the logs and makes requests crash: a trace without values, and an answer without a trace."""

    def crash(label: str) -> None:
        raise RuntimeError("a bug")

    body = transfer(externalId=CANARY)
    action = door.sign(payer, "POST", path, body)
    faultpoint.install(crash)
    answer = door.call("POST", path, body, token=payer.token, action=action)
    faultpoint.install(None)
    assert answer.status == 500
    written = log.getvalue()
    assert answer.body["error"]["id"] in written and "RuntimeError" in written
    for shown in (written, answer.raw.decode()):
        for name, secret in {**told.everything(), "action token": action}.items():
            assert secret not in shown, name
        assert CANARY not in shown
    assert b"a bug" not in answer.raw and b"Traceback" not in answer.raw


def test_what_is_refused_is_repeated(door: Door, payer: Who, path: str, log: io.StringIO) -> None:
    """The attacker has a victim send a secret to the wrong place: neither answer nor log repeats it."""
    private, _ = new_key_pair()
    info = key_attestation(private, "x")
    answers: list[Answer] = [
        door.call("GET", "/wallets", token=CANARY),
        door.call("POST", path, transfer(), token=payer.token, action=CANARY),
        door.call("POST", "/auth/registration/init", {"username": "x", "registrationCode": CANARY}),
        door.call(
            "POST",
            "/auth/registration",
            {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": info}},
            token=CANARY,
        ),
        door.call("POST", "/auth/login", {"challengeIdentifier": CANARY, "firstFactor": {}}),
        door.call("POST", "/auth/action", {"challengeIdentifier": CANARY, "firstFactor": {}}, token=payer.token),
        door.write(door.admin, "POST", "/auth/service-accounts", {"name": "leaky", "publicKey": private}),
        door.call("POST", path, transfer(amount=CANARY), token=payer.token, action="x"),
    ]
    shown = log.getvalue() + "".join(answer.raw.decode() for answer in answers)
    assert all(400 <= answer.status < 500 for answer in answers)
    assert CANARY not in shown
    assert _body_of(private) not in shown


def test_texts_of_objects_show_secrets(door: Door, told: Told) -> None:
    """The attacker reads a debugger's or an error tracker's output: what holds a secret does not print it."""
    shown = repr(door.gate) + repr(door.gate.seals) + repr(door.admin) + str(vars(door.gate.db))
    for name, secret in told.everything().items():
        assert secret not in shown, name


def test_a_copy_of_the_data_directory_opens_nothing(tmp_path: Path) -> None:
    """The attacker has a backup of the data directory: what unlocks it lies elsewhere, readable by its owner only."""
    layout = Layout(tmp_path / "deployment")
    made = initialize(layout, CONFIGURATION, parse(CONFIGURATION), preset="none", admin="admin", admin_public_key=None)
    secrets = {path.name: path.read_bytes().strip() for path in layout.secrets.iterdir()}
    assert len(secrets) == 4
    data = b"".join(path.read_bytes() for path in layout.data.rglob("*") if path.is_file())
    for name, secret in secrets.items():
        pieces = [_body_of(secret.decode()).encode()] if b"-----" in secret else [secret]
        pieces = [text.encode() for text in _long_texts(json.loads(secret))] if name.endswith(".json") else pieces
        for piece in pieces:
            assert piece not in data, name
    assert made.token.encode() not in data
    for path in layout.secrets.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name
    for folder in (layout.root, layout.data, layout.secrets):
        assert folder.stat().st_mode & 0o077 == 0, folder.name
