"""A fake EVM network in memory: blocks, branches, reorganisations, and the nodes that tell about them.

Everything is deterministic: no clock, no dice. Blocks are made by calls, not by time. Every node is an endpoint of
its own with its own pool, view and mood; ``outlay.chains.fake.node`` speaks JSON-RPC for it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from outlay.chains.fake.ledger import GAS_PLAIN, Contracts, Done, Manner, State, Token, mint
from outlay.chains.fake.node import FakeNode
from outlay.chains.fake.pool import Limits, Sent
from outlay.codec.evm import Log
from outlay.codec.signed import SignedTransaction, read_signed
from outlay.core.errors import InvalidInput
from outlay.core.keccak import keccak

MAIN = "main"
"""The branch every node follows unless it is split off."""
GWEI = 10**9
_GENESIS_TIME = 1_700_000_000
_DELEGATION = bytes.fromhex("ef0100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A transaction in a block, and what it did."""

    sent: Sent
    index: int  #: place in the block
    ok: bool
    gas_used: int
    gas_price: int  #: wei per gas paid
    data_fee: int  #: wei paid beside the gas
    logs: tuple[Log, ...]
    first_log: int  #: number of its first log within the block


@dataclass(frozen=True, slots=True)
class Gift:
    """Something that reaches an account from outside: an inflow nobody here signed."""

    to: str
    amount: int
    token: Token | None = None  #: None: the native coin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """One block."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int  #: seconds since 1970
    base_fee: int
    gas_used: int
    mined: tuple[Mined, ...]
    gifts: tuple[Gift, ...]
    state: State  #: after it


@dataclass(slots=True)
class Branch:
    """One chain of blocks from genesis on."""

    blocks: list[Block]
    places: dict[str, int] = field(default_factory=dict)  #: transaction hash -> block number
    safe: int = 0
    finalized: int = 0

    @property
    def head(self) -> Block:
        """Return the newest block."""
        return self.blocks[-1]

    def find(self, tx_hash: str, up_to: int) -> tuple[Block, Mined] | None:
        """Return a mined transaction and its block, if that is not above ``up_to``."""
        number = self.places.get(tx_hash)
        if number is None or number > up_to:
            return None
        block = self.blocks[number]
        return next((block, each) for each in block.mined if each.sent.hash == tx_hash)

    def cut(self, depth: int) -> list[Block]:
        """Take the newest ``depth`` blocks away and return them, oldest first."""
        gone = self.blocks[-depth:] if depth else []
        del self.blocks[len(self.blocks) - len(gone) :]
        for block in gone:
            for each in block.mined:
                del self.places[each.sent.hash]
        return gone


