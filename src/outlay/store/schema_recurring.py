"""The tables of recurring payouts: how far each mandate's calendar was followed, and what became of every date."""

import sqlalchemy as sa

from outlay.store.schema import Id, Instant, Text, metadata

# Mandates that were looked at; those without a row are looked at next.
schedule = sa.Table(
    "schedule",
    metadata,
    sa.Column("mandate_id", Id, primary_key=True),
    sa.Column("next_on", sa.String(10), nullable=True),  # the first date that is not settled; null: none is known
    sa.Column("next_at", Instant, nullable=True),  # when it is due, or is looked for again; null: never
)

# One row a date: what is due and waits, was asked for, or was missed.
mandate_run = sa.Table(
    "mandate_run",
    metadata,
    sa.Column("mandate_id", Id, primary_key=True),
    sa.Column("on_date", sa.String(10), primary_key=True),  # of the mandate's time zone
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("status", sa.String(8), nullable=False),  # Due, Made, Missed
    sa.Column("transfer_id", Id, nullable=True),
    sa.Column("reason", Text, nullable=True),  # why it waits, or was missed
    sa.Column("retry_at", Instant, nullable=True),  # of one that waits: when it is tried again
    sa.Column("settled_at", Instant, nullable=True),
    sa.Index("mandate_run_by_status", "status", "retry_at"),
    sa.Index("mandate_run_by_due", "mandate_id", "due_at"),
)
