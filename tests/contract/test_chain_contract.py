"""The contract suite on a real node and on the fake one: what holds on the fake holds outside."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import pytest

from outlay.chains import Chain, Finality
from outlay.chains.evm import EvmChain
from outlay.chains.fake import FakeTransport
from outlay.chains.rpc import HttpTransport, JsonRpc
from tests import tools
from tests.contract.suite import ChainContract, Stand
from tests.fakes import network


class FakeStand:
    """One fake geth."""

    differs = True

    def __init__(self) -> None:
        self.network = network()

    def connect(self, finality: Finality, *, chain_id: int = 31337) -> Chain:
        """Return the adapter on this chain."""
        rpc = JsonRpc(self.network.urls, FakeTransport(self.network), chain_id=chain_id)
        return EvmChain(rpc, finality)

    def fund(self, address: str, amount: int) -> None:
        """Give native coins."""
        self.network.give(address, amount)
        self.network.mine()

    def token(self) -> str:
        """Deploy a token."""
        return self.network.token().address

    def mint(self, contract: str, to: str, amount: int) -> None:
        """Give units of a token."""
        self.network.give(to, amount, self.network.contracts.tokens[contract])
        self.network.mine()

    def mine(self, count: int = 1) -> None:
        """Make blocks."""
        self.network.mine(count)

    def reorganise(self, instead: Sequence[bytes] = ()) -> None:
        """Replace the newest block."""
        self.network.reorganise(1, instead=instead)


class AnvilStand:
    """A real node, which other tests of this file have used before."""

    differs = False

    def __init__(self, node: tools.Anvil, transport: HttpTransport) -> None:
        self._node, self._transport = node, transport

    def connect(self, finality: Finality, *, chain_id: int = 31337) -> Chain:
        """Return the adapter on this chain."""
        return EvmChain(JsonRpc([self._node.url], self._transport, chain_id=chain_id), finality)

    def fund(self, address: str, amount: int) -> None:
        """Give native coins."""
        tools.set_coin_balance(self._node.url, address, amount)
        tools.mine(self._node.url)  # and have a block to look back to

    def token(self) -> str:
        """Deploy a token."""
        with self._mining():
            return tools.deploy(self._node.url, "TestDollar")

    def mint(self, contract: str, to: str, amount: int) -> None:
        """Give units of a token."""
        with self._mining():
            tools.mint(self._node.url, contract, to, amount)

    @contextmanager
    def _mining(self) -> Iterator[None]:
        tools.rpc(self._node.url, "evm_setAutomine", [True])
        yield
        tools.rpc(self._node.url, "evm_setAutomine", [False])

    def mine(self, count: int = 1) -> None:
        """Make blocks."""
        tools.mine(self._node.url, count)

    def reorganise(self, instead: Sequence[bytes] = ()) -> None:
        """Replace the newest block."""
        tools.rpc(self._node.url, "anvil_reorg", [1, [["0x" + raw.hex(), 0] for raw in instead]])


class TestFake(ChainContract):
    """The fake network."""

    @pytest.fixture
    def stand(self) -> Stand:
        """Return a fresh network."""
        return FakeStand()


@pytest.fixture(scope="module")
def node(anvil: tools.StartAnvil) -> tools.Anvil:
    """Return a node that mines only when told."""
    return anvil(options=["--no-mining", "--slots-in-an-epoch", "4"])


class TestAnvil(ChainContract):
    """A real node."""

    @pytest.fixture
    async def transport(self) -> AsyncIterator[HttpTransport]:
        """Return a transport that is closed after the test."""
        transport = HttpTransport()
        yield transport
        await transport.close()

    @pytest.fixture
    def stand(self, node: tools.Anvil, transport: HttpTransport) -> Iterator[Stand]:
        """Return the node; what waits in its pool goes after each test."""
        yield AnvilStand(node, transport)
        tools.rpc(node.url, "anvil_dropAllTransactions")
