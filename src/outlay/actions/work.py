"""What a change of state happens in: the unit, the instant, and where ids and settings come from."""

from dataclasses import dataclass

from outlay.config import Config
from outlay.core.audit import ENGINE
from outlay.core.seams import Entropy, Instant
from outlay.store import organizations
from outlay.store.database import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One unit of work, for requests and engine steps alike."""

    unit: Unit
    now: Instant
    entropy: Entropy
    config: Config
    actor: str = ENGINE  #: id of whoever asked for it, for the audit log


def open_work(unit: Unit, *, now: Instant, entropy: Entropy, config: Config) -> Work:
    """Begin a unit that may move money: take its first lock, the organization's epoch, shared.

    Everything else is locked after it, always in this order: counters by key, ledger accounts, transfers by id.
    """
    organizations.lock_shared(unit)
    return Work(unit=unit, now=now, entropy=entropy, config=config)