class FakeNetwork:
    """A chain, its branches and its nodes."""

    def __init__(
        self,
        *,
        chain_id: int = 31337,
        nodes: int | Sequence[str] = 1,
        coins: Mapping[str, int] | None = None,
        base_fee: int = GWEI,
        read: Callable[[bytes], SignedTransaction] = read_signed,
    ) -> None:
        """Make the genesis block.

        Args:
            chain_id: what the nodes answer and transactions must carry.
            nodes: how many, all geth; or the client of each, by its name in ``clients.CLIENTS``.
            coins: native balances in the genesis block, wei by address.
            base_fee: wei per gas of the next blocks.
            read: how signed bytes are read; a faster one than ours serves as well.

        Raises:
            InvalidInput: no node, or a client of an unknown name.
        """
        self.chain_id = chain_id
        self.base_fee = base_fee  #: of the next block, wei per gas; 0 with ``legacy``
        self.suggested_tip = GWEI  #: what nodes suggest on an idle chain, wei per gas
        self.elastic = False  #: the base fee moves with how full blocks are, as EIP-1559 says
        self.legacy = False  #: a chain without EIP-1559
        self.automine = False  #: a block is made for every transaction that could be mined at once
        self.block_gas = 30_000_000
        self.block_seconds = 12
        self.spend_max: int | None = 10**18  #: wei of fees that nodes let one transaction offer
        self.safe_after, self.final_after = 4, 8  #: blocks behind the head
        self.finality_stalls = False
        self.gossip = True  #: a node passes on what it takes
        self.contracts = Contracts()
        self._read = read
        self._seen: dict[bytes, Sent] = {}
        self._gifts: list[Gift] = []
        self._made = 0  # blocks ever: no two have the same hash
        genesis = self._sealed(None, State(coins=dict(coins or {})), (), (), 0)
        self.branches: dict[str, Branch] = {MAIN: Branch([genesis])}
        names = ["geth"] * nodes if isinstance(nodes, int) else list(nodes)
        if not names:
            raise InvalidInput("give at least one node", field="nodes")
        self.nodes = [FakeNode(self, number, name) for number, name in enumerate(names, 1)]

    @property
    def urls(self) -> list[str]:
        """Return every node's URL, in order."""
        return [node.url for node in self.nodes]

    @property
    def limits(self) -> Limits:
        """Return what nodes hold transactions to."""
        return Limits(
            chain_id=self.chain_id, block_gas=self.block_gas, legacy_only=self.legacy, spend_max=self.spend_max
        )

    @property
    def head(self) -> Block:
        """Return the newest block of the main branch."""
        return self.branches[MAIN].head

    def transaction(self, tx_hash: str) -> tuple[Block, Mined] | None:
        """Return a transaction of the main branch and its block: the truth, whatever nodes say."""
        return self.branches[MAIN].find(tx_hash, self.head.number)

    # What tests arrange

    def token(
        self, name: str = "coin", *, decimals: int = 6, manner: Manner = Manner.NORMAL, twin: bool = False
    ) -> Token:
        """Deploy a token; its addresses follow from ``name``."""
        address, other = ("0x" + keccak(f"{name} {part}".encode())[:20].hex() for part in ("first", "twin"))
        return self.contracts.add(
            Token(address=address, decimals=decimals, manner=manner, twin=other if twin else None)
        )

    def give(self, to: str, amount: int, token: Token | None = None) -> None:
        """Let an inflow arrive with the next block."""
        self._gifts.append(Gift(to, amount, token))

    def deploy(self, address: str, code: bytes) -> None:
        """Put code at an address, in every block; ``b""`` takes it away."""
        self.contracts.codes[address] = code

    def drop(self, *hashes: str) -> None:
        """Let every pool forget these transactions, or all of them if none is named."""
        for node in self.nodes:
            for tx_hash in hashes or [sent.hash for sent in node.pool]:
                node.pool.drop(tx_hash)

    def mine(
        self, count: int = 1, *, branch: str = MAIN, only: Collection[str] | None = None, leave: Collection[str] = ()
    ) -> Block:
        """Make blocks from what the pools of a branch hold; return the newest.

        Args:
            count: how many blocks.
            branch: where.
            only: the hashes that may be taken; None: all.
            leave: hashes that are not taken.
        """
        for _ in range(count):
            pools = [node.pool for node in self.nodes if node.branch == branch]
            best: dict[tuple[str, int], Sent] = {}
            for sent in (each for pool in pools for each in pool):
                if sent.hash in leave or (only is not None and sent.hash not in only):
                    continue
                rival = best.get((sent.sender, sent.nonce))
                if rival is None or (sent.tip, -sent.arrival) > (rival.tip, -rival.arrival):
                    best[sent.sender, sent.nonce] = sent
            self._append(branch, list(best.values()))
        self._settle(branch)
        return self.branches[branch].head

    def reorganise(
        self,
        depth: int,
        *,
        lost: Collection[str] | None = (),
        instead: Sequence[bytes] = (),
        blocks: int | None = None,
        branch: str = MAIN,
        keep_gifts: bool = True,
    ) -> Block:
        """Replace the newest blocks by others; return the newest of those.

        Args:
            depth: how many blocks go, 0 to the head's number.
            lost: hashes of theirs that no pool gets back; None: all of them. The others wait in the pools again.
            instead: raw transactions the first new block holds, competitors for instance.
            blocks: how many new ones; None: as many.
            branch: where.
            keep_gifts: inflows of the lost blocks are in the new ones too.

        Raises:
            InvalidInput: deeper than the chain, or ``instead`` cannot be mined.
        """
        chain = self.branches[branch]
        if not 0 <= depth <= chain.head.number:
            raise InvalidInput("a reorganisation leaves genesis alone", field="depth")
        gone = chain.cut(depth)
        orphans = [each.sent for block in gone for each in block.mined]
        if keep_gifts:
            self._gifts = [gift for block in gone for gift in block.gifts] + self._gifts
        rivals = [self.read(raw) for raw in instead]
        for number in range(depth if blocks is None else blocks):
            self._append(branch, rivals if number == 0 else [])
        if any(sent.hash not in chain.places for sent in rivals):
            raise InvalidInput("a transaction given for the new block cannot be mined", field="instead")
        for node in (each for each in self.nodes if each.branch == branch):
            for sent in orphans:
                if lost is not None and sent.hash not in lost:
                    node.offer(sent)
        self._settle(branch)
        return chain.head

    def split(self, *nodes: "FakeNode", branch: str = "fork", depth: int = 0) -> None:
        """Let nodes follow a branch of their own, which leaves the main one ``depth`` blocks below its head."""
        main = self.branches[MAIN]
        fork = Branch(list(main.blocks), dict(main.places), main.safe, main.finalized)
        orphans = [each.sent for block in fork.cut(depth) for each in block.mined]
        self.branches[branch] = fork
        for node in nodes:
            node.branch = branch
            for sent in orphans:
                node.offer(sent)

    def heal(self) -> None:
        """Let every node follow the main branch; what only other branches mined waits in the pools again."""
        orphans = [
            each.sent
            for name, branch in self.branches.items()
            for block in branch.blocks
            for each in block.mined
            if name != MAIN and each.sent.hash not in self.branches[MAIN].places
        ]
        self.branches = {MAIN: self.branches[MAIN]}
        for node in self.nodes:
            node.branch = MAIN
            for sent in orphans:
                node.offer(sent)
        self._settle(MAIN)

    # What nodes use

    def read(self, raw: bytes) -> Sent:
        """Return what signed bytes say; read once, however many nodes get them.

        Raises:
            InvalidInput: they are no signed transaction.
        """
        sent = self._seen.get(raw)
        if sent is None:
            sent = self._seen[raw] = Sent.of(raw, self._read(raw), len(self._seen))
        return sent

    def pass_on(self, sent: Sent, origin: "FakeNode") -> None:
        """Tell the other nodes of its branch what a node took, and mine it where that happens at once."""
        if self.gossip:
            for node in self.nodes:
                if node is not origin and node.branch == origin.branch:
                    node.offer(sent)
        if self.automine:
            self.mine(branch=origin.branch)

    def has_code(self, address: str) -> bool:
        """Tell whether an account has code of its own, which may not send; a delegation (EIP-7702) may."""
        code = self.contracts.code(address)
        return bool(code) and not code.startswith(_DELEGATION)

    # Blocks

    def _append(self, branch: str, wanted: Sequence[Sent]) -> None:
        chain = self.branches[branch]
        gifts = tuple(self._gifts) if branch == MAIN else ()
        state = chain.head.state
        if wanted or gifts:
            state = state.copy()
        for gift in gifts:
            if gift.token is None:
                state.coins[gift.to] = state.coins.get(gift.to, 0) + gift.amount
            else:
                mint(gift.token, state, gift.to, gift.amount)
        mined = self._execute(state, wanted)
        block = self._sealed(chain.head, state, tuple(mined), gifts, sum(each.gas_used for each in mined))
        if branch == MAIN:
            self._gifts = []
        chain.blocks.append(block)
        chain.places.update((each.sent.hash, block.number) for each in mined)
        if not self.finality_stalls:
            chain.safe = max(chain.safe, block.number - self.safe_after)
            chain.finalized = max(chain.finalized, block.number - self.final_after)
        if self.elastic and not self.legacy:
            target = self.block_gas // 2
            step = self.base_fee * (block.gas_used - target) // target // 8
            self.base_fee = max(0, self.base_fee + (max(step, 1) if block.gas_used > target else step))

    def _sealed(
        self, parent: Block | None, state: State, mined: tuple[Mined, ...], gifts: tuple[Gift, ...], gas_used: int
    ) -> Block:
        self._made += 1
        return Block(
            number=0 if parent is None else parent.number + 1,
            hash="0x" + keccak(b"block %d of chain %d" % (self._made, self.chain_id)).hex(),
            parent_hash="0x" + "00" * 32 if parent is None else parent.hash,
            timestamp=_GENESIS_TIME if parent is None else parent.timestamp + self.block_seconds,
            base_fee=0 if self.legacy else self.base_fee,
            gas_used=gas_used,
            mined=mined,
            gifts=gifts,
            state=state,
        )

    def _execute(self, state: State, wanted: Sequence[Sent]) -> list[Mined]:
        """Run what can run: dearest first, each account in the order of its nonces."""
        base_fee, left = 0 if self.legacy else self.base_fee, self.block_gas
        mined: list[Mined] = []
        waiting = sorted(wanted, key=lambda each: (-each.tip_at(base_fee), each.arrival))
        logs = 0
        while True:
            sent = next((each for each in waiting if self._fits(state, each, base_fee, left)), None)
            if sent is None:
                return mined
            waiting.remove(sent)
            price = base_fee + sent.tip_at(base_fee)
            data_fee = self.contracts.data_fee_per_byte * len(sent.raw)
            done = self._run(state, sent, price, data_fee)
            left -= done.gas
            mined.append(
                Mined(
                    sent=sent,
                    index=len(mined),
                    ok=done.ok,
                    gas_used=done.gas,
                    gas_price=price,
                    data_fee=data_fee,
                    logs=done.logs,
                    first_log=logs,
                )
            )
            logs += len(done.logs)

    def _fits(self, state: State, sent: Sent, base_fee: int, left: int) -> bool:
        data_fee = self.contracts.data_fee_per_byte * len(sent.raw)
        return (
            sent.nonce == state.nonces.get(sent.sender, 0)
            and sent.tip_at(base_fee) >= 0
            and GAS_PLAIN <= sent.gas_limit <= left
            and sent.cost + data_fee <= state.coins.get(sent.sender, 0)
        )

    def _run(self, state: State, sent: Sent, price: int, data_fee: int) -> Done:
        """Run one transaction and take its fee; a call that reverts changes nothing else."""
        state.nonces[sent.sender] = sent.nonce + 1
        done = self.contracts.run(state, sent.sender, sent.to, sent.value, sent.data, sent.gas_limit)
        state.coins[sent.sender] -= done.gas * price + data_fee
        return done

    def _settle(self, branch: str) -> None:
        for node in self.nodes:
            if node.branch == branch:
                node.pool.settle(self.branches[branch].head.state)
