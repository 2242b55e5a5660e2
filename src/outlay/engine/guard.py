"""What one wallet does wrong must not stop the others."""

from collections.abc import Awaitable

import structlog

from outlay.actions.alarms import freeze_wallet
from outlay.core.errors import InvariantBroken, Unavailable
from outlay.core.seams import Clock, Entropy
from outlay.store.database import Database, Unit

log = structlog.get_logger()


async def guarded(db: Database, clock: Clock, entropy: Entropy, wallet_id: str, doing: Awaitable[bool]) -> bool | None:
    """Await one wallet's step and return what it says, or None if it failed.

    A broken invariant freezes the wallet until a person has looked; anything else is logged, to be tried again.
    """
    try:
        return await doing
    except Unavailable as error:
        log.warning("wallet_waits", wallet=wallet_id, code=error.code, message=error.message)
    except InvariantBroken as error:
        log.error("wallet_frozen", wallet=wallet_id, message=error.message)
        await freeze(db, clock, entropy, wallet_id, error.message)
    except Exception as error:
        log.error("wallet_step_failed", wallet=wallet_id, exc_info=error)
    return None


async def freeze(db: Database, clock: Clock, entropy: Entropy, wallet_id: str, reason: str) -> None:
    """Stop a wallet until a person has looked."""

    def run(unit: Unit) -> None:
        freeze_wallet(unit, wallet_id, reason, now=clock.now(), entropy=entropy)

    await db.write(run)
