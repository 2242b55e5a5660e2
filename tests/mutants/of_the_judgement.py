"""Mutants of what decides whether a payout may go: approvals, policies, windows, prices, evidence, what is asked."""

from tests.mutants.mutant import Mutant, broken

ENEMY = "tests/signer/test_database_is_the_enemy.py"
AGAIN = "tests/actions/test_judging_again.py"
REQUESTS = "tests/actions/test_requests.py"
PROOF = "tests/actions/test_payout_proof.py"
DEMAND, JUDGE, APPROVAL, POLICY = "evidence/demand.py", "actions/judge.py", "core/approval.py", "core/policy.py"
COUNTERS = "store/velocity.py"
REMOVED = f"{AGAIN}::test_decisions_of_people_removed_meanwhile_do_not_count"

APPROVED: tuple[Mutant, ...] = (
    Mutant(
        name="approvals are counted by key",
        file=APPROVAL,
        edits=(
            ("    agreed = {each.user_id for each in valid}\n", "    agreed = [each.user_id for each in valid]\n"),
            (
                "    counted = {\n        user_id\n        for user_id in agreed\n",
                "    counted = {\n        at\n        for at, user_id in enumerate(agreed)\n",
            ),
        ),
        tests=(
            "tests/unit/test_approval.py::test_a_person_counts_once_towards_a_quorum",
            "tests/actions/test_approvals.py::test_two_keys_of_one_person_are_one_vote",
        ),
    ),
    broken(
        "the signer takes two keys of one person for two",
        DEMAND,
        "            decided=people,\n",
        "            decided=(),\n",
        f"{ENEMY}::test_one_person_with_two_keys_is_one_person",
    ),
    broken(
        "a vote of a removed approver counts for the signer",
        DEMAND,
        "        if not decision.key.usable_at(newest):\n",
        "        if not decision.key:\n",
        f"{ENEMY}::test_an_approver_removed_since_does_not_count",
    ),
    broken(
        "a vote counts for the signer after the permission was taken back",
        DEMAND,
        "        if not history.key_may(decision.key, VOTE, newest):\n",
        "        if not decision.key:\n",
        f"{ENEMY}::test_an_approver_who_may_no_longer_vote_does_not_count",
    ),
    broken(
        "a vote of a removed approver counts",
        JUDGE,
        "            is_active=row.is_active and row.is_registered and row.deleted_at is None,\n",
        "            is_active=True,\n",
        REMOVED,
    ),
    broken(
        "a vote by a withdrawn key counts",
        JUDGE,
        "    return users.is_in_use(unit, decision.credential_id) and VOTE in",
        "    return VOTE in",
        "tests/actions/test_credentials.py::test_a_vote_goes_with_its_key_while_the_payout_is_held",
    ),
    broken(
        "a vote counts after the permission was taken back",
        JUDGE,
        "    return users.is_in_use(unit, decision.credential_id) and VOTE in"
        " permissions.operations_of(unit, decision.user_id)",
        "    return users.is_in_use(unit, decision.credential_id)",
        f"{AGAIN}::test_a_vote_does_not_count_after_its_permission_was_taken_back",
    ),
    broken(
        "a vote over other groups counts",
        JUDGE,
        "counts=row.groups_digest == covered and may_still_vote(unit, row),",
        "counts=may_still_vote(unit, row),",
        f"{AGAIN}::test_the_groups_of_an_edited_policy_replace_those_that_approved",
        "tests/actions/test_approvals.py::test_a_policy_edit_of_its_groups_reopens_the_vote",
    ),
    broken(
        "who asked approves",
        APPROVAL,
        "    if user_id == initiator_id and not any(",
        "    if user_id == '' and not any(",
        "tests/unit/test_approval.py::test_the_initiator_may_not_approve_unless_the_group_says_so",
        f"{ENEMY}::test_the_initiator_does_not_approve_what_it_asked_for",
    ),
    broken(
        "who asked counts in a group that does not allow it",
        APPROVAL,
        '        and (user_id != initiator_id or group["initiatorCanApprove"] is True)\n',
        "",
        "tests/unit/test_approval.py::test_an_initiator_in_two_groups_approves_only_in_the_one_that_allows_it",
    ),
    broken(
        "one group of several is enough",
        APPROVAL,
        "    if groups and all(_quorum_reached(",
        "    if groups and any(_quorum_reached(",
        "tests/unit/test_approval.py::test_all_groups_must_reach_quorum",
    ),
    broken(
        "a quorum is one too low",
        APPROVAL,
        '    return len(counted) >= int(group["quorum"])',
        '    return len(counted) + 1 >= int(group["quorum"])',
        "tests/unit/test_approval.py",
    ),
    broken(
        "a decision is about any payout",
        DEMAND,
        "        if preimage.intent_digest != intent_digest:\n",
        "        if not preimage.intent_digest:\n",
        f"{ENEMY}::test_the_decisions_of_another_payout_are_refused",
    ),
    broken(
        "a denial is an approval",
        DEMAND,
        '        if decision.payload.get("value") != "Approved":\n',
        '        if "value" not in decision.payload:\n',
        f"{ENEMY}::test_a_denial_rewritten_as_an_approval_is_refused",
        f"{PROOF}::test_a_denial_is_no_approval",
    ),
)

