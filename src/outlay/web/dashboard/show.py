"""How values are written on pages. What decides about money is written whole: an address is never shortened."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from outlay.core.address import checksum
from outlay.core.event import iso, read_iso
from outlay.core.money import format_units
from outlay.core.seams import Instant

STATES: Mapping[str, str] = {
    "requested": "wait",
    "held": "ask",
    "ready": "wait",
    "assigned": "wait",
    "signed": "wait",
    "broadcast": "wait",
    "mined": "wait",
    "confirmed": "good",
    "failed": "bad",
    "rejected": "bad",
    "canceled": "off",
    "expired": "off",
    "Pending": "ask",
    "Approved": "good",
    "Denied": "bad",
    "Expired": "off",
    "AutoApproved": "good",
    "Active": "good",
    "Enabled": "good",
    "Disabled": "off",
    "Archived": "off",
    "Frozen": "bad",
    "Draining": "ask",
    "takes work": "good",
    "stands still": "bad",
    "gets nothing new": "ask",
    "nobody yet": "bad",
    "low": "bad",
    "enough": "good",
    "Due": "ask",
    "Made": "good",
    "Missed": "bad",
    "Open": "ask",
    "Fulfilled": "good",
    "Withdrawn": "off",
    "on": "good",
    "off": "off",
    "active": "good",
    "invited": "ask",
    "invitation expired": "off",
    "not let in": "ask",
    "too few": "bad",
    "failing": "bad",
    "taken": "good",
    "uploading": "wait",
    "admitting": "wait",
    "done": "good",
    "refused": "bad",
    "waiting": "wait",
}
"""State -> the colour and sign it is shown with; another state is shown plain."""


def address(text: str) -> Markup:
    """Return an address whole, with its checksum, such that it can be copied and wraps where it must."""
    written = checksum(text) if text[:2] == "0x" and len(text) == 42 else text
    return Markup('<code class="address">{}</code>').format(written)


def amount(units: str | int, decimals: int | None, symbol: str | None) -> str:
    """Return base units as people write them, e.g. ``1,250.5 USDC``; without decimals, as base units."""
    if decimals is None:
        return f"{int(units):,} base units"
    return f"{format_units(int(units), decimals)} {symbol or ''}".strip()


def dollars(minor: str | int | None) -> str:
    """Return integers of 10^-8 dollars, as ``$1,234.56``; rounded up to cents, as limits are."""
    if minor is None:
        return "no price"
    cents = -(-int(minor) // 10**6)
    return f"${cents // 100:,}.{cents % 100:02d}"


def usd(text: str) -> str:
    """Return dollars as the API writes them, with eight places, as ``dollars`` does."""
    whole, _, part = text.partition(".")
    return dollars(whole + part.ljust(8, "0"))


def instant(at: Instant | str | None) -> Markup:
    """Return an instant (microseconds, or ISO text) that the page's script tells in the reader's zone; UTC without."""
    if at is None:
        return Markup("&mdash;")
    text = iso(at) if isinstance(at, int) else iso(read_iso(at, field="instant"))
    return Markup('<time datetime="{}">{} UTC</time>').format(text, text[:19].replace("T", " "))


def seconds(count: int) -> str:
    """Return a stretch of time as people say it: the two largest units, e.g. ``2 h 5 min``."""
    days, rest = divmod(count, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((at for at, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number) or "0 s"


def state(text: str) -> Markup:
    """Return a state as a badge: the colour never says anything the word does not."""
    return Markup('<span class="state {}">{}</span>').format(STATES.get(text, "plain"), text)


def document(value: Any) -> Markup:
    """Return a document as indented JSON."""
    return Markup('<pre class="document" tabindex="0">{}</pre>').format(json.dumps(value, indent=2, ensure_ascii=False))


def exact(value: Any) -> str:
    """Return a document as indented JSON that reads back as exactly the same document."""
    return json.dumps(value, indent=2, ensure_ascii=True, sort_keys=True)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "address": address,
    "checksum": checksum,
    "amount": amount,
    "dollars": dollars,
    "usd": usd,
    "instant": instant,
    "seconds": seconds,
    "state": state,
    "document": document,
    "exact": exact,
}
