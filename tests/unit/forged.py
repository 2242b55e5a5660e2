"""A rich chain of records, made by the real actions, and a forger who owns the database and some keys."""

import copy
import dataclasses
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from outlay.actions import lift, organization, pats, people, permissions, reseed, wallets
from outlay.config import parse
from outlay.core import ids
from outlay.core.asset import NATIVE
from outlay.core.operation import OPERATIONS
from outlay.core.seams import MINUTE
from outlay.evidence.assertion import Credential, parse_assertion
from outlay.evidence.attestation import fingerprint, key_attestation, new_key_pair
from outlay.evidence.bundle import evidence_document
from outlay.evidence.canonical import payload_digest
from outlay.evidence.challenge import Preimage, RegistrationPreimage, action_challenge, registration_challenge
from outlay.evidence.history import History, Replay, verify_history
from outlay.evidence.record import build_record, record_hash
from outlay.evidence.sign import sign_challenge
from outlay.store import organizations, stops
from outlay.store import wallets as wallet_rows
from tests import mandated
from tests.actions import joining
from tests.actions.documents import ALWAYS, BLOCK, REPORT, ask, cap, group, over
from tests.actions.seams import SeededEntropy
from tests.actions.world import NETWORK, SETTINGS, Actor, World

Record = dict[str, Any]
_SETS: dict[str, str] = {}
"""Digest of the policies in force, by hash of the record that changed them last."""


@dataclasses.dataclass(frozen=True)
class Signer:
    """A key, whoever holds it."""

    user_id: str
    uuid: str
    credential_id: str
    private_key: str
    public_key: str
    record: str | None  #: hash of the record that introduced it


@dataclasses.dataclass(frozen=True)
class Story:
    """A chain and what is needed to go on with it."""

    records: tuple[Record, ...]
    root: str
    admin: Signer
    settings: dict[str, Any]
    _walked: list[Replay] = dataclasses.field(default_factory=list, repr=False)

    def verify(self, records: Sequence[Record]) -> History:
        """Do as ``verify_history`` does; the records that are the story's own are walked once for all calls."""
        same = next((at for at, (one, own) in enumerate(zip(records, self.records, strict=False)) if one != own), None)
        replay = copy.deepcopy(self._after(min(len(records), len(self.records)) if same is None else same))
        for each in records[replay.newest + 1 :]:
            replay.add(each)
        return verify_history((), self.root) if replay.history is None else replay.history

    def _after(self, number: int) -> Replay:
        """Return the walk over the first ``number`` records of the story."""
        if not self._walked:
            self._walked.append(Replay(self.root))
        while len(self._walked) <= number:
            replay = copy.deepcopy(self._walked[-1])
            replay.add(self.records[len(self._walked) - 1])
            self._walked.append(replay)
        return self._walked[number]

    def of(self, kind: str) -> int:
        """Return the number of the first record of a kind."""
        return next(at for at, record in enumerate(self.records) if record["kind"] == kind)


def signer_of(actor: Actor, records: Sequence[Record]) -> Signer:
    """Return an actor's key as the records know it."""
    for record in records:
        key = record["body"].get("admin", record["body"])
        if key.get("credentialUuid") == actor.credential_uuid:
            return Signer(
                actor.user_id,
                actor.credential_uuid,
                actor.credential_id,
                actor.private_key,
                key["publicKey"],
                record_hash(record),
            )
    raise AssertionError("the records do not know this key")


