"""One node's pool: what it takes, keeps waiting and lets go. The rules are geth's unless a client differs."""

from collections.abc import Iterator
from dataclasses import dataclass

from outlay.chains.fake.clients import Client, Refusal, Refused
from outlay.chains.fake.ledger import State, intrinsic_gas
from outlay.codec.evm import Legacy, address_of, tx_hash
from outlay.codec.signed import SignedTransaction

ACCOUNT_SLOTS = 16
"""Executable transactions of one account that a full pool keeps."""
ACCOUNT_QUEUE = 64
"""Transactions of one account behind a gap that a pool keeps; the highest nonces go without a word."""
_TIP_MIN = 1  # wei per gas


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sent:
    """A signed transaction as the chain sees it."""

    raw: bytes
    hash: str
    arrival: int  #: in which order the network first saw it
    chain_id: int
    sender: str
    nonce: int
    tip: int  #: wei per gas
    cap: int  #: wei per gas
    gas_limit: int
    to: str
    value: int  #: wei
    data: bytes
    legacy: bool

    @classmethod
    def of(cls, raw: bytes, signed: SignedTransaction, arrival: int) -> "Sent":
        """Return what signed bytes say."""
        inner = signed.transaction
        return cls(
            raw=raw,
            hash=tx_hash(raw),
            arrival=arrival,
            chain_id=inner.chain_id,
            sender=address_of(signed.public_key),
            nonce=inner.nonce,
            tip=inner.max_priority_fee_per_gas,
            cap=inner.max_fee_per_gas,
            gas_limit=inner.gas_limit,
            to=inner.to,
            value=inner.value,
            data=inner.data,
            legacy=isinstance(inner, Legacy),
        )

    @property
    def cost(self) -> int:
        """Return the most it can cost its sender, in wei."""
        return self.gas_limit * self.cap + self.value

    def tip_at(self, base_fee: int) -> int:
        """Return what it pays the block's maker per gas; negative: it cannot be mined at this base fee."""
        return min(self.tip, self.cap - base_fee)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What every node of a network holds transactions to."""

    chain_id: int
    block_gas: int
    legacy_only: bool
    spend_max: int | None  #: wei of fees a node lets one transaction offer; None: any


class Pool:
    """The transactions one node knows and that no block of its chain holds."""

    def __init__(self) -> None:
        """Start empty."""
        self.capacity: int | None = None  #: executable transactions beyond which accounts are cut to their slots
        self._sent: dict[str, dict[int, Sent]] = {}
        self._hashes: dict[str, Sent] = {}

    def __contains__(self, tx_hash: object) -> bool:
        """Tell whether it holds the transaction."""
        return tx_hash in self._hashes

    def __iter__(self) -> Iterator[Sent]:
        """Yield all, in no order that matters."""
        return iter(list(self._hashes.values()))

    def find(self, tx_hash: str) -> Sent | None:
        """Return a transaction it holds."""
        return self._hashes.get(tx_hash)

    def executable(self, sender: str, next_nonce: int) -> list[Sent]:
        """Return an account's transactions from ``next_nonce`` on, up to the first gap."""
        mine, found = self._sent.get(sender, {}), list[Sent]()
        while next_nonce + len(found) in mine:
            found.append(mine[next_nonce + len(found)])
        return found

    def add(self, sent: Sent, state: State, base_fee: int, limits: Limits, client: Client, *, coded: bool) -> None:
        """Take a transaction.

        Args:
            sent: it.
            state: the accounts as this node sees them.
            base_fee: of the next block, wei per gas.
            limits: of the network.
            client: whose manners to follow.
            coded: its sender has code that is no delegation.

        Raises:
            Refused: it is not taken.
        """
        if sent.hash in self._hashes:
            raise Refused(Refusal.KNOWN)
        _check(sent, limits, coded=coded)
        if sent.cap < base_fee and not client.keeps_cheap:
            raise Refused(Refusal.BELOW_BASE_FEE)
        following = state.nonces.get(sent.sender, 0)
        if sent.nonce < following:
            raise Refused(Refusal.NONCE_TOO_LOW, next=following, nonce=sent.nonce)
        mine = self._sent.get(sent.sender, {})
        waiting = self.executable(sent.sender, following)
        if sent.nonce > following + len(waiting) and not client.takes_gaps:
            raise Refused(Refusal.NONCE_GAP, next=following + len(waiting), nonce=sent.nonce)
        # All that waits in front of it must be paid too.
        cost = sent.cost + sum(each.cost for each in waiting if each.nonce < sent.nonce)
        balance = state.coins.get(sent.sender, 0)
        if balance < cost:
            raise Refused(Refusal.FUNDS, balance=balance, cost=cost)
        rival = mine.get(sent.nonce)
        if rival is not None:
            floor = 100 + client.floor_percent
            if sent.tip * 100 < rival.tip * floor or sent.cap * 100 < rival.cap * floor:
                raise Refused(Refusal.REPLACEMENT)
            if sent.tip <= rival.tip or sent.cap <= rival.cap:
                raise Refused(Refusal.REPLACEMENT)
            self.drop(rival.hash)
        self._sent.setdefault(sent.sender, {})[sent.nonce] = sent
        self._hashes[sent.hash] = sent
        self._cut(sent.sender, following)

    def drop(self, tx_hash: str) -> None:
        """Forget a transaction, if it is here."""
        sent = self._hashes.pop(tx_hash, None)
        if sent is not None:
            del self._sent[sent.sender][sent.nonce]
            if not self._sent[sent.sender]:
                del self._sent[sent.sender]

    def settle(self, state: State) -> None:
        """Let go what a new block made impossible: used nonces, and what its sender can no longer pay."""
        for sent in list(self._hashes.values()):
            used = sent.nonce < state.nonces.get(sent.sender, 0)
            if used or sent.cost > state.coins.get(sent.sender, 0):
                self.drop(sent.hash)

    def _cut(self, sender: str, following: int) -> None:
        running = self.executable(sender, following)
        queued = sorted(nonce for nonce in self._sent[sender] if nonce >= following + len(running))
        for nonce in queued[ACCOUNT_QUEUE:]:
            self.drop(self._sent[sender][nonce].hash)
        if self.capacity is not None and len(self._hashes) > self.capacity:
            for each in running[ACCOUNT_SLOTS:]:
                self.drop(each.hash)


def _check(sent: Sent, limits: Limits, *, coded: bool) -> None:
    """Refuse what could be mined on no state of this chain."""
    if limits.legacy_only and not sent.legacy:
        raise Refused(Refusal.TYPE)
    if sent.chain_id != limits.chain_id:
        raise Refused(Refusal.CHAIN_ID, have=sent.chain_id, want=limits.chain_id)
    if limits.spend_max is not None and sent.gas_limit * sent.cap > limits.spend_max:
        raise Refused(Refusal.FEE_CAP)
    if sent.gas_limit > limits.block_gas:
        raise Refused(Refusal.BLOCK_GAS, gas=sent.gas_limit, needed=limits.block_gas)
    if sent.tip < _TIP_MIN:
        raise Refused(Refusal.UNDERPRICED, tip=sent.tip, needed=_TIP_MIN)
    needed = intrinsic_gas(sent.data)
    if sent.gas_limit < needed:
        raise Refused(Refusal.INTRINSIC_GAS, gas=sent.gas_limit, needed=needed)
    if coded:
        raise Refused(Refusal.HAS_CODE)
