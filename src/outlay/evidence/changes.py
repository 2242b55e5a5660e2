"""Every kind of record: which signed call brings it about, and what its body must be.

A body is what the payload says, completed by what the server makes (new ids, addresses, keys, version numbers). What
can be derived from the payload and the records before is derived and compared; what the server makes must have its
shape and be new. So whoever owns the database cannot change what an organization decided, only what its server names.

Bodies have exactly these members (*key* stands for ``credentialUuid``, ``credentialId`` and ``publicKey``, and of a
passkey also ``kind`` and ``relyingPartyId``):

* ``genesis`` (subject: the organization): ``admin: {userId, username, key, fingerprint}``, ``permission: {id, name,
  operations}``, ``policies``, ``preset``, ``moneySettings``
* ``user.invited``: ``username``, ``publicKey`` or null, ``code`` (digest), ``expires``
* ``user.registered``: ``username``, key, ``fingerprint``, ``preimage``, ``attestation``
* ``user.activated``: ``fingerprints`` of all the keys on record, which are vouched for from then on; the signed call
  may name those that were compared, and then names every one that was not vouched for
* ``user.deactivated``, ``user.deleted``, ``permission.archived``: nothing
* ``user.renamed``: ``name``, ``externalId``; null if unchanged
* ``user.recovered``: ``code`` (digest), ``expires``, ``reason`` or null; all keys of the person are withdrawn for good
* ``serviceAccount.created``: ``name``, key, ``permissionId`` and ``assignmentId``, both or neither null
* ``code.created`` (subject: the signer): ``code`` (digest), ``expires``
* ``credential.created`` (the signer's own): key, ``preimage``
* ``credential.registered`` (with a code): key, ``fingerprint``, ``preimage``, ``attestation``; it counts once another
  key of its holder's activated it, and after a recovery once somebody vouched for it
* ``credential.activated``, ``.deactivated``, ``.deleted``: ``credentialUuid``; of a personal access token's key also
  ``tokenId``; ``.activated`` of another key also its ``fingerprint`` (older records do not), as may the signed call
* ``pat.created`` (the signer's own): ``name``, key, ``permissionId`` or null, ``expires``
* ``pat.renamed``: ``name``, ``externalId``; null if unchanged
* ``permission.created``, ``.updated``: ``name``, ``operations``
* ``permission.assigned``, ``.revoked``: ``assignmentId``, ``identityId``
* ``policy.created``, ``.updated``: ``version`` and the stored policy; ``.archived``: ``version``
* ``wallet.created``: ``network``, ``chainId``, ``address``, ``keyId``, ``publicKey``, ``name``, ``tags``
* ``wallet.renamed``: what was signed of ``name``, ``externalId``
* ``wallet.tags.modified``: ``added``, ``removed``: what really changed
* ``wallet.drained``: ``reason``; ``wallet.resumed``, ``pool.archived``: nothing
* ``pool.created``: ``name``, ``network``, ``chainId``, ``tag``
* ``mandate.created``: the mandate, as ``core.mandate`` or ``core.recurring`` writes it; ``mandate.archived``: nothing
* ``wallet.unfrozen``: ``reason``, ``stopped``: why it was, as the server said; ``asset.unfrozen``, ``network.unfrozen``
  (subject: the organization): the same, ``network``, and of an asset ``asset``
* ``stop.lifted`` (subject: the organization): ``freezeId``, ``scope``, ``subject``, ``reason``
* ``signer.reseeded`` (subject: the organization): ``journalId``, ``minNonces`` of every wallet, ``reason``
* ``config.applied`` (subject: the organization): ``moneySettings``
* ``change.requested`` (subject: the change request): ``approval``, ``content``, ``groups``, ``expires`` or null
* ``change.decided``: ``approval``, ``value``, ``reason`` or null
* ``change.applied`` (subject: what it changes): ``change``, ``kind``, ``body``: as the record without approval had them
* ``change.closed``: ``change``, ``status``, ``reason``: nobody can make it any more
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outlay.core import ids
from outlay.core.address import parse_address
from outlay.core.policy_document import parse_policy, stored_document
from outlay.core.recurring import Recurring, parse_any, prefix_of
from outlay.evidence import codes
from outlay.evidence import identities as who
from outlay.evidence import record as records
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.challenge import Preimage
from outlay.evidence.record import RecordBroken
from outlay.evidence.state import History, KnownMandate, KnownPolicy, KnownPool, KnownWallet, PolicyVersion, Reseed
from outlay.evidence.step import Step

NONCE_MAX = 2**53 - 1
_PUBLIC_POINT = re.compile(r"0[23][0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Route:
    """A call that brings a kind about. In ``path``, names in braces stand for the subject or texts of the body."""

    method: str
    path: str
    operation: str | None  #: what the signer must hold; None: it is about the signer's own keys
    payload: Mapping[str, Any] | None = None  #: the only payload, where there is only one
    machine: bool | None = None  #: the subject must be a service account, or must not be one


def check_route(step: Step, preimage: Preimage) -> None:
    """Refuse a record whose signed call is not one that brings its kind about, or whose signer may not make it.

    Raises:
        RecordBroken: no such kind. EvidenceBroken: another call, another payload, or not permitted.
    """
    for route in _routes(step.kind, step.subject, step.body, preimage.method, preimage.path):
        if not _is_about(step, route.machine):
            continue
        if route.payload is not None:
            step.expect_payload(route.payload)
        if route.operation is not None:
            step.require([route.operation])
        elif step.by.token_id is not None:
            raise EvidenceBroken("a personal access token manages no keys", field="evidence.credential")
        return
    raise EvidenceBroken(f"the call signed does not bring about {step.kind}", field="evidence.preimage.path")


def _routes(kind: str, subject: str, body: Mapping[str, Any], method: str, path: str) -> Iterator[Route]:
    """Yield the routes of a kind that are this very call."""
    if kind not in CHANGES:
        raise RecordBroken(f"the kind {kind[:60]!r} is not known here", field="record.kind")
    texts = {name: value for name, value in body.items() if isinstance(value, str)}
    for route in CHANGES[kind][0]:
        filled = route.path.format_map({**_UNNAMED, **texts, "subject": subject})
        if (method, path) == (route.method, filled):
            yield route


_UNNAMED = dict.fromkeys(("assignmentId", "tokenId", "approval", "freezeId"), "")


def operation_of(kind: str, subject: str, body: Mapping[str, Any], method: str, path: str) -> str | None:
    """Return the operation that a call needs to bring a record about; None: it is about the signer's own.

    Raises:
        EvidenceBroken: the call does not bring this about.
    """
    route = next(_routes(kind, subject, body, method, path), None)
    if route is None:
        raise EvidenceBroken(f"the call signed does not bring about {kind}", field="evidence.preimage.path")
    return route.operation


def _is_about(step: Step, machine: bool | None) -> bool:
    if machine is None:
        return True
    identity = step.history.identities.get(step.subject)
    return identity is not None and identity.is_machine == machine


# Policies


def _policy_written(step: Step) -> None:
    history, policy_id = step.history, step.subject
    known = history.policies.get(policy_id)
    if step.kind == records.POLICY_CREATED:
        step.new_subject(ids.POLICY, history.policies)
    elif known is None or not known.is_active:
        raise RecordBroken("names no policy there is", field="record.subject")
    version = 1 if known is None else known.version + 1
    document = stored_document(parse_policy(step.payload, id=policy_id, version=version))
    step.expect({"version": version, **document})
    written = PolicyVersion(step.number, step.at, version, document)
    if known is None:
        history.policies[policy_id] = KnownPolicy([written])
    else:
        known.versions.append(written)
    history.note_policies(step.number)


def _policy_archived(step: Step) -> None:
    known = step.history.policies.get(step.subject)
    if known is None or not known.is_active:
        raise RecordBroken("names no policy there is", field="record.subject")
    step.expect({"version": known.version})
    known.versions.append(replace(known.versions[-1], number=step.number, at=step.at, is_active=False))
    step.history.note_policies(step.number)


# Wallets and settings


def _wallet(step: Step) -> KnownWallet:
    wallet = step.history.wallets.get(step.subject)
    if wallet is None:
        raise RecordBroken("names no wallet there is", field="record.subject")
    return wallet


def _wallet_created(step: Step) -> None:
    history, network = step.history, step.signed("network")
    wallet_id = step.new_subject(ids.WALLET, history.wallets)
    chain_id = _chain_id(history, network)
    tags = sorted(set(step.signed_texts("tags"))) if step.payload.get("tags") is not None else []
    address, key_id, public_key = step.made("address"), step.made("keyId"), step.made("publicKey")
    lower = parse_address(address, field="record.body.address")
    if lower in history.addresses:
        raise RecordBroken("another wallet has this address", field="record.body.address")
    if not isinstance(public_key, str) or _PUBLIC_POINT.fullmatch(public_key) is None:
        raise RecordBroken("is not a compressed secp256k1 point in hex", field="record.body.publicKey")
    if not isinstance(key_id, str) or not key_id.startswith(f"{ids.KEY}-") or len(key_id) > 64:
        raise RecordBroken("is not the identifier of a key", field="record.body.keyId")
    step.expect(
        {
            "network": network,
            "chainId": chain_id,
            "address": address,
            "keyId": key_id,
            "publicKey": public_key,
            "name": step.payload.get("name"),
            "tags": tags,
        }
    )
    if tags:
        step.require(["Wallets:Tags:Add"])
    history.addresses.add(lower)
    history.wallets[wallet_id] = KnownWallet(network, chain_id, address, public_key, [(step.number, frozenset(tags))])


def _chain_id(history: History, network: str) -> int:
    """Return the chain id that the signed settings give a network."""
    networks = history.money_settings.get("networks")
    settings = networks.get(network) if isinstance(networks, dict) else None
    chain_id = settings.get("chainId") if isinstance(settings, dict) else None
    if type(chain_id) is not int:
        raise RecordBroken("names a network that the signed settings do not have", field="record.body.network")
    return chain_id


def _wallet_renamed(step: Step) -> None:
    _wallet(step)
    step.expect({name: step.payload[name] for name in ("name", "externalId") if name in step.payload})


def _wallet_tagged(step: Step) -> None:
    wallet, named = _wallet(step), set(step.signed_texts("tags"))
    if step.method == "PUT":
        step.expect({"added": sorted(named - wallet.tags), "removed": []})
        after = wallet.tags | named
    else:
        step.expect({"added": [], "removed": sorted(named & wallet.tags)})
        after = wallet.tags - named
    wallet.tag_states.append((step.number, frozenset(after)))


def _stopped(step: Step) -> dict[str, str]:
    """Return what every record about something that is let go says."""
    stopped = step.made("stopped")
    if not isinstance(stopped, str):
        raise RecordBroken("is not a text", field="record.body.stopped")
    return {"reason": step.signed("reason"), "stopped": stopped}


def _wallet_unfrozen(step: Step) -> None:
    _wallet(step)
    step.expect(_stopped(step))


def _wallet_drained(step: Step) -> None:
    _wallet(step)
    step.expect({"reason": step.signed("reason")})


def _wallet_resumed(step: Step) -> None:
    _wallet(step)
    step.expect({})


def _pool_created(step: Step) -> None:
    history, network = step.history, step.signed("network")
    pool_id, chain_id = step.new_subject(ids.POOL, history.pools), _chain_id(history, network)
    name, tag = step.signed("name"), step.signed("tag")
    step.expect({"name": name, "network": network, "chainId": chain_id, "tag": tag})
    history.pools[pool_id] = KnownPool(network, chain_id, tag, step.number)


def _pool_archived(step: Step) -> None:
    known = step.history.pools.get(step.subject)
    if known is None or known.until is not None:
        raise RecordBroken("names no pool there is", field="record.subject")
    step.expect({})
    known.until = step.number


def _mandate_created(step: Step) -> None:
    history = step.history
    mandate_id = step.new_subject(prefix_of(step.payload), history.mandates)
    mandate = parse_any(step.payload, id=mandate_id)
    if isinstance(mandate, Recurring):
        _check_payer(history, mandate)
    else:
        paying = None if mandate.treasury is None else history.wallets.get(mandate.treasury)
        if mandate.treasury is not None and (paying is None or paying.network != mandate.network):
            raise RecordBroken("names a treasury that the records do not know", field="record.body.treasury")
    step.expect(mandate.document())
    history.mandates[mandate_id] = KnownMandate(mandate, step.number)


def _check_payer(history: History, mandate: Recurring) -> None:
    payer = history.wallets.get(mandate.wallet_id or "") or history.pools.get(mandate.pool_id or "")
    if payer is None or payer.network != mandate.network:
        raise RecordBroken("names a wallet or pool that the records do not know", field="record.body")


def _mandate_archived(step: Step) -> None:
    known = step.history.mandates.get(step.subject)
    if known is None or known.until is not None:
        raise RecordBroken("names no mandate there is", field="record.subject")
    step.expect({})
    known.until = step.number


def _about_organization(step: Step) -> None:
    if step.subject != step.history.org:
        raise RecordBroken("is about the organization", field="record.subject")


def _asset_unfrozen(step: Step) -> None:
    _about_organization(step)
    step.expect({**{name: step.signed(name) for name in ("network", "asset")}, **_stopped(step)})


def _network_unfrozen(step: Step) -> None:
    _about_organization(step)
    step.expect({"network": step.signed("network"), **_stopped(step)})


def _stop_lifted(step: Step) -> None:
    _about_organization(step)
    freeze_id = step.made("freezeId")  # the path that was signed holds it
    step.expect({"freezeId": freeze_id, **{name: step.signed(name) for name in ("scope", "subject", "reason")}})
    step.history.lifted[freeze_id] = step.number


def _signer_reseeded(step: Step) -> None:
    _about_organization(step)
    nonces = step.payload.get("minNonces")
    if not isinstance(nonces, dict) or nonces.keys() != step.history.wallets.keys():
        raise RecordBroken("does not name every wallet there is", field="record.body.minNonces")
    if not all(type(nonce) is int and 0 <= nonce <= NONCE_MAX for nonce in nonces.values()):
        raise RecordBroken("is not a nonce of each wallet", field="record.body.minNonces")
    journal_id = step.signed("journalId")
    step.expect({"journalId": journal_id, "minNonces": nonces, "reason": step.signed("reason")})
    step.history.reseeds.append(Reseed(step.number, step.at, journal_id, nonces))


def _config_applied(step: Step) -> None:
    _about_organization(step)
    settings = step.payload.get("moneySettings")
    if not isinstance(settings, dict):
        raise EvidenceBroken("the signed payload lacks the settings", field="evidence.payload.moneySettings")
    step.expect({"moneySettings": settings})
    step.history.money_settings = settings


def _both(suffix: str, method: str, action: str, payload: Mapping[str, Any] | None) -> tuple[Route, Route]:
    return (
        Route(method, f"/auth/users/{{subject}}{suffix}", f"Auth:Users:{action}", payload, machine=False),
        Route(
            method,
            f"/auth/service-accounts/{{subject}}{suffix}",
            f"Auth:ServiceAccounts:{action}",
            payload,
            machine=True,
        ),
    )


_PAT, _ACCOUNT = "/auth/pats/{tokenId}", "/auth/service-accounts/{subject}"
_PERMISSION, _POLICY, _WALLET = "/permissions/{subject}", "/v2/policies/{subject}", "/wallets/{subject}"

CHANGES: Mapping[str, tuple[tuple[Route, ...], Callable[[Step], None]]] = {
    records.USER_INVITED: ((Route("POST", "/auth/users", "Auth:Users:Create"),), who.user_invited),
    records.USER_ACTIVATED: (
        (
            Route("PUT", "/auth/users/{subject}/activate", "Auth:Users:Activate", machine=False),
            Route("PUT", _ACCOUNT + "/activate", "Auth:ServiceAccounts:Activate", {}, machine=True),
        ),
        who.user_activated,
    ),
    records.USER_DEACTIVATED: (_both("/deactivate", "PUT", "Deactivate", None), who.user_switched_off),
    records.USER_DELETED: (_both("", "DELETE", "Delete", {}), who.user_switched_off),
    records.USER_RENAMED: (
        (Route("PUT", "/auth/service-accounts/{subject}", "Auth:ServiceAccounts:Update", machine=True),),
        who.user_renamed,
    ),
    records.USER_RECOVERED: (
        (Route("POST", "/v1/users/{subject}/recovery", "Auth:Users:Deactivate", machine=False),),
        codes.user_recovered,
    ),
    records.CODE_CREATED: ((Route("POST", "/auth/credentials/code", None, machine=False),), codes.code_created),
    records.SERVICE_ACCOUNT_CREATED: (
        (Route("POST", "/auth/service-accounts", "Auth:ServiceAccounts:Create"),),
        who.service_account_created,
    ),
    records.CREDENTIAL_CREATED: ((Route("POST", "/auth/credentials", None),), who.credential_created),
    records.CREDENTIAL_ACTIVATED: (
        (Route("PUT", "/auth/credentials/activate", None), Route("PUT", _PAT + "/activate", None)),
        who.credential_switched,
    ),
    records.CREDENTIAL_DEACTIVATED: (
        (Route("PUT", "/auth/credentials/deactivate", None), Route("PUT", _PAT + "/deactivate", None)),
        who.credential_switched,
    ),
    records.CREDENTIAL_DELETED: (
        (Route("DELETE", "/auth/credentials/{subject}", None), Route("DELETE", _PAT, None)),
        who.credential_switched,
    ),
    records.PAT_CREATED: ((Route("POST", "/auth/pats", "Auth:Pats:Create"),), who.pat_created),
    records.PAT_RENAMED: ((Route("PUT", "/auth/pats/{subject}", None),), who.pat_renamed),
    records.PERMISSION_CREATED: ((Route("POST", "/permissions", "Permissions:Create"),), who.permission_created),
    records.PERMISSION_UPDATED: ((Route("PUT", _PERMISSION, "Permissions:Update"),), who.permission_updated),
    records.PERMISSION_ARCHIVED: (
        (
            Route("PUT", _PERMISSION + "/archive", "Permissions:Delete", {"isArchived": True}),
            Route("DELETE", _PERMISSION, "Permissions:Delete", {}),
        ),
        who.permission_archived,
    ),
    records.PERMISSION_ASSIGNED: (
        (Route("POST", _PERMISSION + "/assignments", "Permissions:Assign"),),
        who.permission_assigned,
    ),
    records.PERMISSION_REVOKED: (
        (Route("DELETE", _PERMISSION + "/assignments/{assignmentId}", "Permissions:Revoke", {}),),
        who.permission_revoked,
    ),
    records.POLICY_CREATED: ((Route("POST", "/v2/policies", "Policies:Create"),), _policy_written),
    records.POLICY_UPDATED: ((Route("PUT", _POLICY, "Policies:Update"),), _policy_written),
    records.POLICY_ARCHIVED: ((Route("DELETE", _POLICY, "Policies:Delete", {}),), _policy_archived),
    records.WALLET_CREATED: ((Route("POST", "/wallets", "Wallets:Create"),), _wallet_created),
    records.WALLET_RENAMED: ((Route("PUT", _WALLET, "Wallets:Update"),), _wallet_renamed),
    records.WALLET_TAGS_MODIFIED: (
        (
            Route("PUT", _WALLET + "/tags", "Wallets:Tags:Add"),
            Route("DELETE", _WALLET + "/tags", "Wallets:Tags:Remove"),
        ),
        _wallet_tagged,
    ),
    records.WALLET_UNFROZEN: ((Route("PUT", "/v1/wallets/{subject}/unfreeze", "Wallets:Unfreeze"),), _wallet_unfrozen),
    records.WALLET_DRAINED: ((Route("POST", "/v1/wallets/{subject}/drain", "Wallets:Drain"),), _wallet_drained),
    records.WALLET_RESUMED: ((Route("POST", "/v1/wallets/{subject}/resume", "Wallets:Drain", {}),), _wallet_resumed),
    records.POOL_CREATED: ((Route("POST", "/v1/pools", "Pools:Create"),), _pool_created),
    records.POOL_ARCHIVED: ((Route("POST", "/v1/pools/{subject}/archive", "Pools:Archive", {}),), _pool_archived),
    records.MANDATE_CREATED: ((Route("POST", "/v1/mandates", "Mandates:Create"),), _mandate_created),
    records.MANDATE_ARCHIVED: (
        (Route("POST", "/v1/mandates/{subject}/archive", "Mandates:Archive", {}),),
        _mandate_archived,
    ),
    records.ASSET_UNFROZEN: ((Route("PUT", "/v1/assets/unfreeze", "Wallets:Unfreeze"),), _asset_unfrozen),
    records.NETWORK_UNFROZEN: ((Route("PUT", "/v1/networks/unfreeze", "Outlay:Unfreeze"),), _network_unfrozen),
    records.STOP_LIFTED: ((Route("PUT", "/v1/freezes/{freezeId}/lift", "Outlay:Unfreeze"),), _stop_lifted),
    records.SIGNER_RESEEDED: ((Route("PUT", "/v1/signer/reseed", "Signer:Reseed"),), _signer_reseeded),
    records.CONFIG_APPLIED: ((Route("PUT", "/v1/config", "Config:Apply"),), _config_applied),
}
"""Kind -> the calls that may bring it about, and the check that also notes what changed."""

PROVED: Mapping[str, Callable[[Step], None]] = {
    records.GENESIS: who.genesis,
    records.USER_REGISTERED: who.user_registered,
    records.CREDENTIAL_REGISTERED: codes.credential_registered,
}
"""The same of the kinds without action evidence."""
