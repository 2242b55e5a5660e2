"""Mutants of what leads from a ready payout to its end: lanes, the order of sending, finality, nodes, webhooks."""

from tests.mutants.mutant import Mutant, broken

LANES, SEND, CONFIRM = "store/lanes.py", "engine/send.py", "engine/confirm.py"
SENDING, FINALITY, RPC, EVM = "actions/sending.py", "actions/finality.py", "chains/rpc.py", "chains/evm.py"
EFFECT, EGRESS, LANE = "core/effect.py", "engine/egress.py", "core/lane.py"
ROWS = "tests/store/test_lanes.py"
SENDS, VIEWS, WORKERS = (f"tests/scenarios/test_{name}.py" for name in ("sends", "views", "workers"))
ORDER = "tests/scenarios/test_order.py"
MISMATCH = "tests/unit/test_effect_and_fees.py::test_anything_else_is_a_mismatch_and_the_true_outflow_is_told"
LOST_LANE = f"{ROWS}::test_who_lost_the_lane_moves_nothing_any_more"
TAKEN_BACK = f"{ROWS}::test_what_was_signed_is_never_taken_back"
TOO_LOW = f"{SENDS}::test_a_send_that_is_called_too_low_because_it_is_mined_gets_no_second_nonce"
URLS = "tests/unit/test_egress.py"

IN_LANES: tuple[Mutant, ...] = (
    broken(
        "a nonce is bound without compare-and-set",
        LANES,
        '_TAKE_NONCE = _AT_FENCE.where(lane.c.next_nonce == sa.bindparam("read_nonce"))\n',
        "_TAKE_NONCE = _AT_FENCE\n",
        f"{ROWS}::test_a_nonce_that_was_read_too_early_is_not_bound",
    ),
    broken(
        "nonces settle in any order",
        LANES,
        '_SETTLE_NONCE = _AT_FENCE.where(lane.c.settled_nonce == sa.bindparam("read_nonce"))\n',
        "_SETTLE_NONCE = _AT_FENCE\n",
        f"{ROWS}::test_nonces_settle_in_order_and_once",
    ),
    broken(
        "two slots share a nonce",
        "store/schema.py",
        '    sa.UniqueConstraint("wallet_id", "nonce"),\n',
        "",
        f"{ROWS}::test_a_nonce_is_bound_once",
    ),
    broken(
        "the fence is dropped from every WHERE",
        LANES,
        '    lane.c.wallet_id == sa.bindparam("of_wallet"), lane.c.fence == sa.bindparam("at_fence")\n',
        '    lane.c.wallet_id == sa.bindparam("of_wallet"), sa.bindparam("at_fence") > -1\n',
        LOST_LANE,
    ),
    broken(
        "a stale fence holds the lane",
        LANES,
        "    if held.rowcount != 1:\n",
        "    if held.rowcount > 1:\n",
        LOST_LANE,
    ),
    broken(
        "a stale fence binds",
        LANES,
        '    if moved.rowcount != 1:\n        raise InvariantBroken(f"the lane of',
        '    if moved.rowcount > 1:\n        raise InvariantBroken(f"the lane of',
        LOST_LANE,
    ),
    broken(
        "a stale fence settles",
        LANES,
        '    if moved.rowcount != 1:\n        raise InvariantBroken(f"nonce {nonce}',
        '    if moved.rowcount > 1:\n        raise InvariantBroken(f"nonce {nonce}',
        LOST_LANE,
    ),
    broken(
        "a lane changes hands under the same fence",
        LANES,
        "row.fence if row.holder == holder else row.fence + 1",
        "row.fence",
        LOST_LANE,
        f"{ROWS}::test_a_lane_is_held_by_one_worker_until_its_lease_ends",
    ),
    broken(
        "a lease is taken before it ends",
        LANES,
        "row.leased_until is not None and row.leased_until > now:",
        "row.leased_until is not None and row.leased_until > now + 1_000_000:",
        f"{ROWS}::test_a_lane_is_held_by_one_worker_until_its_lease_ends",
    ),
    broken(
        "signed bytes are replaced",
        LANES,
        "_SIGN_ATTEMPT = _TOUCH_ATTEMPT.where(attempt.c.raw.is_(None))",
        "_SIGN_ATTEMPT = _TOUCH_ATTEMPT",
        f"{ROWS}::test_signed_bytes_are_stored_once_and_never_replaced",
    ),
    broken(
        "a signed attempt is dropped",
        LANES,
        "sa.delete(attempt).where(attempt.c.id == attempt_id, attempt.c.raw.is_(None))",
        "sa.delete(attempt).where(attempt.c.id == attempt_id)",
        f"{ROWS}::test_signed_bytes_are_stored_once_and_never_replaced",
    ),
    broken(
        "a signed slot is taken back",
        LANES,
        '    if any(slot.state != "bound" for slot in slots) or attempts_gone != len(slots):\n',
        "    if attempts_gone != len(slots):\n",
        TAKEN_BACK,
    ),
    broken(
        "a slot with a signed attempt is taken back",
        LANES,
        '    if any(slot.state != "bound" for slot in slots) or attempts_gone != len(slots):\n',
        '    if any(slot.state != "bound" for slot in slots):\n',
        TAKEN_BACK,
    ),
)

