"""An asset: what is paid, where, and how it is counted."""

from dataclasses import dataclass

NATIVE = "native"
NATIVE_TID, ERC20_TID = "native:", "erc20:"


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

    @property
    def tid(self) -> str:
        """The contract's name of the asset within its network: ``native:<symbol>`` or ``erc20:<contract>``."""
        return f"{NATIVE_TID}{self.symbol.lower()}" if self.contract is None else f"{ERC20_TID}{self.contract}"
