"""What waited for room in the copy that is restored, or was signed by a key whose name another has by now."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.challenge import credential_challenge
from tests.actions.documents import cap
from tests.actions.messages import item, pay
from tests.actions.test_capacity import make_room
from tests.actions.world import Actor
from tests.recovery.drill import Drill
from tests.recovery.test_messages import state
from tests.recovery.test_restore import recipient

MINUTE = 60_000_000
LOSSES = {"older": Drill.put_back, "none": Drill.lose_database}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_what_waited_in_the_copy_and_was_paid_since_is_not_given_up(
    tmp_path: Path, lose: Callable[[Drill], None]
) -> None:
    drill = Drill(tmp_path)
    bot, wallet = drill.service_account("payouts bot"), drill.wallet("hot")
    drill.policy(cap(100, minutes=10), {"kind": "Block", "wait": 600}, tags=["hot"])
    drill.run_rounds(6)
    drill.pay(bot, wallet, 60, to=recipient("first"), external_id="first")
    drill.pay(bot, wallet, 50, to=recipient("late"), external_id="late")
    drill.run_until(lambda: drill.state_named("first") == "confirmed")
    assert drill.state_named("late") == "held"
    drill.copy()
    drill.clock.step(micros=11 * MINUTE)
    make_room(drill)
    drill.run_until(lambda: drill.state_named("late") == "confirmed")
    lose(drill)
    drill.recover()
    drill.clock.step(micros=601 * MINUTE)
    make_room(drill)
    drill.run_until(drill.all_confirmed)
    assert drill.received(recipient("late")) == 50 * 10**6
    assert drill.frozen() == []
    drill.close()


def add_key(drill: Drill, actor: Actor, name: str) -> Actor:
    private, _ = new_key_pair()
    begun = drill.begin_key(actor)
    made = drill.add_key(actor, begun, key_attestation(private, credential_challenge(begun), cred_id=name))
    return replace(actor, private_key=private, credential_id=name, credential_uuid=made["credentialUuid"])


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_a_message_is_known_again_after_its_key_was_replaced_by_one_of_the_same_name(
    tmp_path: Path, lose: Callable[[Drill], None]
) -> None:
    drill = Drill(tmp_path)
    wallet = drill.wallet("hot")
    drill.run_rounds(6)
    owner = drill.person("payer@example.com")
    bot = add_key(drill, owner, "payouts-bot")
    drill.copy()
    paid = pay(drill, bot, item(wallet, 1, external_id="single", asset="USDC"))["id"]
    drill.run_until(lambda: state(drill, paid) == "confirmed")
    drill.clock.step(micros=MINUTE)
    drill.switch_key(owner, bot.credential_uuid, "delete")
    add_key(drill, owner, "payouts-bot")
    drill.run_rounds(2)
    lose(drill)
    assert drill.recover().slots == 1
    drill.run_until(lambda: state(drill, paid) == "confirmed")
    assert drill.frozen() == []
    drill.close()
