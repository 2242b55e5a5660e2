"""To be filled."""

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""


def downgrade() -> None:
    """Undo."""
