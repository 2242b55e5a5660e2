"""Pages: every row once, newest first, whatever is added meanwhile."""

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput
from outlay.store.paging import LIMIT_DEFAULT, LIMIT_MAX, page

_metadata = sa.MetaData()
thing = sa.Table("thing", _metadata, sa.Column("id", sa.Text, primary_key=True), sa.Column("at", sa.BigInteger))


def opened(rows: list[tuple[str, int]]) -> sa.Connection:
    engine = sa.create_engine("sqlite://")
    _metadata.create_all(engine)
    unit = engine.connect()
    if rows:
        unit.execute(sa.insert(thing), [{"id": name, "at": at} for name, at in rows])
    return unit


def walk(unit: sa.Connection, limit: int | None) -> list[str]:
    """Return every id, page by page."""
    found: list[str] = []
    token = None
    while len(found) < 1000:  # a page that comes again would never end
        rows, token = page(unit, sa.select(thing), order=thing.c.at, key=thing.c.id, limit=limit, token=token)
        found += [row.id for row in rows]
        if token is None:
            break
    return found


@given(
    st.dictionaries(st.text("abc-0/", min_size=1, max_size=6), st.integers(0, 5), max_size=30),
    st.none() | st.integers(1, 7),
)
def test_every_row_comes_once_newest_first(rows: dict[str, int], limit: int | None) -> None:
    """Many rows share an instant: the key decides between them."""
    newest_first = sorted(rows, key=lambda name: (rows[name], name.encode()), reverse=True)
    assert walk(opened(list(rows.items())), limit) == newest_first


def test_rows_added_meanwhile_neither_repeat_nor_hide_others() -> None:
    unit = opened([(f"thing-{number}", number) for number in range(10)])
    first, token = page(unit, sa.select(thing), order=thing.c.at, key=thing.c.id, limit=4)
    unit.execute(sa.insert(thing).values(id="later", at=99))
    second, _ = page(unit, sa.select(thing), order=thing.c.at, key=thing.c.id, limit=500, token=token)
    assert [row.id for row in (*first, *second)] == [f"thing-{number}" for number in reversed(range(10))]


def test_the_last_page_has_no_token_even_if_it_is_full() -> None:
    unit = opened([("a", 1), ("b", 2)])
    assert page(unit, sa.select(thing), order=thing.c.at, key=thing.c.id, limit=2)[1] is None
    assert page(opened([]), sa.select(thing), order=thing.c.at, key=thing.c.id) == ([], None)


def test_a_page_has_a_size_unless_it_is_given() -> None:
    unit = opened([(f"{number:04}", number) for number in range(LIMIT_MAX + 1)])
    for limit, size in ((None, LIMIT_DEFAULT), (LIMIT_MAX, LIMIT_MAX)):
        assert len(page(unit, sa.select(thing), order=thing.c.at, key=thing.c.id, limit=limit)[0]) == size


@pytest.mark.parametrize("limit", [0, -1, LIMIT_MAX + 1])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        page(opened([]), sa.select(thing), order=thing.c.at, key=thing.c.id, limit=limit)
    assert refused.value.field == "limit"


@pytest.mark.parametrize(
    "token", ["x", "====", "MTIz", "L2E", "\u00e9", "Li4vLi4", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAvYQ", " "]
)
def test_a_token_this_server_did_not_make_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        page(opened([]), sa.select(thing), order=thing.c.at, key=thing.c.id, token=token)
    assert refused.value.field == "paginationToken"


@given(st.text(max_size=40))
def test_any_text_is_a_token_or_refused(token: str) -> None:
    unit = opened([("a", 1), ("b", 2)])
    try:
        page(unit, sa.select(thing), order=thing.c.at, key=thing.c.id, token=token)
    except InvalidInput as refused:
        assert refused.field == "paginationToken"