IN_ORDER: tuple[Mutant, ...] = (
    broken(
        "what is signed is sent before it is stored",
        SEND,
        "        if signed:\n            await self._write(store)\n",
        "        if signed:\n            await self._chains[wallet.network].send_raw([each.raw for each in signed])\n"
        "            await self._write(store)\n",
        f"{ORDER}::test_nothing_is_sent_before_its_bytes_are_stored",
    ),
    broken(
        "a payout is released when the signer does not answer",
        SEND,
        "        answers = await self._signer.sign(requests)\n        if any(",
        "        try:\n            answers = await self._signer.sign(requests)\n"
        "        except SignerUnavailable:\n            first = asked[0].attempt.nonce\n"
        "            await self._write(lambda work: sending.release_tail(work, wallet.id, fence, first, {}))\n"
        "            raise\n        if any(",
        f"{ORDER}::test_without_an_answer_of_the_signer_nothing_is_released",
    ),
    broken(
        "a payout is released without asking the journal",
        SEND,
        "        raised, held = await self._outrun(wallet, fence, names)\n",
        "        raised, held = fence, frozenset[str]()\n",
        f"{ORDER}::test_a_refused_payout_is_released_only_when_the_journal_does_not_hold_it",
        f"{ORDER}::test_once_released_nobody_signs_for_the_worker_before",
    ),
    broken(
        "a payout is released though the journal holds it",
        SEND,
        "        if held:\n            await self._take_bytes",
        "        if held is None:\n            raise _FenceMoved",
        f"{ORDER}::test_a_refused_payout_is_released_only_when_the_journal_does_not_hold_it",
    ),
    broken(
        "a payout is released under the fence of what may still be on its way",
        SEND,
        "        raised = await self._db.write(lambda unit: lanes.raise_fence(unit, wallet.id, fence=fence))\n",
        "        raised = fence\n",
        f"{ORDER}::test_once_released_nobody_signs_for_the_worker_before",
    ),
    broken(
        "stored bytes are sent without a look at their hash",
        SEND,
        "    if tx_hash(raw) != row.hash:\n",
        "    if not raw:\n",
        f"{ORDER}::test_bytes_that_changed_in_the_database_are_not_sent",
    ),
    broken(
        'a payout is bound again on "nonce too low"',
        SEND,
        '        fault("send.after_send")\n',
        '        fault("send.after_send")\n'
        "        for row, answer in zip(due, answers, strict=True):\n"
        "            if answer.kind is SendKind.NONCE_TOO_LOW:\n"
        "                await self._write(lambda work, row=row: [work.unit.exec_driver_sql(text) for text in (\n"
        "                    f\"UPDATE transfer SET state = 'ready', transaction_id = NULL"
        " WHERE transaction_id = '{row.transaction_id}'\",\n"
        "                    f\"DELETE FROM attempt WHERE transaction_id = '{row.transaction_id}'\",\n"
        '                    f"DELETE FROM \\"transaction\\" WHERE id = \'{row.transaction_id}\'",\n'
        "                )])\n",
        TOO_LOW,
    ),
    broken(
        "a slot that is to be voided is paid by",
        SENDING,
        "    if purpose == PAYOUT and (row.void_reason is not None or any(each.purpose == VOID for each in known)):\n",
        "    if purpose == '':\n",
        f"{ORDER}::test_a_slot_that_is_to_be_voided_takes_no_payment",
    ),
    broken(
        "a voided slot is bumped",
        LANE,
        "    if slot.voided:\n",
        "    if not slot.offers:\n",
        "tests/unit/test_lane.py::test_a_slot_that_was_voided_is_never_paid_by_again",
    ),
    broken(
        "a bump raises less than a node wants",
        "core/fees.py",
        "BUMP_NUMERATOR, BUMP_DENOMINATOR = 9, 8",
        "BUMP_NUMERATOR, BUMP_DENOMINATOR = 11, 10",
        "tests/unit/test_lane.py",
    ),
    broken(
        "a void does not fit above a payout at its cap",
        "core/fees.py",
        "    return fee_cap * BUMP_DENOMINATOR**2 // (BUMP_NUMERATOR**2 * gas_limit)",
        "    return fee_cap // gas_limit",
        "tests/unit/test_effect_and_fees.py::test_two_bumps_above_the_ceiling_stay_within_the_cap",
        "tests/unit/test_lane.py",
    ),
    broken(
        "what is frozen is bound",
        SENDING,
        "        if stopped is not None:\n            return stopped\n",
        "",
        "tests/actions/test_judging_again.py::test_what_was_frozen_meanwhile_is_not_bound",
    ),
    broken(
        "what stands for a network on another chain is bound",
        SENDING,
        '    if waits is None and (network is None or network.chain_id != row.intent["chainId"]):\n',
        "    if waits is None and network is None:\n",
        "tests/actions/test_judging_again.py::test_what_was_asked_for_another_chain_is_not_bound",
    ),
)

