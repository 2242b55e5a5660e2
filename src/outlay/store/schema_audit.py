"""The tables of the audit log. Rows of ``audit_entry`` are added and never changed: the database itself refuses."""

from typing import Any

import sqlalchemy as sa

from outlay.store.schema import Serial, metadata

REFUSED = "the audit log is only added to"

audit_entry = sa.Table(
    "audit_entry",
    metadata,
    sa.Column("seq", Serial, primary_key=True, autoincrement=False),  # the program counts; so SQLite keeps one tree
    sa.Column("at", sa.BigInteger, nullable=False),  # never before that of the entry before
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(160), nullable=False),
    sa.Column("before", sa.Text, nullable=True),  # canonical JSON
    sa.Column("after", sa.Text, nullable=True),  # canonical JSON
    sa.Column("evidence", sa.String(64), nullable=True),
    sa.Column("request", sa.String(64), nullable=True),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Index("audit_entry_by_subject", "subject", "seq"),
)

# How far the log was checked, and what was found. One row; it proves nothing by itself.
audit_state = sa.Table(
    "audit_state",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # 1
    sa.Column("base_seq", sa.BigInteger, nullable=False),  # checks begin here: a person let a broken log go on
    sa.Column("base_hash", sa.String(64), nullable=False),
    sa.Column("verified_seq", sa.BigInteger, nullable=False),
    sa.Column("verified_hash", sa.String(64), nullable=False),
    sa.Column("verified_at", sa.BigInteger, nullable=False),  # when a check last reached the newest entry
    sa.Column("anchored_seq", sa.BigInteger, nullable=False),
    sa.Column("anchored_at", sa.BigInteger, nullable=False),
    sa.Column("broken", sa.Text, nullable=True),  # what a check found; nothing is admitted while this is set
)

GUARDS = {
    "sqlite": (
        f"CREATE TRIGGER audit_entry_not_updated BEFORE UPDATE ON audit_entry BEGIN SELECT RAISE(ABORT, '{REFUSED}');"
        " END",
        f"CREATE TRIGGER audit_entry_not_deleted BEFORE DELETE ON audit_entry BEGIN SELECT RAISE(ABORT, '{REFUSED}');"
        " END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION audit_entry_stays() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{REFUSED}'; END $$",
        "CREATE TRIGGER audit_entry_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_stays()",
    ),
}
"""Dialect -> statements that make it refuse."""

for _dialect, _statements in GUARDS.items():
    for _statement in _statements:
        _guard: Any = sa.DDL(_statement)  # type: ignore[no-untyped-call]
        sa.event.listen(audit_entry, "after_create", _guard.execute_if(dialect=_dialect))
