"""``outlay passkeys``: a passkey added beside a key file, as the first admin does it, listed and removed."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.cli import passkeys
from outlay.cli.profile import Caller
from outlay.core.errors import Unavailable
from outlay.evidence.attestation import fingerprint
from tests.cli.commands import Ran, outlay, profile_of
from tests.door import Door, open_door_now
from tests.e2e.passkey_calls import Person, begin_with, finish_with, log_in, passkey
from tests.passkeys import Passkey


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door_now(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture
def profile(door: Door, tmp_path: Path) -> Path:
    return profile_of(door, door.admin, tmp_path)


def use(door: Door, link: str, key: Passkey) -> Any:
    """Do what the page behind a link does."""
    begun = begin_with(door, link.partition("#code=")[2]).ok()
    return finish_with(door, begun, key.created(begun["challenge"])).ok()


def add(door: Door, profile: Path, key: Passkey, *words: str, **more: Any) -> Ran:
    """Run ``passkeys add`` while somebody uses the link as soon as there is one."""
    ran: list[Ran] = []
    command = threading.Thread(target=lambda: ran.append(outlay(profile, "passkeys", "add", *words, **more)))
    codes = "SELECT record FROM credential_code"
    before = door.rows(codes)
    linked: list[str] = []
    tell_each = Caller.tell_each

    def listen(self: Any, document: Any, text: str) -> None:
        linked.append(document.get("link", ""))
        tell_each(self, document, text)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(passkeys, "POLL_S", 0.02)
        patched.setattr(Caller, "tell_each", listen)
        command.start()
        while not linked and command.is_alive():
            command.join(0.02)
        if linked:
            assert door.rows(codes) != before
            use(door, linked[0], key)
        command.join(20)
    return ran[0]


def test_the_first_admin_gets_a_passkey(door: Door, profile: Path) -> None:
    key = passkey("Ed25519")
    ran = add(door, profile, key, typed="yes\n")
    assert ran.code == 0, ran.err
    assert "http://localhost:8000/dashboard/join#code=" in ran.out
    assert fingerprint(key.public_pem) in ran.err
    assert "is on: sign in with it at http://localhost:8000/dashboard" in ran.out
    log_in(door, Person(user_id="", email="admin", passkey=key, uuid=""))
    listed = outlay(profile, "passkeys", "list", "--json").document["items"]
    made = next(each for each in listed if each["credentialId"] == key.cred_id)
    shown = outlay(profile, "passkeys", "list").ok()
    assert made["credentialUuid"] in shown and fingerprint(key.public_pem) in shown and "key file" in shown
    gone = outlay(profile, "passkeys", "remove", made["credentialUuid"], "--yes")
    assert gone.ok() == "phone is removed\n"
    assert outlay(profile, "passkeys", "remove", made["credentialUuid"], "--yes").code == 4


def test_a_script_adds_one_without_waiting(door: Door, profile: Path) -> None:
    key = passkey()
    made = outlay(profile, "passkeys", "add", "--no-wait", "--json").document
    new = use(door, made["link"], key)
    assert new["isActive"] is False
    assert outlay(profile, "passkeys", "activate", new["credentialUuid"]).code == 2, "nobody can be asked"
    outlay(profile, "passkeys", "activate", new["credentialUuid"], "--yes").ok()
    log_in(door, Person(user_id="", email="admin", passkey=key, uuid=""))


def test_another_fingerprint_is_not_switched_on(door: Door, profile: Path) -> None:
    """Somebody else used the link."""
    stolen = passkey()
    ran = add(door, profile, stolen, typed="no\n")
    assert ran.code == 1
    assert "nothing was done" in ran.err
    listed = outlay(profile, "passkeys", "list", "--json").document["items"]
    assert [each["isActive"] for each in listed if each["credentialId"] == stolen.cred_id] == [False]


def test_a_link_that_nobody_used_adds_nothing(profile: Path) -> None:
    caller = Caller(profile=profile)
    before = {each["credentialUuid"] for each in passkeys._keys(caller)}
    with pytest.raises(Unavailable, match="nobody used the link in its time"):
        passkeys._wait_for(caller, before, until=0)
