"""Histories of a governed organization, by seed: whatever people ask for, agree on and switch off, in any order.

Everybody tries everything: several guards, guards of permissions, policies, keys, tokens, machines, wallets, settings.
Afterwards the chain is replayed and compared with the tables, and read once more here: whoever counts the votes in it
by hand must find the people and the wait behind every change of a policy.
"""

import collections
import dataclasses
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions import organization, permissions, policies
from outlay.config import parse
from outlay.core.errors import Refused, Unavailable
from outlay.core.policy import GOVERNING, POLICIES_MODIFY, AlwaysTrigger, Block, Policy, governs, required_groups
from outlay.core.policy_document import read_policy
from outlay.core.seams import HOUR, SECOND, Instant
from outlay.core.tighter import is_tighter
from outlay.evidence import record as records
from outlay.evidence.bundle import read_credential
from outlay.evidence.canonical import digest
from outlay.evidence.history import History, KnownCredential, verify_history
from outlay.store import organizations, schema
from outlay.store.database import Row, Unit
from tests import tools
from tests.actions.council import DAY_S, Council, ask, limit, written
from tests.actions.world import SETTINGS, Actor

STEPS, CHECK_EVERY = 40, 20
DELAY: Instant = DAY_S * SECOND
RESTORABLE: Instant = 72 * HOUR
ALWAYS, BLOCK, PASS = {"kind": "AlwaysTrigger"}, {"kind": "Block"}, {"kind": "NoAction"}
VOTE, EDIT = "Policies:Evaluations:Vote", "Policies:Update"
TAGS, OPERATIONS = ("payouts", "asia", "europe"), (VOTE, EDIT, "Wallets:Read")
FILES = {name: SETTINGS.replace('default = "allow"', f'default = "{name}"') for name in ("allow", "block")}
POLICY_KINDS = (records.POLICY_CREATED, records.POLICY_UPDATED, records.POLICY_ARCHIVED)
TALLY: collections.Counter[str] = collections.Counter()


