"""Reading a file of payouts: CSV or JSON, row by row, in memory that does not grow with it but for 16 bytes a name.

Nothing in it is guessed: what could be meant in two ways is refused, with a reason that says what to write.
"""

import codecs
import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from outlay.core.address import parse_address
from outlay.core.errors import InvalidInput
from outlay.core.intent import MEMO_MAX
from outlay.core.money import AMOUNT_MAX

COLUMNS = ("reference", "recipient", "network", "asset", "amount", "memo")
OPTIONAL = ("memo",)
COUNT_MAX = 100_000
"""Rows in one file."""

PROBLEMS_MAX = 1_000
"""Problems that are kept; all of them are counted."""

LINE_MAX = 64 * 1024
"""Characters of one line or object."""

_SEPARATORS = (",", ";", "\t")
_NAMES = ", ".join(COLUMNS)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_REFERENCE = re.compile(r"[\x21-\x7e]{1,50}")
_AMOUNT = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r(?!\Z)|\n)")
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row, or unusual about it."""

    row: int  #: line of a CSV file, number of the object of a JSON file; from 1
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An asset that can be paid."""

    key: str  #: ``native`` or the contract in lower case
    symbol: str
    decimals: int


@dataclass(slots=True)
class Total:
    """What the rows of one asset come to."""

    count: int = 0
    amount: int = 0  #: base units


@dataclass(slots=True)
class FileReader:
    """One file that is read once. ``rows`` yields the good rows; the rest is known when it is at its end."""

    network: str  #: of the wallet or pool that is to pay
    assets: Iterable[Listed]  #: of that network
    count: int = 0  #: rows, good or not
    problems: list[Problem] = field(default_factory=list)  #: the first ones
    problem_count: int = 0
    warnings: list[Problem] = field(default_factory=list)  #: the first ones
    warning_count: int = 0
    lower_case: int = 0  #: recipients without a checksum
    totals: dict[str, Total] = field(default_factory=dict)  #: of good rows, by what the file calls the asset
    _by_name: dict[str, Listed] = field(default_factory=dict)
    _references: dict[bytes, int] = field(default_factory=dict)
    _payments: dict[bytes, int] = field(default_factory=dict)

    def rows(self, chunks: Iterable[bytes]) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the good rows: the number of each, and its item as it is uploaded.

        Args:
            chunks: the bytes of the file, in parts of any size.

        Raises:
            InvalidInput: it cannot be read as a whole: encoding, columns, form, more than 100,000 rows, none at all.
        """
        named = list(self.assets)
        symbols = [each.symbol for each in named]
        self._by_name = {each.symbol: each for each in named if symbols.count(each.symbol) == 1}
        self._by_name |= {each.key: each for each in named}
        for row, given in _objects(_texts(chunks)):
            self.count += 1
            if self.count > COUNT_MAX:
                raise InvalidInput(f"holds more than {COUNT_MAX:,} payouts: split it", field="file")
            before = self.problem_count
            item = None
            if isinstance(given, dict):
                item = self._item(row, given)
            else:
                self._wrong(row, "row", given)
            if item is not None and self.problem_count == before:
                total = self.totals.setdefault(item["asset"], Total())
                total.count += 1
                total.amount += int(item["amount"])
                yield row, item
        if self.count == 0:
            raise InvalidInput("holds no payouts", field="file")

    def _wrong(self, row: int, column: str, reason: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(row, column, reason))

    def _warn(self, row: int, column: str, reason: str) -> None:
        self.warning_count += 1
        if len(self.warnings) < PROBLEMS_MAX:
            self.warnings.append(Problem(row, column, reason))

    def _item(self, row: int, given: Mapping[str, str]) -> dict[str, str] | None:
        cells = {name: given.get(name, "").strip(" \t") for name in COLUMNS}
        hidden = [(name, why) for name, text in cells.items() if (why := _unreadable(text)) is not None]
        for name, why in hidden:
            self._wrong(row, name, why)
        if hidden:
            return None
        self._check_reference(row, cells["reference"])
        recipient = self._recipient(row, cells["recipient"])
        if cells["network"] != self.network:
            self._wrong(row, "network", f"is {cells['network'] or 'empty'}; the wallet or pool pays on {self.network}")
        asset = self._asset(row, cells["asset"])
        amount = None if asset is None else self._amount(row, cells["amount"], asset)
        if len(cells["memo"]) > MEMO_MAX:
            self._wrong(row, "memo", f"is longer than {MEMO_MAX} characters")
        if asset is None or amount is None or recipient is None:
            return None
        self._note_payment(row, recipient, asset, amount)
        item = {
            "externalId": cells["reference"],
            "network": cells["network"],
            "asset": cells["asset"],
            "recipient": cells["recipient"],
            "amount": str(amount),
        }
        return item if not cells["memo"] else {**item, "memo": cells["memo"]}

    def _check_reference(self, row: int, text: str) -> None:
        if _REFERENCE.fullmatch(text) is None:
            why = "is empty" if not text else "is not 1 to 50 printable ASCII characters without spaces"
            self._wrong(row, "reference", f"{why}: give every payout an id of your own")
            return
        name = _short(text)
        earlier = self._references.setdefault(name, row)
        if earlier != row:
            self._wrong(row, "reference", f"{text} is the reference of row {earlier} too: each pays once")

    def _recipient(self, row: int, text: str) -> str | None:
        try:
            address = parse_address(text, field="recipient")
        except InvalidInput as error:
            self._wrong(row, "recipient", error.message if text else "is empty")
            return None
        if text == address and not text[2:].isdecimal():
            self.lower_case += 1
        return address

    def _asset(self, row: int, text: str) -> Listed | None:
        found = self._by_name.get(text) or self._by_name.get(text.lower() if text[:2] in ("0x", "0X") else text)
        if found is None:
            listed = ", ".join(sorted({each.symbol for each in self._by_name.values()}))
            self._wrong(row, "asset", f"{text or 'nothing'} is not listed for {self.network}; there is: {listed}")
        return found

    def _amount(self, row: int, text: str, asset: Listed) -> int | None:
        why = amount_problem(text, asset)
        if why is not None:
            self._wrong(row, "amount", why)
            return None
        whole, _, part = text.partition(".")
        return int(whole + part.ljust(asset.decimals, "0"))

    def _note_payment(self, row: int, recipient: str, asset: Listed, amount: int) -> None:
        earlier = self._payments.setdefault(_short(f"{recipient} {asset.key} {amount}"), row)
        if earlier != row:
            self._warn(row, "recipient", f"the same amount goes to the same recipient in row {earlier}")


def amount_problem(text: str, asset: Listed) -> str | None:
    """Return why an amount cannot be taken, and what to write; None: it can."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        return _advice(text)
    decimals = len(found[2] or "")
    if decimals > asset.decimals:
        return f"has {decimals} decimals; {asset.symbol} has {asset.decimals}"
    number = int(found[1] + (found[2] or "").ljust(asset.decimals, "0"))
    if number == 0:
        return "is 0, which pays nobody"
    return None if number <= AMOUNT_MAX else "is more than any asset has"


