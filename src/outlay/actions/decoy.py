"""Logins of names that nobody has: answered like those of real ones, so that asking tells nobody who is here."""

from collections.abc import Callable
from dataclasses import dataclass

from outlay.actions.act import CHALLENGE_LIFE
from outlay.core import ids
from outlay.core.seams import Entropy, Instant
from outlay.evidence.assertion import FIDO2
from outlay.evidence.base64url import to_base64url
from outlay.evidence.challenge import LoginPreimage

_SIZES = (16, 20, 32)
"""Bytes of the raw ids that the common authenticators make."""


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A credential that there is not, as far as a challenge shows it."""

    kind: str
    credential_id: str


@dataclass(frozen=True, slots=True)
class _Fixed:
    data: bytes

    def token(self, size: int) -> bytes:
        """Return the first ``size`` bytes."""
        return self.data[:size]


def made_up_login(
    derive: Callable[[str, int], bytes], *, org: str, username: str, now: Instant, entropy: Entropy
) -> tuple[LoginPreimage, list[MadeUp]]:
    """Return a login challenge that nobody can answer, with one passkey that is the same each time.

    Args:
        derive: makes bytes of a text, the same ones each time, with a key that only the server has.
        org: organization id.
        username: the name that nobody has.
        now: the current instant.
        entropy: makes the challenge's nonce.
    """
    size = _SIZES[derive(f"size {username}", 1)[0] % len(_SIZES)]
    passkey = MadeUp(FIDO2, to_base64url(derive(f"passkey {username}", size)))
    preimage = LoginPreimage(
        org=org,
        # As long as real ones: the sealed identifier of a challenge shows its length.
        identity=ids.new_id(ids.USER, _Fixed(derive(f"user {username}", 17))),
        credentials=(ids.new_id(ids.CREDENTIAL, _Fixed(derive(f"credential {username}", 17))),),
        nonce=to_base64url(entropy.token(24)),
        issued=now,
        expires=now + CHALLENGE_LIFE,
    )
    return preimage, [passkey]
