"""Every operation of the Dfns contract, and what becomes of it here.

The table is what ``docs/reference/compatibility.md`` is written from. Tests hold it against the routes there are and
against everything the official SDKs can call.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

SAME, EXTENDED, NOT_OFFERED = "same", "extended", "not offered"
"""As in the contract; as in the contract but for what is said; answers 404 ``not_offered``."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the contract."""

    area: str
    method: str
    path: str  #: as the contract spells it, parameters in braces
    verdict: str
    note: str  #: how it is extended or why it is not offered; empty where it is the same


def normal(path: str) -> str:
    """Return a path without the names of its parameters: these differ between clients."""
    return re.sub(r"\{\w+\}", "{}", path)


def _offered(area: str, calls: Mapping[str, str]) -> list[Operation]:
    """Return what is offered: method and path -> how it is extended, empty where it is the same."""
    return [_operation(area, call, EXTENDED if how else SAME, how) for call, how in calls.items()]


def _absent(area: str, why: str, calls: str) -> list[Operation]:
    """Return what is not offered, one method and path a line."""
    return [_operation(area, call, NOT_OFFERED, why) for call in calls.strip().splitlines()]


def _operation(area: str, call: str, verdict: str, note: str) -> Operation:
    method, path = call.split()
    return Operation(area, method, path, verdict, note)


_GOVERNED = (
    "while a policy of kind `{}` covers it: 202 with a change request, and what is not proven tighter waits"
    " `governance.loosening_delay_s` after its approval"
)
_WAITS = "while changes of policies need approval: 202 with a change request"
_STARTS_OFF = "while changes of policies need approval, {} starts switched off and its activation is what waits"
_TELLS_FAILURES = (
    "answers also tell `failingSince` and, once it was switched off by itself (setting `webhooks.disable_after_s`),"
    " `disabledReason`"
)
_NO_EFFECT = "`force` is taken and without effect"

