"""Mandates: who may make one, which meet, and what people have to agree to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions import admit, mandates, refill
from outlay.core.errors import Conflict, HeadMoved, InvalidInput, NotFound, NotPermitted
from outlay.core.seams import HOUR
from outlay.store import mandates as rows
from tests import mandated
from tests.actions.council import Council
from tests.actions.world import ALICE, DOLLAR, SETTINGS, World
from tests.mandated import archive, between, create, document, fill

SAFE = "0x" + "5a" * 20


@pytest.fixture
def council(tmp_path: Path) -> Iterator[Council]:
    opened = Council(tmp_path)
    yield opened
    opened.close()


def in_force(world: World) -> list[str]:
    with world.unit() as unit:
        return [each.id for each in rows.active(unit)]


def test_a_mandate_is_a_record_and_ends_by_one(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=0)
    made = create(world, document(**between(treasury, hot)))
    assert in_force(world) == [made]
    archive(world, made)
    assert in_force(world) == []
    with pytest.raises(NotFound):
        archive(world, made)
    with pytest.raises(NotFound):
        archive(world, "md-aaaaa-aaaaa-aaaaaaaaaaaaaaaa")


def test_what_it_names_has_to_be_there(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=0)
    nowhere = "wa-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"
    wrong: dict[str, dict[str, Any]] = {
        "network": document(network="Elsewhere", **between(treasury, hot)),
        "asset": document(asset=ALICE, **between(treasury, hot)),
        "treasury.walletId": document(**between(nowhere, hot)),
        "wallets.walletIds[1]": document(**between(treasury, hot, nowhere)),
        "wallets.poolId": document(
            treasury={"walletId": treasury}, wallets={"poolId": "pool-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"}
        ),
        "treasury.external": document(
            treasury={"external": mandated.address(world, hot)}, wallets={"walletIds": [hot]}
        ),
    }
    for field, given in wrong.items():
        with pytest.raises(InvalidInput) as refused:
            create(world, given)
        assert refused.value.field == field
    assert in_force(world) == []


def test_two_mandates_never_fill_one_wallet_with_the_same(world: World) -> None:
    treasury, other, hot = world.wallet(), world.wallet(), world.wallet("europe", dollars=0)
    first = create(world, document(**between(treasury, hot)))
    with pytest.raises(Conflict, match=first):
        create(world, document(treasury={"walletId": other}, wallets={"tag": "europe"}))
    with pytest.raises(Conflict, match="would be a treasury"):
        create(world, document(**between(hot, other)))
    with pytest.raises(Conflict, match="would be a treasury"):
        create(world, document(**between(other, treasury)))
    create(world, mandated.gas(1, **between(other, hot)))
    tagged = create(world, document(treasury={"walletId": other}, wallets={"tag": "asia"}))
    world.tag(hot, "asia")
    assert fill(world) == 2  # the coins, and the dollars of the older mandate
    assert mandated.refills(world, tagged) == []
    archive(world, first)
    with world.unit() as unit:
        (found,) = [wallet.id for mandate, wallet in refill.filled(unit, rows.active(unit)) if mandate.id == tagged]
    assert found == hot


def test_a_pool_is_filled_while_it_is_in_use(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet("payouts", dollars=0)
    pool = world.pool("payouts")
    made = create(world, document(treasury={"walletId": treasury}, wallets={"poolId": pool}))
    assert [each["walletId"] for each in mandated.balances(world, made)] == [hot]
    world.archive_pool(pool)
    assert mandated.balances(world, made) == []


def test_one_refill_is_under_way_at_a_time_and_both_or_none_is_kept(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=0)
    made = create(world, document(**between(treasury, hot)))
    with pytest.raises(ZeroDivisionError), world.work() as work:
        refill.fill(work, lambda _asset: None, refill.flow(work.unit, now=work.now))
        1 / 0  # noqa: B018
    assert mandated.refills(world, made) == []
    assert [fill(world) for _ in range(3)] == [1, 0, 0]
    (row,) = mandated.refills(world, made)
    assert (row.external_id, row.initiator_id, row.credential_id) == (f"refill/{made}/1", made, None)
    assert [each["coming"] for each in mandated.balances(world, made)] == [str(500 * DOLLAR)]


def test_what_is_final_and_not_in_the_ledger_yet_is_still_coming(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=0)
    made = create(world, document(**between(treasury, hot)))
    fill(world)
    (row,) = mandated.refills(world, made)
    world.leave(row.id)
    world.mine(row.id)
    assert world.settle(row.id) == "confirmed"
    assert fill(world) == 0
    (shown,) = mandated.balances(world, made)
    assert (shown["coming"], "about to arrive" in shown["waitingReason"]) == (str(500 * DOLLAR), True)
    with world.unit() as unit:  # it was compared at the very block, and found to be worth nothing
        unit.execute(sa.text("UPDATE wallet SET compared_block = 7 WHERE id = :id"), {"id": hot})
    assert fill(world) == 1


def test_a_treasury_keeps_what_its_own_ready_payouts_need(world: World) -> None:
    treasury, hot = world.wallet(dollars=1000), world.wallet(dollars=0)
    made = create(world, document(**between(treasury, hot)))
    world.pay(world.service_account("payouts bot"), treasury, 950)
    assert fill(world) == 0
    (shown,) = mandated.balances(world, made)
    assert shown["waitingReason"] == "the treasury can give 50000000 base units, and 100000000 are needed"


def test_a_mandate_needs_no_policy_where_payouts_do(tmp_path: Path) -> None:
    strict = World(tmp_path, settings=SETTINGS.replace('default = "allow"', 'default = "block"'))
    treasury, hot = strict.wallet(), strict.wallet(dollars=0)
    assert strict.pay(strict.service_account("payouts bot"), treasury, 5)["status"] == "Rejected"
    made = create(strict, document(**between(treasury, hot)))
    fill(strict)
    (row,) = mandated.refills(strict, made)
    assert strict.bind(row.id) == "assigned"
    strict.close()


def test_a_caller_takes_no_number_of_a_refill(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=0)
    made, bot = create(world, document(**between(treasury, hot))), world.service_account("payouts bot")
    for taken in (f"refill/{made}/1", "refill/", "refill/mine"):
        with pytest.raises(InvalidInput, match="begins the ids of refills") as refused:
            world.pay(bot, treasury, 5, external_id=taken)
        assert refused.value.field == "externalId"
    assert fill(world) == 1
    assert [row.external_id for row in mandated.refills(world, made)] == [f"refill/{made}/1"]


def test_a_number_that_somebody_took_before_that_was_refused_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=0)
    made, bot = create(world, document(**between(treasury, hot))), world.service_account("payouts bot")
    with monkeypatch.context() as patch:
        patch.setattr(admit, "EXTERNAL_PREFIX", "/")
        old = world.pay(bot, treasury, 5, external_id=f"refill/{made}/1")
    assert world.pay(bot, treasury, 5, external_id=f"refill/{made}/1")["id"] == old["id"], "it stays what it was"
    assert fill(world) == 1
    assert [row.external_id for row in mandated.refills(world, made)] == [f"refill/{made}/2"]


def test_hours_to_empty_come_from_what_left(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=1000)
    made = create(world, document(**between(treasury, hot)))
    assert "hoursToEmpty" not in mandated.balances(world, made)[0]
    bot = world.service_account("payouts bot")
    paid = world.pay(bot, hot, 60)["id"]
    world.leave(paid)
    assert world.state(paid) == "signed"
    assert mandated.balances(world, made)[0]["hoursToEmpty"] == 940 * 6 // 60
    world.clock.step(micros=7 * HOUR)
    assert "hoursToEmpty" not in mandated.balances(world, made)[0]


def test_a_drained_wallet_is_not_filled(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=0)
    made = create(world, document(**between(treasury, hot)))
    world.drain(hot)
    assert fill(world) == 0
    assert "drained" in mandated.balances(world, made)[0]["waitingReason"]
    world.resume(hot)
    assert fill(world) == 1


def test_a_mandate_waits_for_people_where_policies_are_guarded(council: Council) -> None:
    hot = council.wallet("payouts", dollars=0)
    given = document(**between(council.paying, hot))
    asked = council.call(
        council.admin, "POST", "/v1/mandates", given, "Mandates:Create", lambda act: mandates.create(act, given)
    )
    assert (asked["kind"], asked["operationKind"], asked["loosens"]) == ("Mandate", "Create", True)
    assert in_force(council) == []
    council.agree(asked)
    council.wait(24 * 3600)
    assert in_force(council) == [asked["entityId"]]
    history = council.replayed()
    assert history.mandates[asked["entityId"]].mandate.document() == {**given, "unit": "base"}
    archive(council, asked["entityId"])
    assert in_force(council) == []
    assert council.replayed().mandates[asked["entityId"]].until is not None


def test_an_admin_signs_it_over_the_records_of_now(world: World) -> None:
    treasury, hot = world.wallet(), world.wallet(dollars=0)
    given = document(**between(treasury, hot))
    call = world.sign(world.admin, "POST", "/v1/mandates", given)
    world.tag(hot, "europe")
    with pytest.raises(HeadMoved):
        world.send(
            world.admin,
            call,
            "POST",
            "/v1/mandates",
            given,
            "Mandates:Create",
            lambda act: mandates.create(act, given),
        )
    nobody = world.person("reader@example.com", permitted=False)
    with pytest.raises(NotPermitted):
        world.call(nobody, "POST", "/v1/mandates", given, "Mandates:Create", lambda act: mandates.create(act, given))