ASKED: tuple[Mutant, ...] = (
    broken(
        "who was switched off since pays",
        DEMAND,
        "        if not request.key.usable_at(newest):\n",
        "        if not request.key:\n",
        f"{ENEMY}::test_who_was_switched_off_pays_nobody",
    ),
    broken(
        "who is no longer permitted to ask is bound",
        JUDGE,
        "    if REQUEST not in key_operations(unit, key):\n",
        "    if not key:\n",
        f"{AGAIN}::test_who_is_no_longer_permitted_to_ask_pays_nobody",
    ),
    broken(
        "a permission to ask is good for ever",
        DEMAND,
        "        if not history.key_may(request.key, REQUEST, newest):\n",
        "        if not request.key:\n",
        f"{ENEMY}::test_a_permission_that_was_taken_back_is_gone",
    ),
    broken(
        "a switched-off initiator's payout is bound",
        JUDGE,
        "    if initiator is None or not initiator.is_active or not initiator.may_vote:\n",
        "    if initiator is None:\n",
        f"{AGAIN}::test_an_initiator_who_was_switched_off_meanwhile_pays_nobody",
    ),
    broken(
        "a payout asked for with a withdrawn key is bound",
        JUDGE,
        "users.find_credential(unit, row.credential_id) if users.is_in_use(unit, row.credential_id) else None\n",
        "users.find_credential(unit, row.credential_id)\n",
        "tests/actions/test_credentials.py::test_a_request_of_a_withdrawn_key_is_blocked",
    ),
    broken(
        "the signer judges by the policies of the request alone",
        DEMAND,
        "            newest=newest,\n            issued=request.preimage.issued,",
        "            newest=request.seq,\n            issued=request.preimage.issued,",
        f"{ENEMY}::test_a_policy_tightened_after_the_request_asks_what_it_asks_now",
    ),
    broken(
        "the signer judges by the policies of now alone",
        DEMAND,
        "            first=request.seq,\n            newest=newest,\n",
        "            first=newest,\n            newest=newest,\n",
        f"{ENEMY}::test_a_policy_loosened_after_the_request_asks_what_it_asked_then",
    ),
    broken(
        "a policy that asks is left out",
        DEMAND,
        "        if policy_id not in {each.id for each in asked}:\n",
        "        if not policy_id:\n",
        f"{ENEMY}::test_an_approval_that_was_deleted_from_the_rows_leaves_everybody_unasked",
        f"{PROOF}::test_a_policy_that_asks_cannot_be_left_out",
    ),
    broken(
        "a policy that blocks does not",
        "evidence/judged.py",
        '            if answer == "blocks":\n',
        '            if answer == "":\n',
        f"{ENEMY}::test_a_blocked_payout_flipped_to_ready_is_refused",
    ),
    broken(
        "what is bound is not judged again",
        "actions/sending.py",
        "    again = judge_again(work, row)\n",
        "    return True\n    again = judge_again(work, row)\n",
        f"{AGAIN}::test_a_blocking_policy_added_after_approval_blocks",
    ),
    broken(
        "settings that nobody signed bind",
        "actions/sending.py",
        "    require_applied(work.unit, work.config)\n",
        "",
        f"{AGAIN}::test_settings_that_nobody_signed_bind_nothing",
    ),
    broken(
        "settings that nobody signed admit",
        "actions/admit.py",
        "    require_applied(act.unit, act.config)\n",
        "",
        f"{REQUESTS}::test_settings_about_money_that_nobody_signed_admit_nothing",
    ),
    broken(
        "an externalId is forgotten when its payout has ended",
        "actions/admit.py",
        "    if existing is not None:\n",
        '    if existing is not None and existing.state not in ("confirmed", "failed", "rejected"):\n',
        f"{REQUESTS}::test_a_blocked_payout_answers_the_same_again",
        f"{REQUESTS}::test_the_same_intent_is_the_same_object_for_ever",
    ),
    broken(
        "another intent under the same externalId is the first one",
        "actions/admit.py",
        "    if existing.intent_digest == intent_digest:\n",
        "    if existing.intent_digest:\n",
        f"{REQUESTS}::test_another_intent_is_a_conflict_that_names_the_first",
    ),
    broken(
        "a change is signed over a stale head of the records",
        "actions/act.py",
        "        if self.call.preimage.records_head != self.org.head:\n",
        "        if not self.call.preimage.records_head:\n",
        f"{REQUESTS}::test_a_write_that_makes_a_record_needs_the_head_it_was_signed_over",
    ),
    broken(
        "a write is signed over any old head of the records",
        "actions/act.py",
        "    if after is None or after.at < preimage.issued - SECOND:\n",
        "    if after is None:\n",
        f"{REQUESTS}::test_a_write_over_records_of_long_ago_is_refused",
    ),
    broken(
        "what is frozen is admitted",
        "actions/admit.py",
        "    if stopped is not None:\n        raise PreconditionFailed(stopped)\n",
        "",
        "tests/actions/test_unfreeze.py::test_nothing_is_admitted_that_is_stopped_and_the_answer_says_why",
    ),
    broken(
        "a frozen network is not known as such",
        "store/stops.py",
        "    if state is not None and state.frozen_reason is not None:\n        return f",
        '    if state is None and network == "":\n        return f',
        "tests/actions/test_unfreeze.py::test_nothing_is_admitted_on_a_frozen_network",
    ),
)