def _advice(text: str) -> str:
    example = "write digits with a point before the decimals, such as 1234.56"
    if not text:
        return "is empty"
    if not text.isascii():
        return f"holds something else than digits and a point: {example}"
    if re.fullmatch(r"[+-].*", text):
        return "has a sign: write it without"
    if re.fullmatch(r"[0-9.,]+[eE][+-]?[0-9]+", text):
        return "is written with an exponent: write all digits"
    if "," in text:
        return f"holds a comma, which means thousands to some and decimals to others: {example}"
    if text.count(".") > 1:
        return f"holds several points: {example}"
    if " " in text or "'" in text or "_" in text:
        return f"has its digits in groups: {example}"
    if re.fullmatch(r"0[0-9.]+", text):
        return "begins with zeros: write it without"
    if re.fullmatch(r"[0-9]*\.[0-9]*", text):
        return "has no digit before or after its point: write 0.5 or 5"
    return f"is no number: {example}"


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _unreadable(text: str) -> str | None:
    """Return why a cell cannot be told from another one by looking at it; None: it can."""
    if text.isascii() and text.isprintable():
        return None
    for character in text:
        if unicodedata.category(character) in _HIDDEN or not character.isprintable():
            return f"holds a character that does not show (U+{ord(character):04X}): remove it"
    return None if unicodedata.is_normalized("NFC", text) else "is not in Unicode's composed form (NFC): normalize it"


# From bytes to rows