OPERATIONS: tuple[Operation, ...] = (
    *_offered(
        "Signing",
        {
            "POST /auth/action/init": "the challenge is a hash over what it is for, good for 15 minutes; it needs no"
            " row in the database; `preimage` tells what it is the hash of",
            "POST /auth/action": "`Key` and `Fido2` factors, no second factor; the token is good for 5 minutes",
        },
    ),
    *_offered(
        "Login and registration",
        {
            "POST /auth/login/init": "people with a key or passkey; no `loginCode`; a name that nobody has is answered"
            " like one that somebody has",
            "POST /auth/login": "`Key` and `Fido2` factors, no second factor; the token is good for 8 hours",
            "PUT /auth/logout": "",
            "POST /auth/registration/init": "",
            "POST /auth/registration": "one first factor of kind `Key` or `Fido2`; no second factor, no recovery"
            " credential",
        },
    ),
    *_absent(
        "Login and registration",
        "people log in with keys of their own; no mail is sent and no other identity provider is trusted",
        """
        POST /auth/login/code
        POST /auth/login/oidc
        POST /auth/login/oidc/init
        POST /auth/login/oidc/credentials
        POST /auth/login/social
        POST /auth/login/sso
        POST /auth/login/sso/init
        PUT /auth/registration/code
        POST /auth/registration/social
        """,
    ),
    *_absent(
        "Login and registration",
        "there are no end users: people of the organization and service accounts are all there is",
        """
        POST /auth/login/delegated
        POST /auth/registration/delegated
        POST /auth/registration/enduser
        """,
    ),
    *_absent(
        "Login and registration",
        "whoever lost every key is recovered by other people, with `POST /v1/users/{userId}/recovery`; no key is kept"
        " aside for it",
        """
        POST /auth/recover/user
        POST /auth/recover/user/init
        POST /auth/recover/user/code
        POST /auth/recover/user/delegated
        """,
    ),
    *_absent(
        "Login and registration",
        "one deployment is one organization: there is no other tenant to get a token for",
        """
        POST /auth/tokens
        POST /auth/users/invite
        """,
    ),
    *_offered(
        "Credentials",
        {
            "GET /auth/credentials": "",
            "POST /auth/credentials/init": "kinds `Key` and `Fido2`",
            "POST /auth/credentials": f"kinds `Key` and `Fido2`; {_STARTS_OFF.format('a new one')}",
            "POST /auth/credentials/code": "for people; good for at most seven days, one open code a person",
            "POST /auth/credentials/code/init": "kinds `Key` and `Fido2`",
            "POST /auth/credentials/code/verify": "the credential starts switched off; another of its holder's switches"
            " it on with `PUT /auth/credentials/activate`",
            "PUT /auth/credentials/activate": f"may name the `fingerprint` that was compared; {_WAITS}",
            "PUT /auth/credentials/deactivate": "a key does not withdraw itself: another one signs this",
            "DELETE /auth/credentials/{credentialUuid}": "a key does not withdraw itself: another one signs this",
        },
    ),
    *_offered(
        "Users",
        {
            "GET /auth/users": "answers also tell `mayVote`",
            "POST /auth/users": "nothing is mailed: the answer carries the one-time `registrationCode`; with"
            " `publicKey` only that key can take the invitation up",
            "GET /auth/users/{userId}": "answers also tell `mayVote`",
            "PUT /auth/users/{userId}/activate": "also vouches for the person's keys: from then on their votes count;"
            f" may name the `fingerprints` that were compared; 412 where a recovery left no key; {_WAITS}",
            "PUT /auth/users/{userId}/deactivate": "tokens, signatures and votes stop counting at once",
            "DELETE /auth/users/{userId}": "",
        },
    ),
    *_absent("Users", "all it can change is `isSSORequired`, and there is no SSO", "PUT /auth/users/{userId}"),
    *_offered(
        "Service accounts",
        {
            "GET /auth/service-accounts": "",
            "POST /auth/service-accounts": "Ed25519, P-256, secp256k1 and RSA keys of 2048 bits and more; no"
            f" `federatedIdentity`; {_STARTS_OFF.format('a new account')}",
            "GET /auth/service-accounts/{serviceAccountId}": "",
            "PUT /auth/service-accounts/{serviceAccountId}": "",
            "DELETE /auth/service-accounts/{serviceAccountId}": _NO_EFFECT,
            "PUT /auth/service-accounts/{serviceAccountId}/activate": _WAITS,
            "PUT /auth/service-accounts/{serviceAccountId}/deactivate": _NO_EFFECT,
        },
    ),
    *_absent(
        "Service accounts",
        "they are for accounts of an identity provider; a service account adds keys as people do, under Credentials",
        """
        POST /auth/service-accounts/credentials
        DELETE /auth/service-accounts/credentials/{credentialUuid}
        """,
    ),
    *_offered(
        "Personal access tokens",
        {
            "GET /auth/pats": "",
            "POST /auth/pats": "people only; it never votes and never makes keys or accounts;"
            f" {_STARTS_OFF.format('a new token')}",
            "GET /auth/pats/{tokenId}": "",
            "PUT /auth/pats/{tokenId}": "",
            "DELETE /auth/pats/{tokenId}": "",
            "PUT /auth/pats/{tokenId}/activate": _WAITS,
            "PUT /auth/pats/{tokenId}/deactivate": "",
        },
    ),
    *_absent(
        "Applications and logs",
        "applications are of the past of the contract itself",
        """
        GET /auth/apps
        GET /auth/apps/{appId}
        """,
    ),
    *_absent(
        "Applications and logs",
        "every signed act is kept as evidence and every change as a record: see `GET /v1/records`",
        """
        GET /auth/action/logs
        GET /auth/action/logs/{id}
        """,
    ),
    *_offered(
        "Permissions",
        {
            "GET /permissions": "",
            "POST /permissions": "",
            "GET /permissions/{permissionId}": "",
            "PUT /permissions/{permissionId}": _GOVERNED.format("Permissions:Modify"),
            "DELETE /permissions/{permissionId}": _GOVERNED.format("Permissions:Modify"),
            "PUT /permissions/{permissionId}/archive": "`isArchived` can only be true: nothing is brought back;"
            f" {_GOVERNED.format('Permissions:Modify')}",
            "GET /permissions/{permissionId}/assignments": "",
            "POST /permissions/{permissionId}/assignments": _GOVERNED.format("Permissions:Assign"),
            "DELETE /permissions/{permissionId}/assignments/{assignmentId}": f"{_NO_EFFECT};"
            f" {_GOVERNED.format('Permissions:Assign')}",
        },
    ),
    *_offered(
        "Wallets",
        {
            "GET /wallets": "answers also tell `frozenReason` and `drainedReason`; no filters",
            "POST /wallets": "`network`, `name`, `externalId` and `tags`, on configured EVM networks; every wallet has"
            f" a key of its own; {_WAITS} if no guarded policy would watch it",
            "GET /wallets/{walletId}": "answers also tell `frozenReason` and `drainedReason`",
            "PUT /wallets/{walletId}": "",
            "PUT /wallets/{walletId}/tags": f"{_WAITS} if the wallet would escape a guarded policy",
            "DELETE /wallets/{walletId}/tags": f"{_WAITS} if the wallet would escape a guarded policy",
            "GET /wallets/{walletId}/assets": "read from the chain at that moment, the configured assets only; 503"
            " when it does not answer. `verified` is false, and `balance` 0, where no token answers at the address."
            " `quotes` are unit prices; `netWorth` is left out while something has no price or does not answer",
            "GET /wallets/{walletId}/history": "the confirmed transfers, direction `Out`; `timestamp` is when it was"
            " confirmed here. What came in is told by `wallet.blockchainevent.detected`: it has no hash here",
        },
    ),
    *_absent(
        "Wallets",
        "only coins and tokens of the configuration are looked at",
        """
        GET /wallets/{walletId}/nfts
        GET /wallets/all/history
        """,
    ),
    *_absent(
        "Wallets",
        "keys are made by the signer and stay with it: none comes in, leaves, or is handed to somebody else",
        """
        POST /wallets/import
        POST /wallets/{walletId}/delegate
        POST /wallets/{walletId}/export
        """,
    ),
    *_absent(
        "Wallets",
        "a wallet of an EVM network needs no activation, and knows no offers",
        """
        POST /wallets/{walletId}/activate
        GET /wallets/{walletId}/offers
        GET /wallets/{walletId}/offers/{offerId}
        PUT /wallets/{walletId}/offers/{offerId}/accept
        PUT /wallets/{walletId}/offers/{offerId}/reject
        POST /wallets/{walletId}/canton/ledger-api
        """,
    ),
    *_absent(
        "Wallets",
        "hot wallets are few: make them one by one",
        """
        GET /wallets/bulk-create
        POST /wallets/bulk-create
        GET /wallets/bulk-create/{jobId}
        GET /wallets/bulk-create/{jobId}/wallets
        """,
    ),
    *_offered(
        "Transfers",
        {
            "GET /wallets/{walletId}/transfers": "answers also tell `waitingReason` and `flag`; `details`"
            " has the nonce and every attempt",
            "POST /wallets/{walletId}/transfers": "kinds `Native` and `Erc20`, without `memo`, `travelRule` and"
            " `feeSponsorId`; `externalId` is required (setting `api.require_external_id`)",
            "GET /wallets/{walletId}/transfers/{transferId}": "answers also tell `waitingReason` and `flag`;"
            " `details` has the nonce and every attempt",
            "PUT /wallets/{walletId}/transfers/{transferId}/abort": "its requester only; also while it is held",
            "POST /wallets/{walletId}/transfers/{transferId}/cancel": "only while it is `Broadcasted` and in no block;"
            " it stays so until one of both is final: then `Failed`, or `Confirmed` if it was paid all the same."
            " Repeating it answers the same transaction",
            "POST /wallets/{walletId}/transfers/{transferId}/speed-up": "only while it is `Broadcasted` and in no"
            " block: fees rise by 12.5 %, to the level `Fast` where that is more, and never over the fee cap",
        },
    ),
    *_absent(
        "Transactions and signatures",
        "what a policy cannot read it cannot judge: only transfers are signed",
        """
        GET /wallets/{walletId}/transactions
        POST /wallets/{walletId}/transactions
        GET /wallets/{walletId}/transactions/{transactionId}
        PUT /wallets/{walletId}/transactions/{transactionId}/abort
        POST /wallets/{walletId}/transactions/{transactionId}/cancel
        POST /wallets/{walletId}/transactions/{transactionId}/speed-up
        GET /wallets/{walletId}/signatures
        POST /wallets/{walletId}/signatures
        GET /wallets/{walletId}/signatures/{signatureId}
        """,
    ),
    *_offered(
        "Networks",
        {
            "GET /networks/fees": "what a payout of the network's coin would really be offered with, within the"
            " network's `fee_cap`; `withinFeeCap` tells whether it would go now",
        },
    ),
    *_absent(
        "Networks",
        "this server is no gateway to nodes: ask one of your own",
        """
        POST /networks/read-contract
        POST /networks/{network}/call-function
        POST /networks/{network}/transactions/reindex
        """,
    ),
    *_absent(
        "Networks",
        "EVM networks only",
        """
        GET /networks/{network}/validators
        POST /networks/{network}/validators
        GET /networks/{network}/validators/{validatorId}
        PUT /networks/{network}/validators/{validatorId}
        DELETE /networks/{network}/validators/{validatorId}
        """,
    ),
    *_offered(
        "Policies",
        {
            "GET /v2/policies": "answers also tell `version`",
            "POST /v2/policies": "rules of amount, velocity, count and recipient, not of screening services; velocity"
            f" rules take a `scope`; {_WAITS} if the policy governs, or could let something through",
            "GET /v2/policies/{policyId}": "answers also tell `version`",
            "PUT /v2/policies/{policyId}": _GOVERNED.format("Policies:Modify"),
            "DELETE /v2/policies/{policyId}": _GOVERNED.format("Policies:Modify"),
            "GET /v2/policy-approvals": "answers also tell `approvalGroups`",
            "GET /v2/policy-approvals/{approvalId}": "answers also tell `approvalGroups`",
            "POST /v2/policy-approvals/{approvalId}/decisions": "the signature covers what is decided on: 409"
            " `approval_changed` if that changed meanwhile",
        },
    ),
    *_absent("Policies", "no travel rule service is connected", "GET /v2/policies/travel-rule/sumsub/public-key"),
    *_offered(
        "Webhooks",
        {
            "GET /webhooks": _TELLS_FAILURES,
            "POST /webhooks": "private and loopback addresses are refused (setting `webhooks.allow_private_addresses`)",
            "GET /webhooks/{webhookId}": _TELLS_FAILURES,
            "PUT /webhooks/{webhookId}": "a status that is given ends a switching off by itself",
            "DELETE /webhooks/{webhookId}": "",
            "POST /webhooks/{webhookId}/ping": "",
            "GET /webhooks/{webhookId}/events": "items also tell `deliveryAttempt`, `retryOf`, `deliveryFailed` and"
            " `nextAttemptDate`",
            "GET /webhooks/{webhookId}/events/{webhookEventId}": "answers also tell `deliveryAttempt`, `retryOf`,"
            " `deliveryFailed` and `nextAttemptDate`",
        },
    ),
    *_absent(
        "Keys",
        "every wallet has one key, made by the signer with the wallet and used for its transfers alone",
        """
        GET /keys
        POST /keys
        POST /keys/import
        GET /keys/{keyId}
        PUT /keys/{keyId}
        DELETE /keys/{keyId}
        POST /keys/{keyId}/delegate
        POST /keys/{keyId}/derive
        POST /keys/{keyId}/export
        GET /keys/{keyId}/signatures
        POST /keys/{keyId}/signatures
        GET /keys/{keyId}/signatures/{signatureId}
        """,
    ),
    *_absent(
        "Key stores and signers",
        "the signer is part of the deployment and is not run through the API",
        """
        GET /signers
        GET /key-stores
        POST /key-stores/{storeId}/add-mac-user/input
        POST /key-stores/{storeId}/add-mac-user/output
        POST /key-stores/{storeId}/add-provisioner/input
        POST /key-stores/{storeId}/add-provisioner/output
        POST /key-stores/{storeId}/clone/input
        POST /key-stores/{storeId}/clone/output
        POST /key-stores/{storeId}/fleet-operations/cancel
        POST /key-stores/{storeId}/genesis/input
        POST /key-stores/{storeId}/genesis/output
        POST /key-stores/{storeId}/key-harvest/input
        POST /key-stores/{storeId}/key-harvest/output
        POST /key-stores/{storeId}/onchain-sign/input
        POST /key-stores/{storeId}/onchain-sign/output
        POST /key-stores/{storeId}/proof-of-control/input
        POST /key-stores/{storeId}/proof-of-control/output
        """,
    ),
    *_absent(
        "Fee sponsors",
        "a wallet pays its own fees, within the cap of the configuration",
        """
        GET /fee-sponsors
        POST /fee-sponsors
        GET /fee-sponsors/{feeSponsorId}
        DELETE /fee-sponsors/{feeSponsorId}
        PUT /fee-sponsors/{feeSponsorId}/activate
        PUT /fee-sponsors/{feeSponsorId}/deactivate
        GET /fee-sponsors/{feeSponsorId}/fees
        """,
    ),
    *_absent(
        "Address watches",
        "only wallets of this server are looked at",
        """
        GET /address-watches
        POST /address-watches
        GET /address-watches/{addressWatchId}
        DELETE /address-watches/{addressWatchId}
        GET /address-watches/{addressWatchId}/assets
        GET /address-watches/{addressWatchId}/blockchain-events
        GET /address-watches/{addressWatchId}/history
        """,
    ),
    *_absent(
        "Vaults",
        "payouts leave from hot wallets; what holds is a policy, not a vault",
        """
        GET /vaults
        POST /vaults
        GET /vaults/{vaultId}
        PUT /vaults/{vaultId}
        POST /vaults/{vaultId}/addresses
        GET /vaults/{vaultId}/assets
        GET /vaults/{vaultId}/balances
        GET /vaults/{vaultId}/history
        GET /vaults/{vaultId}/locks
        POST /vaults/{vaultId}/locks
        GET /vaults/{vaultId}/locks/{lockId}
        POST /vaults/{vaultId}/locks/{lockId}/release
        POST /vaults/{vaultId}/locks/{lockId}/replace
        POST /vaults/{vaultId}/locks/{lockId}/transfer
        GET /vaults/{vaultId}/quarantines
        GET /vaults/{vaultId}/quarantines/{quarantineId}
        POST /vaults/{vaultId}/quarantines/{quarantineId}/release
        PUT /vaults/{vaultId}/tags
        DELETE /vaults/{vaultId}/tags
        POST /vaults/{vaultId}/transfers
        """,
    ),
    *_absent(
        "Fiat",
        "no money leaves or enters the chain here: in the contract `/payouts` pays banks, not addresses",
        """
        GET /payouts
        POST /payouts
        POST /payouts/quote
        GET /payouts/{payoutId}
        POST /payouts/{payoutId}/action
        GET /payins
        POST /payins
        GET /payins/accounts
        POST /payins/accounts/assets
        GET /payins/balances
        GET /payins/options
        POST /payins/quote
        GET /payins/recipients
        POST /payins/recipients
        GET /payins/{payinId}
        """,
    ),
    *_absent(
        "Trading and yield",
        "funds are paid out, not invested or traded",
        """
        GET /agreements/latest-unaccepted
        POST /agreements/{agreementId}/accept
        GET /allocations
        POST /allocations
        GET /allocations/info
        POST /allocations/get-0fns-quote
        POST /allocations/cancel-0fns-order-placement
        GET /allocations/{allocationId}
        GET /allocations/{allocationId}/actions
        POST /allocations/{allocationId}/actions
        GET /exchanges
        POST /exchanges
        GET /exchanges/{exchangeId}
        DELETE /exchanges/{exchangeId}
        GET /exchanges/{exchangeId}/accounts
        GET /exchanges/{exchangeId}/accounts/{accountId}/assets
        GET /exchanges/{exchangeId}/accounts/{accountId}/assets/{asset}/withdrawal-networks
        POST /exchanges/{exchangeId}/accounts/{accountId}/deposits
        POST /exchanges/{exchangeId}/accounts/{accountId}/withdrawals
        GET /staking/stakes
        POST /staking/stakes
        GET /staking/stakes/{stakeId}
        GET /staking/stakes/{stakeId}/actions
        POST /staking/stakes/{stakeId}/actions
        GET /staking/stakes/{stakeId}/rewards
        GET /swaps
        POST /swaps
        POST /swaps/quotes
        GET /swaps/quotes/{quoteId}
        GET /swaps/{swapId}
        """,
    ),
)
"""Every operation, area by area."""


def _by_shape() -> dict[tuple[str, int], list[tuple[list[str], Operation]]]:
    found: dict[tuple[str, int], list[tuple[list[str], Operation]]] = defaultdict(list)
    for each in sorted(OPERATIONS, key=lambda operation: operation.path.count("{")):
        words = each.path.split("/")
        found[each.method, len(words)].append((words, each))
    return dict(found)


_BY_SHAPE = _by_shape()


def find(method: str, path: str) -> Operation | None:
    """Return the operation a call means, or None; of several, the one with the fewest parameters."""
    given = path.split("/")
    for words, operation in _BY_SHAPE.get((method, len(given)), ()):
        if all(word == text or (word[:1] == "{" and text) for word, text in zip(words, given, strict=True)):
            return operation
    return None


SHADOWED = frozenset(
    (each.method, each.path) for each in OPERATIONS if each.verdict == NOT_OFFERED and "{" not in each.path
)
"""Fixed paths that are not offered, some of which a route with a parameter in that place would take for an id."""


def why_not(method: str, path: str) -> str:
    """Return why an operation of the contract is not offered; empty where the call means none of those."""
    meant = find(method, path)
    return meant.note if meant is not None and meant.verdict == NOT_OFFERED else ""
