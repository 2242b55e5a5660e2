"""Attacks by somebody who can write to the database (F121, F122): what the server, the doctor and a replay notice.

Only what is noticed is tested. A server that runs on edited rows of policies, people or votes still acts on them
until a signer of its own checks the evidence; what these edits leave behind fails the replay from the pinned root.
"""

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from outlay.actions import permissions, policies
from outlay.app import Application, Role, initialize
from outlay.cli import doctor
from outlay.config import load, parse
from outlay.core.errors import InvariantBroken, OutlayError
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.bundle import EvidenceBroken, verify_evidence
from outlay.evidence.history import verify_history
from outlay.layout import Layout
from outlay.signer.keystore import Keystore
from outlay.signing import open_signer
from outlay.store import approvals, evidence, organizations, users
from outlay.store import permissions as permission_rows
from outlay.store import policies as policy_rows
from outlay.system import SystemClock
from tests.actions.documents import ALWAYS, BLOCK, ask, cap, group, policy_document
from tests.actions.world import SETTINGS, Actor, World
from tests.attacks.attacker import refused
from tests.door import CONFIGURATION, Door, Who, transfer
from tests.signer_process.stub import Served


def records(world: World) -> list[dict[str, Any]]:
    with world.unit() as unit:
        return list(organizations.read_records(unit))


def evidence_of(world: World, subject: str) -> dict[str, Any]:
    with world.unit() as unit:
        (document,) = evidence.of(unit, subject)
    return document


def decision_of(world: World, transfer_id: str) -> str:
    approval = world.approval(transfer_id)
    with world.unit() as unit:
        (decision,) = approvals.decisions(unit, approval.id)
    return str(decision.id)


def proves(world: World, document: dict[str, Any]) -> None:
    """Walk from the pinned root to a signature, as an auditor does without the database.

    Raises:
        RecordBroken, EvidenceBroken: it does not hold.
    """
    history = verify_history(records(world), world.root)
    preimage = verify_evidence(document)
    history.signer(document, preimage)
    history.check_policy_set(document["policySet"], history.numbers[preimage.records_head])


# The roster


def test_a_key_is_added_to_an_approver(world: World, bot: Actor, one: Actor) -> None:
    """The attacker writes a key of their own under an approver's name and votes with it (F122).

    No record introduces the key, so no vote with it proves anything.
    """
    private, public = new_key_pair()
    with world.unit() as unit:
        users.add_credential(
            unit,
            id="cr-00000-00000-0000000000000000",
            credential_id="added",
            user_id=one.user_id,
            kind="Key",
            name="added",
            public_key=public,
            is_active=True,
            record=world.root,
            created_at=1,
        )
    paid = held(world, bot, one)
    added = replace(one, private_key=private, credential_id="added", credential_uuid="cr-00000-00000-0000000000000000")
    world.decide(added, paid)
    with pytest.raises(EvidenceBroken, match="do not know"):
        proves(world, evidence_of(world, decision_of(world, paid)))


def test_an_approvers_key_is_replaced(world: World, bot: Actor, one: Actor) -> None:
    """The attacker puts their key in the place of the approver's (F122)."""
    private, public = new_key_pair()
    with world.unit() as unit:
        users.update_credential(unit, one.credential_uuid, public_key=public)
    paid = held(world, bot, one)
    world.decide(replace(one, private_key=private), paid)
    with pytest.raises(EvidenceBroken, match="do not know"):
        proves(world, evidence_of(world, decision_of(world, paid)))


def test_somebody_is_vouched_for_in_the_database(world: World, bot: Actor) -> None:
    """The attacker was invited, registered, and marks their own key as vouched for (F122)."""
    stranger = world.person("stranger@example.com", vouched=False)
    with world.unit() as unit:
        users.update(unit, stranger.user_id, may_vote=True)
    paid = held(world, bot, stranger)
    world.decide(stranger, paid)
    with pytest.raises(EvidenceBroken, match="vouched"):
        proves(world, evidence_of(world, decision_of(world, paid)))


def test_somebody_switched_off_is_switched_on_in_the_database(world: World, bot: Actor, one: Actor) -> None:
    """The attacker was removed as an approver and undoes that in the database (F47, F122)."""
    paid = held(world, bot, one)
    world.deactivate(one)
    with world.unit() as unit:
        users.update(unit, one.user_id, is_active=True)
    world.decide(one, paid)
    with pytest.raises(EvidenceBroken, match="withdrawn"):
        proves(world, evidence_of(world, decision_of(world, paid)))


