"""To be filled."""

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""


def downgrade() -> None:
    """Undo."""
