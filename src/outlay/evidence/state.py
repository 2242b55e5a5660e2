"""What a verified chain of records says: keys, people, permissions, policies, wallets, money settings.

``history`` fills it record by record. Whatever a signature may be older than (who could sign, who was permitted, which
policies were in force) is kept with the record number it begins at; the rest as the newest record leaves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from outlay.core.mandate import Mandate
from outlay.core.personal_token import token_operations
from outlay.core.policy import POLICIES_MODIFY
from outlay.core.recurring import Recurring
from outlay.evidence.assertion import Credential
from outlay.evidence.bundle import EvidenceBroken, read_credential
from outlay.evidence.canonical import digest
from outlay.evidence.challenge import Preimage
from outlay.evidence.keys import fingerprint
from outlay.evidence.record import CLOCKS_APART

T = TypeVar("T")


@dataclass(slots=True)
class Identity:
    """A person or a service account."""

    is_machine: bool
    states: list[tuple[int, bool]] = field(default_factory=list)  #: (record number, active from then on)
    is_deleted: bool = False
    keys: list["KnownCredential"] = field(default_factory=list)
    grants: list["Grant"] = field(default_factory=list)  #: also those that were revoked

    @property
    def is_active(self) -> bool:
        """Whether the identity is switched on after the newest record."""
        return not self.is_deleted and (not self.states or self.states[-1][1])

    def active_at(self, seq: int) -> bool:
        """Tell whether the identity was switched on right after record ``seq``."""
        return _at(self.states, seq, True)


@dataclass(slots=True)
class KnownCredential:
    """A key the records introduced, and when it could sign."""

    credential: Credential
    record: str  #: hex hash of the record that introduced it
    fingerprint: str  #: hex SHA-256 of the SPKI bytes
    vouched_since: int | None  #: number of the record by which somebody vouched for it; None: nobody yet
    user_states: list[tuple[int, bool]]  #: the list of its identity
    key_states: list[tuple[int, bool]] = field(default_factory=list)  #: the same of the key itself
    is_deleted: bool = False
    token_id: str | None = None  #: of the personal access token it belongs to
    limit: str | None = None  #: id of the permission that bounds the token; None: its holder's permissions do
    expires: int | None = None  #: microseconds UTC, of the token

    def usable_at(self, seq: int) -> bool:
        """Tell whether the key was active and vouched for right after record ``seq``."""
        if self.vouched_since is None or self.vouched_since > seq:
            return False
        # Switching a person on again does not bring back a key that was withdrawn for itself.
        return _at(self.user_states, seq, True) and _at(self.key_states, seq, True)


@dataclass(frozen=True, slots=True)
class OpenCode:
    """A one-time code by which somebody can register one credential."""

    record: str  #: hash of the record that gave it
    expires: int  #: microseconds UTC
    is_recovery: bool  #: its holder has no other key: somebody else has to vouch for the new one


@dataclass(slots=True)
class Permission:
    """A named set of operations."""

    name: str
    operations: list[tuple[int, frozenset[str]]]  #: (record number, operations from then on); none once archived
    is_immutable: bool = False
    is_archived: bool = False


@dataclass(slots=True)
class Grant:
    """A permission given to an identity."""

    permission_id: str
    identity_id: str
    since: int  #: record number
    until: int | None = None  #: number of the record that revoked it


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of a policy, as a record wrote it."""

    number: int  #: of the record
    at: int  #: microseconds UTC
    version: int
    document: dict[str, Any]  #: as ``core.policy_document.stored_document`` writes it
    is_active: bool = True


@dataclass(slots=True)
class KnownPolicy:
    """A policy and everything it has said; the newest version last."""

    versions: list[PolicyVersion]

    @property
    def version(self) -> int:
        """The newest version's number."""
        return self.versions[-1].version

    @property
    def document(self) -> dict[str, Any]:
        """What the newest version says."""
        return self.versions[-1].document

    @property
    def is_active(self) -> bool:
        """Whether it is in force after the newest record."""
        return self.versions[-1].is_active


@dataclass(slots=True)
class KnownWallet:
    """A hot wallet as its records describe it."""

    network: str
    chain_id: int
    address: str  #: as recorded
    public_key: str  #: hex
    tag_states: list[tuple[int, frozenset[str]]]  #: (record number, tags from then on)

    @property
    def tags(self) -> frozenset[str]:
        """The tags after the newest record."""
        return self.tag_states[-1][1]

    def tags_at(self, seq: int) -> frozenset[str]:
        """Return the tags right after record ``seq``."""
        return _at(self.tag_states, seq, frozenset())


