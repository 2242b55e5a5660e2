"""Bringing a database file to the schema this program knows."""

from pathlib import Path

from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


def settings(path: Path) -> Config:
    """Return alembic's settings for one SQLite file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}".replace("%", "%%"))
    return config


def upgrade(path: Path) -> None:
    """Create or upgrade the database at ``path``; a file of a newer version is refused by alembic."""
    command.upgrade(settings(path), "head")
