"""People who join with passkeys, add one from another device with a code, and are recovered."""

from dataclasses import replace
from typing import Any

from outlay.actions import codes, credentials, people
from outlay.core.event import iso
from outlay.core.seams import HOUR, Instant
from outlay.evidence.attestation import key_attestation
from outlay.evidence.challenge import RegistrationPreimage, credential_challenge, registration_challenge
from outlay.store import users
from tests.actions.world import Actor, World
from tests.passkeys import Passkey

PARTY, ORIGIN = "localhost", "http://localhost:8000"


def passkey(kind: str = "P-256", **stated: Any) -> Passkey:
    """Return a new passkey of the world's server."""
    return Passkey.make(kind, relying_party=PARTY, origin=ORIGIN, **stated)


def holding(actor: Actor, key: Passkey, uuid: str) -> Actor:
    """Return the actor with a passkey in the place of what they had; not logged in."""
    return replace(actor, private_key="", passkey=key, credential_id=key.cred_id, credential_uuid=uuid, claims={})


def join(
    world: World, email: str, key: Passkey, *, vouched: bool = True, permitted: bool = True, form: str = "none"
) -> Actor:
    """Invite a person, register them with a passkey and log them in."""
    user_id, code = world.invite(email)
    with world.unit() as unit:
        preimage, _ = people.begin_registration(
            unit, now=world.clock.now(), entropy=world.entropy, org_id=None, username=email, code=code
        )
    with world.unit() as unit:
        answer = people.register(
            unit,
            now=world.clock.now(),
            entropy=world.entropy,
            preimage=preimage,
            code=code,
            server=world.config.server,
            credential_kind="Fido2",
            credential_info=key.created(registration_challenge(preimage), form=form),
            credential_name=None,
        )
    bare = replace(world.admin, user_id=user_id, username=email)
    who = holding(bare, key, answer["credential"]["uuid"])
    if vouched:
        vouch(world, who)
    if permitted:
        world.permit(who)
    return world.log_in(who)


def vouch(world: World, who: Actor, *, by: Actor | None = None, compared: list[str] | None = None) -> Any:
    """Activate a person, which vouches for their keys: those that were compared, if that is told."""
    return world.call(
        by or world.admin,
        "PUT",
        f"/auth/users/{who.user_id}/activate",
        {} if compared is None else {"fingerprints": compared},
        "Auth:Users:Activate",
        lambda act: people.activate(act, who.user_id, service_account=False, compared=compared),
    )


def activate_compared(world: World, who: Actor, uuid: str, compared: str) -> Any:
    """Switch a key on that its holder compared."""
    payload = {"credentialUuid": uuid, "fingerprint": compared}
    return world.call(
        who,
        "PUT",
        "/auth/credentials/activate",
        payload,
        None,
        lambda act: credentials.activate(act, uuid, compared=compared),
    )


def add(world: World, who: Actor, key: Passkey) -> Actor:
    """Add a passkey with a signature of what the person has; not logged in."""
    preimage = world.begin_key(who)
    info = key.created(credential_challenge(preimage))
    payload = {"credentialKind": "Fido2", "credentialInfo": info, "challengeIdentifier": "sealed"}
    made = world.call(
        who,
        "POST",
        "/auth/credentials",
        payload,
        None,
        lambda act: credentials.create(act, preimage=preimage, kind="Fido2", info=info, name=None),
    )
    return holding(who, key, made["credentialUuid"])


def code_of(world: World, who: Actor, *, life: Instant = HOUR) -> str:
    """Let somebody get a code for another device."""
    expiration = iso(world.clock.now() + life)
    made = world.call(
        who,
        "POST",
        "/auth/credentials/code",
        {"expiration": expiration},
        None,
        lambda act: codes.create(act, expiration=expiration),
    )
    return str(made["code"])


def begin(world: World, code: str) -> RegistrationPreimage:
    """Ask for the challenge of a new credential with a code."""
    with world.unit() as unit:
        return codes.begin(unit, now=world.clock.now(), entropy=world.entropy, code=code)[0]


def take_up(
    world: World,
    who: Actor,
    code: str,
    key: Passkey | str,
    *,
    preimage: RegistrationPreimage | None = None,
    form: str = "none",
) -> Actor:
    """Register a passkey, or a key given by its private PEM, with a code; it is off, and nobody is logged in."""
    preimage = preimage or begin(world, code)
    challenge = registration_challenge(preimage)
    info = key_attestation(key, challenge) if isinstance(key, str) else key.created(challenge, form=form)
    with world.unit() as unit:
        made = codes.take_up(
            unit,
            now=world.clock.now(),
            entropy=world.entropy,
            preimage=preimage,
            code=code,
            server=world.config.server,
            kind="Key" if isinstance(key, str) else "Fido2",
            info=info,
            name="phone",
        )
    assert made["isActive"] is False
    if isinstance(key, str):
        return replace(
            who, private_key=key, passkey=None, credential_id=info["credId"], credential_uuid=made["credentialUuid"]
        )
    return holding(who, key, made["credentialUuid"])


def recover(world: World, who: Actor, *, by: Actor | None = None) -> str:
    """Withdraw all keys of a person and return the code for a new one."""
    made = world.call(
        by or world.admin,
        "POST",
        f"/v1/users/{who.user_id}/recovery",
        {"reason": "called them back"},
        "Auth:Users:Deactivate",
        lambda act: codes.recover(act, who.user_id, reason="called them back"),
    )
    return str(made["code"])


def is_on(world: World, who: Actor) -> bool:
    """Tell whether the database lets somebody's credential sign."""
    with world.unit() as unit:
        user = users.find(unit, who.user_id)
        return bool(user and user.is_active and user.may_vote and users.is_in_use(unit, who.credential_uuid))
