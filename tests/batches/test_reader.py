"""Reading files of payouts: what is taken, what is refused and with which words, and that nothing is guessed."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.client import batch_file
from outlay.client.batch_file import COLUMNS, FileReader, Listed, amount_problem
from outlay.core.address import checksum
from outlay.core.errors import InvalidInput
from outlay.core.intent import read_intent

NETWORK = "EthereumSepolia"
TOKEN = "0x" + "1c" * 20
COIN, DOLLAR = Listed("native", "ETH", 18), Listed(TOKEN, "USDC", 6)
ALICE = "0x" + "a1" * 20
HEADING = ",".join(COLUMNS)
Item = dict[str, str]


def row(**changes: str) -> Item:
    given = {"reference": "r-1", "recipient": ALICE, "network": NETWORK, "asset": "USDC", "amount": "12.5", "memo": "m"}
    return {**given, **changes}


def in_csv(*rows: Item, separator: str = ",", end: str = "\n", columns: tuple[str, ...] = COLUMNS) -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator=end)
    writer.writerow(columns)
    writer.writerows([each[name] for name in columns] for each in rows)
    return file.getvalue()


def read(data: bytes, size: int = 65536) -> tuple[FileReader, list[Item]]:
    reader = FileReader(NETWORK, (COIN, DOLLAR))
    parts = (data[at : at + size] for at in range(0, len(data), size))
    return reader, [item for _, item in reader.rows(parts)]


def refusal(data: bytes) -> str:
    """Return why a file cannot be read at all."""
    with pytest.raises(InvalidInput) as refused:
        read(data)
    assert refused.value.field == "file"
    return refused.value.message


def problems(data: bytes) -> list[tuple[int, str]]:
    reader, items = read(data)
    assert reader.problem_count == len(reader.problems) and not items
    return [(each.row, each.column) for each in reader.problems]


# Forms


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.encode(),
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_separators_and_ends_of_lines(write: Callable[[str], bytes], separator: str, end: str) -> None:
    text = in_csv(row(memo='März; "5", 🧧\t'.strip()), row(reference="r-2", memo=""), separator=separator, end=end)
    reader, items = read(write(text))
    assert reader.problems == []
    assert items[0] == {
        "externalId": "r-1",
        "network": NETWORK,
        "asset": "USDC",
        "recipient": ALICE,
        "amount": "12500000",
        "memo": 'März; "5", 🧧',
    }
    assert "memo" not in items[1]


def test_columns_come_in_any_order_and_case_and_blank_lines_are_passed_over() -> None:
    text = f"\n\n amount ;RECIPIENT;Asset;network;Reference\n;;;;\n1;{ALICE};native;{NETWORK}; r-1 \n\n"
    reader, items = read(text.encode())
    assert [each["amount"] for each in items] == [str(10**18)]
    assert (items[0]["externalId"], reader.count) == ("r-1", 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (HEADING.encode(), "holds no payouts"),
        (b"reference,recipient,network,asset\n", "amount is missing"),
        (f"{HEADING},note\n".encode(), "note is not known"),
        (f"{HEADING},amount\n".encode(), "amount is there twice"),
        (b"reference|recipient|network|asset|amount\n", "is missing"),
        (f"{HEADING}\nM\u00e4rz".encode("latin-1"), "not UTF-8"),
        (in_csv(row()).encode("utf-16-le"), "zero bytes"),
        (f'{HEADING}\nr-1,{ALICE},"{NETWORK},USDC,1,\n'.encode(), "a quote missing"),
        (HEADING.encode() + b"\n" + b"x" * 200_000, "line of more than"),
        (b"[", "no list of objects"),
        (b"[]", "holds no payouts"),
        (b"[1]", "no list of objects"),
        (b"[{}{}]", "no comma after object 1"),
        (b"[{},]", "no list of objects"),
        (b"[{}", "ends after object 1"),
        (b'[{"a": ', "no JSON"),
        (b"[{}] x", "goes on after the end"),
        (b'[{"a":' + b"[" * 50_000, "no JSON"),
        (b"{}\n{}\nx", "no list of objects"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(data: bytes, said: str) -> None:
    assert said in refusal(data)


def test_one_row_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_file, "COUNT_MAX", 3)
    rows = [row(reference=f"r-{at}") for at in range(4)]
    for data in (in_csv(*rows), json.dumps(rows), "\n".join(map(json.dumps, rows))):
        assert "more than 3 payouts" in refusal(data.encode())
    for data in (in_csv(*rows[:3]), json.dumps(rows[:3]), "\n".join(map(json.dumps, rows[:3]))):
        assert len(read(data.encode())[1]) == 3


# Rows


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"reference": ""}, "reference"),
        ({"reference": "a b"}, "reference"),
        ({"reference": "x" * 51}, "reference"),
        ({"reference": "é"}, "reference"),
        ({"recipient": ""}, "recipient"),
        ({"recipient": ALICE[:-1]}, "recipient"),
        ({"recipient": "0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}, "recipient"),
        ({"network": ""}, "network"),
        ({"network": "ethereumsepolia"}, "network"),
        ({"asset": "usdc"}, "asset"),
        ({"asset": ""}, "asset"),
        ({"asset": "0x" + "77" * 20}, "asset"),
        ({"amount": "1,5"}, "amount"),
        ({"memo": "x" * 201}, "memo"),
        ({"memo": "a\u200bb"}, "memo"),
        ({"memo": "e\u0301"}, "memo"),
        ({"memo": "a\nb"}, "memo"),
        ({"recipient": "\u00a0" + ALICE}, "recipient"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_with_its_column(change: Item, column: str) -> None:
    assert problems(in_csv(row(**change)).encode()) == [(2, column)]
    assert problems(json.dumps([row(**change)]).encode()) == [(1, column)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,234.56", "comma"),
        ("1.234,56", "comma"),
        ("1e3", "exponent"),
        ("-1", "sign"),
        ("+1", "sign"),
        ("1 000", "groups"),
        ("1_000", "groups"),
        ("1'000", "groups"),
        ("", "empty"),
        ("0", "pays nobody"),
        ("0.000000", "pays nobody"),
        ("0.0000001", "7 decimals; USDC has 6"),
        ("1.0000000", "7 decimals"),
        ("007", "zeros"),
        ("00.5", "zeros"),
        (".5", "no digit"),
        ("5.", "no digit"),
        ("1.2.3", "several points"),
        ("\u0661", "something else"),
        ("\uff11", "something else"),
        ("$5", "no number"),
        ("five", "no number"),
        ("1" + "0" * 80, "more than any asset"),
    ],
)
def test_an_amount_that_could_mean_something_else_is_refused(text: str, said: str) -> None:
    why = amount_problem(text, DOLLAR)
    assert why is not None and said in why


def test_rows_are_told_from_each_other_by_their_reference() -> None:
    rows = [row(), row(reference="r-2"), row(amount="3"), row(reference="r-3", amount="12.50")]
    reader, items = read(in_csv(*rows).encode())
    assert [(each.row, each.reason) for each in reader.problems] == [
        (4, "r-1 is the reference of row 2 too: each pays once")
    ]
    assert [(each.row, each.reason) for each in reader.warnings] == [
        (3, "the same amount goes to the same recipient in row 2"),
        (5, "the same amount goes to the same recipient in row 2"),
    ]
    assert ([each["externalId"] for each in items], reader.totals["USDC"].amount) == (["r-1", "r-2", "r-3"], 37_500_000)
    reader, _ = read(in_csv(row(), row(reference="r-2", recipient=checksum(ALICE), amount="1")).encode())
    assert reader.lower_case == 1


def test_rows_of_another_shape_are_told_as_a_whole() -> None:
    text = in_csv(row()) + f"r-2,{ALICE},{NETWORK},USDC,1,000,m\nr-3\n"
    reader, items = read(text.encode())
    assert ([(each.row, each.column) for each in reader.problems], len(items)) == ([(3, "row"), (4, "row")], 1)
    given: list[Any] = [
        {**row(), "amount": 12.5},
        {**row(), "extra": "x"},
        {"reference": "r"},
        {**row(), "asset": ["x"]},
    ]
    assert problems(json.dumps(given).encode()) == [(1, "row"), (2, "row"), (3, "row"), (4, "row")]
    twice = json.dumps([row()])[:-2] + ',"amount":"1"}]'
    assert problems(twice.encode()) == [(1, "row")]
    again = json.dumps([{**row(), "AMOUNT": "1"}])
    assert problems(again.encode()) == [(1, "row")]


def test_every_problem_is_counted_and_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_file, "PROBLEMS_MAX", 3)
    reader, _ = read(in_csv(*[row(reference=f"r-{at}", amount="x") for at in range(10)]).encode())
    assert (reader.problem_count, [each.row for each in reader.problems]) == (10, [2, 3, 4])


# Any file


@given(
    texts=st.lists(st.text(max_size=12), min_size=6, max_size=40),
    size=st.integers(1, 40),
    as_json=st.booleans(),
)
def test_no_cell_ends_the_reading_and_what_is_taken_can_be_asked_for(
    texts: list[str], size: int, as_json: bool
) -> None:
    rows = [dict(zip(COLUMNS, part, strict=True)) for part in _sixes(texts)]
    data = json.dumps(rows) if as_json else in_csv(*rows)
    try:
        _, items = read(data.encode("utf-8", "surrogatepass"), size)
    except InvalidInput as refused:
        assert refused.field == "file"
        return
    for item in items:
        intent_of(item)


@given(data=st.binary(max_size=400), size=st.integers(1, 50))
def test_no_bytes_end_the_reading(data: bytes, size: int) -> None:
    try:
        read(data, size)
    except InvalidInput as refused:
        assert refused.field == "file"


AMOUNTS = st.integers(1, 10**12).flatmap(lambda whole: st.integers(0, 6).map(lambda places: shifted(whole, places)))
MEMOS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=30).map(str.strip)


@given(
    cells=st.lists(st.tuples(AMOUNTS, MEMOS), min_size=1, max_size=20),
    size=st.integers(1, 200),
    form=st.sampled_from(["csv", "json", "lines"]),
    separator=st.sampled_from([",", ";", "\t"]),
)
def test_whatever_the_form_and_however_it_comes_in_parts_the_rows_are_the_same(
    cells: list[tuple[str, str]], size: int, form: str, separator: str
) -> None:
    rows = [row(reference=f"r-{at}", amount=amount, memo=memo) for at, (amount, memo) in enumerate(cells)]
    forms = {
        "csv": in_csv(*rows, separator=separator),
        "json": json.dumps(rows, indent=1),
        "lines": "\n".join(json.dumps(each) for each in rows),
    }
    reader, items = read(forms[form].encode(), size)
    assert reader.problems == []
    for item, (amount, memo) in zip(items, cells, strict=True):
        whole, _, part = amount.partition(".")
        assert int(item["amount"]) == int(whole) * 10**6 + int(part.ljust(6, "0"))
        assert item.get("memo", "") == memo
        intent_of(item)


def shifted(digits: int, places: int) -> str:
    """Return a number with a point before its last digits."""
    text = str(digits).rjust(places + 1, "0")
    return f"{text[:-places]}.{text[-places:]}" if places else text


def _sixes(texts: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(texts) - 5, 6):
        yield texts[at : at + 6]


def intent_of(item: Item) -> None:
    """Read an item as the server does; it raises if it is refused there."""
    read_intent(
        org="",
        initiator="",
        wallet="w",
        network="",
        chain_id=1,
        contract=None if item["asset"] in ("native", "ETH") else TOKEN,
        to=item["recipient"],
        amount=item["amount"],
        priority=None,
        external_id=item["externalId"],
        memo=item.get("memo", ""),
    )
