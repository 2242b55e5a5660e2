"""The audit log is checked, and its newest hash is kept in a second place: a file on another disk, a URL, or both.

What the database holds is compared with the newest anchor when the server starts and before each anchor; every entry
since the last check is gone over then too, the whole log once a day. What does not agree stops admission and binding
until a person has looked. The database may say anything of earlier checks: the newest anchor and the next daily check
are remembered here as well.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.config import Config
from outlay.core.audit import ANCHORED, BROKEN, CONTINUED, ENGINE, LOST, Entry
from outlay.core.seams import DAY, SECOND, Clock, Entropy, Instant
from outlay.engine.egress import Egress
from outlay.evidence.audit_log import LogBroken, anchor_line, excuses, read_anchor
from outlay.store import audit, organizations, webhooks
from outlay.store.database import Database, Row, Unit

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
        self._daily_due: Instant = 0
        self._last: dict[str, Any] | None = None  # the newest anchor that this process kept

    async def step(self) -> bool:
        """Check what is due, and anchor when it is time; never has anything more to do at once."""
        if not self._is_begun:
            await self._begin()
        state = await self._db.read(audit.state)
        if state.broken is not None:
            return False
        now = self._clock.now()
        verified_at = state.verified_at if state.verified_at <= now else 0
        if self._daily is None and now >= min(self._daily_due, verified_at + DAY):
            if not await self._is_base_good(state):
                return False
            self._daily = (state.base_seq, state.base_hash)
        if self._daily is not None:
            await self._check_on()
        if self._is_anchored_anywhere and (now >= self._next_anchor or state.anchored_seq == 0):
            await self.anchor()
        return False

    async def anchor(self) -> bool:
        """Check what is new and keep the newest hash in the second place; tell whether there was anything new.

        Nothing is kept of a log that is broken, or that does not agree with the newest anchor.
        """
        self._next_anchor = self._clock.now() + self._settings.anchor_every_s * SECOND
        state = await self._db.read(audit.state)
        if not self._is_anchored_anywhere or state.broken is not None or not await self._check_new(state):
            return False
        anchor = await self._compare(is_start=False)
        if anchor is None:
            return False
        line = anchor_line(anchor, self._key)
        places = {"file": await self._to_file(line), "url": await self._to_url(line)}
        if not all(done for done in places.values() if done is not None):
            self._next_anchor = self._clock.now() + min(RETRY_S, self._settings.anchor_every_s) * SECOND
        if not any(places.values()):
            return False
        self._last = anchor
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
        self._daily_due = self._clock.now() + DAY
        state = await self._db.read(audit.state)
        if state.broken is None:
            await self._compare(is_start=True)
            state = await self._db.read(audit.state)
        if state.broken is None:
            await self._check_new(state)
        self._is_begun = True

    async def _known(self) -> tuple[list[dict[str, Any]], str | None]:
        """Return the newest anchors that are known, and what is wrong with the file of them, or None.

        They are the last of the file, and the last that this process kept: no other place can be read back.
        """
        kept = [] if self._last is None else [self._last]
        try:
            path = self._settings.anchor_file
            line = await asyncio.to_thread(_last_line, Path(path)) if path else None
            anchor = None if line is None else read_anchor(line)[0]
        except OSError as error:
            log.error("anchor_failed", place="file", message=error.strerror)
            return kept, None
        except LogBroken as error:
            return kept, f"the last line of {path}: {error.message}"
        return kept if anchor is None or anchor in kept else [anchor, *kept], None

    async def _compare(self, *, is_start: bool) -> dict[str, Any] | None:
        """Look for the entries that the newest anchors are of; return the next anchor, or None: nothing is to be kept.

        A database that was made anew is one only at the start: none is made anew under a server that runs.
        """
        known, wrong = await self._known()

        def look(unit: Unit) -> tuple[str | None, list[dict[str, Any]], dict[str, Any] | None]:
            if wrong is not None and not _was_let_go_on(unit, wrong):
                return wrong, [], None
            lost, first = [], audit.find(unit, 1)
            for anchor in known:
                problem = _difference(unit, anchor)
                if problem is None:
                    continue
                if not (is_start and first is not None and _is_from_before(first, anchor)):
                    return problem, [], None
                lost.append(anchor)
            return None, lost, self._newest(unit)

        problem, lost, newest = await self._db.read(look)
        if problem is not None:
            await self._stop(problem)
            return None
        for anchor in lost:
            await self._note_lost(anchor)
        return newest

    async def _note_lost(self, anchor: dict[str, Any]) -> None:
        log.warning("audit_log_lost", entries=anchor["seq"])
        entry = Entry(ENGINE, LOST, anchor["org"], after={"why": audit.REBUILT, "lost": _place(anchor)})
        await self._db.write(lambda unit: audit.add(unit, entry, now=self._clock.now()))

    async def _is_base_good(self, state: audit.State) -> bool:
        """Tell whether checks may begin where the database says: after an entry by which a person let the log go on."""
        if state.base_seq == 0:
            return True
        row = await self._db.read(lambda unit: audit.find(unit, state.base_seq))
        if row is not None and (row.action, row.hash) == (CONTINUED, state.base_hash):
            return True
        await self._stop(f"checks begin after entry {state.base_seq}, where nobody let the log go on")
        return False

    async def _check_new(self, state: audit.State) -> bool:
        """Check every entry since the last check; tell whether all is well."""
        place = (state.verified_seq, state.verified_hash)
        if not await self._is_base_good(state) or not await self._is_still_there(place):
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
        await self._stop(f"entry {seq}, which was checked before, is gone or another one")
        return False

    async def _check_on(self) -> None:
        """Go on with the check of the whole log by one chunk."""
        assert self._daily is not None
        self._daily, is_end = await self._check_chunk(self._daily)
        if is_end:
            (seq, hash), self._daily, now = self._daily, None, self._clock.now()
            self._daily_due = now + DAY
            await self._db.write(
                lambda unit: audit.set_state(unit, verified_seq=seq, verified_hash=hash, verified_at=now)
            )
        elif is_end is None:
            self._daily = None

    async def _check_chunk(self, place: tuple[int, str]) -> tuple[tuple[int, str], bool | None]:
        """Check the next entries; return how far all is well, and whether that is the end (None: it is broken)."""
        seq, hash, problem = await self._db.read(lambda unit: audit.check_after(unit, *place, limit=CHUNK))
        if problem is not None:
            await self._stop(problem)
            return (seq, hash), None
        return (seq, hash), seq - place[0] < CHUNK

    async def _stop(self, problem: str) -> None:
        """Admit and bind nothing from now on, and tell everybody; names the newest anchor that is not agreed with."""
        log.error("audit_broken", message=problem)
        known, _ = await self._known()

        def run(unit: Unit) -> None:
            if audit.state(unit).broken is not None:
                return
            now, org = self._clock.now(), organizations.get(unit).id
            lost = [anchor for anchor in known if _difference(unit, anchor) is not None]
            after = {"why": problem, **({"lost": _place(max(lost, key=lambda each: each["at"]))} if lost else {})}
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
        """Return the anchor of the newest entry, or None if nothing happened since the last one."""
        head, first = audit.head(unit), audit.find(unit, 1)
        newest = None if head is None else audit.find(unit, head.seq)
        if newest is None or first is None or newest.action == ANCHORED:
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


def _place(anchor: dict[str, Any]) -> dict[str, Any]:
    return {name: anchor[name] for name in ("segment", "seq", "hash", "at")}


def _difference(unit: Unit, anchor: dict[str, Any]) -> str | None:
    """Return how the log differs from an anchor that no entry calls lost, or None."""
    if anchor["root"] != organizations.get(unit).root:
        return "the newest anchor is of another organization"
    first, there = audit.find(unit, 1), audit.find(unit, anchor["seq"])
    is_mine = first is not None and first.hash == anchor["segment"]
    if is_mine and there is not None and there.hash == anchor["hash"]:
        return None
    if any(excuses(lost, said_at, anchor) for lost, said_at in audit.lost(unit)):
        return None
    if not is_mine:
        return "another log than this one was anchored"
    if there is not None:
        return f"entry {anchor['seq']} is another one than was anchored"
    newest = audit.head(unit)
    return f"entry {anchor['seq']} was anchored and the log ends with {0 if newest is None else newest.seq}"


def _is_from_before(first: Row, anchor: dict[str, Any]) -> bool:
    """Tell whether a database was made anew after an anchor of the one before it, by the first entry."""
    return audit.was_rebuilt(first) and first.hash != anchor["segment"] and int(anchor["at"]) <= first.at


def _was_let_go_on(unit: Unit, wrong: str) -> bool:
    """Tell whether a person let go on just what is wrong with the file, and nothing was anchored since."""
    state = audit.state(unit)
    row = audit.find(unit, state.base_seq) if state.base_seq and not state.anchored_seq else None
    return row is not None and row.after is not None and json.loads(row.after).get("why") == wrong


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
