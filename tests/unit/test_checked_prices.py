"""A live price withholds a fixed one where it should, and never changes it."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.config import Config, parse
from outlay.core.asset import Asset
from outlay.core.errors import InvalidInput
from outlay.core.price import Quote
from outlay.core.seams import SECOND
from outlay.engine import prices as price_steps
from outlay.engine.prices import PriceLooks, prices_of, read_price
from outlay.prices.checked import OFF, STALE

TEXT = """
[prices.static]
ETH = "3000"
USDC = "1"
[prices.live.ETH]
url = "https://prices.example.com/eth?key=secret"
pointer = "/data/usd"
every_s = 60
max_age_s = 300
band = "0.2"
"""
ETH = Asset(network="N", kind="Native", contract=None, symbol="ETH", decimals=18)
USDC = Asset(network="N", kind="Erc20", contract="0x" + "c0" * 20, symbol="USDC", decimals=6)
BEGAN = 1_700_000_000 * SECOND


def config() -> Config:
    return parse(TEXT)


class Clock:
    def __init__(self) -> None:
        self.instant = BEGAN

    def now(self) -> int:
        return self.instant


@pytest.mark.parametrize(
    ("told", "usable"), [("2400", True), ("2399.99", False), ("3600", True), ("3600.01", False), ("3000", True)]
)
def test_a_price_is_used_within_its_band_both_edges_included(told: str, usable: bool) -> None:
    prices = prices_of(config(), BEGAN)
    prices.tell("ETH", Decimal(told), BEGAN)
    quote = Quote(price=Decimal("3000"), source="static", at=BEGAN)
    assert prices.find(ETH, BEGAN) == (quote if usable else None)
    found = prices.withheld("ETH", BEGAN)
    assert (found is None) if usable else (found is not None and found.reason == OFF and found.live == Decimal(told))


def test_a_price_is_used_until_its_check_is_too_old() -> None:
    prices = prices_of(config(), BEGAN)
    found = prices.withheld("ETH", BEGAN)
    assert prices.find(ETH, BEGAN) is None and found is not None and (found.reason, found.live) == (STALE, None)
    prices.tell("ETH", Decimal(3000), BEGAN)
    assert prices.find(ETH, BEGAN + 300 * SECOND) is not None
    assert prices.find(ETH, BEGAN + 300 * SECOND + 1) is None
    assert prices.ages(BEGAN + 10 * SECOND) == {"ETH": 10.0, "USDC": 0}


def test_what_is_not_checked_is_used_as_it_is_and_what_has_no_price_has_none() -> None:
    prices = prices_of(config(), BEGAN)
    assert prices.find(USDC, BEGAN) == Quote(price=Decimal(1), source="static", at=BEGAN)
    assert prices.find(replace(USDC, symbol="DAI"), BEGAN) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 400),
            st.one_of(
                st.none(), st.decimals("0.01", "9000", places=2), st.sampled_from([Decimal(2400), Decimal(3600)])
            ),
        ),
        max_size=30,
    )
)
def test_whatever_is_told_it_is_the_fixed_price_or_none(steps: list[tuple[int, Decimal | None]]) -> None:
    prices, now = prices_of(config(), BEGAN), BEGAN
    newest: tuple[int, Decimal] | None = None
    for waited, told in steps:
        now += waited * SECOND
        if told is not None:
            prices.tell("ETH", told, now)
            newest = (now, told)
        good = newest is not None and now - newest[0] <= 300 * SECOND and 2400 <= newest[1] <= 3600
        assert prices.find(ETH, now) == (Quote(price=Decimal(3000), source="static", at=now) if good else None)


@pytest.mark.parametrize(
    ("answer", "pointer", "price"),
    [
        (b'{"data":{"usd":3000.10}}', "/data/usd", "3000.10"),
        (b'{"data":{"usd":"3000.1"}}', "/data/usd", "3000.1"),
        (b'[{"a/b":{"~":1}}]', "/0/a~1b/~0", "1"),
        (b"0.1", "", "0.1"),
        (b'{"p":123456789.123456789012345678}', "/p", "123456789.123456789012345678"),
    ],
)
def test_a_price_is_read_as_it_is_written(answer: bytes, pointer: str, price: str) -> None:
    assert format(read_price(answer, pointer), "f") == price


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b'{"p":0}',
        b'{"p":-1}',
        b'{"p":1e3}',
        b'{"p":NaN}',
        b'{"p":Infinity}',
        b'{"p":true}',
        b'{"p":null}',
        b'{"p":{"q":1}}',
        b'{"p":"1,000"}',
        b'{"q":1}',
        b'{"p":"\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_price_is_none(answer: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_price(answer, "/p")


def test_each_price_is_asked_for_when_it_is_due_and_an_error_changes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock, asked = Clock(), list[str]()
    answers: list[bytes | Exception] = [b'{"data":{"usd":2900}}', OSError("gone"), InvalidInput("status 500")]

    async def fetch(url: str) -> bytes:
        asked.append(url)
        answer = answers[len(asked) - 1]
        clock.instant += 2 * SECOND  # it took a while
        if isinstance(answer, Exception):
            raise answer
        return answer

    settings = config()
    prices = prices_of(settings, BEGAN)
    looks = PriceLooks(prices, settings.live_prices, clock, fetch=fetch)
    assert asyncio.run(looks.step())
    assert prices.find(ETH, clock.now()) is not None
    assert prices.ages(clock.now())["ETH"] == 2, "it is as old as the question"
    assert not asyncio.run(looks.step())
    for _ in range(2):
        clock.instant += 60 * SECOND
        assert asyncio.run(looks.step())
    assert len(asked) == 3 and prices.find(ETH, clock.now()) is not None
    clock.instant += 200 * SECOND
    assert prices.find(ETH, clock.now()) is None
    assert "secret" not in capsys.readouterr().out


@pytest.mark.parametrize("answers", [True, False])
def test_who_starts_waits_for_the_first_answer_and_not_for_ever(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    monkeypatch.setattr(price_steps, "TOTAL_S", 5 if answers else 0.05)
    clock, settings = Clock(), config()
    prices = prices_of(settings, BEGAN)

    async def begin() -> bool:
        release = asyncio.Event()

        async def fetch(url: str) -> bytes:
            await release.wait()
            return b'{"data":{"usd":2900}}'

        looks = PriceLooks(prices, settings.live_prices, clock, fetch=fetch)
        step, begins = asyncio.create_task(looks.step()), asyncio.create_task(looks.wait_for_first())
        await asyncio.sleep(0)
        waited = not begins.done()
        if answers:
            release.set()
        await begins
        step.cancel()
        return waited

    assert asyncio.run(begin()), "the door opens before the first answer"
    assert (prices.find(ETH, clock.now()) is not None) == answers
    asyncio.run(PriceLooks(prices, {}, clock).wait_for_first())  # nothing is asked: nothing is waited for


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('band = "1"', "prices.live.ETH.band"),
        ('band = "0"', "prices.live.ETH.band"),
        ("band = 0.2", "prices.live.ETH.band"),
        ('pointer = "data"', "prices.live.ETH.pointer"),
        ('url = "ftp://x"', "prices.live.ETH.url"),
        ("every_s = 0", "prices.live.ETH.max_age_s"),
        ("max_age_s = 59", "prices.live.ETH.max_age_s"),
        ("unknown = 1", "prices.live.ETH.unknown"),
    ],
)
def test_a_wrong_setting_is_named(line: str, field: str) -> None:
    name = line.split(" ")[0]
    text = "\n".join(each for each in TEXT.splitlines() if not each.startswith(f"{name} ")) + f"\n{line}\n"
    with pytest.raises(InvalidInput) as raised:
        parse(text)
    assert raised.value.field == field


def test_a_live_price_without_a_fixed_one_is_refused_and_none_of_it_is_signed() -> None:
    with pytest.raises(InvalidInput) as raised:
        parse(TEXT.replace('ETH = "3000"\n', ""))
    assert raised.value.field == "prices.live.ETH"
    assert "live" not in json.dumps(config().money_settings())