COUNTED: tuple[Mutant, ...] = (
    broken(
        "a window includes its start",
        COUNTERS,
        'counter_entry.c.signed_at <= sa.bindparam("start")',
        'counter_entry.c.signed_at < sa.bindparam("start")',
        "tests/unit/test_velocity.py::test_a_window_is_open_at_its_start_and_closed_at_its_end",
    ),
    broken(
        "a correction leaves its window before its signature",
        COUNTERS,
        '_of_counter(counter_correction), counter_correction.c.signed_at > sa.bindparam("start")',
        '_of_counter(counter_correction), counter_correction.c.signed_at >= sa.bindparam("start")',
        "tests/unit/test_velocity.py",
    ),
    broken(
        "what was signed at a window's start is taken out of it",
        COUNTERS,
        '        counter_entry.c.signed_at > sa.bindparam("start"),\n        counter_entry.c.admitted >=',
        '        counter_entry.c.signed_at >= sa.bindparam("start"),\n        counter_entry.c.admitted >=',
        "tests/unit/test_velocity.py::test_what_was_signed_at_the_start_of_a_window_is_in_none_of_its_sums",
    ),
    broken(
        "open entries do not count",
        COUNTERS,
        "        return _open_of(counter).plus(signed)\n",
        "        return signed\n",
        "tests/unit/test_velocity.py::test_an_entry_is_open_from_admission_and_always_counts",
    ),
    broken(
        "what ended unpaid stays in its windows",
        "actions/change.py",
        "    if state in ENDS and state is not State.CONFIRMED:\n",
        "    if state not in ENDS and state is State.CONFIRMED:\n",
        "tests/actions/test_velocity.py::test_giving_back_an_unsigned_entry_lowers_the_open_sum",
    ),
    broken(
        "what was paid leaves its windows",
        "actions/change.py",
        "    if state in ENDS and state is not State.CONFIRMED:\n",
        "    if state in ENDS:\n",
        "tests/actions/test_velocity.py::test_what_was_paid_stays_in_its_window",
    ),
    broken(
        "instants follow a clock that goes back",
        "core/velocity.py",
        "    return max(now, last_at + 1)",
        "    return now",
        "tests/unit/test_velocity.py::test_instants_are_later_than_the_last_one_when_the_clock_steps_back",
    ),
    broken(
        "a limit on what leaves triggers when it is reached",
        POLICY,
        "    if total > rule.limit:\n",
        "    if total >= rule.limit:\n",
        "tests/unit/test_policy.py::test_equal_to_a_velocity_limit_does_not_trigger",
    ),
    broken(
        "a limit of a value is compared as a float",
        POLICY,
        "    if facts.value > rule.limit:\n",
        "    if float(facts.value) > float(rule.limit):\n",
        "tests/unit/test_policy.py::test_a_limit_is_exact_where_a_float_is_not",
    ),
    broken(
        "a limit of an amount is compared as a float",
        POLICY,
        "    if amount > limit:\n",
        "    if float(amount) > float(limit):\n",
        "tests/unit/test_policy_kinds.py::test_an_amount_is_compared_exactly",
    ),
    broken(
        "a limit on a sum is compared as a float",
        POLICY,
        "    total = window.value + facts.value\n    if total",
        "    total = float(window.value + facts.value)\n    if total",
        "tests/unit/test_policy.py::test_a_limit_is_exact_where_a_float_is_not",
    ),
    broken(
        "a value is computed as a float",
        "core/money.py",
        "    value: int = -(-scaled // (denominator * 10**decimals))\n",
        "    value: int = int(scaled / (denominator * 10**decimals))\n",
        "tests/unit/test_core_money.py::test_known_values",
    ),
    broken(
        "a value is rounded down",
        "core/money.py",
        "    value: int = -(-scaled // (denominator * 10**decimals))\n",
        "    value: int = scaled // (denominator * 10**decimals)\n",
        "tests/unit/test_core_money.py::test_known_values",
    ),
    broken(
        "a price that is no number passes",
        "core/money.py",
        "    if _DECIMAL.fullmatch(text) is None:\n",
        '    if _DECIMAL.fullmatch(text) is None and text != "NaN":\n',
        "tests/unit/test_core_money.py::test_any_other_spelling_of_a_decimal_is_refused",
        "tests/unit/test_config.py",
    ),
    broken(
        "the signer takes a price that is no number",
        "evidence/judged.py",
        "    return price if price is not None and price.is_finite() and price > 0 else None",
        "    return price",
        "tests/unit/test_judged_prices.py",
    ),
    broken(
        "an unknown value is below every limit",
        POLICY,
        '        return "What the transfer is worth is not known: there is no fresh price."\n    if facts.value >',
        "        return None\n    if facts.value >",
        "tests/unit/test_policy.py::test_unknown_price_triggers",
    ),
)

MUTANTS: tuple[Mutant, ...] = (*APPROVED, *ASKED, *COUNTED)
