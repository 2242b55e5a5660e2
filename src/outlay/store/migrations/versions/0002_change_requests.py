"""Change requests, keys with a permission of their own, votes that name their key."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
phase = "pre"

NAMES = {"uq": "uq_%(table_name)s_%(column_0_name)s"}
"""What constraints without a name are called while a table is written anew."""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "change_request",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("record_kind", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("requester_id", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("approval_id", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("loosens", sa.Boolean(), nullable=False),
        sa.Column("record", sa.String(length=64), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("change_request") as batch:
        batch.create_index(batch.f("ix_change_request_due_at"), ["due_at"], unique=False)
        batch.create_index(batch.f("ix_change_request_status"), ["status"], unique=False)
        batch.create_index(batch.f("ix_change_request_subject"), ["subject"], unique=False)
    with op.batch_alter_table("approval", naming_convention=NAMES) as batch:
        batch.add_column(sa.Column("change_id", sa.String(length=64), nullable=True))
        batch.alter_column("transfer_id", existing_type=sa.String(length=64), nullable=True)
        batch.create_unique_constraint("uq_approval_change_id", ["change_id"])
    with op.batch_alter_table("decision", naming_convention=NAMES) as batch:
        batch.add_column(sa.Column("credential_id", sa.String(length=64), nullable=True))
        batch.drop_constraint("uq_decision_approval_id", type_="unique")
        batch.create_unique_constraint("uq_decision_once", ["approval_id", "user_id", "groups_digest", "credential_id"])
    with op.batch_alter_table("credential") as batch:
        batch.add_column(sa.Column("permission_id", sa.String(length=64), nullable=True))
    with op.batch_alter_table("token") as batch:
        batch.add_column(sa.Column("external_id", sa.Text(), nullable=True))
        batch.add_column(sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("transfer") as batch:
        batch.add_column(sa.Column("credential_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Undo; fails where an approval is about a change."""
    with op.batch_alter_table("transfer") as batch:
        batch.drop_column("credential_id")
    with op.batch_alter_table("token") as batch:
        batch.drop_column("deleted_at")
        batch.drop_column("external_id")
    with op.batch_alter_table("credential") as batch:
        batch.drop_column("permission_id")
    with op.batch_alter_table("decision") as batch:
        batch.drop_constraint("uq_decision_once", type_="unique")
        batch.drop_column("credential_id")
        batch.create_unique_constraint("uq_decision_approval_id", ["approval_id", "user_id", "groups_digest"])
    with op.batch_alter_table("approval") as batch:
        batch.drop_constraint("uq_approval_change_id", type_="unique")
        batch.drop_column("change_id")
        batch.alter_column("transfer_id", existing_type=sa.String(length=64), nullable=False)
    op.drop_table("change_request")
