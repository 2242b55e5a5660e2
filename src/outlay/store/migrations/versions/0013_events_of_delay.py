"""To be filled."""

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""


def downgrade() -> None:
    """Undo."""
