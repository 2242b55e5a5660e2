"""However requests fall into groups, each is answered, counted and told of as if it had come alone."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions.act import SignedCall, credential_of
from outlay.actions.admit import Ask, Order
from outlay.actions.perform import PayoutCall, perform_payouts
from outlay.core.errors import ActionReplayed, ActionSignatureInvalid, NotAuthenticated, OutlayError, Unavailable
from outlay.store import organizations, users
from outlay.store import wallets as wallet_rows
from outlay.store.schema import (
    approval,
    counter_entry,
    evaluation,
    event,
    organization,
    spent_nonce,
    transfer,
    transition,
    velocity_counter,
    velocity_entry,
    waiting,
)
from tests.actions.documents import BLOCK, REPORT, ask, at_most, cap, group, known, over
from tests.actions.world import ALICE, BOB, DOLLAR, USDC, World

CREATE = "Wallets:Transfers:Create"
STRANGER = "0x" + "7" * 40
_ID = re.compile(r"\b(?:xfr|plce|evt|ap|evi|whe)-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{14,16}\b")


@dataclass(frozen=True)
class Request:
    """A payout as the random history asks for it."""

    by: int
    wallet: int
    to: str
    amount: str
    external_id: str
    spoil: str = ""  #: what is wrong with the call


class Half:
    """One of two worlds in which the same is asked for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.world = World(folder)
        world = self.world
        self.bots = [world.service_account("first bot"), world.service_account("second bot")]
        approver = world.person("approver@example.com")
        self.wallets = [world.wallet("payouts"), world.wallet("payouts", "vip"), world.wallet("other")]
        for rule, action, filters in (
            (cap(15_000), {"kind": "Block", "wait": 60}, {"tags": ["payouts"]}),
            (cap(4000, scope="recipient"), {"kind": "Block", "wait": 30}, {}),
            (at_most(12, scope="organization"), BLOCK, {"tags": ["vip"]}),
            (cap(1500, scope="initiator"), REPORT, {}),
            (cap(700, scope="wallet"), ask(group(approver)), {"tags": ["vip"]}),
            (over(500), ask(group(approver), timeout=60), {}),
            (known(ALICE, BOB), ask(group(approver)), {"tags": ["other"]}),
            (over(2000), BLOCK, {}),
        ):
            world.policy(rule, action, **filters)

    def call(self, request: Request, *, checked: bool) -> PayoutCall:
        world, bot = self.world, self.bots[request.by]
        wallet = self.wallets[request.wallet]
        payload = {
            "kind": "Erc20",
            "to": request.to,
            "amount": request.amount,
            "externalId": request.external_id,
            "contract": USDC,
        }
        path = f"/wallets/{wallet}/transfers"
        signed = world.sign(bot, "POST", path, payload)
        if request.spoil == "signature":
            signed = replace(signed, assertion=replace(signed.assertion, signature=b"\0" * 64))
        if request.spoil == "expired":
            signed = replace(signed, token_expires=world.clock.now())
        if checked:
            signed = check_before(world, signed)
        claims = {**bot.claims, "secret": "guessed"} if request.spoil == "token" else bot.claims
        if request.spoil == "wallet":
            wallet = "wa-00000-00000-000000000000000000"
        wanted = Ask(
            wallet_id=wallet,
            kind="Erc20",
            contract=USDC,
            to=request.to,
            amount=request.amount,
            external_id=request.external_id,
        )
        return PayoutCall(
            claims=claims,
            call=signed,
            method="POST",
            path=path + ("x" if request.spoil == "path" else ""),
            payload=payload,
            operations=(CREATE,),
            order=lambda act: Order(act=act, asks=[wanted], quote_of=world.quote),
        )

    def run(self, calls: Sequence[PayoutCall]) -> list[Any]:
        with self.world.unit() as unit:
            return perform_payouts(
                unit, calls, now=self.world.clock.now(), entropy=self.world.entropy, config=self.world.config
            )


def check_before(world: World, signed: SignedCall) -> SignedCall:
    """Verify a signature before the unit, as the gate does; a bad one is left to the unit."""
    with world.unit() as unit:
        row = users.find_credential(unit, signed.credential_uuid)
    assert row is not None
    key = credential_of(row, origins=world.config.server.origins)
    try:
        signed.check_signature(key, origins=world.config.server.origins)
    except OutlayError:
        return signed
    return replace(signed, checked=key)


