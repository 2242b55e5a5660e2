"""The log of a live server: its anchors on another disk, and what happens when somebody cuts it off."""

from pathlib import Path

import pytest
from dfns_sdk import DfnsError

from outlay.cli import audit as cli
from outlay.cli.profile import Caller
from outlay.client import call
from outlay.evidence.audit_log import DECLARED, WHOLE, check, read_anchor
from tests import postgres
from tests.world import World, place_of, until

RECIPIENT = "0x" + "b0" * 20


def take_along(world: World, file: Path) -> Path:
    """Export the log as the admin."""
    cli.export(out=file, caller=caller(world, file.parent))
    return file


def caller(world: World, folder: Path) -> Caller:
    """Return the admin, as the commands take whoever calls."""
    (folder / "token").write_text(world.admin.token)
    (folder / "key.pem").write_text(world.admin.private_key)
    return Caller(
        url=world.url,
        token_file=folder / "token",
        key_file=folder / "key.pem",
        credential=world.admin.credential_id,
    )


def cut_off(where: Path | str, first: int) -> None:
    """Delete the end of the log, and every note of how far it was checked, behind the server's back."""
    if isinstance(where, Path):
        postgres.change(where, "DROP TRIGGER audit_entry_not_deleted")
    else:
        postgres.change(where, "ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_stays")
    postgres.change(where, "DELETE FROM audit_entry WHERE seq >= ?", first)
    postgres.change(where, "DELETE FROM audit_state")


@pytest.mark.ci
def test_a_log_that_was_cut_off_stops_the_server_until_a_person_has_looked(tmp_path: Path) -> None:
    anchors = tmp_path / "elsewhere.jsonl"
    with World.open(tmp_path, preset="none", extra=f'\n[audit]\nanchor_file = "{anchors}"\n') as world:
        bot, wallet = world.service_account("payouts bot"), world.wallet("hot")
        world.fund(wallet, coins=1, dollars=100)
        paid = world.pay(bot, wallet, RECIPIENT, 5, "one")
        world.wait_for(paid, "Confirmed")
        world.deployment.stop()
        newest = read_anchor(anchors.read_bytes().splitlines(keepends=True)[-1])[0]
        world.start()
        root = world.made["rootFingerprint"]
        assert check(take_along(world, tmp_path / "one.jsonl"), root=root, anchor=anchors) == WHOLE
        told = call(world.url, "GET", f"/v1/audit?subject={paid['id']}&order=oldest", token=world.admin.token)["items"]
        assert [each["action"] for each in told] == [
            "payout.requested",
            *(f"payout.{each}" for each in ("assigned", "signed", "sent", "mined", "paid")),
        ]
        assert told[0]["actor"] == bot.user_id and newest["seq"] >= told[-1]["seq"]
        world.kill()
        cut_off(place_of(world.deployment.directory), newest["seq"])
        world.start()
        assert "audit_broken" in world.log
        health = until(lambda: call(world.url, "GET", "/v1/health"), "an answer")
        assert health["admitting"] is False
        with pytest.raises(DfnsError) as refused:
            world.pay(bot, wallet, RECIPIENT, 5, "two")
        assert refused.value.status_code == 503 and refused.value.details["reason"] == "audit_broken"
        assert check(take_along(world, tmp_path / "two.jsonl"), root=root, anchor=anchors) == DECLARED
        cli.go_on(reason="the copy of last night is all there is", caller=caller(world, tmp_path))
        world.wait_for(world.pay(bot, wallet, RECIPIENT, 5, "two"), "Confirmed")
        world.restart()
        assert check(take_along(world, tmp_path / "three.jsonl"), root=root, anchor=anchors) == DECLARED