class Life(Council):
    """An organization to which anything happens. The dice decide what; the tables say what there is to choose from."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.dice = random.Random(seed)
        super().__init__(folder, guarded=False, settings=FILES[self.dice.choice(("allow", "allow", "block"))])
        self.members = [self.admin, self.first, self.second, self.third]
        self.machines = [self.service_account("machine", permission_id=self.permission(VOTE))]
        self.keys: list[Actor] = []  #: second keys of members
        self.tokens: list[tuple[Actor, str]] = []  #: personal access tokens of members, with their ids
        shared = self.permission(*OPERATIONS)
        for member in self.dice.sample(self.members[1:], 2):
            self.assign(shared, member.user_id)
        self.drafts = [self.groups() for _ in range(3)]
        if self.dice.random() < 0.5:
            self.attempt(Life.guard_permissions, self.admin)
        self.create(written("Policies:Modify", ALWAYS, ask(*self.approvers, quorum=2), **self.policy_filter()))

    def live(self) -> None:
        """Let things happen, with votes and time between them."""
        for step in range(1, STEPS + 1):
            happening = self.dice.choice(HAPPENINGS)
            self.attempt(happening, self.anybody())
            for _ in range(self.dice.randint(1, 4)):
                self.attempt(Life.vote_somehow, self.dice.choice([*self.members, *self.members, *self.machines]))
            if self.dice.random() < 0.35:
                self.let_time_pass()
            if step % CHECK_EVERY == 0:
                self.check()

    def attempt(self, happening: "Callable[[Life, Actor], object]", by: Actor) -> None:
        """Do something that may be refused."""
        name = happening.__name__
        try:
            happening(self, by)
            TALLY[name] += 1
        except (Refused, Unavailable):
            TALLY[f"{name} refused"] += 1

    def let_time_pass(self) -> None:
        """Let the engine look at what is due until nothing is; perhaps restart the server with another file."""
        self.clock.at += self.dice.choice((1, 3600, 40_000, DAY_S, DAY_S)) * SECOND
        if self.dice.random() < 0.2:
            self.config = parse(FILES[self.dice.choice(("allow", "block"))])
        assert any(not self.expire() for _ in range(60)), "the engine finds something due for ever"
        for place, member in enumerate(self.members):
            try:
                self.members[place] = self.log_in(member)
            except Refused:
                TALLY["cannot log in"] += 1
        self.admin = self.members[0]

    # --- what there is to choose from -------------------------------------------------------------------------------

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> Sequence[Row]:
        with self.unit() as unit:
            return unit.execute(sa.select(table).where(*where).order_by(*table.primary_key.columns)).all()

    def some(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> str:
        """Return the id of some row, or one that nothing has."""
        found = self.rows(table, *where)
        return self.dice.choice(found).id if found else "none"

    def some_policy(self, kind: str) -> str:
        return self.some(schema.policy, schema.policy.c.status == "Active", schema.policy.c.activity_kind == kind)

    def anybody(self) -> Actor:
        """Return somebody with a bearer token: mostly a person."""
        others = [*self.machines, *(token for token, _ in self.tokens)]
        return self.dice.choice(others if self.dice.random() < 0.15 else self.members)

    def groups(self) -> dict[str, Any]:
        listed = self.dice.sample(self.members, self.dice.randint(2, 4))
        with_machines = self.dice.random() < 0.2
        if with_machines:
            listed.append(self.dice.choice(self.machines))
        return ask(
            *(each.user_id for each in listed),
            quorum=self.dice.randint(1, 2),
            timeout=self.dice.choice((None, None, 60, 2000)),
            initiatorCanApprove=self.dice.random() < 0.2,
            serviceAccountsCanApprove=with_machines,
        )

    def draft(self) -> dict[str, Any]:
        """Return groups that were asked before, perhaps: then what was agreed to before must not count again."""
        return self.dice.choice((*self.drafts, self.groups()))

    def policy_filter(self) -> dict[str, Any]:
        known = [row.id for row in self.rows(schema.policy)]
        few = self.dice.sample(known, self.dice.randint(1, min(2, len(known))))
        return self.dice.choice(({}, {}, {"policyId": {"in": few}}))

    def guard_document(self) -> dict[str, Any]:
        return written("Policies:Modify", ALWAYS, self.draft(), **self.policy_filter())

    def payout_document(self) -> dict[str, Any]:
        rule = self.dice.choice((limit(10), limit(100), limit(500), ALWAYS))
        action = self.dice.choice((BLOCK, BLOCK, PASS, self.groups()))
        tags = self.dice.choice((["payouts"], ["payouts"], self.dice.sample(TAGS, 2), None))
        return written("Wallets:Sign", rule, action, **({} if tags is None else {"walletTags": {"hasAny": tags}}))

    # --- what happens -----------------------------------------------------------------------------------------------

    def write(self, document: dict[str, Any], by: Actor) -> None:
        path, operation = "/v2/policies", "Policies:Create"
        self.call(by, "POST", path, document, operation, lambda act: policies.create(act, document))

    def write_guard(self, by: Actor) -> None:
        self.write(self.guard_document(), by)

    def edit_guard(self, by: Actor) -> None:
        self.replace(self.some_policy("Policies:Modify"), self.guard_document(), by=by)

    def write_policy(self, by: Actor) -> None:
        self.write(self.payout_document(), by)

    def edit_policy(self, by: Actor) -> None:
        self.replace(self.some_policy("Wallets:Sign"), self.payout_document(), by=by)

    def archive_policy_of_any_kind(self, by: Actor) -> None:
        self.archive(self.some(schema.policy, schema.policy.c.status == "Active"), by=by)

    def guard_permissions(self, by: Actor) -> None:
        kind = self.dice.choice(("Permissions:Modify", "Permissions:Assign"))
        filters = self.dice.choice(({}, {"permissionId": {"in": [self.some(schema.permission)]}}))
        self.write(written(kind, ALWAYS, self.dice.choice((self.draft(), self.draft(), BLOCK)), **filters), by)

    def edit_permission(self, by: Actor) -> None:
        permission_id = self.some(schema.permission, schema.permission.c.is_immutable.is_(False))
        operations = self.dice.sample(OPERATIONS, self.dice.randint(1, 3))
        payload = {"operations": operations}
        self.call(
            by,
            "PUT",
            f"/permissions/{permission_id}",
            payload,
            "Permissions:Update",
            lambda act: permissions.update(act, permission_id, name=None, operations=operations),
        )

    def assign_permission(self, by: Actor) -> None:
        self.assign(self.some(schema.permission), self.some(schema.user), by=by)

    def revoke_permission(self, by: Actor) -> None:
        row = self.dice.choice(self.rows(schema.assignment))
        self.call(
            by,
            "DELETE",
            f"/permissions/{row.permission_id}/assignments/{row.id}",
            {},
            "Permissions:Revoke",
            lambda act: permissions.revoke(act, row.permission_id, row.id),
        )

    def retag_wallet(self, _by: Actor) -> None:
        tags = self.dice.sample(TAGS, self.dice.randint(1, 2))
        self.dice.choice((self.tag, self.untag))(self.some(schema.wallet), *tags)

    def make_wallet(self, _by: Actor) -> None:
        self.wallet(*self.dice.sample(TAGS, self.dice.randint(0, 2)), dollars=0)

    def switch_member(self, by: Actor) -> None:
        self.switch(self.dice.choice(self.members).user_id, self.dice.random() < 0.5, by=by)

    def make_machine(self, _by: Actor) -> None:
        permission_id = self.some(schema.permission)
        self.machines.append(self.service_account(f"machine {len(self.machines)}", permission_id=permission_id))

    def switch_machine(self, by: Actor) -> None:
        self.switch(self.dice.choice(self.machines).user_id, self.dice.random() < 0.7, machine=True, by=by)

    def make_key(self, _by: Actor) -> None:
        self.keys.append(self.second_key(self.dice.choice(self.members)))

    def switch_a_key(self, _by: Actor) -> None:
        key = self.dice.choice([*self.keys, *self.members])
        (by,) = (member for member in self.members if member.user_id == key.user_id)
        state = self.dice.choice(("activate", "activate", "activate", "deactivate", "delete"))
        self.switch_key(by, key.credential_uuid, state)

    def make_token(self, _by: Actor) -> None:
        self.tokens.append(
            self.personal_token(self.dice.choice(self.members), seconds=self.dice.choice((None, 90_000)))
        )

    def switch_a_token(self, _by: Actor) -> None:
        if self.tokens:
            token, token_id = self.dice.choice(self.tokens)
            (by,) = (member for member in self.members if member.user_id == token.user_id)
            self.switch_token(by, token_id, self.dice.choice(("activate", "activate", "deactivate", "delete")))

    def apply_settings(self, by: Actor) -> None:
        wanted = parse(FILES[self.dice.choice(("allow", "block"))]).money_settings()
        payload = {"moneySettings": wanted}
        self.call(
            by,
            "PUT",
            "/v1/config",
            payload,
            "Config:Apply",
            lambda act: organization.apply_config(act, settings=wanted),
        )

    def vote_somehow(self, by: Actor) -> None:
        """Vote on a change that waits, mostly one of the newest, sometimes with another key."""
        waiting = self.rows(schema.change_request, schema.change_request.c.status == "Pending")
        if not waiting:
            return
        row = self.dice.choice(sorted(waiting, key=lambda each: (each.created_at, each.id))[-4:])
        others = [key for key in self.keys if key.user_id == by.user_id]
        if others and self.dice.random() < 0.2:
            by = dataclasses.replace(self.dice.choice(others), claims=by.claims)
        self.vote({"approvalId": row.approval_id}, by, "Approved" if self.dice.random() < 0.93 else "Denied")

    # --- what must hold ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Replay the chain, compare it with the tables, and count the votes by hand."""
        with self.unit() as unit:
            documents = list(organizations.read_records(unit))
            history = verify_history(documents, self.root)
            assert told(history) == stored(unit)
            check_ends(unit)
        check_policies(documents, history)
        check_somebody_is_left(history)