def history(chance: random.Random, count: int) -> list[Request]:
    """Return random requests, some of them the same again, some spoilt."""
    asked: list[Request] = []
    for number in range(count):
        dice = chance.random()
        if asked and dice < 0.12:
            asked.append(replace(chance.choice(asked), spoil=""))
        elif asked and dice < 0.2:
            again = chance.choice(asked)
            asked.append(replace(again, amount=str(DOLLAR), by=chance.randrange(2), spoil=""))
        else:
            dollars = chance.choice([1, 20, 300, 499, 600, 899, 1000, 2500])
            spoilt = ["signature", "expired", "token", "wallet", "path"] if dice > 0.9 else [""]
            asked.append(
                Request(
                    by=chance.randrange(2),
                    wallet=chance.randrange(3),
                    to=chance.choice([ALICE, BOB, STRANGER, "0x" + "0" * 40]) if dice < 0.9 else ALICE,
                    amount="007" if dice > 0.97 else str(dollars * DOLLAR),
                    external_id=f"p-{number}",
                    spoil=chance.choice(spoilt),
                )
            )
    return asked


def groups(chance: random.Random, asked: Sequence[Request]) -> list[list[Request]]:
    found, at = [], 0
    while at < len(asked):
        size = chance.choice([1, 2, 3, 7, 20, 50])
        found.append(list(asked[at : at + size]))
        at += size
    return found


TABLES = (
    transfer,
    transition,
    evaluation,
    velocity_entry,
    velocity_counter,
    counter_entry,
    waiting,
    approval,
    event,
    spent_nonce,
    organization,
)


def everything(half: Half) -> dict[str, list[Any]]:
    """Return all that is stored, with identifiers that are drawn by chance written by their order in the tables."""
    world = half.world
    names: dict[str, str] = {}
    with world.unit() as unit:
        for row in unit.execute(sa.select(transfer.c.id, transfer.c.external_id)):
            names[row.id] = f"transfer of {row.external_id}"
        for row in unit.execute(sa.select(approval.c.id, approval.c.transfer_id)):
            names[row.id] = f"approval of {names[row.transfer_id]}"
        found = {}
        for table in TABLES:
            rows = [dict(row._mapping) for row in unit.execute(sa.select(table))]
            if table is spent_nonce:
                rows = [{"result_id": row["result_id"], "keep_until": row["keep_until"]} for row in rows]
            if table is organization:
                rows = [{"admitted": row["admitted"]} for row in rows]
            found[table.name] = sorted(_plain(_text(row), names, half) for row in rows)
    return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _plain(text: str, names: dict[str, str], half: Half) -> str:
    for place, wallet in enumerate(half.wallets):
        names[wallet] = f"wallet {place}"
    for place, bot in enumerate(half.bots):
        names |= {bot.user_id: f"bot {place}", bot.credential_uuid: f"key {place}"}
    for name, meaning in names.items():
        text = text.replace(name, meaning)
    return _ID.sub("an id", text)