FINAL: tuple[Mutant, ...] = (
    broken(
        "a payout is confirmed at the newest block",
        CONFIRM,
        "            final = await chain.final()\n",
        "            final = await chain.head()\n",
        f"{VIEWS}::test_a_revert_that_is_not_final_may_still_become_a_payment",
    ),
    broken(
        "finality counts one block too few",
        EVM,
        "        return max(0, head - (self._finality.blocks or 1) + 1)\n",
        "        return max(0, head - (self._finality.blocks or 1) + 2)\n",
        "tests/chains/test_evm_answers.py::test_the_final_block_follows_the_rule",
    ),
    broken(
        "a receipt of a block that is gone is final",
        CONFIRM,
        "canonical.get(receipt.block_number) != receipt.block_hash:",
        "receipt.block_number not in canonical:",
        f"{VIEWS}::test_while_nodes_follow_two_forks_nothing_ends",
        f"{ORDER}::test_a_receipt_of_another_block_ends_nothing",
    ),
    broken(
        "a missing receipt is a failure",
        CONFIRM,
        "            self._unseen_since.pop(wallet.id, None)\n            return None\n",
        "            self._unseen_since.pop(wallet.id, None)\n            return None\n"
        "        return Consumed(hash='0x', block_number=final.number)\n",
        f"{VIEWS}::test_a_missing_receipt_of_a_mined_transaction_is_no_failure",
    ),
    broken(
        "foreign use is concluded at once",
        CONFIRM,
        "        if now - since < self._config.sending.unseen_max_s * SECOND:\n",
        "        if now < since:\n",
        f"{WORKERS}::test_after_foreign_use_of_the_key_nothing_is_raised_or_sent",
    ),
    broken(
        "foreign use of a nonce is not noticed",
        CONFIRM,
        "        if lowest.receipt is not None or used <= slot.nonce:\n",
        "        if lowest.receipt is not None or used >= 0:\n",
        f"{WORKERS}::test_after_foreign_use_of_the_key_nothing_is_raised_or_sent",
    ),
    broken(
        "foreign use of later nonces is not noticed",
        "engine/balance.py",
        "        if nonce > ours:\n",
        "        if nonce < 0:\n",
        f"{ORDER}::test_a_transaction_that_nobody_asked_for_stops_the_wallet",
    ),
    broken(
        "money that is missing is not noticed",
        "engine/balance.py",
        "            elif balance < held:\n                text = f",
        "            elif balance < 0:\n                text = f",
        f"{ORDER}::test_missing_money_stops_the_wallet",
    ),
    broken(
        "a reorganisation deeper than the rule is not noticed",
        CONFIRM,
        "            if found != known.final_hash:\n",
        "            if not found:\n",
        f"{VIEWS}::test_a_reorganisation_deeper_than_the_rule_stops_the_network",
    ),
    broken(
        "a void confirms its payout",
        CONFIRM,
        "            if attempt.purpose == VOID:\n                if not",
        "            if attempt.purpose == '':\n                if not",
        f"{ORDER}::test_a_void_is_no_payment",
        f"{SENDS}::test_what_was_dropped_long_ago_is_alive_until_something_else_takes_its_nonce",
    ),
    broken(
        "a wrong effect ends a payout",
        FINALITY,
        '        if each.effect.kind != "mismatch"\n    ]\n',
        "    ]\n",
        f"{ORDER}::test_a_token_that_says_something_else_confirms_nothing",
    ),
    broken(
        "the Transfer log is not looked at",
        EFFECT,
        "    left = [each for each in movements if each.contract == contract and each.sender == wallet]\n",
        '    return Effect(kind="exact", outflow=amount)\n    left = list(movements)\n',
        MISMATCH,
    ),
    broken(
        "any contract's Transfer log is one",
        EFFECT,
        "if each.contract == contract and each.sender == wallet]",
        "if each.sender == wallet]",
        MISMATCH,
    ),
    broken(
        "any payer's Transfer log is one",
        EFFECT,
        "if each.contract == contract and each.sender == wallet]",
        "if each.contract == contract]",
        MISMATCH,
    ),
    broken(
        "any recipient's Transfer log is one",
        EFFECT,
        "left[0].recipient == recipient and left[0].amount == amount:",
        "left[0].amount == amount:",
        MISMATCH,
    ),
    broken(
        "any amount in a Transfer log is right",
        EFFECT,
        "left[0].recipient == recipient and left[0].amount == amount:",
        "left[0].recipient == recipient:",
        MISMATCH,
    ),
    broken(
        "amounts of a Transfer log are compared as floats",
        EFFECT,
        "left[0].recipient == recipient and left[0].amount == amount:",
        "left[0].recipient == recipient and float(left[0].amount) == float(amount):",
        "tests/unit/test_effect_and_fees.py::test_amounts_that_a_float_takes_for_equal_are_not",
    ),
    broken(
        "a reverted coin payment is one",
        EFFECT,
        '    if status == 1:\n        return Effect(kind="exact"',
        '    if status in (0, 1):\n        return Effect(kind="exact"',
        "tests/unit/test_effect_and_fees.py::test_a_coin_payment_did_what_its_status_says",
    ),
)