HAPPENINGS: Sequence[Callable[[Life, Actor], None]] = (
    Life.write_guard,
    *[Life.edit_guard] * 2,
    Life.write_policy,
    *[Life.edit_policy] * 3,
    *[Life.archive_policy_of_any_kind] * 2,
    Life.guard_permissions,
    *[Life.edit_permission] * 2,
    Life.assign_permission,
    *[Life.revoke_permission] * 2,
    *[Life.retag_wallet] * 2,
    Life.make_wallet,
    *[Life.switch_member] * 2,
    Life.make_machine,
    Life.switch_machine,
    Life.make_key,
    *[Life.switch_a_key] * 2,
    Life.make_token,
    Life.switch_a_token,
    Life.apply_settings,
)


# The chain and the tables


def told(history: History) -> dict[str, Any]:
    """Return what the records say, in the form of ``stored``."""
    people, keys = history.identities, history.credentials
    return {
        "head": history.head,
        "settings": digest(history.money_settings),
        "policies": {key: (each.is_active, each.version, each.document) for key, each in history.policies.items()},
        "people": {
            key: (each.is_active, any(known.vouched_since is not None for known in each.keys))
            for key, each in people.items()
        },
        "keys": {key: (not known.key_states or known.key_states[-1][1]) for key, known in keys.items()},
        "deleted keys": {key for key, known in keys.items() if known.is_deleted},
        "permissions": {
            key: set() if each.is_archived else set(each.operations[-1][1]) for key, each in history.permissions.items()
        },
        "assignments": {
            (grant.identity_id, grant.permission_id)
            for each in people.values()
            for grant in each.grants
            if grant.until is None
        },
        "tags": {key: each.tags for key, each in history.wallets.items()},
        "waiting": set(history.waiting),
    }


