"""Files of payouts: read row by row, checked with the server, submitted under one signature, uploaded in parts.

The file is read as often as it takes and is never in memory as a whole. Everything here may be repeated: the same file
under the same name goes on where it was left.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlay.client.batch_file import FileReader, Listed
from outlay.client.sync import Client
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput, NotFound
from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import Frontier, leaf

ROWS_MAX = 1000
"""Rows in one upload or check."""

_READ = 64 * 1024
BATCHES = "/v1/batches"


@dataclass(frozen=True, slots=True)
class Terms:
    """Who pays a file, and what can be paid there."""

    payer: dict[str, str]  #: ``walletId`` or ``poolId``
    network: str
    assets: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read to its end."""

    reader: FileReader
    digest: str | None  #: None: no row of it is good


def terms(client: Client, *, wallet_id: str | None = None, pool_id: str | None = None) -> Terms:
    """Return what a file is read by.

    Raises:
        InvalidInput: not exactly one of wallet and pool is named. NotFound: the settings know no such network.
    """
    if (wallet_id is None) == (pool_id is None):
        raise InvalidInput("name either a wallet or a pool", field="wallet")
    payer = {"walletId": wallet_id} if wallet_id is not None else {"poolId": pool_id or ""}
    path = f"/wallets/{wallet_id}" if wallet_id is not None else f"/v1/pools/{pool_id}"
    network = str(client.read(path)["network"])
    settings = client.read("/v1/config")["moneySettings"]
    known = settings["networks"].get(network)
    if known is None:
        raise NotFound(f"the settings know no network {network}")
    listed = [Listed(NATIVE, known["native"]["symbol"], known["native"]["decimals"])]
    listed += [
        Listed(each["contract"].lower(), each["symbol"], each["decimals"])
        for each in settings["assets"]
        if each["network"] == network and each.get("contract")
    ]
    return Terms(payer, network, tuple(listed))


def read_file(path: Path, on: Terms, told: Callable[[int], None] = lambda _: None) -> ReadFile:
    """Read a file to its end: what is wrong with it, its totals and its digest.

    Args:
        path: of the file.
        on: what it is read by.
        told: is told how many more rows were read.

    Raises:
        InvalidInput: it cannot be read as a whole.
    """
    reader, frontier = FileReader(on.network, on.assets), Frontier()
    for _, item in reader.rows(_parts(path)):
        frontier.add(leaf(canonical(item)))
        told(1)
    return ReadFile(reader, frontier.digest() if frontier.count else None)


def parts_of(path: Path, on: Terms, *, first: int = 0) -> Iterator[tuple[int, list[int], list[dict[str, str]]]]:
    """Yield the good rows of a file in parts: the place of the first row, the rows' numbers, and their items.

    Args:
        path: of the file.
        on: what it is read by.
        first: the place to begin at, counted in good rows.
    """
    numbers: list[int] = []
    items: list[dict[str, str]] = []
    place = 0
    for number, item in FileReader(on.network, on.assets).rows(_parts(path)):
        place += 1
        if place <= first:
            continue
        numbers.append(number)
        items.append(item)
        if len(items) == ROWS_MAX:
            yield place - len(items), numbers, items
            numbers, items = [], []
    if items:
        yield place - len(items), numbers, items


def check(client: Client, on: Terms, items: list[dict[str, str]]) -> dict[str, Any]:
    """Return what would become of up to 1,000 rows, were they asked for now."""
    return client.ask("POST", f"{BATCHES}/check", {**on.payer, "rows": items})


def submit(client: Client, on: Terms, *, name: str, digest: str, count: int) -> dict[str, Any]:
    """Sign a file, and return the batch that it is: a new one, or the one that goes on."""
    return client.write("POST", BATCHES, {"name": name, **on.payer, "digest": digest, "count": count})


def upload(client: Client, batch_id: str, first: int, items: list[dict[str, str]]) -> dict[str, Any]:
    """Upload up to 1,000 rows from a place on, and return the batch."""
    return client.ask("PUT", f"{BATCHES}/{batch_id}/rows", {"from": first, "rows": items})


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_READ):
            yield part