TOLD: tuple[Mutant, ...] = (
    broken(
        "one node's word decides",
        RPC,
        "        if not self.agreement:\n            return await self.read(calls)\n",
        "        if calls:\n            return await self.read(calls)\n",
        f"{VIEWS}::test_a_receipt_that_one_node_made_up_confirms_nothing",
    ),
    broken(
        "of nodes that disagree one is believed",
        RPC,
        "    return alike[0] if len(alike) == 1 else None\n",
        "    return told[0] if told else None\n",
        f"{VIEWS}::test_a_revert_that_one_node_made_up_fails_nothing",
    ),
    broken(
        "a value beside nothing is agreed",
        RPC,
        "if told.count(answer) > 1 and",
        "if told.count(answer) > 0 and",
        f"{VIEWS}::test_a_receipt_that_one_node_made_up_confirms_nothing",
        f"{VIEWS}::test_a_missing_receipt_of_a_mined_transaction_is_no_failure",
    ),
    broken(
        "one node is enough where two have to agree",
        RPC,
        "        if calls and answered < 2:\n",
        "        if calls and answered < 1:\n",
        "tests/chains/test_agreement.py::test_one_endpoint_alone_decides_nothing",
    ),
    broken(
        "a node of another chain is believed",
        "chains/endpoint.py",
        "        if chain_id != self._chain_id:",
        "        if chain_id < 0:",
        "tests/chains/test_reads.py",
    ),
    broken(
        "an answer with an unknown wording is a refusal",
        "chains/answers.py",
        "if row.text in lowered), SendKind.UNKNOWN)",
        "if row.text in lowered), SendKind.REFUSED)",
        "tests/chains/test_sends.py",
        "tests/chains/test_wording.py",
    ),
    broken(
        "a node's redirect is followed",
        "chains/transport.py",
        "allow_redirects=False",
        "allow_redirects=True",
        "tests/chains/test_http.py::test_http_follows_no_redirect",
    ),
    broken(
        "a webhook's redirect is followed",
        EGRESS,
        "allow_redirects=False",
        "allow_redirects=True",
        f"{URLS}::test_anything_but_200_is_a_failure_and_no_redirect_is_followed",
    ),
    Mutant(
        name="a webhook's address is judged before it is resolved only",
        file=EGRESS,
        edits=(
            ("        self._judge(addresses)\n        return [", "        return ["),
            ("        self._judge([str(address[0])])\n", ""),
        ),
        tests=(f"{URLS}::test_a_name_that_is_rebound_after_the_check_is_refused_at_the_call",),
    ),
    broken(
        "an address at the socket is not judged",
        EGRESS,
        "        self._judge([str(address[0])])\n",
        "",
        f"{URLS}::test_the_socket_itself_refuses_what_slips_through",
    ),
    broken(
        "one good address makes up for a bad one",
        EGRESS,
        "        self._judge(addresses)\n        return [",
        "        self._judge(addresses[:1])\n        return [",
        f"{URLS}::test_no_address_of_a_name_with_a_bad_one_is_called",
        f"{URLS}::test_one_private_answer_among_public_ones_refuses_the_name",
    ),
    broken(
        "a mapped address is another one",
        EGRESS,
        "        parsed = parsed.ipv4_mapped or parsed\n",
        "",
        URLS,
    ),
)

RECOVERED: tuple[Mutant, ...] = (
    broken(
        "writes are taken before recovery is done",
        "web/app.py",
        "        if request.method not in READING and not gate.is_open():\n",
        "        if request.method not in READING and gate is None:\n",
        "tests/recovery/test_gate.py",
    ),
    broken(
        "recovery leaves out what the journal holds",
        "engine/recover.py",
        "                changed += readmit(work, history, _kept(slot))\n",
        "",
        "tests/recovery/test_restore.py",
    ),
    broken(
        "fences of an older copy stay as they were",
        "engine/recover.py",
        "        await self._raise_fences(fences)\n",
        "",
        "tests/recovery/test_restore.py::test_fences_of_an_older_copy_are_raised",
    ),
    broken(
        "a database that went another way is served",
        "engine/recover.py",
        "hashes[status.record_seq] != status.record_head:",
        "not status.record_head:",
        "tests/recovery/test_restore.py::test_a_database_that_went_another_way_is_not_served",
    ),
)

MUTANTS: tuple[Mutant, ...] = (*IN_LANES, *IN_ORDER, *FINAL, *TOLD, *RECOVERED)
