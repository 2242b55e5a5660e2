"""Between server and signer: it gets every record, and what it has stopped is known here."""

import structlog

from outlay.core.errors import SignerRefused
from outlay.signer import Signer, SignerStatus
from outlay.store import organizations, stops
from outlay.store.database import Database, Unit

log = structlog.get_logger()

PAGE = 50
"""Records handed over in one call."""


class Watch:
    """Keeps the signer's copy of the records and this database's copy of its freezes up to date."""

    def __init__(self, db: Database, signer: Signer) -> None:
        """Keep the parts."""
        self._db, self._signer = db, signer
        self._status: SignerStatus | None = None

    @property
    def journal_id(self) -> str:
        """Name the journal the signer keeps, as far as it has been asked."""
        return "" if self._status is None else self._status.journal_id

    async def step(self) -> bool:
        """Hand over new records and note freezes; tell whether anything was new."""
        status = await self._signer.status()
        pushed = await self.push(status)
        known = await self._db.read(lambda unit: {row.id for row in stops.everything(unit)})
        assert self._status is not None
        rows = [
            {
                "id": each.id,
                "scope": str(each.scope),
                "subject": each.subject,
                "reason": each.reason,
                "at": each.at,
            }
            for each in self._status.freezes
        ]
        if known != {each.id for each in self._status.freezes}:

            def run(unit: Unit) -> None:
                stops.replace(unit, rows)
                organizations.bump_epoch(unit)

            await self._db.write(run)
            log.warning("freezes_changed", freezes=[f"{each['scope']} {each['subject']}".strip() for each in rows])
            return True
        return pushed

    async def push(self, status: SignerStatus | None = None) -> bool:
        """Hand over the records that the signer does not have; tell whether there were any.

        Raises:
            SignerRefused: it does not accept one. Nothing that depends on it is signed.
        """
        known = status or await self._signer.status()
        pushed = False
        while True:
            self._status = known
            after = known.record_seq

            def run(unit: Unit, after: int = after) -> list[str]:
                return organizations.record_texts(unit, after=after, limit=PAGE)

            texts = await self._db.read(run)
            if not texts:
                return pushed
            try:
                known = await self._signer.accept_records(texts)
            except SignerRefused as refused:
                log.error("records_refused", after=after, message=refused.message)
                raise
            pushed = True
            if known.record_seq <= after:
                return pushed  # it knows them under other numbers: recovery has to look