def stored(unit: Unit) -> dict[str, Any]:
    """Return what the tables say."""

    def everything(table: sa.Table) -> Sequence[Row]:
        return unit.execute(sa.select(table)).all()

    (org,) = everything(schema.organization)
    tags = everything(schema.wallet_tag)
    keys = everything(schema.credential)
    return {
        "head": org.head,
        "settings": org.money_settings,
        "policies": {
            row.id: (row.status == "Active", row.version, document_of(row)) for row in everything(schema.policy)
        },
        "people": {row.id: (row.is_active, row.may_vote) for row in everything(schema.user)},
        "keys": {row.id: row.is_active for row in keys},
        "deleted keys": {row.id for row in keys if row.deleted_at is not None},
        "permissions": {
            row.id: set() if row.is_archived else set(row.operations) for row in everything(schema.permission)
        },
        "assignments": {(row.identity_id, row.permission_id) for row in everything(schema.assignment)},
        "tags": {
            row.id: frozenset(each.tag for each in tags if each.wallet_id == row.id)
            for row in everything(schema.wallet)
        },
        "waiting": {row.id for row in everything(schema.change_request) if row.status == "Pending"},
    }


def document_of(row: Row) -> dict[str, Any]:
    document = {"name": row.name, "activityKind": row.activity_kind, "rule": row.rule, "action": row.action}
    return document if row.filters is None else {**document, "filters": row.filters}


def check_ends(unit: Unit) -> None:
    """Every change request that does not wait has ended once, and told so; its approval with it."""
    event, approval = schema.event, schema.approval
    ended = unit.execute(sa.select(event.c.subject).where(event.c.kind == "change.resolved")).scalars()
    times = collections.Counter(ended)
    asking = set(unit.execute(sa.select(approval.c.change_id).where(approval.c.status == "Pending")).scalars())
    for row in unit.execute(sa.select(schema.change_request)):
        waits = row.status == "Pending"
        assert times[row.id] == (0 if waits else 1), f"{row.id}, {row.status}, ended {times[row.id]} times"
        assert (row.id in asking) == waits, f"{row.id} is {row.status}, and its approval is not"


# The people and the wait behind every change of a policy


@dataclasses.dataclass(frozen=True)
class Vote:
    """An approval as its record tells it."""

    user_id: str
    key: KnownCredential
    groups: list[dict[str, Any]]  #: those it was signed over
    at: Instant


def check_policies(documents: Sequence[Mapping[str, Any]], history: History) -> None:
    """Find the quorum and the wait of every change of a policy that somebody guards."""
    said: dict[str, list[tuple[Instant, Policy | None]]] = {}
    votes: dict[str, list[Vote]] = collections.defaultdict(list)
    requesters: dict[str, str] = {}
    for document in documents:
        kind, subject, body, at = (document[name] for name in ("kind", "subject", "body", "at"))
        change_id = None
        if kind == records.CHANGE_REQUESTED:
            requesters[subject] = read_credential(document["evidence"]["credential"])[0].user_id
        elif kind == records.CHANGE_DECIDED and body["value"] == "Approved":
            key = history.credentials[read_credential(document["evidence"]["credential"])[0].uuid]
            votes[subject].append(Vote(key.credential.user_id, key, body["groups"], at))
        elif kind == records.CHANGE_APPLIED:
            change_id, kind, body = body["change"], body["kind"], body["body"]
        if kind not in POLICY_KINDS:
            continue
        versions, last = said.setdefault(subject, []), document["seq"] - 1
        before = versions[-1][1] if versions else None
        after = None if kind == records.POLICY_ARCHIVED else policy_of(subject, body)
        default = str(history.settings_at(last)["default"])
        guards = [
            policy_of(key, {**each.document, "version": each.version})
            for key, each in history.policies_at(last).items()
            if each.document["activityKind"] == POLICIES_MODIFY
        ]
        asked = [each for each in guards if is_guarded_by(each, before, after, default)]
        if asked:
            assert change_id is not None, f"record {last + 1} needed people and had none"
            agreed = quorum_at(asked, votes[change_id], requesters[change_id], history, last)
            assert agreed is not None, f"record {last + 1} did not have enough people"
            if is_looser(before, after, default) and not is_restored(versions, after, at):
                assert at >= agreed + DELAY, f"record {last + 1} loosens and did not wait"
                TALLY["loosened after its wait"] += 1
            elif is_looser(before, after, default):
                TALLY["restored"] += 1
            else:
                TALLY["tightened by agreement"] += 1
        versions.append((at, after))


