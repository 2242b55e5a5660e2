"""First schema."""

import sqlalchemy as sa
from alembic import op

from outlay.store.schema import U256, Json, Serial

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "account",
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("asset", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("debits", U256(precision=78, scale=0), nullable=False),
        sa.Column("credits", U256(precision=78, scale=0), nullable=False),
        sa.CheckConstraint("kind NOT IN ('spendable', 'reserved') OR debits >= credits", name="never_negative"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("account", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_account_owner"), ["owner"], unique=False)

    op.create_table(
        "approval",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.Column("initiator_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("groups", Json(), nullable=False),
        sa.Column("groups_digest", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("transfer_id"),
    )
    with op.batch_alter_table("approval", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_approval_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_approval_status"), ["status"], unique=False)

    op.create_table(
        "assignment",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("permission_id", sa.String(length=64), nullable=False),
        sa.Column("identity_id", sa.String(length=64), nullable=False),
        sa.Column("is_immutable", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("permission_id", "identity_id"),
    )
    with op.batch_alter_table("assignment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_assignment_identity_id"), ["identity_id"], unique=False)

    op.create_table(
        "commit_marker",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "counter_correction",
        sa.Column("policy_id", sa.String(length=64), nullable=False),
        sa.Column("scope_key", sa.String(length=160), nullable=False),
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("value", U256(precision=78, scale=0), nullable=True),
        sa.PrimaryKeyConstraint("policy_id", "scope_key", "transfer_id"),
    )
    op.create_table(
        "counter_entry",
        sa.Column("policy_id", sa.String(length=64), nullable=False),
        sa.Column("scope_key", sa.String(length=160), nullable=False),
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.Column("admitted", sa.BigInteger(), nullable=False),
        sa.Column("value", U256(precision=78, scale=0), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.Column("total_value", U256(precision=78, scale=0), nullable=True),
        sa.Column("total_count", sa.BigInteger(), nullable=True),
        sa.Column("total_unknown", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("policy_id", "scope_key", "transfer_id"),
    )
    with op.batch_alter_table("counter_entry", schema=None) as batch_op:
        batch_op.create_index(
            "counter_entry_by_instant", ["policy_id", "scope_key", "signed_at", "admitted"], unique=False
        )
        batch_op.create_index("counter_entry_by_transfer", ["transfer_id"], unique=False)

    op.create_table(
        "credential",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("record", sa.String(length=64), nullable=True),
        sa.Column("relying_party_id", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("sign_count", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("credential_id"),
    )
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credential_user_id"), ["user_id"], unique=False)

    op.create_table(
        "decision",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("approval_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("groups_digest", sa.String(length=64), nullable=False),
        sa.Column("evidence_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("approval_id", "user_id", "groups_digest", name="uq_decision_approval_id"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("webhook_id", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retry_of", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("first_due_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.create_index("delivery_by_due", ["state", "webhook_id", "due_at"], unique=False)
        batch_op.create_index("delivery_by_sending", ["webhook_id", "sent_at", "id"], unique=False)
        batch_op.create_index("delivery_by_webhook", ["webhook_id", "event_id", "attempt"], unique=False)

    op.create_table(
        "evaluation",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.Column("policy_id", sa.String(length=64), nullable=False),
        sa.Column("policy_version", sa.BigInteger(), nullable=False),
        sa.Column("moment", sa.String(length=16), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("triggered", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("context", Json(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("evaluation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_evaluation_transfer_id"), ["transfer_id"], unique=False)

    op.create_table(
        "event",
        sa.Column("seq", Serial, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("subject_seq", sa.BigInteger(), nullable=False),
        sa.Column("data", Json(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("subject", "subject_seq"),
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_event_subject"), ["subject"], unique=False)

    op.create_table(
        "evidence",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("evidence", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_evidence_subject"), ["subject"], unique=False)

    op.create_table(
        "frozen_asset",
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("asset", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("network", "asset"),
    )
    op.create_table(
        "lane",
        sa.Column("wallet_id", sa.String(length=64), nullable=False),
        sa.Column("next_nonce", sa.BigInteger(), nullable=False),
        sa.Column("settled_nonce", sa.BigInteger(), nullable=False),
        sa.Column("settled_block", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=True),
        sa.Column("leased_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("wallet_id"),
    )
    op.create_table(
        "organization",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.String(length=64), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=False),
        sa.Column("head_seq", sa.BigInteger(), nullable=False),
        sa.Column("money_settings", sa.String(length=64), nullable=False),
        sa.Column("admitted", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "permission",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("operations", Json(), nullable=False),
        sa.Column("is_immutable", sa.Boolean(), nullable=False),
        sa.Column("is_archived", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "policy",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("activity_kind", sa.String(length=64), nullable=False),
        sa.Column("rule", Json(), nullable=False),
        sa.Column("action", Json(), nullable=False),
        sa.Column("filters", Json(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "posting",
        sa.Column("id", Serial, nullable=False),
        sa.Column("entry", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=256), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("amount", U256(precision=78, scale=0), nullable=False),
        sa.Column("why", sa.String(length=32), nullable=False),
        sa.Column("transfer_id", sa.String(length=64), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("side IN ('debit', 'credit')", name="side"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("posting", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_posting_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_posting_entry"), ["entry"], unique=False)
        batch_op.create_index(batch_op.f("ix_posting_transfer_id"), ["transfer_id"], unique=False)

    op.create_table(
        "record",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("hash"),
    )
    op.create_table(
        "spent_nonce",
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("result_id", sa.String(length=64), nullable=True),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce"),
    )
    with op.batch_alter_table("spent_nonce", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_spent_nonce_keep_until"), ["keep_until"], unique=False)

    op.create_table(
        "token",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("credential_id", sa.String(length=64), nullable=True),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_token_user_id"), ["user_id"], unique=False)

    op.create_table(
        "transaction",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("wallet_id", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("gas_limit", sa.BigInteger(), nullable=False),
        sa.Column("fee_cap", U256(precision=78, scale=0), nullable=False),
        sa.Column("max_fee_per_gas", U256(precision=78, scale=0), nullable=False),
        sa.Column("max_priority_fee_per_gas", U256(precision=78, scale=0), nullable=False),
        sa.Column("raw", sa.Text(), nullable=True),
        sa.Column("hash", sa.String(length=80), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("last_answer", sa.Text(), nullable=True),
        sa.Column("block_number", sa.BigInteger(), nullable=True),
        sa.Column("block_hash", sa.String(length=80), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("wallet_id", "nonce"),
    )
    with op.batch_alter_table("transaction", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_transaction_hash"), ["hash"], unique=False)
        batch_op.create_index(batch_op.f("ix_transaction_transfer_id"), ["transfer_id"], unique=False)
        batch_op.create_index("transaction_by_state", ["state", "wallet_id", "nonce"], unique=False)

    op.create_table(
        "transfer",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("external_id", sa.String(length=50), nullable=True),
        sa.Column("intent_digest", sa.String(length=64), nullable=False),
        sa.Column("intent", Json(), nullable=False),
        sa.Column("wallet_id", sa.String(length=64), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("asset", sa.String(length=128), nullable=False),
        sa.Column("recipient", sa.String(length=128), nullable=False),
        sa.Column("amount", U256(precision=78, scale=0), nullable=False),
        sa.Column("request_body", Json(), nullable=False),
        sa.Column("initiator_id", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("ended_from", sa.String(length=16), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("value", U256(precision=78, scale=0), nullable=True),
        sa.Column("price", Json(), nullable=True),
        sa.Column("policy_set", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("waiting_reason", sa.Text(), nullable=True),
        sa.Column("approval_id", sa.String(length=64), nullable=True),
        sa.Column("transaction_id", sa.String(length=64), nullable=True),
        sa.Column("tx_hash", sa.String(length=80), nullable=True),
        sa.Column("fee", U256(precision=78, scale=0), nullable=True),
        sa.Column("flag", sa.String(length=32), nullable=True),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.Column("ready_at", sa.BigInteger(), nullable=True),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.Column("broadcast_at", sa.BigInteger(), nullable=True),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("external_id"),
    )
    with op.batch_alter_table("transfer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_transfer_wallet_id"), ["wallet_id"], unique=False)
        batch_op.create_index("transfer_by_state", ["state", "ready_at"], unique=False)

    op.create_table(
        "transition",
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=False),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("detail", Json(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("transfer_id", "seq"),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_service_account", sa.Boolean(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_registered", sa.Boolean(), nullable=False),
        sa.Column("may_vote", sa.Boolean(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("invited_public_key", sa.Text(), nullable=True),
        sa.Column("registration_code", sa.String(length=64), nullable=True),
        sa.Column("registration_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("invitation_record", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("registration_code"),
        sa.UniqueConstraint("username"),
    )
    op.create_table(
        "velocity_counter",
        sa.Column("policy_id", sa.String(length=64), nullable=False),
        sa.Column("scope_key", sa.String(length=160), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("open_value", U256(precision=78, scale=0), nullable=False),
        sa.Column("open_count", sa.BigInteger(), nullable=False),
        sa.Column("open_unknown", sa.BigInteger(), nullable=False),
        sa.Column("signed_value", U256(precision=78, scale=0), nullable=False),
        sa.Column("signed_count", sa.BigInteger(), nullable=False),
        sa.Column("signed_unknown", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("policy_id", "scope_key"),
    )
    op.create_table(
        "velocity_entry",
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.Column("admitted", sa.BigInteger(), nullable=False),
        sa.Column("wallet_id", sa.String(length=64), nullable=False),
        sa.Column("recipient", sa.String(length=128), nullable=False),
        sa.Column("initiator_id", sa.String(length=64), nullable=False),
        sa.Column("value", U256(precision=78, scale=0), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("transfer_id"),
        sa.UniqueConstraint("admitted"),
    )
    with op.batch_alter_table("velocity_entry", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_velocity_entry_signed_at"), ["signed_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_velocity_entry_wallet_id"), ["wallet_id"], unique=False)

    op.create_table(
        "wallet",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.String(length=128), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.String(length=130), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("frozen_reason", sa.Text(), nullable=True),
        sa.Column("compared_block", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("network", "address"),
    )
    op.create_table(
        "wallet_tag",
        sa.Column("wallet_id", sa.String(length=64), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("wallet_id", "tag"),
    )
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", Json(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("webhook")
    op.drop_table("wallet_tag")
    op.drop_table("wallet")
    with op.batch_alter_table("velocity_entry", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_velocity_entry_wallet_id"))
        batch_op.drop_index(batch_op.f("ix_velocity_entry_signed_at"))

    op.drop_table("velocity_entry")
    op.drop_table("velocity_counter")
    op.drop_table("user")
    op.drop_table("transition")
    with op.batch_alter_table("transfer", schema=None) as batch_op:
        batch_op.drop_index("transfer_by_state")
        batch_op.drop_index(batch_op.f("ix_transfer_wallet_id"))

    op.drop_table("transfer")
    with op.batch_alter_table("transaction", schema=None) as batch_op:
        batch_op.drop_index("transaction_by_state")
        batch_op.drop_index(batch_op.f("ix_transaction_transfer_id"))
        batch_op.drop_index(batch_op.f("ix_transaction_hash"))

    op.drop_table("transaction")
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_token_user_id"))

    op.drop_table("token")
    with op.batch_alter_table("spent_nonce", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_spent_nonce_keep_until"))

    op.drop_table("spent_nonce")
    op.drop_table("record")
    with op.batch_alter_table("posting", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_posting_transfer_id"))
        batch_op.drop_index(batch_op.f("ix_posting_entry"))
        batch_op.drop_index(batch_op.f("ix_posting_account_id"))

    op.drop_table("posting")
    op.drop_table("policy")
    op.drop_table("permission")
    op.drop_table("organization")
    op.drop_table("lane")
    op.drop_table("frozen_asset")
    with op.batch_alter_table("evidence", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_evidence_subject"))

    op.drop_table("evidence")
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_event_subject"))

    op.drop_table("event")
    with op.batch_alter_table("evaluation", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_evaluation_transfer_id"))

    op.drop_table("evaluation")
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.drop_index("delivery_by_webhook")
        batch_op.drop_index("delivery_by_sending")
        batch_op.drop_index("delivery_by_due")

    op.drop_table("delivery")
    op.drop_table("decision")
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_credential_user_id"))

    op.drop_table("credential")
    with op.batch_alter_table("counter_entry", schema=None) as batch_op:
        batch_op.drop_index("counter_entry_by_transfer")
        batch_op.drop_index("counter_entry_by_instant")

    op.drop_table("counter_entry")
    op.drop_table("counter_correction")
    op.drop_table("commit_marker")
    with op.batch_alter_table("assignment", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_assignment_identity_id"))

    op.drop_table("assignment")
    with op.batch_alter_table("approval", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_approval_status"))
        batch_op.drop_index(batch_op.f("ix_approval_expires_at"))

    op.drop_table("approval")
    with op.batch_alter_table("account", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_account_owner"))

    op.drop_table("account")
