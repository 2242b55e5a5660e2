"""The table of one-time codes by which somebody registers a credential on another device."""

import sqlalchemy as sa

from outlay.store.schema import metadata

# One open code a person: a new one takes the place of the one before, and registering with it ends it.
credential_code = sa.Table(
    "credential_code",
    metadata,
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("code", sa.String(64), nullable=False, unique=True),  # SHA-256 of the code, hex
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("record", sa.String(64), nullable=False),  # hash of the record that gave it
)