def test_a_permission_is_given_in_the_database(world: World) -> None:
    """The attacker gives a person a permission in the database and has them change a policy (F121, F122)."""
    person = world.person("plain@example.com")
    world.call(
        world.admin,
        "DELETE",
        *_revocation(world, person),
    )
    with world.unit() as unit:
        permission_rows.assign(
            unit,
            id="as-00000-00000-0000000000000000",
            permission_id=world._full_access,
            identity_id=person.user_id,
            is_immutable=False,
            created_at=1,
            updated_at=1,
        )
    document = policy_document(ALWAYS, BLOCK)
    world.call(person, "POST", "/v2/policies", document, "Policies:Create", lambda act: policies.create(act, document))
    with pytest.raises(EvidenceBroken, match="not permitted"):
        verify_history(records(world), world.root)


def _revocation(world: World, person: Actor) -> tuple[str, dict[str, Any], str, Callable[[Any], Any]]:
    with world.unit() as unit:
        (held_by,) = permission_rows.held_by(unit, person.user_id)
    path = f"/permissions/{held_by.permission_id}/assignments/{held_by.assignment_id}"
    return (
        path,
        {},
        "Permissions:Revoke",
        lambda act: permissions.revoke(act, held_by.permission_id, held_by.assignment_id),
    )


def held(world: World, bot: Actor, *people: Actor) -> str:
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(*people)), only=[wallet])
    return str(world.pay(bot, wallet, 5)["id"])


# Policies


@pytest.mark.parametrize("how", ["archived", "another version", "a new one"])
def test_the_set_of_policies_is_edited(world: World, bot: Actor, how: str) -> None:
    """The attacker takes a policy out in the database, or puts one in (F121).

    Every payout names the policies that were in force; the records say that these never were.
    """
    wallet = world.wallet()
    policy = world.policy(cap(10), BLOCK, only=[wallet])
    with world.unit() as unit:
        if how == "archived":
            policy_rows.update(unit, policy, status="Archived")
        elif how == "another version":
            policy_rows.update(unit, policy, version=7, action={"kind": "NoAction"})
        else:
            policies.insert_policy(
                unit, "plc-00000-00000-0000000000000000", policy_document(ALWAYS, {"kind": "NoAction"}), now=1
            )
    paid = world.pay(bot, wallet, 5)["id"]
    with pytest.raises(EvidenceBroken, match="policies that were not in force"):
        proves(world, evidence_of(world, paid))


# Evidence and records


@pytest.mark.parametrize("member", ["amount", "to", "externalId", "contract"])
def test_the_evidence_of_a_payout_is_edited(world: World, bot: Actor, member: str) -> None:
    """The attacker rewrites what was asked for, in the evidence as in the row (F122)."""
    paid = world.pay(bot, world.wallet(), 5)["id"]
    document = evidence_of(world, paid)
    proves(world, document)
    payload = {**document["payload"], member: {"amount": "9" * 9, "to": "0x" + "99" * 20}.get(member, "0x" + "77" * 20)}
    with pytest.raises(EvidenceBroken):
        proves(world, {**document, "payload": payload})


def test_a_denial_is_edited_into_an_approval(world: World, bot: Actor, one: Actor) -> None:
    """The attacker turns a recorded denial into an approval (F122)."""
    paid = held(world, bot, one)
    world.decide(one, paid, "Denied")
    document = evidence_of(world, decision_of(world, paid))
    assert document["payload"] == {"value": "Denied"}
    with pytest.raises(EvidenceBroken):
        proves(world, {**document, "payload": {"value": "Approved"}})