def said(answers: Sequence[Any], half: Half) -> list[str]:
    """Return what callers are told."""
    names: dict[str, str] = {}
    with half.world.unit() as unit:
        for row in unit.execute(sa.select(transfer.c.id, transfer.c.external_id)):
            names[row.id] = f"transfer of {row.external_id}"
    texts = []
    for answer in answers:
        error = answer if isinstance(answer, Exception) else answer.refusal
        if error is not None:
            assert isinstance(error, OutlayError)
            spent = not isinstance(answer, Exception)
            texts.append(_plain(f"{error.code} {error.message} {dict(error.details)} spent: {spent}", names, half))
        else:
            texts.append(_plain(_text(answer.result), names, half))
    return texts


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 40))])
def test_any_grouping_gives_what_one_by_one_gives(tmp_path: Path, seed: int) -> None:
    """Verdicts, answers, rows, sums, events and spent challenges; seeded."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    alone, together = Half(tmp_path / "alone"), Half(tmp_path / "together")
    asked = history(chance, 60)
    singles, grouped = [], []
    for part in groups(chance, asked):
        checked = chance.random() < 0.5
        for request in part:
            singles += alone.run([alone.call(request, checked=False)])
        grouped += together.run([together.call(request, checked=checked) for request in part])
        for half in (alone, together):
            half.world.clock.step(minutes=1)
    assert said(grouped, together) == said(singles, alone)
    ours, theirs = everything(together), everything(alone)
    for name in theirs:
        assert ours[name] == theirs[name], name
    with together.world.unit() as unit:
        kinds = set(unit.execute(sa.select(transfer.c.state)).scalars())
    assert kinds >= {"ready", "held", "rejected"}, "the history is too tame to prove anything"


def test_a_group_fills_a_cap_and_no_more(tmp_path: Path) -> None:
    half = Half(tmp_path / "one")
    answers = half.run([half.call(Request(0, 1, ALICE, "5", f"p-{at}"), checked=True) for at in range(15)])
    assert [answer.result["status"] for answer in answers] == ["Executing"] * 12 + ["Rejected"] * 3


def test_one_challenge_twice_in_a_group_acts_once(tmp_path: Path) -> None:
    half = Half(tmp_path / "one")
    call = half.call(Request(0, 0, ALICE, "5", "p-1"), checked=True)
    first, second, third = half.run([call, call, call])
    assert first.refusal is None
    for again in (second, third):
        assert isinstance(again, ActionReplayed)
        assert again.details["resultId"] == first.result["id"]
    assert half.world.count(transfer) == half.world.count(spent_nonce) - _made_before(half) == 1


def _made_before(half: Half) -> int:
    """Return how many challenges were spent for the set-up."""
    with half.world.unit() as unit:
        return len(unit.execute(sa.select(spent_nonce.c.nonce)).all()) - 1


def test_a_key_revoked_after_the_signature_was_checked_signs_nothing(tmp_path: Path) -> None:
    """What was verified before the unit counts only while the key and its holder are as they were."""
    half = Half(tmp_path / "one")
    call = half.call(Request(0, 0, ALICE, "5", "p-1"), checked=True)
    half.world.deactivate(half.bots[0], service_account=True)
    (answer,) = half.run([call])
    assert isinstance(answer, NotAuthenticated)
    assert half.world.count(transfer) == 0


def test_a_signature_checked_with_another_key_is_checked_again(tmp_path: Path) -> None:
    """The key in the database was another one by the time of the unit: what was found before counts for nothing."""
    half = Half(tmp_path / "one")
    call = half.call(Request(0, 0, ALICE, "5", "p-1", spoil="signature"), checked=False)
    good = half.call(Request(0, 0, ALICE, "5", "p-1"), checked=True).call
    assert isinstance(call.call, SignedCall) and isinstance(good, SignedCall) and good.checked is not None
    other = replace(good.checked, public_key="another key")
    (answer,) = half.run([replace(call, call=replace(call.call, checked=other))])
    assert isinstance(answer, ActionSignatureInvalid)
    assert half.world.count(transfer) == 0


def test_settings_that_are_not_the_signed_ones_refuse_a_group_and_spend_nothing(tmp_path: Path) -> None:
    half = Half(tmp_path / "one")
    calls = [half.call(Request(0, 0, ALICE, "5", f"p-{number}"), checked=True) for number in range(3)]
    before = half.world.count(spent_nonce)
    with half.world.unit() as unit:
        organizations.apply_money_settings(unit, "0" * 64)
    assert all(isinstance(answer, Unavailable) for answer in half.run(calls))
    assert (half.world.count(transfer), half.world.count(spent_nonce)) == (0, before)


def test_a_frozen_wallet_refuses_its_own_and_no_neighbour(tmp_path: Path) -> None:
    half = Half(tmp_path / "one")
    with half.world.unit() as unit:
        wallet_rows.freeze(unit, half.wallets[0], "a person has to look")
    answers = half.run([half.call(Request(0, at % 2, ALICE, "5", f"p-{at}"), checked=True) for at in range(4)])
    assert [answer.refusal is None for answer in answers] == [False, True, False, True]


def test_the_same_external_id_in_a_group_is_the_first_ones(tmp_path: Path) -> None:
    half = Half(tmp_path / "one")
    first = Request(0, 0, ALICE, "5", "same")
    calls = [first, first, replace(first, amount="6"), replace(first, by=1)]
    a, b, other, stranger = half.run([half.call(each, checked=True) for each in calls])
    assert a.result == b.result
    assert other.refusal.details["duplicate"]["id"] == a.result["id"]
    assert stranger.refusal.details["duplicate"] == {"externalId": "same"}
    assert half.world.count(transfer) == 1
