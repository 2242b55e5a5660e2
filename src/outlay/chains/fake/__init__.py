"""A fake EVM network for tests, simulations and rehearsals: nodes that behave, lag, lie, split and fall silent.

``FakeTransport(network)`` takes the place of HTTP below ``JsonRpc``, so the whole adapter runs on it unchanged.
"""

from outlay.chains.fake.clients import CLIENTS, Client, Refusal
from outlay.chains.fake.ledger import Contracts, Manner, State, Token
from outlay.chains.fake.network import MAIN, Block, Branch, FakeNetwork, Gift, Mined
from outlay.chains.fake.node import CALM, Batch, FakeNode, Lie, Mood, Way
from outlay.chains.fake.pool import Pool, Sent
from outlay.chains.fake.transport import FakeTransport

__all__ = [
    "CALM",
    "CLIENTS",
    "MAIN",
    "Batch",
    "Block",
    "Branch",
    "Client",
    "Contracts",
    "FakeNetwork",
    "FakeNode",
    "FakeTransport",
    "Gift",
    "Lie",
    "Manner",
    "Mined",
    "Mood",
    "Pool",
    "Refusal",
    "Sent",
    "State",
    "Token",
    "Way",
]
