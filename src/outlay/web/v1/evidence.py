"""The proof of a payout, to be checked elsewhere."""

from litestar import Controller, MediaType, Response, get

from outlay.actions.export import export_payout
from outlay.web.body import StrictRequest
from outlay.web.gate import Gate


class EvidenceController(Controller):
    """``/v1/evidence``."""

    path = "/v1/evidence"
    tags = ("Organization",)

    @get("/transfers/{transfer_id:str}", summary="Export the proof of a payout")
    async def export(self, request: StrictRequest, transfer_id: str, gate: Gate) -> Response[bytes]:
        """Return what proves a payout offline, in canonical form; its records tell of people, keys and policies."""
        data = await gate.read(
            request,
            (
                "Auth:Users:Read",
                "Permissions:Read",
                "Policies:Evaluations:Read",
                "Policies:Read",
                "Wallets:Read",
                "Wallets:Transfers:Read",
            ),
            lambda unit, _: export_payout(unit, transfer_id),
        )
        return Response(data, media_type=MediaType.JSON)
