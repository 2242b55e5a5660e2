"""What a change of state happens in: the unit, the instant, and where ids and settings come from."""

from dataclasses import dataclass

from outlay.config import Config
from outlay.core.seams import Entropy, Instant
from outlay.store.database import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One unit of work, for requests and engine steps alike."""

    unit: Unit
    now: Instant
    entropy: Entropy
    config: Config
