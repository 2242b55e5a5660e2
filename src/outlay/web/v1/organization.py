"""The organization: its settings, records and ledger."""

from typing import Any

from litestar import Controller, get, put

from outlay.actions import wallets
from outlay.actions.organization import apply_config, is_applied, money_digest
from outlay.store import audit, ledger, organizations
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate


class ApplyConfig(Body):
    """The money settings an admin signs, exactly as ``GET /v1/config`` shows them."""

    moneySettings: dict[str, Any]


class Unfreeze(Body):
    """What a person found."""

    reason: str


class UnfreezeAsset(Body):
    """Which asset, and what a person found."""

    network: str
    asset: str
    reason: str


class OrganizationController(Controller):
    """``/v1``."""

    path = "/v1"
    tags = ("Organization",)

    @get("/health", summary="Is the server up?")
    async def health(self, gate: Gate) -> dict[str, Any]:
        """Return ok, or recovering while nothing is written, and whether payouts are admitted; needs no token."""
        is_admitting = await gate.db.read(lambda unit: is_applied(unit, gate.config) and audit.why_broken(unit) is None)
        is_open = gate.is_open()
        return {"status": "ok" if is_open else "recovering", "admitting": is_open and is_admitting}

    @get("/webhook-key", summary="Read the public key of webhook signatures")
    async def webhook_key(self, gate: Gate) -> dict[str, Any]:
        """Return the key that the ``v1a`` entry of ``webhook-signature`` is verified with; needs no token."""
        return {"publicKey": gate.webhook_public_key}

    @get("/config", summary="Read the money settings")
    async def config(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return the money settings this server has loaded, and whether they are the signed ones."""
        ours = money_digest(gate.config)
        applied = await gate.read(request, None, lambda unit, _: organizations.get(unit).money_settings)
        return {
            "moneySettings": gate.config.money_settings(),
            "digest": ours,
            "appliedDigest": applied,
            "applied": applied == ours,
        }

    @put("/config", summary="Apply the money settings")
    async def apply(self, request: StrictRequest, data: ApplyConfig, gate: Gate) -> dict[str, Any]:
        """Make the loaded money settings the organization's, under the caller's signature."""
        return await gate.write(request, "Config:Apply", lambda act: apply_config(act, settings=data.moneySettings))

    @put("/wallets/{wallet_id:str}/unfreeze", summary="Let a stopped wallet pay again")
    async def unfreeze(self, request: StrictRequest, wallet_id: str, data: Unfreeze, gate: Gate) -> dict[str, Any]:
        """Let a wallet pay again after a person has looked at why it was stopped."""
        return await gate.write(
            request, "Wallets:Unfreeze", lambda act: wallets.unfreeze(act, wallet_id, reason=data.reason)
        )

    @put("/assets/unfreeze", summary="Let a stopped asset be paid again")
    async def unfreeze_asset(self, request: StrictRequest, data: UnfreezeAsset, gate: Gate) -> dict[str, Any]:
        """Let an asset be paid again after a person has looked at why it was stopped."""
        return await gate.write(
            request,
            "Wallets:Unfreeze",
            lambda act: wallets.unfreeze_asset(act, network=data.network, asset=data.asset, reason=data.reason),
        )

    @get("/records", summary="Read the records")
    async def records(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return the head of the record chain and its root's fingerprint."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            org = organizations.get(unit)
            return {"orgId": org.id, "root": org.root, "head": org.head, "seq": org.head_seq}

        return await gate.read(request, None, read)

    @get("/ledger", summary="Read the ledger")
    async def ledger(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return every account; given only if they sum to zero for each asset (doctor checks every posting)."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            ledger.check_sums(unit)
            return {
                "accounts": [
                    {
                        "id": row.id,
                        "owner": row.owner,
                        "network": row.network,
                        "asset": row.asset,
                        "kind": row.kind,
                        "debits": str(row.debits),
                        "credits": str(row.credits),
                    }
                    for row in ledger.accounts(unit)
                ]
            }

        return await gate.read(request, "Wallets:Read", read)
