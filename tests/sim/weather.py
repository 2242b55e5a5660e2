"""What the chain and its nodes do in a run: blocks, reorganisations, moods, and processes that die of themselves."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from outlay.chains.fake import CALM, Batch, FakeNode, Mood, Way
from outlay.core.seams import SECOND
from tests.sim.faults import CLOCK, NODE, RESTORED, SENDS
from tests.sim.organization import USDC

if TYPE_CHECKING:
    from tests.sim.world import Simulation

GWEI = 10**9
LASTS_S = (6.0, 30.0)
"""How long a mood or a state of the chain lasts, at least and at most."""
LONG_SPIKE_S = 150.0
AIM_S, AIM_EVERY_S = 15.0, 0.03
"""How long a fault waits for the moment it aims at, and how often it looks."""
RIVAL_S = 30.0
"""How long a reorganisation waits until there is something to mine instead."""
REORG_MAX = 5
WORDS = {
    "send.known": ((-32000, "already known"), (-32010, "AlreadyKnown")),
    "send.nonce_too_low": ((-32000, "nonce too low"), (-32010, "OldNonce, Current nonce: 9")),
    "send.underpriced": ((-32000, "replacement transaction underpriced"), (-32000, "transaction underpriced")),
    "send.insufficient_funds": ((-32000, "insufficient funds for gas * price + value"),),
    "send.refused": ((-32000, "exceeds block gas limit"), (-32000, "txpool is full")),
    "send.unknown_words": ((-32000, "the moon is in the wrong house"), (-32603, "internal error")),
}
SEND = "eth_sendRawTransaction"


@dataclass(eq=False)
class _Spell:
    """A mood that comes over a node for a while."""

    kind: str
    share: float  #: of the requests that feel it
    change: Callable[[Mood], Mood]
    methods: frozenset[str] | None = None  #: only requests with one of these
    noted: bool = False


class Weather:
    """Everything around the product that changes by itself."""

    def __init__(self, sim: "Simulation", chance: random.Random) -> None:
        self._sim, self._chance, self._network = sim, chance, sim.network
        self._spells: dict[str, list[_Spell]] = {node.url: [] for node in self._network.nodes}
        self._base_fee = self._network.base_fee
        self._liar = chance.choice(self._network.nodes)  # one at most tells lies: two that tell the same are believed
        for node in self._network.nodes:
            node.plan = self._plan_of(node)

    async def make_blocks(self, every_s: float) -> None:
        """Make blocks for ever."""
        while True:
            await asyncio.sleep(every_s)
            for branch in list(self._network.branches):
                self._network.mine(branch=branch)

    async def storm(self, length_s: float) -> None:
        """Let everything happen that the run's seed says."""
        begin = self._sim.now
        for after, kind in self._sim.faults.plan(length_s):
            await asyncio.sleep(max(0.0, begin + after - self._sim.now))
            self._begin_aimed(kind, self._sim.now + AIM_S)
        await asyncio.sleep(max(0.0, begin + length_s - self._sim.now))

    def clear(self) -> None:
        """Let it be over, but for a fee spike that lasts."""
        for node in self._network.nodes:
            node.mood, node.plan = CALM, None
        if len(self._network.branches) > 1:
            self._network.heal()
        self._network.finality_stalls = False
        self._network.contracts.tokens[USDC].paused = False
        self._sim.set_skew(None, 0)

    def _begin_aimed(self, kind: str, latest: float) -> None:
        """Begin at the moment the run aims at, or when that does not come."""
        if self._sim.now < latest and not self._sim.faults.aims(kind):
            self._after(AIM_EVERY_S, lambda: self._begin_aimed(kind, latest))
        elif self._sim.faults.live:
            self._begin(kind)

    # --- how it begins --------------------------------------------------------------------------------------------

    def _begin(self, kind: str) -> None:
        lasts = self._chance.uniform(*LASTS_S)
        if kind in NODE and kind not in ("rpc.split",):
            node = self._liar if kind == "rpc.lie" else self._chance.choice(self._network.nodes)
            self._over(node, self._spell(kind), lasts)
        elif kind in SENDS:
            words = self._chance.choice(WORDS[kind])
            # A node may say so instead of taking the transaction, or although it took it.
            instead = self._chance.random() < 0.5
            for node in (
                self._network.nodes if self._chance.random() < 0.5 else [self._chance.choice(self._network.nodes)]
            ):
                self._over(node, _Spell(kind, 0.7, _saying(words, instead=instead), frozenset({SEND})), lasts)
        elif kind in CLOCK:
            size = int(self._chance.choice([2, 8, 60]) * SECOND) * (1 if kind == "clock.forward" else -1)
            self._sim.faults.strike(kind)
            name = self._sim.set_skew(self._chance, size)
            self._after(lasts, lambda: self._sim.set_skew(name, 0))
        else:
            begin: dict[str, Callable[[float], None]] = {
                "rpc.split": self._split,
                "reorg.pool": lambda _: self._reorganise(lose=False),
                "reorg.lost": lambda _: self._reorganise(lose=True),
                "reorg.competitor": lambda _: self._compete(self._sim.now + RIVAL_S),
                "finality.stalls": self._stall,
                "fees.spike": self._spike,
                "pool.evicted": lambda _: self._evict(),
                "token.paused": self._pause,
                RESTORED: lambda _: self._sim.restore(self._chance),
                "kill.worker": lambda _: self._kill(kind),
                "kill.api": lambda _: self._kill(kind),
                "kill.signer": lambda _: self._kill(kind),
            }
            begin[kind](lasts)

    def _after(self, seconds: float, do: Callable[[], Any]) -> None:
        self._sim.loop.call_later(seconds, do)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _plan_of(self, node: FakeNode) -> Callable[[Sequence[str]], Mood]:
        spells = self._spells[node.url]

        def plan(methods: Sequence[str]) -> Mood:
            mood = CALM
            for spell in spells:
                if spell.methods is not None and not spell.methods.intersection(methods):
                    continue
                if self._chance.random() >= spell.share:
                    continue
                mood = spell.change(mood)
                if not spell.noted:
                    spell.noted = True
                    self._sim.faults.strike(spell.kind)
            return mood

        return plan

    def _over(self, node: FakeNode, spell: _Spell, lasts: float) -> None:
        spells = self._spells[node.url]
        spells.append(spell)
        self._after(lasts, lambda: spells.remove(spell))

    def _spell(self, kind: str) -> _Spell:
        lag = self._chance.randint(1, 12)
        status = self._chance.choice([429, 503])
        slow = self._chance.uniform(0.5, 12.0)
        changes: dict[str, tuple[float, Callable[[Mood], Mood]]] = {
            "rpc.lag": (1.0, lambda mood: replace(mood, lag=lag)),
            "rpc.lie": (0.8, self._lie()),
            "rpc.reorder": (0.8, lambda mood: replace(mood, batch=Batch.REVERSED)),
            "rpc.duplicate": (0.8, lambda mood: replace(mood, batch=Batch.TWICE)),
            "rpc.drop_request": (0.5, lambda mood: replace(mood, way=Way.REQUEST_LOST, delay_s=3.0)),
            "rpc.drop_answer": (0.5, lambda mood: replace(mood, way=Way.ANSWER_LOST, delay_s=3.0)),
            "rpc.rate_limit": (0.6, lambda mood: replace(mood, status=status)),
            "rpc.wrong_chain": (1.0, lambda mood: replace(mood, chain_id=1)),
            "rpc.slow": (0.7, lambda mood: replace(mood, delay_s=slow)),
        }
        share, change = changes[kind]
        return _Spell(kind, share, change)

    def _lie(self) -> Callable[[Mood], Mood]:
        by = self._chance.randint(1, 40)
        lies: dict[str, Callable[[Sequence[Any], Any], Any]] = self._chance.choice(
            [
                {"eth_getTransactionReceipt": lambda _params, _result: None},
                {"eth_getTransactionReceipt": self._false_receipt},
                {"eth_getTransactionCount": lambda _params, result: hex(int(result, 16) + by)},
                {"eth_getTransactionCount": lambda _params, _result: "0x0"},
                {"eth_getBalance": lambda _params, result: hex(int(result, 16) * by)},
                {"eth_call": lambda _params, result: "0x" + (by * 10**6).to_bytes(32, "big").hex()},
                {"eth_getBlockByNumber": _another_block},
            ]
        )
        return lambda mood: replace(mood, lies=lies)

    def _false_receipt(self, params: Sequence[Any], result: Any) -> Any:
        """Say the opposite of what happened to a transaction."""
        if isinstance(result, dict):
            return {**result, "status": "0x0" if result["status"] == "0x1" else "0x1", "logs": []}
        block = self._network.branches["main"].blocks[max(0, self._network.head.number - 9)]
        return {
            "transactionHash": params[0],
            "transactionIndex": "0x0",
            "blockHash": block.hash,
            "blockNumber": hex(block.number),
            "status": "0x0",
            "gasUsed": "0x5208",
            "cumulativeGasUsed": "0x5208",
            "effectiveGasPrice": "0x3b9aca00",
            "logs": [],
        }

    def _split(self, lasts: float) -> None:
        if len(self._network.branches) > 1:
            return
        self._sim.faults.strike("rpc.split")
        node = self._chance.choice(self._network.nodes)
        self._network.split(node, depth=min(self._chance.randint(0, 3), self._room()))
        self._after(lasts, self._heal)

    def _heal(self) -> None:
        if len(self._network.branches) > 1:
            self._network.heal()

    # --- the chain ------------------------------------------------------------------------------------------------

    def _room(self) -> int:
        """Return how many blocks are not final: no reorganisation goes deeper here."""
        main = self._network.branches["main"]
        return main.head.number - main.finalized

    def _reorganise(self, *, lose: bool) -> None:
        depth = min(self._chance.randint(1, REORG_MAX), self._room())
        if depth < 1 or len(self._network.branches) > 1:
            return
        self._sim.faults.strike("reorg.lost" if lose else "reorg.pool")
        self._network.reorganise(depth, lost=None if lose else ())

    def _compete(self, latest: float) -> None:
        """Another attempt for the same nonce is mined instead, as soon as there is one."""
        if self._sim.faults.live and self._sim.now < latest and not self._competed():
            self._after(0.5, lambda: self._compete(latest))

    def _competed(self) -> bool:
        if len(self._network.branches) > 1 or not self._sim.faults.aims("reorg.competitor"):
            return False
        main = self._network.branches["main"]
        for depth in range(1, min(self._room(), 7) + 1):
            block, before = main.blocks[-depth], main.blocks[-depth - 1]
            for each in block.mined:
                rival = self._sim.rival_of(each.sent.hash)
                if rival is None or before.state.nonces.get(each.sent.sender, 0) != each.sent.nonce:
                    continue
                if self._network.read(rival).cap < self._network.base_fee:
                    continue
                self._sim.faults.strike("reorg.competitor")
                self._network.reorganise(depth, instead=[rival])
                return True
        return False

    def _stall(self, lasts: float) -> None:
        self._sim.faults.strike("finality.stalls")
        self._network.finality_stalls = True

        def go_on() -> None:
            self._network.finality_stalls = False

        self._after(lasts * 2, go_on)

    def _spike(self, lasts: float) -> None:
        self._sim.faults.strike("fees.spike")
        self._network.base_fee = self._chance.choice([5, 40, 90, 400]) * GWEI

        def fall() -> None:
            self._network.base_fee = self._base_fee

        self._after(LONG_SPIKE_S if self._chance.random() < 0.3 else lasts, fall)

    def _evict(self) -> None:
        self._sim.faults.strike("pool.evicted")
        self._network.drop()

    def _pause(self, lasts: float) -> None:
        self._sim.faults.strike("token.paused")
        token = self._network.contracts.tokens[USDC]
        token.paused = True

        def resume() -> None:
            token.paused = False

        self._after(lasts, resume)

    # --- processes ------------------------------------------------------------------------------------------------

    def _kill(self, kind: str) -> None:
        sim = self._sim
        victims = {
            "kill.worker": [each.process for each in sim.workers],
            "kill.api": [sim.api.process],
            "kill.signer": [sim.signer.process],
        }[kind]
        alive = [each for each in victims if each.alive]
        if alive:
            sim.faults.strike(kind)
            sim.kill(self._chance.choice(alive))


def _saying(words: tuple[int, str], *, instead: bool) -> Callable[[Mood], Mood]:
    if instead:
        return lambda mood: replace(mood, errors={SEND: words})
    return lambda mood: replace(mood, said={SEND: words})


def _another_block(_params: Sequence[Any], result: Any) -> Any:
    return None if result is None else {**result, "hash": "0x" + "ab" * 32}
