"""One real event of each kind, raised by an organization that lives for a moment: an example cannot drift.

Clock, entropy and keys are fixed, so the same code always tells the same.
"""

import base64
import functools
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from outlay.actions import policies, wallets
from outlay.actions.decide import decide
from outlay.chains.fake import Manner, Mood, Way
from outlay.core import ids
from outlay.core.calendar import local_time
from outlay.core.event import EVENT_KINDS, envelope
from outlay.core.seams import MINUTE
from outlay.engine.anchor import Anchoring
from outlay.engine.prices import PriceAlarms, prices_of
from outlay.settings import LivePrice
from outlay.store import audit, webhooks
from outlay.store.schema import event
from tests import mandated, recurrences
from tests.actions.documents import ALWAYS, ask, group, over, policy_document
from tests.actions.seams import SeededEntropy
from tests.scenarios.stage import SEND, Stage

SAFE = "0x" + "5a" * 20

_DRAWN = re.compile(r"\b(?:([a-z]+)-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{14,16}|0x[0-9a-f]{40,}|(?:0[23])?[0-9a-f]{64})\b")
"""What is drawn or follows from it."""


@functools.cache
def examples() -> dict[str, dict[str, Any]]:
    """Return the body of a first delivery of an event of each kind."""
    with tempfile.TemporaryDirectory() as folder, _same_keys(), structlog.testing.capture_logs():
        stage = Stage(Path(folder))
        try:
            _live(stage)
            rows = stage.unit(lambda unit: unit.execute(sa.select(event).order_by(event.c.seq)).all())
        finally:
            stage.was_taken_back = True  # what it ends with is not compared
            stage.close()
    first: dict[str, Any] = {}
    for row in rows:
        first.setdefault(row.kind, row)
    missing = EVENT_KINDS.keys() - first.keys()
    if missing:
        raise SystemExit(f"docs/event_examples.py: let something raise {', '.join(sorted(missing))}")
    told = {
        kind: envelope(
            delivery_id=ids.new_id(ids.DELIVERY, SeededEntropy(number)),
            kind=kind,
            raised_at=first[kind].at,
            data=first[kind].data,
            sent_at=first[kind].at,
            attempt=1,
            subject=first[kind].subject,
            sequence=first[kind].subject_seq,
        )
        for number, kind in enumerate(EVENT_KINDS)
    }
    return _renamed(told)


