"""What a network answers at this moment: fees, and balances for the wallets."""

from collections.abc import Sequence
from typing import Any, Protocol

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from outlay.actions import present
from outlay.core.asset import Asset
from outlay.core.errors import InvalidInput
from outlay.core.fees import Fees
from outlay.web.body import StrictRequest
from outlay.web.gate import Gate, query_text


class Chains(Protocol):
    """The configured networks. Each method raises ``Unavailable`` when a network gives no usable answer."""

    async def fees(self, network: str) -> Fees:
        """Return what a transaction costs now on a configured network."""
        ...

    async def data_fee(self, network: str) -> int:
        """Return the wei to set aside for what a transaction costs beside its gas on a configured network."""
        ...

    async def balances(self, address: str, assets: Sequence[Asset]) -> Sequence[int | None]:
        """Return the newest balance of each asset of one network in base units, in order; None: no token answers."""
        ...


AnyChains = NamedDependency[SkipValidation[Chains]]


class NetworkController(Controller):
    """``/networks``."""

    path = "/networks"
    tags = ("Networks",)

    @get("/fees", summary="Estimate fees")
    async def fees(self, request: StrictRequest, gate: Gate, chains: AnyChains) -> dict[str, Any]:
        """Return what a payout of the network's own coin would be offered with now, at each priority."""
        await gate.read(request, None, lambda _unit, _caller: None)
        name = query_text(request, "network")
        network = gate.config.network(name) if name else None
        if network is None:
            raise InvalidInput(f"must be one of {', '.join(gate.config.networks)}", field="network")
        return present.network_fees(network, await chains.fees(network.name))