def policy_of(policy_id: str, body: Mapping[str, Any]) -> Policy:
    document = {name: value for name, value in body.items() if name != "version"}
    return read_policy(document, id=policy_id, version=body["version"])


def is_guarded_by(guard: Policy, before: Policy | None, after: Policy | None, default: str) -> bool:
    if before is not None:
        return guard.id == before.id or governs(guard, policy_id=before.id)
    assert after is not None
    return after.activity_kind in GOVERNING or is_looser(None, after, default)


def is_looser(before: Policy | None, after: Policy | None, default: str) -> bool:
    """Tell whether more may get through; where the default is to block, a new policy may open what it is about."""
    if before is not None:
        return after is None or not is_tighter(before, after, default=default)
    assert after is not None
    blocks = isinstance(after.rule, AlwaysTrigger) and isinstance(after.action, Block)
    return after.activity_kind not in GOVERNING and default == "block" and not blocks


def is_restored(versions: Sequence[tuple[Instant, Policy | None]], wanted: Policy | None, now: Instant) -> bool:
    """Tell whether ``wanted`` is what the policy said before it was only tightened, all of it in the last 72 hours."""
    for place in range(len(versions) - 1, -1, -1):
        at, after = versions[place]
        before = versions[place - 1][1] if place else None
        if at < now - RESTORABLE or (before is not None and (after is None or not is_tighter(before, after))):
            return False
        if nameless(before) == nameless(wanted):
            return True
    return False


def nameless(policy: Policy | None) -> Policy | None:
    return None if policy is None else dataclasses.replace(policy, name="", version=0)


def quorum_at(
    guards: Sequence[Policy], votes: Sequence[Vote], requester: str, history: History, last: int
) -> Instant | None:
    """Return when the last group had enough votes of people and keys in use at record ``last``; None: one has not."""
    reached: list[Instant] = []
    for guard in guards:
        groups = list(required_groups([guard]))
        valid = [
            vote
            for vote in votes
            if [group for group in vote.groups if group["policyId"] == guard.id] == groups
            and vote.key.usable_at(last)
            and history.may(vote.user_id, VOTE, last)
        ]
        for group in groups:
            instants: dict[str, Instant] = {}
            for vote in valid:
                if is_in(group, vote.user_id, requester, history):
                    instants.setdefault(vote.user_id, vote.at)
            if len(instants) < group["quorum"]:
                return None
            reached.append(sorted(instants.values())[int(group["quorum"]) - 1])
    return max(reached)


def is_in(group: Mapping[str, Any], user_id: str, requester: str, history: History) -> bool:
    """Tell whether a group lets this identity agree to what ``requester`` asks for."""
    machine_may = not history.identities[user_id].is_machine or group["serviceAccountsCanApprove"]
    listed = user_id in group["approvers"]["userId"]["in"]
    return listed and machine_may and (user_id != requester or group["initiatorCanApprove"])


# Nobody is locked out


def check_somebody_is_left(history: History) -> None:
    """Somebody can ask for another guard, and enough others can agree to it."""
    last = len(history.instants) - 1
    guards = [
        policy_of(key, {**each.document, "version": each.version})
        for key, each in history.policies_at(last).items()
        if each.document["activityKind"] == POLICIES_MODIFY
    ]
    groups, voters, askers = required_groups(guards), holders(history, VOTE, last), holders(history, EDIT, last)
    left = any(
        all(sum(is_in(group, voter, asker, history) for voter in voters) >= group["quorum"] for group in groups)
        for asker in askers
    )
    assert left, f"{askers} can ask and {voters} can agree: not enough for {groups}"


def holders(history: History, operation: str, last: int) -> Collection[str]:
    """Return who can use ``operation`` with a key of their own."""
    return sorted(
        {
            known.credential.user_id
            for known in history.credentials.values()
            if known.token_id is None
            and not known.is_deleted
            and known.usable_at(last)
            and history.may(known.credential.user_id, operation, last)
        }
    )


def test_no_history_gets_around_the_people_who_have_to_agree(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    TALLY.clear()
    for number in range(tools.examples(12)):
        seed = f"{request.config.getoption('--hypothesis-seed')} {number}"
        print(f"seed {seed}")
        folder = tmp_path / str(number)
        folder.mkdir()
        life = Life(folder, seed)
        life.live()
        for row in life.rows(schema.change_request):
            TALLY[row.status] += 1
        life.close()
    # Histories in which nothing is ever agreed on, waited for or denied would prove nothing.
    for what in ("Applied", "Rejected", "loosened after its wait", "tightened by agreement", "restored"):
        assert TALLY[what] > 0, (what, TALLY)