@cache
def told(seed: int = 1) -> Story:
    """Return a chain that holds every kind of record that the actions write."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), preset="standard", seed=seed)
        try:
            live(world)
            with world.unit() as unit:
                records = tuple(organizations.read_records(unit))
        finally:
            world.close()
    return Story(records, world.root, signer_of(world.admin, records), world.config.money_settings())


def live(world: World) -> None:
    """Make every kind of record that the actions write."""
    bot, one = world.service_account("payouts bot"), world.person("approver@example.com")
    _manage_keys(world, world.admin)
    _manage_passkeys(world)
    late = world.person("late@example.com", vouched=False)
    _call(world, "PUT", f"/auth/users/{late.user_id}/activate", {}, "Auth:Users:Activate", late.user_id)
    wallet = world.wallet("payouts", "europe")
    world.tag(wallet, "asia", "europe")
    world.untag(wallet, "europe", "africa")
    world.drain(wallet)
    world.resume(wallet)
    world.archive_pool(world.pool("payouts"))
    _manage_wallet(world, wallet)
    given = mandated.document(treasury={"external": "0x" + "5a" * 20}, wallets={"walletIds": [wallet]})
    mandated.archive(world, mandated.create(world, given))
    policy = world.policy(over(10), BLOCK)
    world.replace_policy(policy, cap(1000), REPORT, tags=["payouts"])
    world.policy(ALWAYS, ask(group(one), timeout=5), only=[wallet])
    world.archive_policy(policy)
    archive = ("PUT", "/archive", {"isArchived": True})
    _manage_permission(world, bot, "payers", {"name": "payers of small sums"}, archive)
    _manage_permission(world, bot, "voters", {"operations": ["Wallets:Read"]}, ("DELETE", "", {}))
    path = f"/auth/service-accounts/{bot.user_id}"
    name = {"name": "payouts robot"}
    world.call(
        world.admin,
        "PUT",
        path,
        name,
        "Auth:ServiceAccounts:Update",
        lambda act: people.rename_service_account(act, bot.user_id, name=name["name"], external_id=None),
    )
    for actor, place in ((bot, "service-accounts"), (one, "users")):
        group_name = "ServiceAccounts" if place == "service-accounts" else "Users"
        path = f"/auth/{place}/{actor.user_id}"
        _call(world, "PUT", path + "/deactivate", {}, f"Auth:{group_name}:Deactivate", actor.user_id)
        _call(world, "PUT", path + "/activate", {}, f"Auth:{group_name}:Activate", actor.user_id)
        _call(world, "DELETE", path, {}, f"Auth:{group_name}:Delete", actor.user_id)
    world.config = parse(SETTINGS.replace('ETH = "2000"', 'ETH = "2500"'))
    settings = world.config.money_settings()
    world.call(
        world.admin,
        "PUT",
        "/v1/config",
        {"moneySettings": settings},
        "Config:Apply",
        lambda act: organization.apply_config(act, settings=settings),
    )


def _call(world: World, method: str, path: str, payload: Any, operation: str, user_id: str) -> None:
    """Switch somebody on or off, or delete them."""
    action = {"Activate": people.activate, "Deactivate": people.deactivate, "Delete": people.delete}
    chosen, machine = action[operation.rsplit(":", 1)[1]], "ServiceAccounts" in operation
    world.call(world.admin, method, path, payload, operation, lambda act: chosen(act, user_id, service_account=machine))


def _manage_keys(world: World, actor: Actor) -> None:
    """Add a key and a personal access token, switch them off and on, rename the token, remove both."""
    key, (pat, token_id) = world.second_key(actor), world.personal_token(actor, "Wallets:Read", seconds=60)
    for state in ("deactivate", "activate", "delete"):
        world.switch_key(actor, key.credential_uuid, state)
    path, name = f"/auth/pats/{token_id}", {"name": "reader"}
    world.call(
        actor, "PUT", path, name, None, lambda act: pats.rename(act, token_id, name=name["name"], external_id=None)
    )
    for state in ("deactivate", "activate", "delete"):
        world.switch_token(actor, token_id, state)
    assert pat.user_id == actor.user_id


def _manage_passkeys(world: World) -> None:
    """Add a passkey with a code; let somebody join with one, add another, lose both, and come back with a third.

    They sign their own making: of others nothing proves the maker, the counter and the page they were made on.
    """
    second = joining.take_up(world, world.admin, joining.code_of(world, world.admin), joining.passkey(), form="packed")
    for state in ("activate", "delete"):
        world.switch_key(world.admin, second.credential_uuid, state)
    who = joining.join(world, "phone@example.com", joining.passkey("Ed25519"), permitted=False, form="packed")
    joining.add(world, who, joining.passkey())
    back = joining.take_up(world, who, joining.recover(world, who), joining.passkey(), form="packed")
    joining.vouch(world, back)


def _manage_wallet(world: World, wallet: str) -> None:
    world.call(
        world.admin,
        "PUT",
        f"/wallets/{wallet}",
        {"name": "hot one", "externalId": None},
        "Wallets:Update",
        lambda act: wallets.rename(act, wallet, changes={"name": "hot one", "external_id": None}),
    )
    with world.unit() as unit:
        wallet_rows.freeze(unit, wallet, "test")
        wallet_rows.freeze_asset(unit, network=NETWORK, asset=NATIVE, reason="test", now=world.clock.now())
    why = "looked at it"
    world.call(
        world.admin,
        "PUT",
        f"/v1/wallets/{wallet}/unfreeze",
        {"reason": why},
        "Wallets:Unfreeze",
        lambda act: wallets.unfreeze(act, wallet, reason=why),
    )
    world.call(
        world.admin,
        "PUT",
        "/v1/assets/unfreeze",
        {"network": NETWORK, "asset": NATIVE, "reason": why},
        "Wallets:Unfreeze",
        lambda act: wallets.unfreeze_asset(act, network=NETWORK, asset=NATIVE, reason=why),
    )
    _let_go(world, wallet, why)


def _let_go(world: World, wallet: str, why: str) -> None:
    """Unfreeze a network, lift a freeze of the signer, and put its journal in place again."""
    freeze_id = ids.new_id(ids.FREEZE, world.entropy)
    with world.unit() as unit:
        stops.note_final(unit, NETWORK, number=1, hash="0x01")
        stops.freeze_network(unit, NETWORK, reason="test", now=world.clock.now())
        row = {"id": freeze_id, "scope": "wallet", "subject": wallet, "reason": "test", "at": world.clock.now()}
        stops.replace(unit, [row])
    network = {"network": NETWORK, "reason": why}
    world.call(
        world.admin,
        "PUT",
        "/v1/networks/unfreeze",
        network,
        "Outlay:Unfreeze",
        lambda act: lift.unfreeze_network(act, **network),
    )
    stop = {"scope": "wallet", "subject": wallet, "reason": why}
    path = f"/v1/freezes/{freeze_id}/lift"
    world.call(world.admin, "PUT", path, stop, "Outlay:Unfreeze", lambda act: lift.lift(act, freeze_id, **stop))
    seed = {"journalId": "journal-1", "minNonces": {wallet: 7}, "reason": why}
    world.call(
        world.admin,
        "PUT",
        "/v1/signer/reseed",
        seed,
        "Signer:Reseed",
        lambda act: reseed.reseed(act, journal_id="journal-1", min_nonces={wallet: 7}, reason=why),
    )


def _manage_permission(
    world: World, bot: Actor, name: str, changed: dict[str, Any], archive: tuple[str, str, dict[str, Any]]
) -> None:
    """Make a permission, give it, change it, take it back and archive it by one of two calls."""
    admin, operations = world.admin, ["Wallets:Transfers:Create", "Policies:Approvals:Approve"]
    made = world.call(
        admin,
        "POST",
        "/permissions",
        {"name": name, "operations": operations},
        "Permissions:Create",
        lambda act: permissions.create(act, name=name, operations=operations),
    )
    path, id = f"/permissions/{made['id']}", made["id"]
    given = world.call(
        admin,
        "POST",
        path + "/assignments",
        {"identityId": bot.user_id},
        "Permissions:Assign",
        lambda act: permissions.assign(act, id, identity_id=bot.user_id),
    )
    new_name, new_operations = changed.get("name"), changed.get("operations")
    world.call(
        admin,
        "PUT",
        path,
        changed,
        "Permissions:Update",
        lambda act: permissions.update(act, id, name=new_name, operations=new_operations),
    )
    taken = f"{path}/assignments/{given['id']}"
    world.call(admin, "DELETE", taken, {}, "Permissions:Revoke", lambda act: permissions.revoke(act, id, given["id"]))
    method, end, payload = archive
    world.call(admin, method, path + end, payload, "Permissions:Delete", lambda act: permissions.archive(act, id))


class Forger:
    """Whoever owns the database, and the keys they are given: goes on with a chain as they like."""

    def __init__(self, story: Story, length: int | None = None) -> None:
        """Start from the first ``length`` records of a story; all by default."""
        self.story = story
        self.records: list[Record] = copy.deepcopy(list(story.records[:length]))
        self.entropy = SeededEntropy(99)

    @property
    def head(self) -> str:
        return record_hash(self.records[-1])

    def new_id(self, prefix: str) -> str:
        return ids.new_id(prefix, self.entropy)

    def verify(self) -> History:
        return self.story.verify(self.records)

    def key(self, user_id: str) -> Signer:
        """Return a new key that no record knows."""
        private, public = new_key_pair()
        uuid = self.new_id(ids.CREDENTIAL)
        return Signer(user_id, uuid, f"name of {uuid}", private, public, None)

    def evidence(
        self, by: Signer, method: str, path: str, payload: Any, *, policy_set: str | None = None, **changes: Any
    ) -> dict[str, Any]:
        """Return a really signed call over the present head."""
        at = self.records[-1]["at"]
        fields: dict[str, Any] = {
            "org": self.records[0]["org"],
            "identity": by.user_id,
            "credentials": (by.uuid,),
            "method": method,
            "path": path,
            "payload_digest": payload_digest(payload),
            "records_head": self.head,
            "nonce": f"nonce {len(self.records)}",
            "issued": at,
            "expires": at + 15 * MINUTE,
        }
        preimage = Preimage(**{**fields, **changes})
        if policy_set is None:
            policy_set = self._policy_set()
        return evidence_document(
            preimage=preimage,
            assertion=parse_assertion(sign_challenge(by.private_key, by.credential_id, action_challenge(preimage))),
            credential=Credential(
                uuid=by.uuid,
                credential_id=by.credential_id,
                user_id=by.user_id,
                kind="Key",
                public_key=by.public_key,
            ),
            credential_record=by.record,
            payload=payload,
            policy_set=policy_set,
            origins=["http://localhost:8000"],
        )

    def _policy_set(self) -> str:
        """Return the digest of the policies in force, as the server would write it."""
        # Only these kinds change it, and verifying the whole chain for each signature takes most of the time.
        kinds = ("policy.created", "policy.updated", "policy.archived")
        newest = max((at for at, each in enumerate(self.records) if each["kind"] in kinds), default=0)
        key = record_hash(self.records[newest])
        if key not in _SETS:
            _SETS[key] = self.verify().policy_sets[-1][1]
        return _SETS[key]

    def append(self, kind: str, subject: str, body: Record, evidence: Record | None, **changes: Any) -> str:
        """Append a record and return its hash."""
        fields: dict[str, Any] = {
            "org": self.records[0]["org"],
            "seq": len(self.records),
            "prev": self.head,
            "kind": kind,
            "subject": subject,
            "at": self.records[-1]["at"],
            "body": body,
            "evidence": evidence,
        }
        self.records.append(build_record(**{**fields, **changes}))
        return self.head

    def say(self, by: Signer, method: str, path: str, payload: Any, kind: str, subject: str, body: Record) -> "Forger":
        """Append the record of a call signed by ``by``."""
        self.append(kind, subject, body, self.evidence(by, method, path, payload))
        return self

    def repeat(self, record: Record, by: Signer) -> "Forger":
        """Append a record of the story again, signed by ``by``."""
        signed = record["evidence"]
        call = signed["preimage"]["method"], signed["preimage"]["path"], signed["payload"]
        return self.say(by, *call, record["kind"], record["subject"], copy.deepcopy(record["body"]))

    def undo(self) -> None:
        """Take the newest record away."""
        self.records.pop()

    # People, made with the admin's key

    def person(self, operations: Sequence[str] | None = None, *, vouched: bool = True) -> Signer:
        """Let the admin invite a person and permit these operations; all by default."""
        admin, signer = self.story.admin, self.key(self.new_id(ids.USER))
        email, named = f"{signer.uuid}@example.com", signer.public_key if vouched else None
        payload = {"email": email, "kind": "CustomerEmployee", **({"publicKey": named} if vouched else {})}
        expires = self.records[-1]["at"] + 60 * MINUTE
        body: Record = {"username": email, "publicKey": named, "code": "0" * 64, "expires": expires}
        self.say(admin, "POST", "/auth/users", payload, "user.invited", signer.user_id, body)
        signer = dataclasses.replace(signer, record=self.register(signer, email, self.head))
        if operations is None or operations:
            permission = self.permission(OPERATIONS if operations is None else operations)
            self.assign(permission, signer.user_id)
        return signer

    def register(self, signer: Signer, email: str, invitation: str, **changes: Any) -> str:
        """Take up an invitation and return the record's hash."""
        at = self.records[-1]["at"]
        fields = {"org": self.records[0]["org"], "user_id": signer.user_id, "invitation": invitation, "nonce": "n"}
        preimage = RegistrationPreimage(**{**fields, "issued": at, "expires": at + 15 * MINUTE, **changes})
        challenge = registration_challenge(preimage)
        body = {
            "username": email,
            "credentialUuid": signer.uuid,
            "credentialId": signer.credential_id,
            "publicKey": signer.public_key,
            "fingerprint": fingerprint(signer.public_key),
            "preimage": preimage.document(),
            "attestation": key_attestation(signer.private_key, challenge, cred_id=signer.credential_id),
        }
        return self.append("user.registered", signer.user_id, body, None)

    def permission(self, operations: Sequence[str], by: Signer | None = None) -> str:
        """Name a set of operations and return its id."""
        permission_id = self.new_id(ids.PERMISSION)
        body = {"name": permission_id, "operations": sorted(operations)}
        by = by or self.story.admin
        self.say(by, "POST", "/permissions", body, "permission.created", permission_id, body)
        return permission_id

    def assign(self, permission_id: str, user_id: str, by: Signer | None = None) -> str:
        """Give a permission and return the assignment's id."""
        path, assignment_id = f"/permissions/{permission_id}/assignments", self.new_id(ids.ASSIGNMENT)
        body = {"assignmentId": assignment_id, "identityId": user_id}
        by = by or self.story.admin
        self.say(by, "POST", path, {"identityId": user_id}, "permission.assigned", permission_id, body)
        return assignment_id

    def switch(self, signer: Signer, state: str, by: Signer | None = None, **changes: Any) -> "Forger":
        """Activate, deactivate or delete a person."""
        path = f"/auth/users/{signer.user_id}" + ("" if state == "delete" else f"/{state}")
        body: Record = {"fingerprints": [fingerprint(signer.public_key)]} if state == "activate" else {}
        method = "DELETE" if state == "delete" else "PUT"
        kind = {"activate": "user.activated", "deactivate": "user.deactivated", "delete": "user.deleted"}[state]
        return self.say(by or self.story.admin, method, path, {}, kind, signer.user_id, {**body, **changes})