@dataclass(slots=True)
class KnownPool:
    """A pool as its records describe it: every wallet of its chain that carries its tag."""

    network: str
    chain_id: int
    tag: str
    since: int  #: record number
    until: int | None = None  #: number of the record that archived it

    def holds(self, wallet: KnownWallet, seq: int) -> bool:
        """Tell whether a wallet was in the pool right after record ``seq``."""
        place = (wallet.network, wallet.chain_id)
        return place == (self.network, self.chain_id) and self.tag in wallet.tags_at(seq)

    def holds_since(self, wallet: KnownWallet, seq: int) -> bool:
        """Tell whether a wallet was in the pool right after record ``seq``, and after each later one."""
        later = [tags for number, tags in wallet.tag_states if number > seq]
        return self.holds(wallet, seq) and all(self.tag in tags for tags in later)


@dataclass(slots=True)
class KnownMandate:
    """A mandate as its records describe it."""

    mandate: Mandate | Recurring
    since: int  #: record number
    until: int | None = None  #: number of the record that archived it


def _at(steps: list[tuple[int, T]], seq: int, otherwise: T) -> T:
    """Return the newest value of ``steps`` that began at record ``seq`` or before."""
    return next((value for number, value in reversed(steps) if number <= seq), otherwise)


@dataclass(frozen=True, slots=True)
class Reseed:
    """People put a signer's journal in place again after the one before was lost."""

    number: int  #: of the record; what was asked for over earlier ones is asked for again
    at: int  #: microseconds UTC, as the server says
    journal_id: str  #: the one new journal it is about
    min_nonces: Mapping[str, int]  #: wallet id -> the lowest nonce that may be signed


