"""Several attempts a slot, stops, what is known of final blocks, how far the signer's journal is known."""

import sqlalchemy as sa
from alembic import op

from outlay.store.schema import U256

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
phase = "post"  # it moves columns

_MOVED = ("gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas", "raw", "hash", "sent_at", "last_answer")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "attempt",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("transaction_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("gas_limit", sa.BigInteger(), nullable=False),
        sa.Column("max_fee_per_gas", U256(precision=78, scale=0), nullable=False),
        sa.Column("max_priority_fee_per_gas", U256(precision=78, scale=0), nullable=False),
        sa.Column("legacy", sa.Boolean(), nullable=False),
        sa.Column("asked_by", sa.String(length=64), nullable=True),
        sa.Column("raw", sa.Text(), nullable=True),
        sa.Column("hash", sa.String(length=80), nullable=True),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.Column("first_sent_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("last_answer", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("transaction_id", "number"),
    )
    with op.batch_alter_table("attempt") as batch:
        batch.create_index(batch.f("ix_attempt_hash"), ["hash"], unique=False)
    op.execute(
        "INSERT INTO attempt (id, transaction_id, number, purpose, gas_limit, max_fee_per_gas,"
        " max_priority_fee_per_gas, legacy, raw, hash, signed_at, first_sent_at, sent_at, last_answer, created_at)"
        " SELECT t.id, t.id, 1, 'payout', t.gas_limit, t.max_fee_per_gas, t.max_priority_fee_per_gas, FALSE, t.raw,"
        " t.hash, CASE WHEN t.raw IS NULL THEN NULL ELSE t.created_at END, t.sent_at, t.sent_at, t.last_answer,"
        " t.created_at"
        ' FROM "transaction" t'
    )
    with op.batch_alter_table("transaction") as batch:
        batch.drop_index("ix_transaction_hash")
        batch.alter_column("transfer_id", existing_type=sa.String(length=64), nullable=True)
        batch.add_column(sa.Column("void_reason", sa.Text(), nullable=True))
        batch.add_column(sa.Column("mined_hash", sa.String(length=80), nullable=True))
    op.execute("UPDATE \"transaction\" SET mined_hash = hash WHERE state IN ('mined', 'final')")
    with op.batch_alter_table("transaction") as batch:
        for name in _MOVED:
            batch.drop_column(name)
    op.create_table(
        "network_state",
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("final_number", sa.BigInteger(), nullable=True),
        sa.Column("final_hash", sa.String(length=80), nullable=True),
        sa.Column("frozen_reason", sa.Text(), nullable=True),
        sa.Column("frozen_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("network"),
    )
    op.create_table(
        "stop",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "signer_mark",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("journal_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Undo; of each slot the newest attempt that was signed stays. Fails where a slot belongs to no transfer."""
    op.drop_table("signer_mark")
    op.drop_table("stop")
    op.drop_table("network_state")
    with op.batch_alter_table("transaction") as batch:
        batch.add_column(sa.Column("gas_limit", sa.BigInteger(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("max_fee_per_gas", U256(precision=78, scale=0), nullable=False, server_default="0"))
        batch.add_column(
            sa.Column("max_priority_fee_per_gas", U256(precision=78, scale=0), nullable=False, server_default="0")
        )
        batch.add_column(sa.Column("raw", sa.Text(), nullable=True))
        batch.add_column(sa.Column("hash", sa.String(length=80), nullable=True))
        batch.add_column(sa.Column("sent_at", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("last_answer", sa.Text(), nullable=True))
    newest = (
        'SELECT {} FROM attempt a WHERE a.transaction_id = "transaction".id'
        " ORDER BY a.raw IS NULL, a.number DESC LIMIT 1"
    )
    for name in _MOVED:
        op.execute(f'UPDATE "transaction" SET {name} = ({newest.format(name)})')  # noqa: S608
    with op.batch_alter_table("transaction") as batch:
        for name in _MOVED[:3]:
            batch.alter_column(name, server_default=None)
        batch.drop_column("mined_hash")
        batch.drop_column("void_reason")
        batch.alter_column("transfer_id", existing_type=sa.String(length=64), nullable=False)
        batch.create_index("ix_transaction_hash", ["hash"], unique=False)
    op.drop_table("attempt")
