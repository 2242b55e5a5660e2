"""The tables of messages to people."""

import sqlalchemy as sa

from outlay.store.schema import Id, Instant, Serial, Text, _col, _opt, _table

WAITING = sa.text("state = 'waiting'")

# Up to which event people were told, or nothing had to be told: one row.
notify_cursor = _table(
    "notify_cursor",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # 1
    _col("seq", sa.BigInteger),
)

# A message to one place. What waits in one envelope is sent as one.
notify_message = _table(
    "notify_message",
    sa.Column("seq", Serial, primary_key=True),
    _col("channel", sa.String(8)),  # mail, chat
    _col("place", sa.String(256)),  # address; of the chat: chat
    _col("kind", sa.String(64)),  # of the event that it is about
    _col("about", Id),  # what the event is about, e.g. an approval
    _col("title", Text),
    _col("text", Text),
    _col("at", Instant),
    _opt("envelope", sa.BigInteger),  # number of the first message in it
    _col("due_at", Instant),
    _col("attempts", sa.Integer),
    _col("state", sa.String(16)),  # waiting, sent, moot (decided meanwhile), failed (given up)
    _opt("error", Text),
    _opt("ended_at", Instant),
    sa.Index("notify_message_due", "channel", "due_at", sqlite_where=WAITING, postgresql_where=WAITING),
    sa.Index("notify_message_about", "about", "at"),
    sa.Index("notify_message_by_place", "channel", "place", "ended_at"),
)
