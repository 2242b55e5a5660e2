"""The order of sending; indexes of what is to be signed and sent."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
phase = "pre"


_FRESH = sa.text("state = 'ready' AND route = 'lane' AND waiting_reason IS NULL")
_PUT_OFF = sa.text("state = 'ready' AND route = 'lane' AND waiting_reason IS NOT NULL")
_TURN = ["wallet_id", "asset", "flow", "level", "ready_at", "id"]
_IN_QUEUE = sa.text("state = 'ready' AND route = 'queue'")
_TO_SIGN = sa.text("raw IS NULL")
_TO_SEND = sa.text("raw IS NOT NULL AND sent_at IS NULL")
_SIGNED = sa.text("state = 'signed'")


def upgrade() -> None:
    """Apply. What was asked for before is of Standard priority, and takes turns by its initiator."""
    op.add_column("transfer", sa.Column("flow", sa.String(length=130), server_default="", nullable=False))
    op.add_column("transfer", sa.Column("level", sa.Integer(), server_default="1", nullable=False))
    op.execute(
        "UPDATE transfer SET flow = initiator_id || '/' WHERE state IN ('requested', 'held', 'ready', 'assigned')"
    )
    op.create_index("transfer_to_send", "transfer", _TURN, sqlite_where=_FRESH, postgresql_where=_FRESH)
    op.create_index("transfer_put_off", "transfer", _TURN, sqlite_where=_PUT_OFF, postgresql_where=_PUT_OFF)
    in_queue = ["pool_id", "flow", "level", "ready_at", "id"]
    op.create_index("transfer_in_queue", "transfer", in_queue, sqlite_where=_IN_QUEUE, postgresql_where=_IN_QUEUE)
    for name, where in (("attempt_to_sign", _TO_SIGN), ("attempt_to_send", _TO_SEND)):
        op.create_index(name, "attempt", ["transaction_id"], sqlite_where=where, postgresql_where=where)
    counted = ["policy_id", "scope_key", "admitted"]
    op.create_index("counter_entry_signed", "counter_entry", counted, sqlite_where=_SIGNED, postgresql_where=_SIGNED)


def downgrade() -> None:
    """Undo."""
    op.drop_index("counter_entry_signed", table_name="counter_entry")
    for name in ("attempt_to_send", "attempt_to_sign"):
        op.drop_index(name, table_name="attempt")
    for name in ("transfer_in_queue", "transfer_put_off", "transfer_to_send"):
        op.drop_index(name, table_name="transfer")
    with op.batch_alter_table("transfer") as batch:
        batch.drop_column("level")
        batch.drop_column("flow")
