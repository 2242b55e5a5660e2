"""The audit log is checked, and its newest hash is kept in a second place: a file on another disk, a URL, or both.

What the database holds is compared with the newest anchor when the server starts; every entry since the last check is
gone over then and before each anchor, the whole log once a day. What does not agree stops admission and binding until
a person has looked.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.config import Config
from outlay.core.audit import ANCHORED, BROKEN, ENGINE, LOST, Entry
from outlay.core.seams import DAY, SECOND, Clock, Entropy, Instant
from outlay.engine.egress import Egress
from outlay.evidence.audit_log import LogBroken, anchor_line, read_anchor
from outlay.store import audit, organizations, webhooks
from outlay.store.database import Database, Unit

CHUNK = 2000
"""Entries checked at once; the daily check takes one chunk a step."""

RETRY_S = 60
"""Pause after an anchor that could not be kept."""

_TAIL_MAX = 64 * 1024

log = structlog.get_logger()


class Anchoring:
    """Checks the log and anchors it. One process at a time does this."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        *,
        key: Ed25519PrivateKey,
        egress: Egress | None,
    ) -> None:
        """Keep the parts; ``key`` signs anchors."""
        self._db, self._clock, self._entropy, self._settings = db, clock, entropy, config.audit
        self._key, self._egress = key, egress
        self._is_begun = False
        self._next_anchor: Instant = 0
        self._daily: tuple[int, str] | None = None  # how far the check of the whole log has come

    async def step(self) -> bool:
        """Check what is due, and anchor when it is time; never has anything more to do at once."""
        if not self._is_begun:
            await self._begin()
        state = await self._db.read(audit.state)
        if state.broken is not None:
            return False
        now = self._clock.now()
        if self._daily is None and now >= state.verified_at + DAY:
            self._daily = (state.base_seq, state.base_hash)
        if self._daily is not None:
            await self._check_on(state)
        if self._is_anchored_anywhere and (now >= self._next_anchor or state.anchored_seq == 0):
            await self.anchor()
        return False

    async def anchor(self) -> bool:
        """Check what is new and keep the newest hash in the second place; tell whether there was anything new."""
        self._next_anchor = self._clock.now() + self._settings.anchor_every_s * SECOND
        state = await self._db.read(audit.state)
        if not self._is_anchored_anywhere or not await self._check_new(state):
            return False
        anchor = await self._db.read(self._newest)
        if anchor is None or anchor["seq"] <= state.anchored_seq:
            return False
        line = anchor_line(anchor, self._key)
        places = {"file": await self._to_file(line), "url": await self._to_url(line)}
        if not all(done for done in places.values() if done is not None):
            self._next_anchor = self._clock.now() + min(RETRY_S, self._settings.anchor_every_s) * SECOND
        if not any(places.values()):
            return False
        kept = {name: done for name, done in places.items() if done is not None}

        def note(unit: Unit) -> None:
            after = {"seq": anchor["seq"], "hash": anchor["hash"], **kept}
            seq = audit.add(unit, Entry(ENGINE, ANCHORED, anchor["org"], after=after), now=self._clock.now())
            audit.set_state(unit, anchored_seq=seq, anchored_at=self._clock.now())

        await self._db.write(note)
        return True

    @property
    def _is_anchored_anywhere(self) -> bool:
        return bool(self._settings.anchor_file or self._settings.anchor_url)

    # Checking

    async def _begin(self) -> None:
        """Compare the log with its newest anchor, then go over what was not checked before."""
        state = await self._db.read(audit.state)
        if state.broken is None and self._settings.anchor_file:
            newest = await asyncio.to_thread(_last_line, Path(self._settings.anchor_file))
            if newest is not None:
                await self._compare(newest)
        state = await self._db.read(audit.state)
        if state.broken is None:
            await self._check_new(state)
        self._is_begun = True

    async def _compare(self, line: bytes) -> None:
        """Look for the entry that an anchor is of."""
        try:
            anchor, _key = read_anchor(line)
        except LogBroken as error:
            await self._stop(f"the last line of {self._settings.anchor_file}: {error.message}", lost=None)
            return
        lost = {name: anchor[name] for name in ("segment", "seq", "hash", "at")}

        def look(unit: Unit) -> tuple[str | None, bool]:
            first, there = audit.find(unit, 1), audit.find(unit, anchor["seq"])
            if anchor["root"] != organizations.get(unit).root:
                return "the newest anchor is of another organization", False
            if first is not None and first.hash == anchor["segment"]:
                if there is None:
                    newest = audit.head(unit)
                    ends = 0 if newest is None else newest.seq
                    return f"entry {anchor['seq']} was anchored and the log ends with {ends}", False
                is_same = there.hash == anchor["hash"]
                return (None if is_same else f"entry {anchor['seq']} is another one than was anchored"), False
            is_new = first is not None and audit.was_rebuilt(first) and audit.state(unit).anchored_seq == 0
            return (None if is_new else "another log than this one was anchored"), is_new

        problem, is_new = await self._db.read(look)
        if problem is not None:
            await self._stop(problem, lost=lost)
        elif is_new:
            log.warning("audit_log_lost", entries=anchor["seq"])
            entry = Entry(ENGINE, LOST, anchor["org"], after={"why": audit.REBUILT, "lost": lost})
            await self._db.write(lambda unit: audit.add(unit, entry, now=self._clock.now()))

    async def _check_new(self, state: audit.State) -> bool:
        """Check every entry since the last check; tell whether all is well."""
        place = (state.verified_seq, state.verified_hash)
        if not await self._is_still_there(place):
            return False
        while True:
            place, is_end = await self._check_chunk(place)
            if is_end is None:
                return False
            if is_end:
                break
        if place[0] > state.verified_seq:
            seq, hash = place
            await self._db.write(lambda unit: audit.set_state(unit, verified_seq=seq, verified_hash=hash))
        return True

    async def _is_still_there(self, place: tuple[int, str]) -> bool:
        seq, hash = place
        row = None if seq == 0 else await self._db.read(lambda unit: audit.find(unit, seq))
        if seq == 0 or (row is not None and row.hash == hash):
            return True
        await self._stop(f"entry {seq}, which was checked before, is gone or another one", lost=None)
        return False

    async def _check_on(self, state: audit.State) -> None:
        """Go on with the check of the whole log by one chunk."""
        assert self._daily is not None
        if self._daily[0] == state.base_seq and not await self._is_still_there(self._daily):
            self._daily = None
            return
        self._daily, is_end = await self._check_chunk(self._daily)
        if is_end:
            (seq, hash), self._daily, now = self._daily, None, self._clock.now()
            await self._db.write(
                lambda unit: audit.set_state(unit, verified_seq=seq, verified_hash=hash, verified_at=now)
            )
        elif is_end is None:
            self._daily = None

    async def _check_chunk(self, place: tuple[int, str]) -> tuple[tuple[int, str], bool | None]:
        """Check the next entries; return how far all is well, and whether that is the end (None: it is broken)."""
        seq, hash, problem = await self._db.read(lambda unit: audit.check_after(unit, *place, limit=CHUNK))
        if problem is not None:
            await self._stop(problem, lost=None)
            return (seq, hash), None
        return (seq, hash), seq - place[0] < CHUNK

    async def _stop(self, problem: str, *, lost: dict[str, Any] | None) -> None:
        """Admit and bind nothing from now on, and tell everybody."""
        log.error("audit_broken", message=problem)

        def run(unit: Unit) -> None:
            if audit.state(unit).broken is not None:
                return
            now, org = self._clock.now(), organizations.get(unit).id
            after = {"why": problem, **({} if lost is None else {"lost": lost})}
            audit.add(unit, Entry(ENGINE, BROKEN, org, after=after), now=now)
            audit.set_state(unit, broken=problem)
            webhooks.emit(
                unit,
                kind="audit.broken",
                subject=org,
                data={"audit": {"problem": problem}},
                now=now,
                entropy=self._entropy,
            )

        await self._db.write(run)

    # Anchoring

    def _newest(self, unit: Unit) -> dict[str, Any] | None:
        newest, first = audit.head(unit), audit.find(unit, 1)
        if newest is None or first is None:
            return None
        org = organizations.get(unit)
        return {
            "at": self._clock.now(),
            "hash": newest.hash,
            "org": org.id,
            "root": org.root,
            "segment": first.hash,
            "seq": newest.seq,
        }

    async def _to_file(self, line: bytes) -> bool | None:
        """Append an anchor; tell whether it is on the disk, None: there is no such place."""
        if not self._settings.anchor_file:
            return None
        try:
            await asyncio.to_thread(_append, Path(self._settings.anchor_file), line)
        except OSError as error:
            log.error("anchor_failed", place="file", message=error.strerror)
            return False
        return True

    async def _to_url(self, line: bytes) -> bool | None:
        """Post an anchor; tell whether it was taken, None: there is no such place."""
        if not self._settings.anchor_url or self._egress is None:
            return None
        answer = await self._egress.post(self._settings.anchor_url, line, {"Content-Type": "application/json"})
        if not answer.ok:
            log.error("anchor_failed", place="url", message=answer.error)
        return answer.ok


def _append(path: Path, line: bytes) -> None:
    """Add a line to the end of a file, on the disk when this returns; what a crash left of another is ended before."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            os.ftruncate(file, size - len(os.pread(file, _TAIL_MAX, max(0, size - _TAIL_MAX)).rpartition(b"\n")[2]))
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def _last_line(path: Path) -> bytes | None:
    """Return the last whole line of a file, or None if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_MAX))
            tail = file.read()
    except FileNotFoundError:
        return None
    whole = tail[: tail.rfind(b"\n") + 1]
    return whole[whole.rfind(b"\n", 0, -1) + 1 :] or None
