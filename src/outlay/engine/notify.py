"""Tell people: what happened becomes messages in the database, and each channel sends its own, until they are taken.

Each channel has a loop of its own, and nothing that pays waits for them: a mail server that is dead delays mail. A
message is marked after it was sent, so a crash in between sends it again, with the same Message-ID.
"""

import json
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from outlay.actions.notices import approvals_at, news
from outlay.config import Config
from outlay.core.message import for_chat, together
from outlay.core.seams import HOUR, MINUTE, Clock, Instant
from outlay.engine.egress import Egress
from outlay.engine.mail import Mail
from outlay.store import notify
from outlay.store.database import Database, Unit
from outlay.store.notify import Envelope

NOTIFY = "notify"
"""The lease: one process at a time tells people."""

AT_ONCE = 20
"""Envelopes a channel sends between two looks at the database."""

CURSOR_BEHIND = 1000
"""Events after which it is noted that they were looked at, also if nobody had to be told."""

log = structlog.get_logger()


class Channel(Protocol):
    """A way to people."""

    async def send(self, envelopes: Sequence[Envelope]) -> dict[int, str | None]:
        """Send each envelope; return by number None where it was taken, else what went wrong."""
        ...


class Chat:
    """Sends envelopes to a Slack-compatible incoming webhook."""

    def __init__(self, config: Config, egress: Egress, *, url: Callable[[], str]) -> None:
        """Keep the parts; ``url`` reads the file when it is needed, so that it can be exchanged."""
        self._where = approvals_at(config)
        self._egress, self._url = egress, url

    async def send(self, envelopes: Sequence[Envelope]) -> dict[int, str | None]:
        """Send one envelope after the other; after one that failed, the others wait with it."""
        outcomes: dict[int, str | None] = {}
        error: str | None = None
        for each in envelopes:
            if error is None:
                error = await self._post(each)
            outcomes[each.number] = error
        return outcomes

    async def _post(self, envelope: Envelope) -> str | None:
        text = for_chat(together(envelope.messages, where=self._where))
        body = json.dumps({"text": text, "mrkdwn": False}).encode("ascii")
        try:
            url = self._url()
        except OSError as error:
            return f"no URL: {error}"
        answer = await self._egress.post(url, body, {"content-type": "application/json"})
        return answer.error


def channels(config: Config, egress: Egress, read_secret: Callable[[str], str]) -> dict[str, Channel]:
    """Return the channels that are configured, by name; ``read_secret`` reads a file that the settings name."""
    settings, found = config.notify, dict[str, Channel]()
    if settings.smtp_host:
        found[notify.MAIL] = Mail(config, password=lambda: read_secret(settings.smtp_password_file))
    if settings.chat_url_file:
        found[notify.CHAT] = Chat(config, egress, url=lambda: read_secret(settings.chat_url_file))
    return found


class Collect:
    """The step that makes messages of what happened."""

    def __init__(self, db: Database, clock: Clock, config: Config) -> None:
        """Keep the parts. ``db`` writes under the lease ``NOTIFY``."""
        self._db, self._clock, self._config = db, clock, config
        self._seen: int | None = None
        self._reminded_at: Instant = 0
        self._reminded: str | None = None
        """Up to this approval people are being reminded; None: nobody is, until it is time."""
        self._swept_at: Instant = 0

    async def step(self) -> bool:
        """Look at what is new; tell whether there is more."""
        now = self._clock.now()
        noted = await self._db.read(notify.cursor)
        if noted is None:
            # The first time: what is past is not told again, but who waits is.
            noted = await self._db.write(_begin)
            self._reminded_at = 0
        after = noted if self._seen is None else max(noted, self._seen)
        remind = self._reminded
        if remind is None and now - self._reminded_at >= MINUTE:
            remind = ""
        found = await self._db.read(lambda unit: news(unit, self._config, after=after, now=now, remind=remind))
        sweeps = now - self._swept_at >= HOUR
        if found.drafts or sweeps or found.seq - noted >= CURSOR_BEHIND:

            def keep(unit: Unit) -> None:
                notify.add(unit, found.drafts, now=now)
                notify.move(unit, found.seq)
                if sweeps:
                    notify.forget(unit, now=now)

            await self._db.write(keep)
            self._swept_at = now if sweeps else self._swept_at
        self._seen = found.seq
        self._reminded = found.reminded
        if remind is not None and found.reminded is None:
            self._reminded_at = now
        return not found.is_all or bool(found.reminded)


def _begin(unit: Unit) -> int:
    seq = notify.newest(unit)
    notify.move(unit, seq)
    return seq


class Courier:
    """The step that sends what waits for one channel."""

    def __init__(self, db: Database, clock: Clock, config: Config, name: str, channel: Channel) -> None:
        """Keep the parts. ``db`` writes under the lease ``NOTIFY``; ``name`` is ``mail`` or ``chat``."""
        self._db, self._clock, self._config = db, clock, config
        self._name, self._channel = name, channel

    async def step(self) -> bool:
        """Send what is due; tell whether anything was."""
        now = self._clock.now()
        most = self._config.notify.per_minute_max
        # All that has to be looked for is looked for here: a write is for what changes, others wait for it.
        plan = await self._db.read(
            lambda unit: notify.plan(unit, self._name, now=now, per_minute_max=most, limit=AT_ONCE)
        )
        if plan.moot or plan.parts:
            await self._db.write(lambda unit: notify.pack(unit, plan, now=now))
        envelopes = await self._db.read(lambda unit: notify.envelopes(unit, self._name, plan.numbers, now=now))
        if not envelopes:
            return bool(plan.moot)
        outcomes = await self._channel.send(envelopes)
        given_up = await self._db.write(lambda unit: notify.mark(unit, outcomes, now=self._clock.now()))
        for number, error in outcomes.items():
            if error is not None:
                log.warning("message_failed", channel=self._name, message=number, error=error)
        for number in given_up:
            log.error("message_given_up", channel=self._name, message=number)
        return True
