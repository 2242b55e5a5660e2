"""What the scenarios share: a folder, a chain with blocks of one second, a PostgreSQL, a receiver of webhooks."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psycopg

from bench.hook import Hook, receiving
from bench.node import Node
from bench.product import Product
from outlay.core.errors import InvariantBroken
from tests.postgres import Server

_SHOWN = ("server_version", "fsync", "synchronous_commit")


@dataclass
class Stand:
    """Opened by ``standing``; its parts start when they are first needed and end with it."""

    folder: Path
    databases: tuple[str, ...]  #: on which the product is measured
    _ending: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @cached_property
    def node(self) -> Node:
        """The chain."""
        node = Node(self.folder)
        self._ending.callback(node.close)
        return node

    @cached_property
    def instant_node(self) -> Node:
        """A chain that mines each transaction at once: only rivals that wait for receipts are shown on it."""
        node = Node(self.folder, block_time_s=None)
        self._ending.callback(node.close)
        return node

    @cached_property
    def server(self) -> Server:
        """PostgreSQL that waits for the disk at each commit."""
        server = Server(durable=True)
        self._ending.callback(server.remove)
        return server

    @property
    def version(self) -> str:
        """The version of PostgreSQL. Raises InvariantBroken: it does not wait for the disk."""
        with psycopg.connect(self.server.url) as connection:
            shown = [connection.execute(f"SHOW {name}").fetchone() for name in _SHOWN]
        version, *durable = [row[0] for row in shown if row is not None]
        if durable != ["on", "on"]:
            raise InvariantBroken(f"PostgreSQL is not durable: {dict(zip(_SHOWN[1:], durable, strict=True))}")
        return str(version)

    @cached_property
    def hook(self) -> Hook:
        """The receiver."""
        return self._ending.enter_context(receiving(self.folder))

    def product(self, database: str, *, settings: str = "", preset: str = "standard", rpc_url: str = "") -> Product:
        """Make a deployment on a new database; it ends with this stand at the latest."""
        product = Product(
            self.folder,
            rpc_url=rpc_url or self.node.url,
            database=database,
            server=self.server if database == "postgresql" else None,
            settings=settings,
            preset=preset,
        )
        self._ending.callback(product.close)
        return product

    def close(self) -> None:
        """End everything, the newest first."""
        self._ending.close()


@contextlib.contextmanager
def standing(databases: tuple[str, ...], folder: Path | None = None) -> Iterator[Stand]:
    """Open a stand, in a folder that is kept if it is given."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outlay-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        stand = Stand(folder, databases)
        stack.callback(stand.close)
        yield stand
