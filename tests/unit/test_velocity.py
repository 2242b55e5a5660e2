"""Velocity: one test for each sentence of design section 6 about what counts within a window."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.core.policy import (
    Action,
    AmountLimit,
    AmountVelocity,
    Block,
    CountVelocity,
    Facts,
    Filters,
    Group,
    Policy,
    RequestApproval,
    Rule,
    evaluate,
)
from outlay.core.seams import DAY, HOUR, MINUTE
from outlay.core.velocity import EMPTY, VALUE_MAX, Scope, Window, countable, entry_of, scope_key
from outlay.store import velocity
from outlay.store.schema import counter_correction, counter_entry, metadata, organization, velocity_counter

NOW = 1_800_000_000_000_000
HOUR_CAP = AmountVelocity(1000, 60, Scope.POLICY)
HOLD = RequestApproval(None, (Group(name=None, quorum=1, approvers=None),))


@pytest.fixture
def unit() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(organization).values(
                id="or-1", epoch=0, root="", head="", head_seq=0, money_settings="", admitted=0, created_at=0
            )
        )
        yield connection


def make(rule: Rule = HOUR_CAP, action: Action | None = None, tag: str | None = None, id: str = "plc-1") -> Policy:
    filters = Filters(tags_any=None if tag is None else (tag,))
    return Policy(id=id, version=1, name="p", rule=rule, action=action or Block(), filters=filters)


def admit(
    unit: sa.Connection,
    policy: Policy,
    transfer: str,
    value: int | None,
    *,
    wallet: str = "w1",
    tags: tuple[str, ...] = (),
    recipient: str = "r1",
    initiator: str = "i1",
) -> velocity.Entry:
    return velocity.admit(
        unit,
        [policy],
        transfer_id=transfer,
        wallet_id=wallet,
        tags=tags,
        recipient=recipient,
        initiator_id=initiator,
        value=value,
    )


def window(
    unit: sa.Connection, policy: Policy, now: int = NOW, *, key: str = "policy", before: int | None = None
) -> Window:
    return velocity.window(unit, policy, key, now=now, before_admitted=before)


# --- open, signed, given back, corrected -----------------------------------------------------------------------


def test_an_entry_is_open_from_admission_and_always_counts(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    assert window(unit, policy, NOW) == window(unit, policy, NOW + 1000 * DAY) == Window(7, 1, 0)


def test_from_the_first_signature_on_it_carries_that_instant(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    assert velocity.sign(unit, "a", NOW) == NOW
    assert window(unit, policy, NOW + HOUR - 1) == Window(7, 1, 0)
    assert window(unit, policy, NOW + HOUR) == EMPTY
    entry = velocity.find_entry(unit, "a")
    assert entry is not None and (entry.state, entry.signed_at) == ("signed", NOW)


def test_a_second_signature_changes_nothing(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    velocity.sign(unit, "a", NOW)
    assert velocity.sign(unit, "a", NOW + DAY) == NOW
    assert window(unit, policy, NOW) == Window(7, 1, 0)
    velocity.correct(unit, "a")
    assert velocity.sign(unit, "a", NOW + DAY) == NOW
    assert window(unit, policy, NOW) == EMPTY


def test_moving_from_open_to_signed_changes_nothing(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    admit(unit, policy, "b", None)
    before = window(unit, policy)
    velocity.sign(unit, "a", NOW)
    velocity.sign(unit, "b", NOW)
    assert window(unit, policy) == before == Window(7, 2, 1)


def test_giving_back_an_unsigned_entry_lowers_the_open_sum(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    admit(unit, policy, "b", 5)
    assert velocity.give_back(unit, "a")
    for before in (None, 99):
        assert window(unit, policy, before=before) == Window(5, 1, 0)
    assert not velocity.give_back(unit, "a")
    assert window(unit, policy) == Window(5, 1, 0)


def test_after_a_signature_nothing_is_given_back(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    velocity.sign(unit, "a", NOW)
    with pytest.raises(InvariantBroken):
        velocity.give_back(unit, "a")
    assert window(unit, policy) == Window(7, 1, 0)


def test_a_correction_leaves_every_window_together_with_its_signature(unit: sa.Connection) -> None:
    policy = make()
    for transfer, value in (("a", 7), ("b", 5), ("c", None)):
        admit(unit, policy, transfer, value)
    velocity.sign(unit, "a", NOW)
    velocity.sign(unit, "b", NOW + HOUR // 2)
    velocity.sign(unit, "c", NOW + HOUR // 2)
    late = NOW + HOUR - 1
    assert window(unit, policy, late) == Window(12, 3, 1)
    assert velocity.correct(unit, "a")
    assert velocity.correct(unit, "c")
    assert window(unit, policy, late) == Window(5, 1, 0)
    # "a" and its correction leave at the same instant: what is left never dips below what was signed.
    assert window(unit, policy, NOW + HOUR) == Window(5, 1, 0)
    assert window(unit, policy, NOW + 2 * HOUR) == EMPTY


def test_a_correction_counts_once(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    admit(unit, policy, "b", 7)
    velocity.sign(unit, "a", NOW)
    velocity.sign(unit, "b", NOW)
    velocity.correct(unit, "a")
    assert not velocity.correct(unit, "a")
    assert window(unit, policy) == Window(7, 1, 0)


def test_only_a_signed_entry_is_corrected(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    with pytest.raises(InvariantBroken):
        velocity.correct(unit, "a")
    velocity.give_back(unit, "a")
    with pytest.raises(InvariantBroken):
        velocity.correct(unit, "a")
    with pytest.raises(InvariantBroken):
        velocity.sign(unit, "a", NOW)


@pytest.mark.parametrize("call", [velocity.give_back, velocity.correct, lambda unit, id: velocity.sign(unit, id, NOW)])
def test_what_was_never_admitted_has_no_entry(unit: sa.Connection, call: object) -> None:
    assert callable(call) and velocity.find_entry(unit, "nobody") is None
    with pytest.raises(InvariantBroken):
        call(unit, "nobody")


def test_held_payouts_cannot_age_out_of_a_window_and_leave_together(unit: sa.Connection) -> None:
    policy = make()
    held = [admit(unit, policy, f"h{place}", 500) for place in range(2)]
    later = NOW + 30 * DAY
    found = evaluate(policy, Facts(value=1, recipient=None), window(unit, policy, later))
    assert found.triggered
    for entry in held:
        velocity.sign(unit, entry.transfer_id, later)
    assert window(unit, policy, later) == Window(1000, 2, 0)


def test_running_totals_are_append_only(unit: sa.Connection) -> None:
    policy = make()
    for place in range(3):
        admit(unit, policy, f"t{place}", 10 + place)
    totals = sa.select(counter_entry.c.transfer_id, counter_entry.c.total_value, counter_entry.c.total_count).where(
        counter_entry.c.signed_at.is_not(None)
    )
    seen: set[tuple[object, ...]] = set()
    for place in (2, 0, 1):
        velocity.sign(unit, f"t{place}", NOW + place)
        now = {tuple(row) for row in unit.execute(totals)}
        assert seen < now
        seen = now
    velocity.correct(unit, "t0")
    assert {tuple(row) for row in unit.execute(totals)} == seen == {("t2", 12, 1), ("t0", 22, 2), ("t1", 33, 3)}


def test_sums_are_exact_beyond_what_a_double_or_64_bits_hold(unit: sa.Connection) -> None:
    policy = make()
    big = 2**190 + 1
    for transfer in ("a", "b", "c"):
        admit(unit, policy, transfer, big)
    velocity.sign(unit, "a", NOW)
    velocity.sign(unit, "b", NOW)
    assert window(unit, policy) == Window(3 * big, 3, 0)
    velocity.correct(unit, "b")
    assert window(unit, policy) == Window(2 * big, 2, 0)


def test_a_value_too_large_to_add_up_is_unknown() -> None:
    assert countable(VALUE_MAX) == VALUE_MAX
    assert countable(VALUE_MAX + 1) is None
    assert entry_of(VALUE_MAX + 1) == entry_of(None) == Window(0, 1, 1)
    with pytest.raises(InvariantBroken):
        countable(-1)


@pytest.mark.parametrize("out", [Window(6, 1, 0), Window(0, 3, 0), Window(0, 1, 2), Window(0, 2, 0)])
def test_no_window_sum_is_ever_negative(out: Window) -> None:
    with pytest.raises(InvariantBroken):
        Window(5, 2, 1).minus(out)


# --- scopes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope.WALLET, "wallet:w1"),
        (Scope.POLICY, "policy"),
        (Scope.ORGANIZATION, "organization"),
        (Scope.RECIPIENT, "recipient:r1"),
        (Scope.INITIATOR, "initiator:i1"),
    ],
)
def test_scope_keys(scope: Scope, expected: str) -> None:
    assert scope_key(scope, wallet_id="w1", recipient="r1", initiator_id="i1") == expected


@pytest.mark.parametrize(
    ("scope", "key", "value"),
    [
        (Scope.WALLET, "wallet:w1", 1 + 4 + 8),
        (Scope.WALLET, "wallet:w2", 2),
        (Scope.WALLET, "wallet:w3", 0),
        (Scope.POLICY, "policy", 1 + 2 + 4 + 8),
        (Scope.ORGANIZATION, "organization", 1 + 2 + 4 + 8 + 16),
        (Scope.RECIPIENT, "recipient:r2", 4),
        (Scope.RECIPIENT, "recipient:r1", 1 + 2 + 8),
        (Scope.INITIATOR, "initiator:i2", 8),
    ],
)
def test_a_counter_belongs_to_policy_lineage_and_scope_key(
    unit: sa.Connection, scope: Scope, key: str, value: int
) -> None:
    policy = make(AmountVelocity(1000, 60, scope), tag="payouts")
    paying = ("payouts",)
    admit(unit, policy, "a", 1, tags=paying)
    admit(unit, policy, "b", 2, tags=paying, wallet="w2")
    admit(unit, policy, "c", 4, tags=paying, recipient="r2")
    admit(unit, policy, "d", 8, tags=paying, initiator="i2")
    admit(unit, policy, "e", 16, wallet="w3")
    assert window(unit, policy, key=key).value == value
    velocity.rebuild(unit, policy, wallets_matching_now={"w1", "w2"}, now=NOW)
    assert window(unit, policy, key=key).value == value


def test_caps_do_not_multiply_with_hot_wallets(unit: sa.Connection) -> None:
    policy = make(AmountVelocity(10, 60, Scope.POLICY))
    admit(unit, policy, "a", 6, wallet="w1")
    found = velocity.windows(unit, [policy], wallet_id="w2", recipient="r1", initiator_id="i1", now=NOW)
    assert evaluate(policy, Facts(value=5, recipient="r1"), found[policy.id]).triggered
    assert not evaluate(policy, Facts(value=4, recipient="r1"), found[policy.id]).triggered


def test_windows_are_those_of_velocity_rules_only(unit: sa.Connection) -> None:
    count = make(CountVelocity(5, 60), id="plc-2")
    limit = make(AmountLimit(5), id="plc-3")
    admit(unit, count, "a", None)
    found = velocity.windows(unit, [limit, count], wallet_id="w1", recipient="r1", initiator_id="i1", now=NOW)
    assert found == {"plc-2": Window(0, 1, 1)}
    with pytest.raises(InvariantBroken):
        window(unit, limit)


# --- unknown values --------------------------------------------------------------------------------------------


def test_an_entry_without_a_value_triggers_until_it_leaves_the_window(unit: sa.Connection) -> None:
    policy = make(AmountVelocity(10**30, 60, Scope.POLICY))
    admit(unit, policy, "a", None)
    velocity.sign(unit, "a", NOW)
    facts = Facts(value=1, recipient=None)
    assert evaluate(policy, facts, window(unit, policy, NOW + HOUR - 1)).triggered
    assert not evaluate(policy, facts, window(unit, policy, NOW + HOUR)).triggered


def test_an_unknown_entry_that_is_given_back_or_corrected_no_longer_triggers(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", None)
    admit(unit, policy, "b", None)
    velocity.give_back(unit, "a")
    velocity.sign(unit, "b", NOW)
    assert window(unit, policy) == Window(0, 1, 1)
    velocity.correct(unit, "b")
    assert window(unit, policy) == EMPTY


# --- time ------------------------------------------------------------------------------------------------------


def test_a_window_is_open_at_its_start_and_closed_at_its_end(unit: sa.Connection) -> None:
    policy = make(AmountVelocity(1000, 1, Scope.POLICY))
    admit(unit, policy, "a", 7)
    velocity.sign(unit, "a", NOW)
    assert window(unit, policy, NOW).count == 1
    assert window(unit, policy, NOW + MINUTE - 1).count == 1
    assert window(unit, policy, NOW + MINUTE).count == 0


def test_instants_are_later_than_the_last_one_when_the_clock_steps_back(unit: sa.Connection) -> None:
    policy = make()
    for transfer in ("a", "b", "c"):
        admit(unit, policy, transfer, 7)
    assert velocity.sign(unit, "a", NOW) == NOW
    assert velocity.sign(unit, "b", NOW - DAY) == NOW + 1
    assert window(unit, policy, NOW - DAY) == Window(21, 3, 0)
    assert velocity.sign(unit, "c", NOW + 1) == NOW + 2
    assert window(unit, policy, NOW + HOUR + 1) == Window(7, 1, 0)


def test_instants_are_later_than_those_of_other_counters_too(unit: sa.Connection) -> None:
    one, two = make(tag="one"), make(tag="two", id="plc-2")
    admit(unit, one, "a", 7, tags=("one",))
    admit(unit, two, "b", 7, wallet="w2", tags=("two",))
    velocity.sign(unit, "a", NOW)
    assert velocity.sign(unit, "b", NOW - HOUR) == NOW + 1


def test_what_was_judged_while_the_clock_was_ahead_is_not_signed_into_the_past(unit: sa.Connection) -> None:
    policy = make()
    entry = admit(unit, policy, "a", 7)
    velocity.windows(
        unit,
        [policy],
        wallet_id="w1",
        recipient="r1",
        initiator_id="i1",
        now=NOW + DAY,
        before_admitted=entry.admitted,
    )
    velocity.rebuild(unit, policy, wallets_matching_now={"w1"}, now=NOW)
    assert velocity.sign(unit, "a", NOW) == NOW + DAY + 1


def test_a_clock_that_was_ahead_makes_windows_hold_more_never_less(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    admit(unit, policy, "b", 5)
    velocity.sign(unit, "a", NOW)
    velocity.sign(unit, "b", NOW + DAY)
    assert window(unit, policy, NOW + DAY) == Window(5, 1, 0)
    assert window(unit, policy, NOW + 1) == Window(12, 2, 0)


def test_looking_at_admission_does_not_move_a_window(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    velocity.sign(unit, "a", NOW)
    velocity.windows(unit, [policy], wallet_id="w1", recipient="r1", initiator_id="i1", now=NOW + DAY)
    assert window(unit, policy, NOW) == Window(7, 1, 0)


# --- judging again ---------------------------------------------------------------------------------------------


def queue(unit: sa.Connection, policy: Policy) -> velocity.Entry:
    """Admit before, itself, after; and of both neighbours one that is signed and one that is corrected."""
    for place, name in enumerate(("open", "signed", "corrected")):
        admit(unit, policy, f"early-{name}", 1 << place)
    mine = admit(unit, policy, "mine", 1 << 10)
    for place, name in enumerate(("open", "signed", "corrected")):
        admit(unit, policy, f"late-{name}", 1 << (place + 3))
    for when in ("early", "late"):
        velocity.sign(unit, f"{when}-signed", NOW)
        velocity.sign(unit, f"{when}-corrected", NOW)
        velocity.correct(unit, f"{when}-corrected")
    return mine


def test_a_block_judged_again_counts_all_signed_and_what_is_open_and_earlier(unit: sa.Connection) -> None:
    policy = make()
    mine = queue(unit, policy)
    early_open, early_signed, late_signed = 1, 2, 1 << 4
    found = window(unit, policy, before=mine.admitted)
    assert found == Window(early_open + early_signed + late_signed, 3, 0)
    assert window(unit, policy, NOW + HOUR + 10, before=mine.admitted) == Window(early_open, 1, 0)


def test_a_request_approval_judged_again_counts_only_what_is_earlier(unit: sa.Connection) -> None:
    policy = make(action=HOLD)
    mine = queue(unit, policy)
    early_open, early_signed = 1, 2
    assert window(unit, policy, before=mine.admitted) == Window(early_open + early_signed, 2, 0)
    assert window(unit, policy, NOW + HOUR + 10, before=mine.admitted) == Window(early_open, 1, 0)


def test_what_was_signed_at_the_start_of_a_window_is_in_none_of_its_sums(unit: sa.Connection) -> None:
    policy = make(action=HOLD)
    mine = admit(unit, policy, "mine", 1)
    admit(unit, policy, "late", 2)
    signed = velocity.sign(unit, "late", NOW)
    for now in (signed, signed + HOUR - 1, signed + HOUR):
        assert window(unit, policy, now, before=mine.admitted) == EMPTY


def test_later_requests_never_poison_earlier_ones(unit: sa.Connection) -> None:
    policy = make(AmountVelocity(10, 60, Scope.POLICY), action=HOLD)
    first = admit(unit, policy, "first", 6)
    late = admit(unit, policy, "late", None)
    velocity.sign(unit, late.transfer_id, NOW)
    facts = Facts(value=6, recipient=None)
    assert not evaluate(policy, facts, window(unit, policy, before=first.admitted)).triggered


# --- edits and tags --------------------------------------------------------------------------------------------


def dump(unit: sa.Connection) -> dict[str, set[tuple[object, ...]]]:
    return {
        table.name: {tuple(row) for row in unit.execute(sa.select(table))}
        for table in (velocity_counter, counter_entry, counter_correction)
    }


def test_rebuilding_without_a_change_changes_nothing(unit: sa.Connection) -> None:
    policy = make()
    queue(unit, policy)
    before = dump(unit)
    velocity.rebuild(unit, policy, wallets_matching_now={"w1"}, now=NOW)
    assert dump(unit) == before
    velocity.rebuild(unit, policy, wallets_matching_now=set(), now=NOW)
    assert dump(unit) == before


def test_a_new_policy_counts_what_was_there_before_it(unit: sa.Connection) -> None:
    other = make(id="plc-0")
    queue(unit, other)
    policy = make(AmountVelocity(5, 60, Scope.WALLET), id="plc-9")
    assert window(unit, policy, key="wallet:w1") == EMPTY
    velocity.rebuild(unit, policy, wallets_matching_now={"w1"}, now=NOW)
    assert window(unit, policy, key="wallet:w1") == window(unit, other)
    assert window(unit, policy, NOW + HOUR + 10, key="wallet:w1") == window(unit, other, NOW + HOUR + 10)


def test_tagging_a_wallet_counts_what_it_sent_before(unit: sa.Connection) -> None:
    policy = make(tag="payouts")
    admit(unit, policy, "a", 7, wallet="w2")
    assert window(unit, policy) == EMPTY
    velocity.rebuild(unit, policy, wallets_matching_now={"w2"}, now=NOW)
    assert window(unit, policy) == Window(7, 1, 0)


def test_scope_organization_counts_what_wallets_outside_the_filters_sent_before(unit: sa.Connection) -> None:
    admit(unit, make(id="plc-0"), "a", 7, wallet="w3")
    policy = make(AmountVelocity(1000, 60, Scope.ORGANIZATION), tag="payouts", id="plc-9")
    velocity.rebuild(unit, policy, wallets_matching_now={"w1"}, now=NOW)
    assert window(unit, policy, key="organization") == Window(7, 1, 0)


def test_untagging_a_wallet_forgets_nothing_it_sent(unit: sa.Connection) -> None:
    policy = make(tag="payouts")
    admit(unit, policy, "a", 7, tags=("payouts",))
    velocity.sign(unit, "a", NOW)
    for _ in range(2):
        velocity.rebuild(unit, policy, wallets_matching_now=set(), now=NOW)
        assert window(unit, policy) == Window(7, 1, 0)


def test_editing_the_timeframe_counts_further_back(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    velocity.sign(unit, "a", NOW - 29 * DAY)
    admit(unit, policy, "b", 5)
    velocity.sign(unit, "b", NOW)
    assert window(unit, policy) == Window(5, 1, 0)
    longer = make(AmountVelocity(1000, 43_200, Scope.POLICY))
    velocity.rebuild(unit, policy, wallets_matching_now={"w1"}, now=NOW)
    velocity.rebuild(unit, longer, wallets_matching_now={"w1"}, now=NOW)
    assert window(unit, longer) == Window(12, 2, 0)
    assert window(unit, longer, NOW + DAY) == Window(5, 1, 0)


def test_an_open_entry_is_counted_however_old_it_is(unit: sa.Connection) -> None:
    policy = make(tag="payouts")
    admit(unit, policy, "a", 7)
    velocity.rebuild(unit, policy, wallets_matching_now={"w1"}, now=NOW + 1000 * DAY)
    assert window(unit, policy, NOW + 1000 * DAY) == Window(7, 1, 0)


def test_what_was_given_back_is_not_counted_again(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    velocity.give_back(unit, "a")
    velocity.rebuild(unit, policy, wallets_matching_now={"w1"}, now=NOW)
    assert window(unit, policy) == EMPTY


def test_editing_the_scope_moves_entries_to_their_new_counters(unit: sa.Connection) -> None:
    policy = make()
    admit(unit, policy, "a", 7)
    admit(unit, policy, "b", 5, wallet="w2")
    edited = make(AmountVelocity(1000, 60, Scope.WALLET))
    velocity.rebuild(unit, edited, wallets_matching_now={"w1", "w2"}, now=NOW)
    assert window(unit, edited, key="wallet:w1") == Window(7, 1, 0)
    assert window(unit, edited, key="wallet:w2") == Window(5, 1, 0)
    assert window(unit, edited, key="policy") == EMPTY
    velocity.sign(unit, "a", NOW)
    velocity.give_back(unit, "b")
    assert window(unit, edited, key="wallet:w1") == Window(7, 1, 0)
    assert window(unit, edited, key="wallet:w2") == EMPTY


def test_a_rule_without_a_window_has_no_counters(unit: sa.Connection) -> None:
    admit(unit, make(), "a", 7)
    velocity.rebuild(unit, make(AmountLimit(5)), wallets_matching_now={"w1"}, now=NOW)
    assert dump(unit) == {"velocity_counter": set(), "counter_entry": set(), "counter_correction": set()}
    velocity.sign(unit, "a", NOW)


def test_entries_are_numbered_in_order_of_admission(unit: sa.Connection) -> None:
    policy = make()
    assert [admit(unit, policy, name, 1).admitted for name in "abc"] == [1, 2, 3]
