"""The dashboard reads files of payouts as the command line does: the same rows, reasons, totals and digest."""

import base64
import json
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from outlay.client.batch_file import FileReader, Listed
from outlay.core.address import checksum
from outlay.core.errors import InvalidInput
from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import Frontier, leaf
from tests import tools

NETWORK = "EthereumSepolia"
USDC = Listed("0x" + "ab" * 20, "USDC", 6)
ASSETS = (Listed("native", "ETH", 18), USDC, Listed("0x" + "12" * 20, "DUP", 2), Listed("0x" + "34" * 20, "DUP", 2))
TO = checksum("0x" + "a1b2c3d4e5" * 4)
HEADING = "reference,recipient,network,asset,amount,memo\n"
STATIC = tools.ROOT / "src/outlay/web/dashboard/static"


def line(reference: str = "r-1", to: str = TO, network: str = NETWORK, asset: str = "USDC", amount: str = "1.5") -> str:
    return f"{reference},{to},{network},{asset},{amount},\n"


AMOUNTS = (
    *("1", "0", "0.0", "-1", "+1", "1e3", '"1,234.56"', "1.234.56", "1 000", "1'000", "007", "1.", ".5", "", "abc"),
    *("1.2345678", "\u0661", "9" * 80, "0.000001", "1_000", "1.5E-3"),
)
RECIPIENTS = (
    TO.lower(),
    "0x" + TO[2:].upper(),
    "0x" + TO[2:].swapcase(),
    TO[:-1],
    "0x" + "1" * 40,
    "",
    "bc1q",
    TO + "0",
)
PAYMENT: dict[str, Any] = {"reference": "a", "recipient": TO, "network": NETWORK, "asset": "USDC", "amount": "1"}
SAMPLES: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \r\n\n",
    "only a heading": HEADING.encode(),
    "good": (HEADING + line() + line("r-2", amount="2")).encode(),
    "with a mark": b"\xef\xbb\xbf" + (HEADING + line()).encode(),
    "UTF-16, little": b"\xff\xfe" + (HEADING + line()).encode("utf-16-le"),
    "UTF-16, big": b"\xfe\xff" + (HEADING + line()).encode("utf-16-be"),
    "UTF-16, half a character": b"\xff\xfe" + (HEADING + line()).encode("utf-16-le") + b"\x00",
    "UTF-16 without a mark": (HEADING + line()).encode("utf-16-le"),
    "Latin-1": (HEADING + f"r,{TO},{NETWORK},USDC,1,Müller\n").encode("latin-1"),
    "UTF-8, cut off": (HEADING + f"r,{TO},{NETWORK},USDC,1,").encode() + b"\xc3",
    "semicolons": (HEADING + line()).replace(",", ";").encode(),
    "tabs": (HEADING + line()).replace(",", "\t").encode(),
    "CRLF and blank lines": (HEADING + "\n" + line() + ",,,,,\n\n" + line("r-2")).replace("\n", "\r\n").encode(),
    "old line ends": (HEADING + line() + line("r-2")).replace("\n", "\r").encode(),
    "columns in another order": (
        f"Memo, AMOUNT ,asset,network,recipient,Reference\nhi,1,USDC,{NETWORK},{TO},r\n"
    ).encode(),
    "no memo": f"reference,recipient,network,asset,amount\nr,{TO},{NETWORK},USDC,1\n".encode(),
    "a column is missing": b"reference,recipient,network,asset\n",
    "unknown columns": b"id,to,network,asset,amount,memo\n",
    "a column twice": b"reference,reference,recipient,network,asset,amount\n",
    "too few cells": (HEADING + f"r,{TO},{NETWORK},USDC,1\n" + line("r-2")).encode(),
    "quotes": (HEADING + f'"r-""1""","{TO}",{NETWORK},USDC,"1","a, b"\n').encode(),
    "a cell over two lines": (HEADING + f'r,{TO},{NETWORK},USDC,1,"a\nb"\n' + line("r-2")).encode(),
    "an open quote": (HEADING + line() + f'r,{TO},{NETWORK},USDC,1,"a\n').encode(),
    "text after a quote": (HEADING + line() + f'r,{TO},{NETWORK},USDC,1,"a"b\n').encode(),
    "a quote inside": (HEADING + f'r,{TO},{NETWORK},USDC,1,5" nails\n').encode(),
    "references": (
        HEADING + line("") + line("a b") + line("é") + line("x" * 51) + line("same") + line("same")
    ).encode(),
    "networks and assets": (
        HEADING
        + line("1", network="")
        + line("2", network="Base")
        + line("3", asset="")
        + line("4", asset="usdc")
        + line("5", asset="native")
        + line("6", asset=USDC.key.upper().replace("X", "x"))
        + line("7", asset="DUP")
    ).encode(),
    "amounts": (HEADING + "".join(line(f"r-{n}", amount=each) for n, each in enumerate(AMOUNTS))).encode(),
    "recipients": (HEADING + "".join(line(f"r-{n}", to=each) for n, each in enumerate(RECIPIENTS))).encode(),
    "memos": (
        HEADING
        + "".join(
            f"r-{n},{TO},{NETWORK},USDC,{n + 1},{memo}\n"
            for n, memo in enumerate(
                ("=1+1", "a\u200bb", "e\u0301", "é", "x" * 201, "𝄞" * 200, "a\u00a0b", "\u2028", " \ta ")
            )
        )
    ).encode(),
    "a long line": (HEADING + "x" * 70_000).encode(),
    "nothing but text": b"hello world",
    "JSON": json.dumps([PAYMENT, {**PAYMENT, "reference": "b", "memo": "é𝄞", "amount": "2"}]).encode(),
    "JSON lines": "\n".join(json.dumps({**PAYMENT, "reference": f"{n}"}) for n in range(5)).encode(),
    "JSON, members": json.dumps(
        [
            {**PAYMENT, "amount": 1},
            {**PAYMENT, "amount": 1.5},
            {**PAYMENT, "x": 1},
            {},
            {"": 1},
            {**PAYMENT, "memo": None},
            {**PAYMENT, "reference": "c", "AMOUNT": "1"},
            {**PAYMENT, "memo": ["a"]},
            {**PAYMENT, "asset": True},
        ]
    ).encode(),
    "JSON, a member twice": b'[{"reference": "a", "reference": "b"}, {"a": {"b": 1, "b": 2}}]',
    "JSON, in a text": json.dumps([{**PAYMENT, "memo": 'a "b": {[ \\ ]}'}]).encode(),
    "JSON, empty": b"[]",
    "JSON, no comma": b"[{} {}]",
    "JSON, open": b"[{}",
    "JSON, goes on": b"[{}] x",
    "JSON, no objects": b"[1]",
    "JSON, broken": b'[{"a": }]',
    "JSON, endless": b'[{"a": "' + b"x" * 100,
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the scripts of the dashboard where Node takes them for modules."""
    folder = tmp_path_factory.mktemp("scripts")
    for each in STATIC.glob("*.js"):
        shutil.copy(each, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def run(folder: Path, cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the scripts say about each case."""
    text = "".join(json.dumps(each) + "\n" for each in cases)
    program = tools.ROOT / "tests/dashboard/read_files.mjs"
    done = subprocess.run(["node", str(program), str(folder)], input=text, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return [json.loads(each) for each in done.stdout.splitlines()]


def case_of(chunks: Sequence[bytes]) -> dict[str, Any]:
    assets = [{"key": each.key, "symbol": each.symbol, "decimals": each.decimals} for each in ASSETS]
    return {"network": NETWORK, "assets": assets, "chunks": [base64.b64encode(each).decode() for each in chunks]}


def expected(chunks: Sequence[bytes]) -> dict[str, Any]:
    """Return what our own reader says."""
    reader, refused = FileReader(NETWORK, ASSETS), None
    items: list[Any] = []
    try:
        items.extend([row, item] for row, item in reader.rows(chunks))
    except InvalidInput as error:
        refused = error.message
    return {
        "items": items,
        "refused": refused,
        "count": reader.count,
        "problems": [{"row": e.row, "column": e.column, "reason": e.reason} for e in reader.problems],
        "warnings": [{"row": e.row, "column": e.column, "reason": e.reason} for e in reader.warnings],
        "lowerCase": reader.lower_case,
        "totals": {asset: [total.count, str(total.amount)] for asset, total in reader.totals.items()},
        "digest": digest_of([item for _, item in items]),
    }


def digest_of(items: Sequence[Any]) -> str | None:
    frontier = Frontier()
    for item in items:
        frontier.add(leaf(canonical(item)))
    return frontier.digest() if items else None


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def test_the_browser_reads_every_file_as_the_command_line_does(scripts: Path) -> None:
    named = [
        (name, parts)
        for name, content in SAMPLES.items()
        for parts in ([content], cut(content, 7 if len(content) < 4000 else 4096))
    ]
    found = run(scripts, [case_of(parts) for _, parts in named])
    for (name, parts), answer in zip(named, found, strict=True):
        assert answer == expected(parts), f"{name}, in {len(parts)} parts"


def _damaged(rng: random.Random) -> Iterator[bytes]:
    pieces = [*map(bytes, zip(b',;"\n\r\t {}[]:0.\\')), b"\r\n", b"\xc3\xa9"]
    contents = [each for each in SAMPLES.values() if 0 < len(each) < 4000]
    for _ in range(400):
        content = bytearray(rng.choice(contents))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(content) + 1)
            content[at : at + rng.randint(0, 3)] = rng.choice(pieces)
        yield bytes(content)


def test_damaged_files_are_read_alike(scripts: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    cases = [cut(each, rng.choice((1, 5, 64, 4096))) for each in _damaged(rng)]
    for parts, answer in zip(cases, run(scripts, [case_of(parts) for parts in cases]), strict=True):
        wanted = expected(parts)
        assert answer == wanted, (seed, b"".join(parts))


def test_the_digest_is_that_of_the_vectors_and_of_every_number_of_rows(scripts: Path) -> None:
    vectors = json.loads((tools.ROOT / "tests/vectors/batch_digest.json").read_text())
    lists = [each["items"] for each in vectors["cases"]]
    wanted = [each["digest"] for each in vectors["cases"]]
    for count in (1, 2, 3, 4, 5, 7, 8, 9, 511, 512, 513, 1025):
        items = [{**PAYMENT, "memo": f"é𝄞 {number}"} for number in range(count)]
        lists.append(items)
        wanted.append(str(digest_of(items)))
    assert [each["digest"] for each in run(scripts, [{"items": items} for items in lists])] == wanted
