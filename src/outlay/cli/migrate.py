"""``outlay migrate``."""

from pathlib import Path

from outlay.cli.output import Output
from outlay.config import load
from outlay.core.errors import InvalidInput
from outlay.layout import Layout
from outlay.store.migrate import Phase, upgrade

_DONE = {
    None: "the database is up to date",
    Phase.PRE: "what this version adds is in the database; processes of the version before go on, new ones may start",
    Phase.POST: "the database is up to date; processes of the version before no longer fit it",
}


def run(directory: Path, phase: Phase | None, output: Output) -> None:
    """Bring a deployment's database to this version's schema, or through one phase of it."""
    layout = Layout(directory)
    where = layout.database_of(load(layout.config))
    if isinstance(where, Path) and not where.exists():
        raise InvalidInput(f"{layout.root} holds no deployment", field="dir")
    revision = upgrade(where, phase)
    output.tell({"revision": revision}, f"{_DONE[phase]} (revision {revision})\n")