def _texts(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of a file in UTF-8, or in UTF-16 that says so.

    Raises:
        InvalidInput: it is in something else.
    """
    parts = iter(chunks)
    start = b""
    for part in parts:
        start += part
        if len(start) >= 4:
            break
    bom, encoding = next(((mark, name) for mark, name in _BOMS if start.startswith(mark)), (b"", "utf-8"))
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    try:
        yield _checked(decoder.decode(start[len(bom) :]))
        for part in parts:
            yield _checked(decoder.decode(part))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise InvalidInput(
            "is not UTF-8 throughout (an export in Latin-1 or Windows-1252?): save it as CSV UTF-8", field="file"
        ) from None


def _checked(text: str) -> str:
    if "\0" in text:
        raise InvalidInput(
            "holds zero bytes: it is no CSV or JSON, or UTF-16 without a mark; save it as UTF-8", field="file"
        )
    return text


def _objects(texts: Iterator[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield each row with its number: its cells by column, or what is wrong with it as a whole."""
    start = ""
    for text in texts:
        start += text
        if start.strip(" \t\r\n"):
            break
    rest = _chain(start, texts)
    return _json_rows(rest) if start.lstrip(" \t\r\n")[:1] in ("[", "{") else _csv_rows(rest)


def _chain(start: str, texts: Iterator[str]) -> Iterator[str]:
    yield start
    yield from texts


def _lines(texts: Iterator[str]) -> Iterator[str]:
    """Yield lines with their ends."""
    rest = ""
    for text in texts:
        rest += text
        at = 0
        while (found := _LINE.match(rest, at)) is not None:
            yield found[0]
            at = found.end()
        rest = rest[at:]
        if len(rest) > LINE_MAX:
            raise InvalidInput(f"has a line of more than {LINE_MAX:,} characters: it is no CSV", field="file")
    if rest:
        yield rest


def _csv_rows(texts: Iterator[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    lines, skipped = _lines(texts), 0
    heading = ""
    for heading in lines:
        if heading.strip(" \t\r\n"):
            break
        skipped += 1
    separator, columns = _read_heading(heading)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        row = skipped + reader.line_num + 2
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InvalidInput(
                f"cannot be read from line {row} on ({error}): is a quote missing?", field="file"
            ) from None
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            yield (
                row,
                f"has {len(cells)} cells instead of {len(columns)}: put what holds a {_named(separator)} in quotes",
            )
            continue
        yield row, dict(zip(columns, cells, strict=True))


def _read_heading(heading: str) -> tuple[str, list[str]]:
    """Return the separator and the columns that the first line names.

    Raises:
        InvalidInput: a column is missing, unknown or named twice.
    """
    if not heading.strip(" \t\r\n"):
        raise InvalidInput("is empty", field="file")
    best: list[str] = []
    for separator in _SEPARATORS:
        cells = next(csv.reader([heading], delimiter=separator), [])
        columns = [cell.strip(" \t\r\n").lower() for cell in cells]
        if sorted(set(columns)) == sorted(columns) and {*columns} | {*OPTIONAL} == {*COLUMNS}:
            return separator, columns
        if len(columns) > len(best):
            best = columns
    missing = [each for each in COLUMNS if each not in best and each not in OPTIONAL]
    unknown = [each for each in best if each not in COLUMNS]
    twice = sorted({each for each in best if best.count(each) > 1})
    said = [
        *([f"{', '.join(missing)} is missing"] if missing else []),
        *([f"{', '.join(unknown)[:200]} is not known"] if unknown else []),
        *([f"{', '.join(twice)} is there twice"] if twice else []),
    ]
    raise InvalidInput(f"its first line must name the columns {_NAMES}: {'; '.join(said)}", field="file")


def _named(separator: str) -> str:
    return {",": "comma", ";": "semicolon", "\t": "tab"}[separator]


class _Number(str):
    """A number of JSON, as it is written."""


def _json_rows(texts: Iterator[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    for number, value in enumerate(_json_values(texts), start=1):
        yield number, _cells(value)


def _json_values(texts: Iterator[str]) -> Iterator[Any]:
    """Yield the objects of an array, or of lines, one after the other."""
    buffer = _Buffer(texts)
    is_array = buffer.next() == "["
    if is_array:
        buffer.take()
    for number in range(1, COUNT_MAX + 3):
        found = buffer.next()
        if is_array and number > 1 and found == ",":
            buffer.take()
        elif found == ("]" if is_array else ""):
            break
        elif is_array and number > 1:
            what = "has no comma after" if found else "ends after"
            raise InvalidInput(f"{what} object {number - 1}", field="file")
        yield buffer.value(number)
    else:
        return  # more than are read
    if is_array:
        buffer.take()
        if buffer.next():
            raise InvalidInput("goes on after the end of its list", field="file")


class _Buffer:
    """What is left of a text of JSON."""

    def __init__(self, texts: Iterator[str]) -> None:
        """Read from ``texts`` as far as it is needed."""
        self._texts, self._text, self._at = texts, "", 0
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_once, parse_float=_Number, parse_int=_Number, parse_constant=_Number
        )

    def _more(self) -> bool:
        more = next(self._texts, None)
        if more is None:
            return False
        self._text, self._at = self._text[self._at :] + more, 0
        return True

    def next(self) -> str:
        """Return the next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self) -> None:
        """Pass over the next character."""
        self._at += 1

    def value(self, number: int) -> Any:
        """Return the next value, which is object ``number``."""
        if self.next() != "{":
            raise InvalidInput(f"is no list of objects: see object {number}", field="file")
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
                return value
            except (json.JSONDecodeError, RecursionError):
                if len(self._text) - self._at > LINE_MAX or not self._more():
                    raise InvalidInput(f"is no JSON from object {number} on", field="file") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    return {"": "names a member twice"} if len(set(names)) != len(names) else dict(pairs)


def _cells(value: Any) -> dict[str, str] | str:
    """Return the cells of an object, or what is wrong with it."""
    if not isinstance(value, dict):
        return "is no object"
    if "" in value:
        return "names a member twice, or one without a name"
    cells = {str(name).lower(): cell for name, cell in value.items() if cell is not None}
    unknown = sorted(set(cells) - set(COLUMNS))
    if unknown or len(cells) != sum(cell is not None for cell in value.values()):
        return f"has members that are not known: {', '.join(unknown)[:200]}" if unknown else "names a member twice"
    for name, cell in cells.items():
        if isinstance(cell, _Number):
            return f"{name} is a number, which programs round: put it in quotes"
        if not isinstance(cell, str):
            return f"{name} is no text"
    missing = [each for each in COLUMNS if each not in cells and each not in OPTIONAL]
    return f"{', '.join(missing)} is missing" if missing else cells
