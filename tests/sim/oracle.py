"""What must hold, judged by what nobody in the product wrote: the chain, the requests, and the policies as edited.

It shares no rule with the product. Amounts are unique to their request, so an effect on the chain names who asked
for it. The ledger is compared with the chain afterwards.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from outlay.chains.fake import Mined
from tests.sim.office import Request
from tests.sim.organization import ASK_ONE, ASK_TWO, CAP, CAP_MINUTES, COUNT, COUNT_MINUTES, DOLLAR, USDC

if TYPE_CHECKING:
    from tests.sim.world import Simulation

ENDED_WELL = "confirmed"
ENDED = ("confirmed", "failed", "rejected", "canceled", "expired")
TRANSFER = "a9059cbb"
CENT = 10**8
"""Of a dollar: values are counted in 10**-8."""
ASKED = {"one": (ASK_ONE, 1), "two": (ASK_TWO, 2)}
"""Dollars above which a policy asks, and how many people, as founded."""
LATE_S = 60.0
"""A vote still counts this long after its voter was removed: what was bound before goes on."""
_CHECKED_STATES = ("failed", "canceled")


def effect_of(mined: Mined) -> tuple[str, str, str, int] | None:
    """Return what a transaction says it pays: (wallet, asset, recipient, amount); None for a void."""
    sent = mined.sent
    if sent.to == USDC:
        text = sent.data.hex()
        assert len(text) == 136 and text.startswith(TRANSFER), "not a transfer"
        return sent.sender, USDC, "0x" + text[32:72], int(text[72:], 16)
    if sent.to == sent.sender and sent.value == 0 and not sent.data:
        return None
    return sent.sender, "native", sent.to, sent.value


def wanted(request: Request) -> tuple[str, str, str, int]:
    """Return the effect a request asks for."""
    return request.wallet.address, "native" if request.native else USDC, request.to, request.amount


class Oracle:
    """Judges one run, while it goes on and after it."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self._seen = 0  # transitions looked at

    def begin_again(self) -> None:
        """The database is another one from now on: what is in it was looked at before, or is being restored."""
        row = self._sim.disk.connection.execute("SELECT max(rowid) FROM transition").fetchone()
        self._seen = row[0] or 0

    # --- after every commit ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare what has just been written about payouts with the chain as it is."""
        sim = self._sim
        query = (
            "SELECT t.rowid, t.transfer_id, t.from_state, t.to_state, x.external_id FROM transition t"
            " JOIN transfer x ON x.id = t.transfer_id WHERE t.rowid > ? ORDER BY t.rowid"
        )
        for row, transfer_id, before, after, external_id in sim.disk.connection.execute(query, (self._seen,)):
            self._seen = row
            sim.trace("moved", external_id, before, after)
            request = sim.request_named(external_id)
            if request is None:
                sim.check(False, f"nobody asked for {external_id}")
                continue
            if after == ENDED_WELL:
                sim.check(self._paid(request, final=True) == 1, f"{external_id} is confirmed and not finally paid")
            elif after in _CHECKED_STATES and before in ("broadcast", "mined"):
                sim.check(self._is_dead(transfer_id), f"{external_id} is {after} and may still be paid")
            elif after in ("ready", *ENDED) and before in ("assigned", "held", "ready"):
                sim.check(
                    transfer_id not in sim.journaled or (after == "ready" and before == "held"),
                    f"{external_id} went from {before} to {after} although it was signed",
                )

    def _mined(self, *, final: bool) -> Iterator[Mined]:
        main = self._sim.network.branches["main"]
        for block in main.blocks[: main.finalized + 1 if final else None]:
            yield from block.mined

    def _paid(self, request: Request, *, final: bool) -> int:
        effect = wanted(request)
        return sum(1 for each in self._mined(final=final) if each.ok and effect_of(each) == effect)

    def _is_dead(self, transfer_id: str) -> bool:
        """Tell whether the slot of a payout is finally used by something that did not pay."""
        slots = {
            (asked.wallet_id, asked.nonce)
            for asked, _raw in self._sim.hashes.values()
            if asked.transfer_id == transfer_id
        }
        addresses = {each.id: each.address for each in self._sim.organization.wallets}
        final = self._sim.network.branches["main"]
        nonces = final.blocks[final.finalized].state.nonces
        used = all(nonces.get(addresses[wallet], 0) > nonce for wallet, nonce in slots)
        request = self._sim.request_of(transfer_id)
        return used and (request is None or self._paid(request, final=False) == 0)

    def sent(self, raws: list[str]) -> None:
        """Bytes reach a node: they must have been stored before."""
        for raw in raws:
            row = self._sim.disk.connection.execute("SELECT 1 FROM attempt WHERE raw = ?", (raw[2:],)).fetchone()
            self._sim.check(row is not None, "bytes were sent that are stored nowhere")

    # --- after the run --------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Compare chain, requests, policies and books."""
        self._outflows()
        self._ends()
        self._caps()
        self._approvals()
        self._books()
        self._lanes()

    def _outflows(self) -> None:
        sim = self._sim
        known = {wanted(each): each for each in sim.requests}
        wallets = {each.address for each in sim.organization.wallets}
        paid: Counter[str] = Counter()
        for each in self._mined(final=False):
            if each.sent.sender not in wallets:
                continue
            sim.check(each.sent.hash in sim.hashes, f"{each.sent.hash} was not signed by this signer")
            effect = effect_of(each)
            if effect is None:
                continue
            request = known.get(effect)
            if request is None:
                sim.check(False, f"nobody asked for {effect}")
            elif each.ok:
                paid[request.external_id] += 1
        for name, times in paid.items():
            sim.check(times == 1, f"DOUBLE: {name} was paid {times} times")
        slots: dict[tuple[str, int], str | None] = {}
        for asked, _raw in sim.hashes.values():
            if asked.transfer_id is not None:
                first = slots.setdefault((asked.wallet_id, asked.nonce), asked.transfer_id)
                sim.check(first == asked.transfer_id, f"nonce {asked.nonce} was signed for two payouts")

    def _ends(self) -> None:
        sim = self._sim
        rows = sim.disk.connection.execute("SELECT external_id, id, state, waiting_reason, flag FROM transfer")
        found = {row[0]: row for row in rows}
        for request in sim.requests:
            row = found.pop(request.external_id, None)
            if row is None:
                sim.check(request.id is None, f"LOST: {request.external_id} was accepted and is nowhere")
                sim.check(self._paid(request, final=False) == 0, f"{request.external_id} was paid without a record")
                continue
            _, id_, state, why, flag = row
            sim.check(request.id in (None, id_), f"{request.external_id} has another id now")
            sim.check(state in ENDED, f"LOST: {request.external_id} stays {state} ({why or flag or 'no reason given'})")
            paid = self._paid(request, final=False)
            sim.check(
                (paid == 1) == (state == ENDED_WELL), f"{request.external_id} is {state} and was paid {paid} times"
            )
        sim.check(not found, f"nobody asked for {sorted(found)}")

    def _went(self) -> list[tuple[float, Request]]:
        """Return what was paid, by the instant its first signature left the signer."""
        sim = self._sim
        found = []
        for request in sim.requests:
            if request.id is not None and self._paid(request, final=False):
                sim.check(request.id in sim.signed, f"{request.external_id} was paid without a signature")
                found.append((sim.signed.get(request.id, 0.0), request))
        return sorted(found, key=lambda each: each[0])

    def _limits(self, name: str, founded: int, begin: float, end: float) -> list[int]:
        """Return every limit, in dollars, that a policy had at some instant of a time."""
        stamps = [(at, rule) for at, edited, rule in self._sim.edits if edited == name]
        if not stamps:
            return [founded]
        done = self._sim.edited.get(name, float("inf"))
        found = [founded] if begin <= done else []
        new = int(stamps[0][1]["configuration"]["limit"])
        return [*found, new] if end >= stamps[0][0] else found

    def _caps(self) -> None:
        """No window of what went ever held more than a limit of that time. Counted anew at every signature."""
        sim = self._sim
        slack = 2 * sim.worst_skew_s
        went = self._went()
        for at, request in went:
            window = CAP_MINUTES * 60 - slack
            if window > 0:
                total = sum(each.value for then, each in went if at - window < then <= at)
                limit = max(self._limits("cap", CAP, request.at, at))
                sim.check(total <= limit * CENT, f"BREACH: {total / CENT} dollars within {CAP_MINUTES} minutes")
            window = COUNT_MINUTES * 60 - slack
            if window > 0:
                count = sum(1 for then, each in went if at - window < then <= at and each.to == request.to)
                sim.check(count <= COUNT, f"BREACH: {count} payouts to {request.to} within {COUNT_MINUTES} minutes")

    def _approvals(self) -> None:
        """What a policy asked people about was decided only after enough of them had said yes.

        The decision falls when the journal has the signature: a signer that dies then gives the same bytes later,
        whoever has been removed meanwhile.
        """
        sim = self._sim
        for left, request in self._went():
            at = sim.journaled.get(request.id or "", left)
            agreed = {
                person
                for person, then in request.approved_by.items()
                if then <= at and sim.removed.get(person, at) >= at - LATE_S
            }
            for name, (founded, quorum) in ASKED.items():
                limits = self._limits(name, founded, request.at, at)
                if request.value > max(limits) * CENT:
                    what = (
                        f"BREACH: {request.external_id} of {request.amount / DOLLAR} went with {len(agreed)} approvals"
                    )
                    sim.check(len(agreed) >= quorum, what)

    def _books(self) -> None:
        sim = self._sim
        sums: Counter[str] = Counter()
        held: Counter[tuple[str, str]] = Counter()
        rows = sim.disk.connection.execute("SELECT owner, asset, kind, debits, credits FROM account")
        for owner, asset, kind, debits, credits in rows:
            balance = int(debits) - int(credits)
            sums[asset] += balance
            if kind in ("spendable", "reserved"):
                held[owner, asset] += balance
                sim.check(balance >= 0, f"{kind} of {owner} is negative")
            if kind == "reserved":
                sim.check(balance == 0, f"IMBALANCE: {balance} of {asset} stay reserved")
        for asset, total in sums.items():
            sim.check(total == 0, f"IMBALANCE: the accounts of {asset} do not sum to zero")
        state = sim.network.branches["main"].head.state
        for wallet in sim.organization.wallets:
            shown = {
                "native": state.coins.get(wallet.address, 0),
                USDC: state.tokens.get((USDC, wallet.address), 0),
            }
            for asset, amount in shown.items():
                books = held[wallet.id, asset]
                sim.check(books == amount, f"IMBALANCE: books {books}, chain {amount} of {asset}")

    def _lanes(self) -> None:
        sim = self._sim
        nonces = sim.network.branches["main"].head.state.nonces
        addresses = {each.id: each.address for each in sim.organization.wallets}
        for wallet, following, settled in sim.disk.connection.execute(
            "SELECT wallet_id, next_nonce, settled_nonce FROM lane"
        ):
            used = nonces.get(addresses[wallet], 0)
            sim.check(following == settled == used, f"lane at {following}, settled {settled}, chain {used}")
        mined = {each.sent.hash for each in self._mined(final=False)}
        journal = sim.signer.slots()
        for slot in journal:
            hashes = {each.hash for each in slot.attempts}
            sim.check(len(hashes & mined) == 1, f"nonce {slot.nonce} of the journal is not on the chain")
            mined -= hashes
        own = {each.sent.hash for each in self._mined(final=False) if each.sent.sender in addresses.values()}
        sim.check(not own & mined, "the chain holds a transaction that the journal does not")
