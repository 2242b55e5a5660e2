"""An asset: what is paid, where, and how it is counted."""

from dataclasses import dataclass

NATIVE = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A coin or token of one network, as the configuration lists it."""

    network: str  #: network name, e.g. ``EthereumSepolia``
    kind: str  #: ``Native`` or ``Erc20``
    contract: str | None  #: token contract in lower case; None for the native coin
    symbol: str
    decimals: int  #: 0 to 77

    @property
    def key(self) -> str:
        """``native`` or the contract address: unique within the network."""
        return self.contract or NATIVE
