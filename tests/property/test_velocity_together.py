"""Many payouts judged or signed together: the same windows, instants and totals as one by one."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.core.policy import (
    Action,
    AmountVelocity,
    Block,
    CountVelocity,
    Filters,
    Group,
    Policy,
    RequestApproval,
    Rule,
)
from outlay.core.seams import MINUTE, SECOND
from outlay.core.velocity import Scope
from outlay.store import velocity, velocity_signing
from outlay.store.database import Unit
from outlay.store.schema import counter_correction, counter_entry, metadata, organization, transfer, velocity_counter
from outlay.store.schema import velocity_entry as entries
from outlay.store.velocity_binding import BindingWindows

NOW = 1_800_000_000_000_000
WALLETS, PEOPLE, RECIPIENTS = ("wa-1", "wa-2"), ("us-1", "us-2"), ("0x01", "0x02", "0x03")
ASK = RequestApproval(None, (Group(name=None, quorum=1, approvers=None),))
TABLES = (velocity_counter, counter_entry, counter_correction, entries)


@contextmanager
def database() -> Iterator[Unit]:
    engine = sa.create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as unit:
        values = {"id": "or-1", "epoch": 1, "root": "", "head": "", "head_seq": 0, "money_settings": "", "admitted": 0}
        unit.execute(sa.insert(organization).values(**values, created_at=0))
        yield unit


def policies(rng: random.Random) -> list[Policy]:
    found = []
    for number in range(rng.randint(1, 4)):
        scope, minutes = rng.choice(list(Scope)), rng.choice([1, 5])
        rules: list[Rule] = [AmountVelocity(1000, minutes, scope), CountVelocity(9, minutes, scope)]
        actions: list[Action] = [Block(), ASK]
        rule, action = rng.choice(rules), rng.choice(actions)
        found.append(
            Policy(id=f"plc-{number}", version=1, name="p", rule=rule, action=action, filters=Filters(tags_any=None))
        )
    return found


def row(entry: velocity.Entry, state: str) -> dict[str, Any]:
    """Return a transfer of which nothing but the state matters."""
    given = {"id": entry.transfer_id, "wallet_id": entry.wallet_id, "initiator_id": entry.initiator_id, "state": state}
    texts = dict.fromkeys(("intent_digest", "network", "kind", "asset", "recipient", "token_id", "policy_set"), "-")
    return {**texts, **given, "intent": {}, "request_body": {}, "amount": 1, "version": 1, "requested_at": 1}


def play(unit: Unit, rng: random.Random) -> tuple[list[Policy], list[velocity.Entry], int]:
    """Make a history: payouts admitted, bound, signed, given back, corrected; return what is open, and the time."""
    active, now, opened, signed = policies(rng), NOW, list[velocity.Entry](), list[str]()
    for number in range(rng.randint(5, 60)):
        now += rng.choice([0, SECOND, 20 * SECOND])
        entry = velocity.admit(
            unit,
            active,
            transfer_id=f"xfr-{number}",
            wallet_id=rng.choice(WALLETS),
            tags=(),
            recipient=rng.choice(RECIPIENTS),
            initiator_id=rng.choice(PEOPLE),
            value=rng.choice([None, *range(1, 50)]),
        )
        opened.append(entry)
        unit.execute(sa.insert(transfer), row(entry, rng.choice(["ready", "assigned", "held"])))
        what = rng.random()
        if what < 0.4:
            chosen = opened.pop(rng.randrange(len(opened)))
            velocity.sign(unit, chosen.transfer_id, now)
            signed.append(chosen.transfer_id)
        elif what < 0.5:
            velocity.give_back(unit, opened.pop(rng.randrange(len(opened))).transfer_id)
        elif what < 0.6 and signed:
            velocity.correct(unit, signed.pop(rng.randrange(len(signed))))
    return active, opened, now + rng.choice([0, SECOND, 2 * MINUTE])


def stored(unit: Unit) -> list[list[tuple[Any, ...]]]:
    return [sorted(map(tuple, unit.execute(sa.select(table))), key=str) for table in TABLES]


@pytest.mark.parametrize("seed", range(40))
def test_the_windows_of_many_are_those_of_each_by_itself(seed: int) -> None:
    """In whatever order they are asked about, with what was bound, corrected, signed out of order or is not known."""
    print(f"seed {seed}")
    answers = []
    for together in (False, True):
        rng = random.Random(seed)
        with database() as unit:
            active, opened, now = play(unit, rng)
            rng.shuffle(opened)
            if seed % 2:
                opened.sort(key=lambda entry: entry.admitted)
            # Whatever is read ahead, and of the order that was announced: only what is asked about counts.
            last = rng.choice([0, *(entry.admitted + rng.randint(-2, 2) for entry in opened)])
            windows = BindingWindows(unit, now, last=last)
            found = []
            for entry in opened:
                who = {"wallet_id": entry.wallet_id, "recipient": entry.recipient, "initiator_id": entry.initiator_id}
                if together:
                    found.append(windows.of(active, entry, entry.admitted))
                else:
                    found.append(velocity.windows(unit, active, **who, now=now, before_admitted=entry.admitted))
            answers.append((found, stored(unit)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("seed", range(40))
def test_many_signatures_leave_what_each_by_itself_leaves(seed: int) -> None:
    print(f"seed {seed}")
    answers = []
    for together in (False, True):
        rng = random.Random(seed)
        with database() as unit:
            _, opened, now = play(unit, rng)
            rng.shuffle(opened)
            names = [entry.transfer_id for entry in opened]
            names += rng.sample(names, k=min(2, len(names)))  # asked for again: nothing changes
            if together:
                velocity_signing.sign(unit, names[: len(opened)], now)
                velocity_signing.sign(unit, names, now + SECOND)
            else:
                for each in names:
                    velocity.sign(unit, each, now)
            answers.append(stored(unit))
    assert answers[0] == answers[1]


def test_what_was_given_back_or_never_admitted_is_not_signed() -> None:
    rng = random.Random(1)
    with database() as unit:
        _, opened, now = play(unit, rng)
        velocity.give_back(unit, opened[0].transfer_id)
        for names in (["xfr-none"], [opened[1].transfer_id, opened[0].transfer_id]):
            before = stored(unit)
            with pytest.raises(InvariantBroken):
                velocity_signing.sign(unit, names, now)
            assert stored(unit) == before
