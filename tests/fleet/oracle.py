"""What a fleet has to show when it has come to rest: judged by chain, answers and rows, not by its own word.

Nothing here uses a rule of the product: what was accepted is compared with what the token's contract logged, caps are
counted anew from the answers and from the rows.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from outlay.client import Client
from tests.fleet.fleet import Fleet
from tests.fleet.load import Asked
from tests.world import Receiver, until

ENDS = ("confirmed", "failed", "rejected", "canceled", "expired")
REST_S = 120.0
"""How long everything may take to come to rest after the faults are over: on a busy machine much of it is waiting."""

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""Topic of the event Transfer(address,address,uint256)."""

STORY = ("wallet.transfer.requested", "wallet.transfer.broadcasted", "wallet.transfer.confirmed")


@dataclass(kw_only=True)
class Oracle:
    """Judges a fleet by what was asked of it."""

    fleet: Fleet
    wallets: Sequence[dict[str, str]]
    receivers: Sequence[Receiver]
    amount_cap: int  #: base units of the token a recipient may get from the wallets of the first tag
    count_cap: int  #: payouts a recipient may get from the wallets of the second

    def come_to_rest(self) -> None:
        """Wait until every payout has ended and every subscriber has every event.

        Raises:
            AssertionError: it takes too long; the message shows what is missing.
        """
        with contextlib.suppress(AssertionError):  # the checks below say more
            until(lambda: not self._open(), "", timeout_s=REST_S)
        left = self._open()
        assert not left, f"LOST: these payouts did not end: {left}"
        with contextlib.suppress(AssertionError):
            until(lambda: not self._missing_events(), "", timeout_s=REST_S)
        missing = self._missing_events()
        assert not missing, f"these events never arrived: {missing[:10]}"

    def _open(self) -> list[tuple[str, str, str | None]]:
        rows = self.fleet.rows(
            "SELECT external_id, state, waiting_reason FROM transfer WHERE state NOT IN (%s, %s, %s, %s, %s)", *ENDS
        )
        return [(row["external_id"], row["state"], row["waiting_reason"]) for row in rows]

    def _missing_events(self) -> list[tuple[int, str, str]]:
        rows = self.fleet.rows("SELECT id, kind FROM event")
        found = []
        for number, receiver in enumerate(self.receivers):
            arrived = {arrival.headers["webhook-id"] for arrival in list(receiver.arrivals)}
            found += [(number, row["id"], row["kind"]) for row in rows if row["id"] not in arrived]
        return found

    def check(self, asked: Sequence[Asked]) -> None:
        """Compare requests, rows, chain, ledger and events.

        Raises:
            AssertionError: with what does not fit.
        """
        self._rows(asked)
        self._chain(asked)
        self._caps(asked)
        self._ledger()
        self._events(asked)

    def _rows(self, asked: Sequence[Asked]) -> None:
        """What was accepted ended paid, what was blocked says so, what was refused is nowhere."""
        rows = {row["external_id"]: row for row in self.fleet.rows("SELECT * FROM transfer")}
        for each in asked:
            row = rows.pop(each.external_id, None)
            if each.refused is not None:
                assert row is None, f"{each.external_id} was refused with {each.refused} and is stored"
                continue
            assert each.id is not None, f"{each.external_id} never got an answer"
            assert row is not None, f"LOST: {each.external_id} was answered {each.status} and is nowhere"
            assert row["id"] == each.id, f"{each.external_id} has another id than it was told"
            wanted = "confirmed" if each.is_accepted else "rejected"
            assert row["state"] == wanted, f"{each.external_id} was answered {each.status} and is {row['state']}"
        assert not rows, f"nobody asked for {sorted(rows)}"

    def _chain(self, asked: Sequence[Asked]) -> None:
        """The token moved from our wallets exactly as was accepted, and every nonce is accounted for."""
        chain, token = self.fleet.world.chain, self.fleet.world.token
        logs = chain.rpc("eth_getLogs", {"fromBlock": "0x0", "address": token, "topics": [TRANSFER]})
        ours = {wallet["address"].lower() for wallet in self.wallets}
        paid = Counter(
            (payer, "0x" + log["topics"][2][26:], int(log["data"], 16))
            for log in logs
            if (payer := "0x" + log["topics"][1][26:]) in ours
        )
        owed = Counter((each.wallet["address"].lower(), each.to, each.amount) for each in asked if each.is_accepted)
        assert not paid - owed, f"DOUBLE or never asked for: {paid - owed}"
        assert not owed - paid, f"LOST: {owed - paid}"
        for wallet in self.wallets:
            used = int(chain.rpc("eth_getTransactionCount", wallet["address"], "latest"), 16)
            slots = self.fleet.rows('SELECT transfer_id FROM "transaction" WHERE wallet_id = %s', wallet["id"])
            payouts = sum(each.is_accepted and each.wallet["id"] == wallet["id"] for each in asked)
            voids = sum(slot["transfer_id"] is None for slot in slots)
            assert used == len(slots) == payouts + voids, f"{used} nonces, {len(slots)} slots, {payouts} payouts"

    def _caps(self, asked: Sequence[Asked]) -> None:
        """No recipient got more than the caps let through, nor less than was asked for and fitted."""
        tags = {wallet["id"]: wallet["tags"][0] for wallet in self.wallets}
        wanted: defaultdict[tuple[str, str], list[Asked]] = defaultdict(list)
        for each in asked:
            if each.refused is None:
                wanted[tags[each.wallet["id"]], each.to].append(each)
        rows = self.fleet.rows(
            "SELECT e.recipient, w.tag, count(*) AS n, sum(t.amount) AS total FROM velocity_entry e"
            " JOIN transfer t ON t.id = e.transfer_id JOIN wallet_tag w ON w.wallet_id = e.wallet_id"
            " WHERE e.state = 'signed' GROUP BY e.recipient, w.tag"
        )
        counted = {(row["tag"], row["recipient"]): (row["n"], int(row["total"])) for row in rows}
        for (tag, to), payouts in wanted.items():
            went = [each for each in payouts if each.is_accepted]
            if tag == self.wallets[0]["tags"][0]:
                amount = payouts[0].amount
                room = min(len(payouts), self.amount_cap // amount)
            else:
                room = min(len(payouts), self.count_cap)
            assert len(went) == room, f"CAP: {len(went)} of {len(payouts)} went to {to}, there was room for {room}"
            mine = (len(went), sum(each.amount for each in went))
            assert counted.get((tag, to), (0, 0)) == mine, f"{to}: rows say {counted.get((tag, to))}, answers {mine}"

    def _ledger(self) -> None:
        """The books equal the chain. The call itself fails unless every asset sums to zero."""
        admin, world = self.fleet.world.admin, self.fleet.world
        client = Client(
            self.fleet.of("api")[0].url,
            token=admin.token,
            credential_id=admin.credential_id,
            private_key=admin.private_key,
        )
        accounts = {row["id"]: row for row in client.read("/v1/ledger")["accounts"]}
        for wallet in self.wallets:
            held = {"native": world.chain.balance(wallet["address"])}
            held[world.token] = world.chain.token_balance(world.token, wallet["address"])
            for asset, amount in held.items():
                for kind, expected in (("spendable", amount), ("reserved", 0)):
                    row = accounts.get(f"{wallet['id']}/{asset}/{kind}", {"debits": 0, "credits": 0})
                    booked = int(row["debits"]) - int(row["credits"])
                    assert booked == expected, f"IMBALANCE: {kind} {asset} of {wallet['id']}: {booked}, not {expected}"

    def _events(self, asked: Sequence[Asked]) -> None:
        """Each payout told its whole story, in a sequence without gaps, to every subscriber."""
        rows = self.fleet.rows("SELECT id, kind, subject, subject_seq FROM event ORDER BY subject, subject_seq")
        told: defaultdict[str, list[str]] = defaultdict(list)
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for row in rows:
            told[row["subject"]].append(row["kind"])
            numbers[row["subject"]].append(row["subject_seq"])
        for each in asked:
            if each.id is None:
                continue
            first = numbers[each.id][0]
            whole = list(range(first, first + len(numbers[each.id])))
            assert numbers[each.id] == whole, f"{each.external_id}: events {numbers[each.id]}"
            if each.is_accepted:
                steps = [kind for kind in told[each.id] if kind in STORY]
                assert steps == list(STORY), f"{each.external_id} told {told[each.id]}"
