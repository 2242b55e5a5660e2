"""The tables. Amounts are unsigned 256-bit integers, instants are integers of microseconds UTC.

JSON columns hold text that Python wrote.
"""

import json
from typing import Any

import msgspec
import sqlalchemy as sa


class U256(sa.TypeDecorator[int]):
    """An unsigned integer below 10**78: zero-padded text on SQLite (exact, sortable), NUMERIC(78,0) elsewhere."""

    impl = sa.Numeric(78, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Choose the column type of the dialect."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(78))
        return dialect.type_descriptor(sa.Numeric(78, 0))

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> Any:
        """Write an integer; refuse what would not fit or sort."""
        if value is None:
            return None
        if not 0 <= value < 10**78:
            raise ValueError("not an unsigned 256-bit integer")
        return f"{value:078d}" if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> int | None:
        """Read an integer back."""
        return None if value is None else int(value)


class Json(sa.TypeDecorator[Any]):
    """A JSON value stored as compact ASCII text with sorted keys."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Write the value; refuse what is not JSON."""
        if value is None:
            return None
        if _is_plain(value):
            try:
                text = _JSON.encode(value)
            except (TypeError, OverflowError, UnicodeEncodeError):  # many digits, or half a character
                pass
            else:
                if text.isascii():
                    return text.decode()
        return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Read the value back."""
        if value is None:
            return None
        try:
            return msgspec.json.decode(value)
        except msgspec.MsgspecError:  # what only Python writes and reads
            return json.loads(value)


_JSON = msgspec.json.Encoder(order="sorted")
_PLAIN = frozenset((str, int, bool, type(None)))


def _is_plain(value: Any) -> bool:
    """Tell whether the fast encoder writes a value as it is: of a Decimal, bytes or a set it would make something."""
    kind = type(value)
    if kind is not dict and kind is not list:
        return kind in _PLAIN
    within = value.values() if kind is dict else value
    return _PLAIN.issuperset(map(type, within)) or all(_is_plain(each) for each in within if type(each) not in _PLAIN)


metadata = sa.MetaData()
Id, Text, Instant, Flag = sa.String(64), sa.Text, sa.BigInteger, sa.Boolean
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A number that the database counts up; SQLite counts only what is declared INTEGER."""


def _table(name: str, *columns: sa.Column[Any] | sa.Constraint | sa.Index) -> sa.Table:
    return sa.Table(name, metadata, *columns)


def _id() -> sa.Column[Any]:
    return sa.Column("id", Id, primary_key=True)


def _col(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, **options)


def _opt(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True, **options)


# who works on the database

# What one process at a time may do. Each taking counts the fence up; whoever holds an older one changes nothing.
lease = _table(
    "lease",
    sa.Column("name", sa.String(160), primary_key=True),
    _col("fence", sa.BigInteger),
    _opt("holder", sa.String(64)),
    _opt("leased_until", Instant),
)

# The newest revision that a program has to know to work on this database.
schema_floor = _table(
    "schema_floor",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # 1
    _col("revision", sa.String(32)),
)

# the organization and its records

organization = _table(
    "organization",
    _id(),
    _col("epoch", sa.BigInteger),  # bumped by every change of policies, people, tags or freeze
    _col("root", sa.String(64)),  # fingerprint of the genesis record, hex
    _col("head", sa.String(64)),  # hash of the newest record, hex
    _col("head_seq", sa.BigInteger),
    _col("money_settings", sa.String(64)),  # digest of the applied money settings, hex
    _col("admitted", sa.BigInteger),  # admission counter: the order of velocity entries
    _col("created_at", Instant),
)

record = _table(
    "record",
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    _col("hash", sa.String(64), unique=True),
    _col("kind", sa.String(64)),
    _col("subject", Id),
    _col("document", Text),  # the canonical text that was hashed
    _col("at", Instant),
)

group_mark = _table(
    "group_mark",
    sa.Column("writer", sa.String(32), primary_key=True),  # one opening of the database by one process
    _col("token", sa.String(64)),  # names its last committed group: answers "did that commit happen?"
    _col("at", Instant),
)

evidence = _table(
    "evidence",
    _id(),
    _col("subject", Id, index=True),  # the transfer, decision, record ... it is evidence for
    _col("document", Text),
    _col("at", Instant),
)

spent_nonce = _table(
    "spent_nonce",
    sa.Column("nonce", sa.String(64), primary_key=True),
    _opt("result_id", Id),
    _col("keep_until", Instant, index=True),
)

# people, machines, what they may do

user = _table(
    "user",
    _id(),
    _col("username", Text, unique=True),  # e-mail of a person, name of a service account
    _col("name", Text),
    _col("is_service_account", Flag),
    _col("is_active", Flag),
    _col("is_registered", Flag),
    _col("may_vote", Flag),  # the key is vouched for: by the invitation's public key or an admin's activation
    _opt("external_id", Text),
    _opt("invited_public_key", Text),
    _opt("registration_code", sa.String(64), unique=True),  # SHA-256 of the code, hex
    _opt("registration_expires_at", Instant),
    _opt("invitation_record", sa.String(64)),
    _col("created_at", Instant),
    _opt("deleted_at", Instant),
)

credential = _table(
    "credential",
    _id(),  # credentialUuid
    _col("credential_id", Text, unique=True),  # what the client names in an assertion
    _col("user_id", Id, index=True),
    _col("kind", sa.String(32)),
    _col("name", Text),
    _col("public_key", Text),  # PEM
    _col("is_active", Flag),
    _opt("record", sa.String(64)),
    _opt("relying_party_id", Text),
    _opt("origin", Text),
    _opt("sign_count", sa.BigInteger),
    _opt("permission_id", Id),  # a personal access token's key may do no more than this permission
    _col("created_at", Instant),
    _opt("deleted_at", Instant),
    _opt("withdrawn_at", Instant),  # by a recovery of its holder: nobody can register this key again
)

token = _table(
    "token",
    _id(),
    _col("user_id", Id, index=True),
    _opt("credential_id", Id),
    _col("secret_hash", sa.String(64)),  # SHA-256 of a member only the real token holds: a sealing key forges none
    _col("kind", sa.String(32)),  # Token, ServiceAccount or Pat
    _col("name", Text),
    _opt("external_id", Text),
    _col("is_active", Flag),
    _col("created_at", Instant),
    _col("expires_at", Instant),
    _opt("deleted_at", Instant),
)

permission = _table(
    "permission",
    _id(),
    _col("name", Text),
    _col("operations", Json),
    _col("is_immutable", Flag),
    _col("is_archived", Flag),
    _col("created_at", Instant),
    _col("updated_at", Instant),
)

assignment = _table(
    "assignment",
    _id(),
    _col("permission_id", Id),
    _col("identity_id", Id, index=True),
    _col("is_immutable", Flag),
    _col("created_at", Instant),
    _col("updated_at", Instant),
    sa.UniqueConstraint("permission_id", "identity_id"),
)

# wallets

wallet = _table(
    "wallet",
    _id(),
    _col("network", sa.String(64)),
    _col("chain_id", sa.BigInteger),  # of the network when the wallet was made; its key signs for no other
    _col("address", sa.String(128)),
    _col("key_id", Id),
    _col("public_key", sa.String(130)),
    _col("status", sa.String(16)),  # Active, Inactive, Archived
    _opt("frozen_reason", Text),
    _opt("drained_reason", Text),  # gets no new work while it is set
    _opt("compared_block", sa.BigInteger),  # the highest final block the ledger was compared with
    _opt("name", Text),
    _opt("external_id", Text),
    _col("created_at", Instant),
    sa.UniqueConstraint("network", "address"),
)

wallet_tag = _table(
    "wallet_tag",
    sa.Column("wallet_id", Id, primary_key=True),
    sa.Column("tag", sa.String(64), primary_key=True),
    _opt("since", sa.BigInteger),  # number of the record that put it on; null: one from before this was kept
)

# Wallets of one network that share a tag; who they are follows from the tags.
pool = _table(
    "pool",
    _id(),
    _col("name", Text),
    _col("network", sa.String(64)),
    _col("chain_id", sa.BigInteger),  # of the network when the pool was made; wallets of another chain are not in it
    _col("tag", sa.String(64)),
    _col("status", sa.String(16)),  # Active, Archived
    _col("created_at", Instant),
)

frozen_asset = _table(
    "frozen_asset",
    sa.Column("network", sa.String(64), primary_key=True),
    sa.Column("asset", sa.String(128), primary_key=True),
    _col("reason", Text),
    _col("at", Instant),
)

# A standing authority to keep wallets filled, or to pay again and again; what it says never changes.
mandate = _table(
    "mandate",
    _id(),
    _col("document", Json),
    _col("status", sa.String(16)),  # Active, Archived
    _col("created_at", Instant),
    _opt("archived_at", Instant),
)

# Wallets that are below their minimum, and were told of.
mandate_low = _table(
    "mandate_low",
    sa.Column("mandate_id", Id, primary_key=True),
    sa.Column("wallet_id", Id, primary_key=True),
    _col("since", Instant),
)

# What somebody else has to send to a wallet, because the treasury is not ours.
refill_proposal = _table(
    "refill_proposal",
    _id(),
    _col("mandate_id", Id, index=True),
    _col("wallet_id", Id),
    _col("network", sa.String(64)),
    _col("asset", sa.String(128)),
    _col("amount", U256),
    _col("seen", U256),  # what has arrived since
    _col("status", sa.String(16)),  # Open, Fulfilled, Withdrawn
    _col("reason", Text),
    _col("opened_at", Instant),
    _opt("closed_at", Instant),
    sa.Index("refill_proposal_by_wallet", "wallet_id", "asset", "status"),
)

# policies, approvals, velocity

policy = _table(
    "policy",
    _id(),  # the lineage: stays the same over every edit
    _col("version", sa.BigInteger),
    _col("name", Text),
    _col("activity_kind", sa.String(64)),
    _col("rule", Json),
    _col("action", Json),
    _opt("filters", Json),
    _col("status", sa.String(16)),  # Active, Archived
    _col("created_at", Instant),
    _col("updated_at", Instant),
)

evaluation = _table(
    "evaluation",
    _id(),
    _col("transfer_id", Id, index=True),
    _col("policy_id", Id),
    _col("policy_version", sa.BigInteger),
    _col("moment", sa.String(16)),  # admission or binding
    _col("action", sa.String(32)),  # Block, RequestApproval or NoAction
    _col("triggered", Flag),
    _opt("reason", Text),
    _col("context", Json),  # inputs, sums, counts, price, threshold
    _col("at", Instant),
)

approval = _table(
    "approval",
    _id(),
    _opt("transfer_id", Id, unique=True),  # what it is about: a transfer
    _opt("change_id", Id, unique=True),  # or a change request
    _col("initiator_id", Id),
    _col("status", sa.String(16), index=True),  # Pending, Approved, Denied, Expired
    _col("groups", Json),  # [{policyId, name?, quorum, approvers, initiatorCanApprove, serviceAccountsCanApprove}]
    _col("groups_digest", sa.String(64)),
    _opt("expires_at", Instant, index=True),
    _col("created_at", Instant),
    _col("updated_at", Instant),
    _opt("resolved_at", Instant),
)

decision = _table(
    "decision",
    _id(),
    _col("approval_id", Id),
    _col("user_id", Id),
    _col("value", sa.String(16)),  # Approved, Denied
    _opt("reason", Text),
    _col("groups_digest", sa.String(64)),  # the groups this decision covered
    _opt("credential_id", Id),  # uuid of the key that signed it: a key withdrawn since takes its votes along
    _col("evidence_id", Id),
    _col("at", Instant),
    sa.UniqueConstraint("approval_id", "user_id", "groups_digest", "credential_id"),  # one decision a person
)

# A change of settings that waits for people, and what became of it.
change_request = _table(
    "change_request",
    _id(),
    _col("status", sa.String(16), index=True),  # Pending, Applied, Failed, Rejected
    _col("record_kind", sa.String(64)),  # of the record it leads to
    _col("subject", Id, index=True),
    _col("requester_id", Id),
    _col("token_id", Id),
    _col("credential_id", Id),
    _col("approval_id", Id),
    _col("method", sa.String(8)),
    _col("path", Text),
    _col("payload", Text),  # canonical text of the signed payload
    _col("content", Text),  # canonical text of what people sign: the change, before and after
    _col("digest", sa.String(64)),  # of the content
    _col("loosens", Flag),  # not proven tighter: it waits after its quorum
    _col("record", sa.String(64)),  # hash of the record of the request
    _opt("due_at", Instant, index=True),  # agreed on; takes effect then
    _opt("reason", Text),
    _col("created_at", Instant),
    _opt("resolved_at", Instant),
)

# What a transfer has taken out of every window. One row a transfer, from admission on.
velocity_entry = _table(
    "velocity_entry",
    sa.Column("transfer_id", Id, primary_key=True),
    _col("admitted", sa.BigInteger, unique=True),  # order of admission
    _col("wallet_id", Id, index=True),
    _col("recipient", sa.String(128)),
    _col("initiator_id", Id),
    _opt("value", U256),  # 10**-8 USD; null: unknown
    _col("state", sa.String(16)),  # open, signed, returned, corrected
    _opt("signed_at", Instant, index=True),
)

# One counter for each policy lineage and scope key, with running totals of what was signed.
velocity_counter = _table(
    "velocity_counter",
    sa.Column("policy_id", Id, primary_key=True),
    sa.Column("scope_key", sa.String(160), primary_key=True),
    _col("last_at", Instant),
    _col("open_value", U256),
    _col("open_count", sa.BigInteger),
    _col("open_unknown", sa.BigInteger),
    _col("signed_value", U256),
    _col("signed_count", sa.BigInteger),
    _col("signed_unknown", sa.BigInteger),
)

# The entries a counter has counted; the cumulative columns are the running totals after this row was signed.
_SIGNED = sa.text("state = 'signed'")

counter_entry = _table(
    "counter_entry",
    sa.Column("policy_id", Id, primary_key=True),
    sa.Column("scope_key", sa.String(160), primary_key=True),
    sa.Column("transfer_id", Id, primary_key=True),
    _col("admitted", sa.BigInteger),
    _opt("value", U256),
    _col("state", sa.String(16)),  # open, signed, returned
    _opt("signed_at", Instant),
    _opt("total_value", U256),
    _opt("total_count", sa.BigInteger),
    _opt("total_unknown", sa.BigInteger),
    sa.Index(
        "counter_entry_signed", "policy_id", "scope_key", "admitted", sqlite_where=_SIGNED, postgresql_where=_SIGNED
    ),
    sa.Index("counter_entry_by_instant", "policy_id", "scope_key", "signed_at", "admitted"),
    sa.Index("counter_entry_by_transfer", "transfer_id"),
)

# Final proof of no outflow: leaves every window together with the signature it corrects.
counter_correction = _table(
    "counter_correction",
    sa.Column("policy_id", Id, primary_key=True),
    sa.Column("scope_key", sa.String(160), primary_key=True),
    sa.Column("transfer_id", Id, primary_key=True),
    _col("signed_at", Instant),
    _opt("value", U256),
    sa.Index("counter_correction_by_instant", "policy_id", "scope_key", "signed_at"),
)

# Payouts that wait for room in a counter, in the order in which they were asked for.
waiting = _table(
    "waiting",
    sa.Column("policy_id", Id, primary_key=True),
    sa.Column("scope_key", sa.String(160), primary_key=True),
    sa.Column("place", sa.BigInteger, primary_key=True, autoincrement=False),
    _col("transfer_id", Id, index=True),
)

# transfers, lanes, attempts

_REFILLS = sa.text("mandate_id IS NOT NULL")
_FRESH = sa.text("state = 'ready' AND route = 'lane' AND waiting_reason IS NULL")
_PUT_OFF = sa.text("state = 'ready' AND route = 'lane' AND waiting_reason IS NOT NULL")
_IN_QUEUE = sa.text("state = 'ready' AND route = 'queue'")
_DELAYED = sa.text("delayed_at IS NOT NULL")
_TURN = ("wallet_id", "asset", "flow", "level", "ready_at", "id")

transfer = _table(
    "transfer",
    _id(),
    _opt("external_id", sa.String(50), unique=True),
    _col("intent_digest", sa.String(64)),
    _col("intent", Json),
    _col("wallet_id", Id, index=True),  # of a pool's payout: the wallet it counts for now
    _opt("pool_id", Id),
    _opt("pool_seq", sa.BigInteger),  # of the newest record when it was asked for: who was in the pool then may pay
    _opt("mandate_id", Id),  # of what no person asked for: whose it is
    _opt("batch_id", Id),  # of the batch it was asked for in
    _col("route", sa.String(8), server_default="lane"),  # lane; queue, parked: of a pool, and no lane may bind it yet
    _col("network", sa.String(64)),
    _col("kind", sa.String(16)),
    _col("asset", sa.String(128)),  # native or contract
    _col("recipient", sa.String(128)),
    _col("amount", U256),
    _col("request_body", Json),
    _col("initiator_id", Id),
    _col("token_id", Id),
    _opt("credential_id", Id),  # uuid of the key that signed the request
    _col("state", sa.String(16)),
    _opt("ended_from", sa.String(16)),
    _col("version", sa.BigInteger),
    _opt("value", U256),  # 10**-8 USD when requested; null: unknown
    _opt("price", Json),  # {price, source, at} the value came from
    _col("policy_set", sa.String(64)),  # digest of the policies it was judged under
    _opt("reason", Text),
    _opt("waiting_reason", Text),
    _opt("wait_place", sa.BigInteger),  # waits for room under its caps: the order in which those were asked for
    _opt("wait_until", Instant),
    _opt("approval_id", Id),
    _opt("transaction_id", Id),
    _opt("tx_hash", sa.String(80)),
    _opt("fee", U256),  # native base units, paid
    _opt("flag", sa.String(32)),  # effect_mismatch, restored
    _col("requested_at", Instant),
    _opt("resolved_at", Instant),  # policies resolved
    _opt("ready_at", Instant),
    _col("flow", sa.String(130), server_default=""),  # what it takes turns with: initiator and batch
    _col("level", sa.Integer, server_default="1"),  # of its priority; the lowest goes first
    _opt("signed_at", Instant),
    _opt("broadcast_at", Instant),
    _opt("confirmed_at", Instant),
    _opt("delayed_at", Instant),  # found to be late in the state it is in
    sa.Index("transfer_by_state", "state", "ready_at"),
    # The few that are late.
    sa.Index("transfer_delayed", "requested_at", "id", sqlite_where=_DELAYED, postgresql_where=_DELAYED),
    sa.Index("transfer_by_request", "requested_at", "id"),
    sa.Index("transfer_by_recipient", "recipient", "requested_at", "id"),
    sa.Index(
        "transfer_by_batch",
        "batch_id",
        sqlite_where=sa.text("batch_id IS NOT NULL"),
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    ),
    sa.Index(
        "transfer_by_wait",
        "wait_place",
        "wait_until",
        sqlite_where=sa.text("wait_place IS NOT NULL"),
        postgresql_where=sa.text("wait_place IS NOT NULL"),
    ),
    # What a lane may send, in the order of ``core.turns``; then what has a reason to wait.
    sa.Index("transfer_to_send", *_TURN, sqlite_where=_FRESH, postgresql_where=_FRESH),
    sa.Index("transfer_put_off", *_TURN, sqlite_where=_PUT_OFF, postgresql_where=_PUT_OFF),
    sa.Index("transfer_by_pool", "pool_id", "state", "route", "ready_at", "id"),
    sa.Index(
        "transfer_in_queue",
        *("pool_id", "flow", "level", "ready_at", "id"),
        sqlite_where=_IN_QUEUE,
        postgresql_where=_IN_QUEUE,
    ),
    # Payouts, of which there are far more, are not in it.
    sa.Index("transfer_by_mandate", "mandate_id", "requested_at", sqlite_where=_REFILLS, postgresql_where=_REFILLS),
)

# Payouts that were asked for in one signed call. What became of each is told by its transfer.
batch = _table(
    "batch",
    _id(),
    _col("digest", sa.String(64)),  # of its items, as it was signed
    _col("initiator_id", Id),
    _col("credential_id", Id),  # uuid of the key that signed it
    _col("items", Json),  # [[externalId, null or the error it was refused with], ...] in their order
    _col("created_at", Instant),
    sa.UniqueConstraint("initiator_id", "digest"),
)

transition = _table(
    "transition",
    sa.Column("transfer_id", Id, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    _col("event", sa.String(32)),
    _col("from_state", sa.String(16)),
    _col("to_state", sa.String(16)),
    _opt("detail", Json),
    _col("at", Instant),
)

lane = _table(
    "lane",
    sa.Column("wallet_id", Id, primary_key=True),
    _col("next_nonce", sa.BigInteger),
    _col("settled_nonce", sa.BigInteger),  # every nonce below is final and posted
    _opt("settled_block", sa.BigInteger),
    _col("fence", sa.BigInteger),
    _opt("holder", sa.String(64)),
    _opt("leased_until", Instant),
    _opt("stuck_nonce", sa.BigInteger),  # that was told of: nothing has moved since
)

# A slot of a lane: one nonce. Whatever is signed for it, at most one of its attempts is ever mined.
transaction = _table(
    "transaction",
    _id(),
    _col("wallet_id", Id),
    _col("nonce", sa.BigInteger),
    _opt("transfer_id", Id, index=True),  # null: a void that only closes a gap
    _col("state", sa.String(16)),  # bound, signed, sent, mined, final
    _col("fee_cap", U256),  # native base units; frozen at binding
    _opt("void_reason", Text),  # why it is to be voided; from then on no attempt pays any more
    _opt("mined_hash", sa.String(80)),  # of the attempt that is in a block
    _opt("block_number", sa.BigInteger),
    _opt("block_hash", sa.String(80)),
    _col("created_at", Instant),
    sa.UniqueConstraint("wallet_id", "nonce"),
    sa.Index("transaction_by_state", "state", "wallet_id", "nonce"),
)

_TO_SIGN = sa.text("raw IS NULL")
_TO_SEND = sa.text("raw IS NOT NULL AND sent_at IS NULL")

# What was signed for a slot, or is about to be. All signed ones stay live until the slot is final.
attempt = _table(
    "attempt",
    _id(),
    _col("transaction_id", Id),
    _col("number", sa.Integer),  # 1-based
    _col("purpose", sa.String(16)),  # payout, void
    _col("gas_limit", sa.BigInteger),
    _col("max_fee_per_gas", U256),
    _col("max_priority_fee_per_gas", U256),
    _col("legacy", Flag),
    _opt("asked_by", Id),  # who asked for a cancel or speed-up; null: the engine
    _opt("raw", Text),  # hex of the signed bytes; null: to be signed
    _opt("hash", sa.String(80), index=True),
    _opt("signed_at", Instant),
    _opt("first_sent_at", Instant),
    _opt("sent_at", Instant),
    _opt("last_answer", Text),
    _col("created_at", Instant),
    sa.UniqueConstraint("transaction_id", "number"),
    # The few that something is to be done with, among all there ever were.
    sa.Index("attempt_to_sign", "transaction_id", sqlite_where=_TO_SIGN, postgresql_where=_TO_SIGN),
    sa.Index("attempt_to_send", "transaction_id", sqlite_where=_TO_SEND, postgresql_where=_TO_SEND),
)

# What is known of a network's final blocks, and whether they were taken back.
network_state = _table(
    "network_state",
    sa.Column("network", sa.String(64), primary_key=True),
    _opt("final_number", sa.BigInteger),
    _opt("final_hash", sa.String(80)),
    _opt("frozen_reason", Text),
    _opt("frozen_at", Instant),
)

# What the signer says it stopped; it decides, this is a copy to show and to wait by.
stop = _table(
    "stop",
    _id(),  # the signer's freeze id
    _col("scope", sa.String(16)),  # all, wallet, network, identity
    _col("subject", sa.String(64)),
    _col("reason", Text),
    _col("at", Instant),
)

# The newest entry of the signer's journal whose effect is in this database: an older copy of it shows.
signer_mark = _table(
    "signer_mark",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # 1
    _col("journal_id", sa.String(64)),
    _col("sequence", sa.BigInteger),
)

# ledger

account = _table(
    "account",
    sa.Column("id", sa.String(256), primary_key=True),  # "<owner>/<asset>/<kind>"
    _col("owner", Id, index=True),  # wallet id, or the network name for the world's accounts
    _col("network", sa.String(64)),
    _col("asset", sa.String(128)),
    _col("kind", sa.String(16)),  # spendable, reserved (of a wallet); outside, paid, fees (of a network)
    _col("debits", U256),
    _col("credits", U256),
    # What a wallet holds is the debit side; it can never be spent below nothing.
    sa.CheckConstraint("kind NOT IN ('spendable', 'reserved') OR debits >= credits", name="never_negative"),
)

posting = _table(
    "posting",
    sa.Column("id", Serial, primary_key=True),
    _col("entry", Id, index=True),  # postings of one entry sum to zero for each asset
    _col("account_id", sa.String(256), index=True),
    _col("side", sa.String(8)),  # debit, credit
    _col("amount", U256),
    _col("why", sa.String(32)),  # inflow, reserve, release, paid, fee
    _opt("transfer_id", Id, index=True),
    _col("at", Instant),
    sa.CheckConstraint("side IN ('debit', 'credit')", name="side"),
)

# events and webhooks

event = _table(
    "event",
    sa.Column("seq", Serial, primary_key=True),
    _col("id", Id, unique=True),
    _col("kind", sa.String(64)),
    _col("subject", Id, index=True),
    _col("subject_seq", sa.BigInteger),
    _col("data", Json),
    _col("at", Instant),
    sa.UniqueConstraint("subject", "subject_seq"),
    sa.Index("event_by_time", "at", "seq"),
)

webhook = _table(
    "webhook",
    _id(),
    _col("url", Text),
    _col("events", Json),
    _col("status", sa.String(16)),  # Enabled, Disabled
    _col("description", Text),
    _col("secret", Text),
    _opt("old_secret", Text),  # signs too until then
    _opt("old_secret_until", Instant),
    _opt("failing_since", Instant),  # the first attempt that failed since one was taken
    _opt("disabled_reason", Text),  # why it was switched off by itself
    _col("created_at", Instant),
    _col("updated_at", Instant),
    _opt("deleted_at", Instant),
)

_PARKED = sa.text("state = 'failed' AND next_attempt_at IS NULL")
_PARKED_BY = ("webhook_id", "state", "next_attempt_at", "event_id")  # so that SQLite prefers it

# One row an attempt: what the contract calls a webhook event.
delivery = _table(
    "delivery",
    _id(),  # whe-…, new for each attempt
    _col("webhook_id", Id),
    _col("event_id", Id),
    _col("kind", sa.String(64)),
    _col("attempt", sa.Integer),  # 1-based
    _opt("retry_of", Id),
    _col("state", sa.String(16)),  # pending, delivered, failed
    _col("due_at", Instant),
    _col("first_due_at", Instant),  # the schedule's offsets count from here
    _opt("sent_at", Instant),
    _opt("status", sa.String(16)),  # HTTP status of the answer
    _opt("error", Text),
    _opt("next_attempt_at", Instant),
    sa.Index("delivery_by_due", "state", "webhook_id", "due_at"),
    sa.Index("delivery_by_webhook", "webhook_id", "event_id", "attempt"),
    sa.Index("delivery_by_sending", "webhook_id", "sent_at", "id"),
    # The few after which nothing was planned.
    sa.Index("delivery_parked", *_PARKED_BY, sqlite_where=_PARKED, postgresql_where=_PARKED),
)

# Tables with modules of their own are in the same metadata.
from outlay.store import schema_audit as schema_audit  # noqa: E402
from outlay.store import schema_codes as schema_codes  # noqa: E402
from outlay.store import schema_notify as schema_notify  # noqa: E402
from outlay.store import schema_recurring as schema_recurring  # noqa: E402
from outlay.store import schema_submissions as schema_submissions  # noqa: E402
