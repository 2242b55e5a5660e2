"""The tables of files of payouts that are asked for under one signature."""

import sqlalchemy as sa

from outlay.store.schema import Id, Instant, Json, Text, _col, _id, _opt, _table

submission = _table(
    "submission",
    _id(),
    _col("name", Text),
    _opt("wallet_id", Id),  # either this
    _opt("pool_id", Id),  # or this
    _col("network", sa.String(64)),
    _col("digest", sa.String(64)),  # of the rows, as it was signed
    _col("row_count", sa.Integer),
    _col("initiator_id", Id),
    _col("credential_id", Id),  # uuid of the key that signed it
    _col("token_id", Id),
    _col("document", Text),  # the evidence of the signed call
    _col("records_head", sa.String(64)),  # the newest record when it was signed
    _col("subject", sa.String(64)),  # what a decision about the whole signs
    _col("state", sa.String(16)),  # uploading, admitting, done, refused, canceled
    _opt("reason", Text),
    _col("uploaded", sa.Integer),  # rows that are here
    _col("frontier", Json),  # of the digest of these
    _col("totals", Json),  # {asset: [rows, amount]} of these
    _col("admitted", sa.Integer),  # rows that were looked at, in their order
    _col("refused", sa.Integer),  # and refused
    _col("value", Text),  # 10**-8 USD of what was admitted, digits; empty: of a part no price was known
    _col("created_at", Instant),
    _col("touched_at", Instant),  # last upload
    _opt("submitted_at", Instant),
    _opt("ended_at", Instant),
    _col("is_kept", sa.Boolean),  # all rows are; once it is refused or canceled, only those looked at
    sa.Index("submission_by_state", "state"),
    sa.Index("submission_by_digest", "initiator_id", "digest"),
    sa.Index("submission_by_time", "created_at", "id"),
)

submission_row = _table(
    "submission_row",
    sa.Column("submission_id", Id, primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),  # from 0
    _col("item", Text),  # canonical
    _col("leaf", sa.LargeBinary),
    _opt("payout_id", Id),  # that it is; also one from before
    _opt("error", Json),  # why it was refused
)

# Decisions about a whole file, carried out payout by payout.
submission_decision = _table(
    "submission_decision",
    _id(),
    _col("submission_id", Id, index=True),
    _col("user_id", Id),
    _col("value", sa.String(16)),
    _opt("reason", Text),
    _col("groups_digest", sa.String(64)),
    _col("credential_id", Id),
    _col("document", Text),  # the evidence of the signed call
    _col("at", Instant),
    _col("settled", sa.Integer),  # rows that were looked at, in their order
    _opt("settled_at", Instant),
)