def test_the_evidence_of_one_vote_is_filed_under_another(world: World, bot: Actor, one: Actor) -> None:
    """The attacker files a genuine approval of a small payout under a large one (F122)."""
    small, large = held(world, bot, one), held(world, bot, one)
    world.decide(one, small)
    document = evidence_of(world, decision_of(world, small))
    proves(world, document)  # genuine, and it says what it is about
    assert document["preimage"]["intentDigest"] == world.row(small).intent_digest != world.row(large).intent_digest
    assert world.approval(large).id not in document["preimage"]["path"]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Make a deployment as ``outlay init`` does."""
    layout = Layout(tmp_path_factory.mktemp("deployment") / "var")
    config = parse(CONFIGURATION)
    initialize(layout, CONFIGURATION, config, preset="standard", admin="admin", admin_public_key=None)
    return layout


@pytest.fixture
def edit(deployment: Layout) -> Iterator[Callable[..., None]]:
    """Return what writes to the deployment's database; undone afterwards."""
    kept = deployment.database.read_bytes()

    def run(sql: str, *parameters: Any) -> None:
        with sqlite3.connect(deployment.database) as connection:
            connection.execute("PRAGMA foreign_keys=OFF")
            connection.execute(sql, parameters)
        connection.close()

    yield run
    for path in deployment.data.glob("outlay.db*"):
        path.unlink()
    deployment.database.write_bytes(kept)


def said_by_doctor(layout: Layout, capsys: pytest.CaptureFixture[str]) -> str:
    doctor.examine(layout.root)
    return capsys.readouterr().out


EDITS = {
    "a limit": "UPDATE record SET document = replace(document, '100000', '900000')",
    "an action": "UPDATE record SET document = replace(document, 'Block', 'NoAction')",
    "the admin's key": "UPDATE record SET document = replace(document, 'MCowBQYDK2Vw', 'MCowBQYDK2Vx')",
    "all of them": "DELETE FROM record",
    "the root": "UPDATE organization SET root = replace(root, substr(root, 1, 1), 'z')",
    "the newest one, dropped": "UPDATE organization SET head = '" + "ab" * 32 + "', head_seq = 1",
}


@pytest.mark.parametrize("what", EDITS)
def test_the_records_are_edited(
    deployment: Layout,
    edit: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """The attacker edits the records, drops the newest, or edits the root they are checked with (F121)."""
    monkeypatch.setattr(Keystore, "open", lambda *_: None)  # takes a second, and is not what is looked at
    assert "records are in order and signed" in said_by_doctor(deployment, capsys)
    edit(EDITS[what])
    said = said_by_doctor(deployment, capsys)
    assert "records are in order and signed" not in said
    assert "✗ organization" in said


async def test_the_organization_is_founded_anew(deployment: Layout, edit: Callable[..., None]) -> None:
    """The attacker puts a database with a genesis, an admin and policies of their making in the place of ours.

    The signer's journal belongs to the old root, so nothing is served, and nothing signed (F121).
    """
    edit("UPDATE organization SET root = ?", "cd" * 32)
    config = load(deployment.config)
    application = Application(deployment, role=Role.WORKER)
    async with Served(open_signer(deployment, config, SystemClock()), deployment.socket(config)):
        with pytest.raises(InvariantBroken, match="journal"):
            await application._may_begin()
    await application.stop()


# What the database cannot give


def test_used_challenges_are_forgotten(door: Door, payer: Who, path: str) -> None:
    """The attacker empties the table of used challenges and replays: the payout's own name is still taken (F122)."""
    body = transfer()
    action = door.sign(payer, "POST", path, body)
    made = door.call("POST", path, body, token=payer.token, action=action).ok()
    door.execute("DELETE FROM spent_nonce")
    assert door.call("POST", path, body, token=payer.token, action=action).ok()["id"] == made["id"]
    assert door.rows("SELECT count(*) FROM transfer WHERE external_id = ?", body["externalId"]) == [(1,)]


def test_a_session_is_made_in_the_database(door: Door) -> None:
    """The attacker writes a token's row for the admin: without the sealing key no token goes with it (F122)."""
    token = door.rows("SELECT * FROM token WHERE user_id = ? LIMIT 1", door.admin.user_id)
    assert token
    claims = {"jti": token[0][0], "sub": door.admin.user_id, "exp": 2**40, "secret": "x"}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)
    ]
    for forged in (".".join([*parts, ""]), ".".join([*parts, "eA"]), door.admin.token.rsplit(".", 1)[0] + "."):
        refused(door.call("GET", "/wallets", token=forged), 401, "not_authenticated")


def test_the_settings_are_changed_in_the_file_alone(world: World, bot: Actor) -> None:
    """The attacker edits prices in the configuration, to have large payouts valued as small ones (F121)."""
    wallet = world.wallet()
    world.policy(cap(100), BLOCK)
    world.config = parse(SETTINGS.replace('USDC = "1"', 'USDC = "0.001"'))
    with pytest.raises(OutlayError, match="not the signed ones"):
        world.pay(bot, wallet, 5000)
