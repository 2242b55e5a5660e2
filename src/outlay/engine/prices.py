"""Asks for live prices, and tells when one cannot be used: see ``outlay.prices.checked`` for what they are good for."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import aiohttp
import structlog

from outlay.actions.alarms import price_stale
from outlay.config import Config
from outlay.core.errors import InvalidInput
from outlay.core.money import parse_decimal
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.prices.checked import STALE, Check, CheckedPrices, Withheld
from outlay.settings import LivePrice
from outlay.store.database import Database, Unit

ANSWER_MAX = 64 * 1024
TOTAL_S = 10.0
LOOK_S = 1.0
"""How often it is looked whether a price is due."""

Fetch = Callable[[str], Awaitable[bytes]]
"""Returns the answer of a URL; raises OSError or InvalidInput."""

log = structlog.get_logger()


def prices_of(config: Config, now: Instant) -> CheckedPrices:
    """Return the prices that payouts are judged by, with how each is checked; ``now`` is when the checks begin."""
    checks = {
        symbol: Check(max_age=live.max_age_s * SECOND, band=live.band) for symbol, live in config.live_prices.items()
    }
    return CheckedPrices(config.prices, checks, began=now)


async def fetch(url: str) -> bytes:
    """Return the body that a URL of the configuration answers; redirects are not followed.

    Raises:
        OSError: no answer in time. InvalidInput: another status than 200, or too long.
    """
    timeout = aiohttp.ClientTimeout(total=TOTAL_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, allow_redirects=False) as answer:
            body = await answer.content.read(ANSWER_MAX + 1)
            while len(body) <= ANSWER_MAX and (more := await answer.content.read(ANSWER_MAX + 1 - len(body))):
                body += more
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError(f"no answer: {error or type(error).__name__}") from error
    if answer.status != 200 or len(body) > ANSWER_MAX:
        raise InvalidInput(f"status {answer.status}, {len(body)} bytes", field="answer")
    return body


def read_price(answer: bytes, pointer: str) -> Decimal:
    """Return the price in a JSON answer: a number, or decimal text, greater than 0.

    Args:
        answer: the body.
        pointer: where it stands (RFC 6901).

    Raises:
        InvalidInput: there is none.
    """
    try:
        # Numbers as they are written: through a float, 0.1 would be another price.
        found: Any = json.loads(answer, parse_float=str, parse_int=str, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("is not JSON", field="answer") from error
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isascii() and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise InvalidInput(f"holds nothing at {pointer}", field="answer")
    if not isinstance(found, str):
        raise InvalidInput(f"holds no number at {pointer}", field="answer")
    return parse_decimal(found, field="answer")


def _refuse(name: str) -> Any:
    raise ValueError(name)


class PriceLooks:
    """The step that asks for live prices. Every process that judges payouts asks by itself."""

    def __init__(
        self, prices: CheckedPrices, live: Mapping[str, LivePrice], clock: Clock, *, fetch: Fetch = fetch
    ) -> None:
        """Keep the parts."""
        self._prices, self._live, self._clock, self._fetch = prices, live, clock, fetch
        self._due: dict[str, Instant] = {}
        self._asked = asyncio.Event()

    async def step(self) -> bool:
        """Ask for every price that is due; tell whether any was."""
        now = self._clock.now()
        due = [symbol for symbol in sorted(self._live) if now >= self._due.get(symbol, now)]
        for symbol in due:
            self._due[symbol] = now + self._live[symbol].every_s * SECOND
        await asyncio.gather(*(self._ask(symbol) for symbol in due))
        self._asked.set()
        return bool(due)

    async def wait_for_first(self) -> None:
        """Wait until every price was asked for once, at most ``TOTAL_S``, while the step is repeated by a loop.

        A process that judged payouts before would judge them without a price, each time it starts.
        """
        if not self._live:
            return
        try:
            await asyncio.wait_for(self._asked.wait(), TOTAL_S)
        except TimeoutError:
            log.warning("prices_not_asked", seconds=TOTAL_S)

    async def _ask(self, symbol: str) -> None:
        live, asked = self._live[symbol], self._clock.now()
        try:
            price = read_price(await self._fetch(live.url), live.pointer)
        except (OSError, InvalidInput) as error:
            # The address may hold a key, so it is not said.
            said = error.message if isinstance(error, InvalidInput) else str(error)
            log.warning("price_not_told", symbol=symbol, error=said)
            return
        # As old as the question: what an answer says of its own age is not believed.
        self._prices.tell(symbol, price, asked)


class PriceAlarms:
    """The step that tells of prices that cannot be used: each once, until it was good in between."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy, config: Config, prices: CheckedPrices) -> None:
        """Keep the parts; ``db`` writes under the lease of housekeeping."""
        self._db, self._clock, self._entropy, self._config, self._prices = db, clock, entropy, config, prices
        self._told: set[str] = set()

    async def step(self) -> bool:
        """Tell of what is new; tell whether anything was."""
        now = self._clock.now()
        found = [each for symbol in self._prices.checked() if (each := self._prices.withheld(symbol, now)) is not None]
        self._told &= {each.symbol for each in found}
        new = [each for each in found if each.symbol not in self._told and not self._is_early(each)]
        for each in new:
            await self._db.write(partial(self._tell, each, now))
            self._told.add(each.symbol)
        return bool(new)

    def _tell(self, found: Withheld, now: Instant, unit: Unit) -> None:
        price_stale(
            unit,
            symbol=found.symbol,
            reason=found.reason,
            age_s=found.age // SECOND,
            fixed=found.fixed,
            live=found.live,
            now=now,
            entropy=self._entropy,
        )

    def _is_early(self, found: Withheld) -> bool:
        """Tell whether a price was never told, and only because the process has just begun."""
        live = self._config.live_prices[found.symbol]
        return found.reason == STALE and found.age <= live.max_age_s * SECOND