@dataclass(slots=True)
class History:
    """The organization after the newest record, and who could do what after each earlier one."""

    org: str
    head: str = ""  #: hex hash of the newest record
    numbers: dict[str, int] = field(default_factory=dict)  #: record hash -> number
    latest: int = 0  #: the latest instant of all
    instants: list[int] = field(default_factory=list)  #: of each record, microseconds UTC, as the server said
    identities: dict[str, Identity] = field(default_factory=dict)  #: by user id
    credentials: dict[str, KnownCredential] = field(default_factory=dict)  #: by credential uuid
    names: set[str] = field(default_factory=set)  #: credential ids of keys that are not deleted
    fingerprints: set[str] = field(default_factory=set)  #: of the same keys: one key belongs to one identity
    attested: set[str] = field(default_factory=set)  #: nonces of the challenges that added keys answered
    tokens: dict[str, KnownCredential] = field(default_factory=dict)  #: the keys of personal access tokens, by its id
    invitations: dict[str, dict[str, Any]] = field(default_factory=dict)  #: hash -> invitation not taken up yet
    codes: dict[str, OpenCode] = field(default_factory=dict)  #: by user id: one open code a person
    permissions: dict[str, Permission] = field(default_factory=dict)  #: by id
    grants: dict[str, Grant] = field(default_factory=dict)  #: by assignment id; revoked ones included
    policies: dict[str, KnownPolicy] = field(default_factory=dict)  #: by id
    policy_sets: list[tuple[int, str]] = field(default_factory=list)  #: (record number, digest from then on)
    wallets: dict[str, KnownWallet] = field(default_factory=dict)  #: by id
    addresses: set[str] = field(default_factory=set)  #: of all wallets, lower case
    pools: dict[str, KnownPool] = field(default_factory=dict)  #: by id; archived ones included
    mandates: dict[str, KnownMandate] = field(default_factory=dict)  #: by id; archived ones included
    money_settings: dict[str, Any] = field(default_factory=dict)
    settings: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  #: (record number, in force from then on)
    waiting: dict[str, Any] = field(default_factory=dict)  #: by change id: ``requests.Waiting``
    lifted: dict[str, int] = field(
        default_factory=dict
    )  #: id of a signer's freeze -> number of the record that lifts it
    reseeds: list[Reseed] = field(default_factory=list)  #: oldest first

    def signer(self, document: Mapping[str, Any], preimage: Preimage) -> KnownCredential:
        """Return the known credential that signed verified evidence.

        Raises:
            EvidenceBroken: another organization, a head that is not in the chain, a key that the chain did not know,
                had withdrawn, or nobody had vouched for when the signer saw that head.
        """
        if preimage.org != self.org:
            raise EvidenceBroken("signed for another organization", field="evidence.preimage.org")
        seq = self.numbers.get(preimage.records_head)
        if seq is None:
            raise EvidenceBroken(
                "signed over records that are not in this chain", field="evidence.preimage.recordsHead"
            )
        if preimage.issued < self.instants[seq] - CLOCKS_APART:
            raise EvidenceBroken("signed before the records it was signed over", field="evidence.preimage.issued")
        if seq + 1 < len(self.instants) and preimage.issued > self.instants[seq + 1] + CLOCKS_APART:
            # A server offers the newest head: who picks an older one picks the rules to be judged by.
            raise EvidenceBroken("signed over records that were not the newest then", field="evidence.preimage.issued")
        claimed, record = read_credential(document["credential"])
        known = self.credentials.get(claimed.uuid)
        if (
            known is None
            or known.fingerprint != fingerprint(claimed.public_key)
            or (known.credential.kind, known.credential.credential_id, known.credential.user_id)
            != (claimed.kind, claimed.credential_id, claimed.user_id)
            or known.credential.relying_party_id != claimed.relying_party_id
            or known.record != record
        ):
            raise EvidenceBroken("signed by a key that the records do not know", field="evidence.credential")
        if not known.usable_at(seq):
            raise EvidenceBroken(
                "signed by a key that was withdrawn or that nobody vouched for", field="evidence.credential"
            )
        if known.expires is not None and preimage.issued >= known.expires:
            raise EvidenceBroken("signed by a personal access token that had expired", field="evidence.credential")
        return known

    def key_may(self, known: KnownCredential, operation: str, seq: int) -> bool:
        """Tell whether a key could sign what needs ``operation`` right after record ``seq``.

        A person's or machine's own key may what its holder may, the key of a personal access token less.
        """
        if not self.may(known.credential.user_id, operation, seq):
            return False
        if known.token_id is None:
            return True
        limit = None if known.limit is None else _at(self.permissions[known.limit].operations, seq, frozenset())
        return operation in token_operations((operation,), limit)

    def forget(self, known: KnownCredential) -> None:
        """Note that a key was deleted: its name and the key itself are free again."""
        known.is_deleted = True
        self.names.discard(known.credential.credential_id)
        self.fingerprints.discard(known.fingerprint)

    def withdraw(self, known: KnownCredential) -> None:
        """Note that a recovery withdrew a key: its name is free again, the key itself never is."""
        known.is_deleted = True
        self.names.discard(known.credential.credential_id)

    def held_by(self, user_id: str, seq: int) -> list[str]:
        """Return the operations an identity held right after record ``seq``."""
        named = {grant.permission_id for grant in self.identities[user_id].grants}
        known = {each for name in named for _, operations in self.permissions[name].operations for each in operations}
        return sorted(each for each in known if self.may(user_id, each, seq))

    def may(self, user_id: str, operation: str, seq: int) -> bool:
        """Tell whether an identity held ``operation`` right after record ``seq``."""
        return any(
            grant.since <= seq
            and (grant.until is None or grant.until > seq)
            and operation in _at(self.permissions[grant.permission_id].operations, seq, frozenset())
            for grant in self.identities[user_id].grants
        )

    def give(self, assignment_id: str | None, grant: Grant) -> None:
        """Note a grant; the genesis record's has no id, because nobody can revoke it."""
        self.identities[grant.identity_id].grants.append(grant)
        if assignment_id is not None:
            self.grants[assignment_id] = grant

    def members_at(self, pool_id: str, seq: int) -> dict[str, KnownWallet]:
        """Return the wallets of a pool right after record ``seq``, by id; none of a pool that there is not."""
        pool = self.pools.get(pool_id)
        return {} if pool is None else {key: each for key, each in self.wallets.items() if pool.holds(each, seq)}

    def policies_at(self, seq: int) -> dict[str, PolicyVersion]:
        """Return the policies in force right after record ``seq``, by id."""
        found = {}
        for policy_id, known in self.policies.items():
            newest = next((each for each in reversed(known.versions) if each.number <= seq), None)
            if newest is not None and newest.is_active:
                found[policy_id] = newest
        return found

    @property
    def is_governed(self) -> bool:
        """Whether changes of what policies let through wait for people."""
        return any(
            each.is_active and each.document["activityKind"] == POLICIES_MODIFY for each in self.policies.values()
        )

    def note_settings(self, seq: int) -> None:
        """Keep the money settings if record ``seq`` changed them."""
        if not self.settings or self.settings[-1][1] is not self.money_settings:
            self.settings.append((seq, self.money_settings))

    def settings_at(self, seq: int) -> dict[str, Any]:
        """Return the money settings in force right after record ``seq``."""
        return _at(self.settings, seq, {})

    def settings_while(self, seq: int, until: int) -> list[dict[str, Any]]:
        """Return the money settings in force right after record ``seq``, and later ones up to an instant."""
        later = [settings for number, settings in self.settings if number > seq and self.instants[number] <= until]
        return [self.settings_at(seq), *later]

    def note_policies(self, seq: int) -> None:
        """Compute the digest of the policies in force from record ``seq`` on."""
        active = [{"id": id, "version": each.version} for id, each in sorted(self.policies.items()) if each.is_active]
        self.policy_sets.append((seq, digest(active)))

    def check_policy_set(self, named: str, seq: int) -> None:
        """Refuse evidence that names policies which were never in force from record ``seq`` on.

        Raises:
            EvidenceBroken: they were not.
        """
        for number, known in reversed(self.policy_sets):
            if known == named:
                return
            if number <= seq:
                break
        raise EvidenceBroken("names policies that were not in force then", field="evidence.policySet")
