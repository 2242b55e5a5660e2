"""To be filled."""

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""


def downgrade() -> None:
    """Undo."""