def _renamed(told: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give ids, hashes and addresses names by their order, so that another order of drawing them changes nothing."""
    known: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        text = match[0]
        if text not in known and len(set(text[2:])) > 3:  # what tests made up stays
            drawn = hashlib.sha256(f"example {len(known)}".encode())
            letters = base64.b32encode(drawn.digest()).decode().lower()
            if match[1]:
                known[text] = f"{match[1]}-{letters[:5]}-{letters[5:10]}-{letters[10:26]}"
            else:
                start = "0x" if text.startswith("0x") else ""
                known[text] = start + (drawn.hexdigest() * 2)[: len(text) - len(start)]
        return known.get(text, text)

    whole: dict[str, dict[str, Any]] = json.loads(_DRAWN.sub(rename, json.dumps(told)))
    return whole


@contextmanager
def _same_keys() -> Iterator[None]:
    """Let people have the same keys each time."""
    made = iter(range(10_000))

    def new_key_pair() -> tuple[str, str]:
        seed = hashlib.sha256(f"a key of an example {next(made)}".encode()).digest()
        private = Ed25519PrivateKey.from_private_bytes(seed)
        text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return text, private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    with mock.patch("tests.actions.world.new_key_pair", new_key_pair):
        yield


def _live(stage: Stage) -> None:
    """Let everything happen once that is told of."""
    world = stage.world
    world.tag(stage.wallet, "payouts")
    _pay(stage)
    _replace(stage)
    _be_late(stage)
    policy_id = _ask_people(stage)
    _run_low(stage)
    _miss_a_run(stage)
    _lose_money(stage)
    _change_settings(stage, policy_id)
    _lose_price(stage)
    _stop(stage)


def _pay(stage: Stage) -> None:
    paid = stage.sent(25_000_000)
    stage.mine(1)
    stage.network.reorganise(1, lost=())
    stage.run(2)
    stage.mine(5)
    assert stage.state(paid) == "confirmed"
    reverted = stage.sent(1)
    stage.token.manner = Manner.REVERTS
    stage.mine(5)
    stage.token.manner = Manner.NORMAL
    assert stage.state(reverted) == "failed"


def _replace(stage: Stage) -> None:
    late, canceled = stage.sent(1), stage.sent(2)
    stage.cancel(canceled)
    stage.speed_up(late)
    slow = [each.hash for each in stage.attempts(late)]
    stage.network.mine(only=slow)  # the first is mined before its faster one gets there
    stage.run(3)
    stage.mine(8)
    assert (stage.state(late), stage.state(canceled)) == ("confirmed", "canceled")


def _be_late(stage: Stage) -> None:
    stage.node.plan = lambda methods: Mood(way=Way.REQUEST_LOST) if SEND in methods else Mood()
    paid = stage.pay(3)
    stage.run(60)
    stage.node.plan = None
    stage.run(4)
    stage.mine(8)
    assert stage.state(paid) in ("confirmed", "canceled")


def _ask_people(stage: Stage) -> str:
    """Have a payout held and denied; return the policy that held it."""
    world = stage.world
    approver = world.person("approver@example.com")
    policy_id = world.policy(over(100), ask(group(approver), timeout=1440), tags=["payouts"])
    held = stage.pay(500_000_000)
    world.decide(approver, held, "Denied", reason="The invoice is not ours.")
    assert stage.state(held) == "rejected"
    return policy_id


def _change_settings(stage: Stage, policy_id: str) -> None:
    world = stage.world
    world.policy(ALWAYS, ask(group()), kind="Policies:Modify")
    document = policy_document(over(1_000_000), ask(group()), tags=["payouts"])
    asked = world.call(
        world.admin,
        "PUT",
        f"/v2/policies/{policy_id}",
        document,
        "Policies:Update",
        lambda act: policies.replace(act, policy_id, document),
    )
    approval_id = asked["approvalId"]
    world.call(
        world.admin,
        "POST",
        f"/v2/policy-approvals/{approval_id}/decisions",
        {"value": "Denied"},
        "Policies:Evaluations:Vote",
        lambda act: decide(act, approval_id, value="Denied", reason=None),
    )


def _run_low(stage: Stage) -> None:
    empty = stage.new_wallet(dollars=0)
    mandated.create(stage.world, mandated.document(treasury={"external": SAFE}, wallets={"walletIds": [empty]}))
    stage.run(3)


def _miss_a_run(stage: Stage) -> None:
    due = local_time(stage.clock.now() + MINUTE, UTC)
    calendar = {"every": "month", "day": due.day, "at": f"{due:%H:%M}"}
    given = recurrences.document(stage.wallet, calendar=calendar, timeZone="UTC", **{"from": f"{due:%Y-%m-%d}"})
    recurrences.create(stage.world, {**given, "missed": {"catchUpMinutes": 1}})
    stage.clock.step(minutes=3)
    stage.run(2)


def _lose_money(stage: Stage) -> None:
    robbed = stage.new_wallet()
    stage.network.head.state.tokens[stage.token.address, stage.address(robbed)] -= 5_000_000
    stage.mine(5)
    reason = "The token's issuer took it back; the loss is accepted."
    stage.world.call(
        stage.world.admin,
        "PUT",
        f"/v1/wallets/{robbed}/unfreeze",
        {"reason": reason},
        "Wallets:Unfreeze",
        lambda act: wallets.unfreeze(act, robbed, reason=reason),
    )


def _lose_price(stage: Stage) -> None:
    world = stage.world
    live = LivePrice(symbol="ETH", url="https://prices.example.com/ETH", pointer="/usd", band=Decimal("0.2"))
    config = replace(world.config, live_prices={"ETH": live})
    prices = prices_of(config, world.clock.now())
    prices.tell("ETH", Decimal("1512.07"), world.clock.now())
    stage.do(PriceAlarms(stage.db, world.clock, world.entropy, config, prices).step())


def _stop(stage: Stage) -> None:
    world = stage.world
    stage.token.manner = Manner.FEE
    odd = stage.sent(700_000)
    stage.mine(5)
    assert stage.row(odd).flag == "effect_mismatch"
    with world.unit() as unit:
        seams: dict[str, Any] = {"now": world.clock.now(), "entropy": world.entropy}
        hook = webhooks.create(unit, url="https://example.com/events", events=["*"], **seams)
        webhooks.note_outcomes(unit, working=(), failing=[hook.id], since=world.clock.now())
        webhooks.disable_failing(unit, [hook.id], since=world.clock.now(), **seams)
        audit.set_state(unit, verified_seq=1, verified_hash="00" * 32)
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    stage.do(Anchoring(stage.db, world.clock, world.entropy, world.config, key=key, egress=None).step())


def as_json(kind: str) -> str:
    """Return the example of a kind as it is printed."""
    return json.dumps(examples()[kind], indent=2, ensure_ascii=True)
