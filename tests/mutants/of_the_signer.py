"""Mutants of the signer: what it checks, keeps, and lets out."""

from tests.mutants.mutant import Mutant, broken

SIGNING = "tests/signer/test_signing.py"
ENEMY = "tests/signer/test_database_is_the_enemy.py"
JOURNAL = "tests/unit/test_journal.py"
MEMORY, CORE, BATCH, CHECKS = "signer/memory.py", "signer/core.py", "signer/batch.py", "signer/checks.py"
WINDOWS, FILE, ROWS = "signer/windows.py", "signer/journal.py", "signer/journal_rows.py"
CONTRADICTS = f"{SIGNING}::test_what_contradicts_the_journal_is_refused"
BUMP = f"{SIGNING}::test_a_fee_bump_keeps_nonce_and_payment"
STOPS = "tests/signer/test_stops.py"
CAPS = "tests/signer/test_caps.py"
CRASHES = "tests/signer/test_crashes.py"
LOST = "tests/signer/test_lost_journal.py"
FREEZE = f"{STOPS}::test_a_freeze_stops_new_signatures_until_it_is_lifted"
LEADER = f"{STOPS}::test_only_the_newest_leader_of_a_lane_is_followed"

FENCED: tuple[Mutant, ...] = (
    broken(
        "the signer follows a lower fence",
        MEMORY,
        "    if fence < key.fence:\n        message = f",
        "    if fence < 0:\n        message = f",
        LEADER,
    ),
    broken("the signer forgets the fence", MEMORY, "        rows.set_fence(key.wallet_id, fence)\n", "", STOPS),
    broken(
        "the signer's fence goes back",
        ROWS,
        "wallet_id = ? AND fence < ?",
        "wallet_id = ? AND -1 < ?",
        f"{JOURNAL}::test_fences_and_chains_never_go_back",
    ),
    broken(
        "asking the journal fences nobody off",
        CORE,
        "            follow_fence(rows, state, key, fence)\n            return",
        "            return",
        f"{STOPS}::test_what_the_journal_does_not_hold_stays_unsigned",
    ),
    broken(
        "the journal denies what it holds",
        CORE,
        "if rows.slot_of_transfer(each) is not None)",
        "if rows.slot_of_transfer(each) is None)",
        f"{STOPS}::test_what_the_journal_does_not_hold_stays_unsigned",
    ),
)

JOURNALED: tuple[Mutant, ...] = (
    broken(
        "a signature leaves though the commit failed",
        FILE,
        '                raise SignerUnavailable(f"the journal cannot be written: {error}") from error\n'
        "            except BaseException:",
        "                return\n            except BaseException:",
        f"{CRASHES}::test_a_commit_that_fails_lets_nothing_out",
    ),
    broken(
        "the journal is not synced to disk",
        FILE,
        '"synchronous = FULL"',
        '"synchronous = OFF"',
        f"{JOURNAL}::test_commits_are_durable_at_once",
    ),
    broken(
        "a lost journal is replaced by an empty one",
        FILE,
        "        if not path.is_file():\n            raise SignerUnavailable(",
        "        if not path.is_file():\n"
        '            return cls.create(path, root=root or "", keystore_id=keystore_id)\n'
        "            raise SignerUnavailable(",
        f"{JOURNAL}::test_a_missing_journal_is_never_replaced_by_an_empty_one",
    ),
    broken(
        "an edited journal opens",
        FILE,
        "if not chained or entry.digest() != entry.hash or",
        "if not chained or",
        f"{JOURNAL}::test_an_edited_or_lost_entry_shows_when_the_journal_opens",
    ),
    broken(
        "the same request is signed anew",
        BATCH,
        "        if known is not None:\n            return Signed(",
        "        if known is not None and known.sequence < 0:\n            return Signed(",
        f"{SIGNING}::test_the_same_request_gives_the_same_bytes_for_ever",
    ),
    broken(
        "the file lets a slot be paid after its void",
        ROWS,
        "AND nonce = NEW.nonce AND purpose = 'void'",
        "AND nonce = NEW.nonce AND purpose = 'none'",
        f"{JOURNAL}::test_the_file_itself_refuses_a_payment_after_a_void",
    ),
    broken(
        "the file gives a transfer two slots",
        ROWS,
        "        transfer_id TEXT UNIQUE,\n",
        "        transfer_id TEXT,\n",
        f"{JOURNAL}::test_the_file_itself_refuses_a_second_owner",
    ),
    broken(
        "the file gives an externalId two transfers",
        ROWS,
        "        external_id TEXT UNIQUE,\n",
        "        external_id TEXT,\n",
        f"{JOURNAL}::test_the_file_itself_refuses_a_second_owner",
    ),
    broken(
        "the journal does not know a transfer at another nonce",
        BATCH,
        '        if at is not None:\n            message = f"transfer',
        '        if at is None:\n            message = f"transfer',
        f"{ENEMY}::test_a_paid_payout_is_not_paid_again_at_another_nonce",
        CONTRADICTS,
    ),
    broken(
        "an externalId pays twice",
        BATCH,
        '        if owner is not None:\n            message = f"externalId',
        "        if owner == '':\n            message = f\"externalId",
        f"{ENEMY}::test_two_payouts_do_not_share_an_external_id",
        CONTRADICTS,
    ),
    broken(
        "a signed call pays twice",
        BATCH,
        "            if self._rows.is_used(challenge):",
        "            if False:",
        f"{ENEMY}::test_a_paid_request_without_external_id_is_not_paid_again_under_a_new_id",
    ),
    broken(
        "a refusal does not end its wallet's batch",
        BATCH,
        "                self._refused.add(request.wallet_id)\n",
        "                self._refused.discard(request.wallet_id)\n",
        f"{SIGNING}::test_a_refusal_ends_its_wallet_and_no_other",
    ),
    broken(
        "nonces of a batch stand in any order",
        BATCH,
        "        if request.nonce < self._nonces.get(request.wallet_id, 0):",
        "        if request.nonce < 0:",
        f"{SIGNING}::test_a_batch_holds_the_nonces_of_a_wallet_in_order",
    ),
)

REPLACING: tuple[Mutant, ...] = (
    broken(
        "a slot is paid by another transfer",
        BATCH,
        "        if request.transfer_id != slot.transfer_id and (",
        "        if request.transfer_id is None and (",
        CONTRADICTS,
    ),
    broken(
        "a slot is paid after its void",
        CHECKS,
        "        if request.purpose is Purpose.PAYOUT and before.purpose is Purpose.VOID:",
        "        if request.purpose is None:",
        f"{SIGNING}::test_nothing_is_paid_from_a_slot_that_was_voided",
    ),
    broken(
        "a bump raises less than 12.5 %",
        CHECKS,
        "    return new > old and new * BUMP_DENOMINATOR >= old * BUMP_NUMERATOR",
        "    return new > old",
        CONTRADICTS,
        BUMP,
    ),
    broken(
        "a bump raises one fee of two",
        CHECKS,
        "        if not all(raised):",
        "        if not any(raised):",
        CONTRADICTS,
    ),
    broken(
        "a bump is compared with the first attempt only",
        CHECKS,
        "    for before in attempts:\n",
        "    for before in attempts[:1]:\n",
        BUMP,
        CONTRADICTS,
    ),
    broken(
        "a bump changes the gas limit",
        CHECKS,
        "request.gas_limit != before.gas_limit:",
        "request.gas_limit < before.gas_limit:",
        CONTRADICTS,
    ),
    broken(
        "a bump lifts the fee cap",
        CHECKS,
        "    if request.fee_cap > fee_cap:\n",
        "    if request.fee_cap < 0:\n",
        CONTRADICTS,
        f"{SIGNING}::test_a_bump_may_reach_the_frozen_fee_cap_exactly",
    ),
    broken(
        "a fee may exceed its cap",
        CHECKS,
        "    if request.gas_limit * request.max_fee_per_gas > request.fee_cap:",
        "    if request.max_fee_per_gas > request.fee_cap:",
        f"{SIGNING}::test_a_malformed_request_is_refused_and_leaves_no_trace",
    ),
    broken(
        "a void pays somebody",
        CHECKS,
        '    return _transaction(request, chain_id, payer, 0, b"")',
        '    return _transaction(request, chain_id, payer, 1, b"")',
        f"{SIGNING}::test_a_void_outbids_and_pays_nobody",
    ),
    broken(
        "a void opens a new slot at the end of the lane",
        BATCH,
        "        if not lowest < request.nonce < highest and not least - GAP_MAX <= request.nonce < least:",
        "        if not lowest < request.nonce and not least - GAP_MAX <= request.nonce < least:",
        f"{SIGNING}::test_a_void_has_its_limits",
    ),
    broken(
        "a payment far ahead opens gaps to burn fees in",
        BATCH,
        "        if 0 <= highest < request.nonce - GAP_MAX:",
        "        if 0 <= highest < request.nonce - 10**9:",
        f"{SIGNING}::test_one_payment_far_ahead_opens_no_hundred_gaps_to_burn_fees_in",
    ),
    broken(
        "a policy whose price is not known does not ask at the signer",
        "signer/checks.py",
        "            unknown_triggers=True,",
        "            unknown_triggers=False,",
        f"{ENEMY}::test_a_policy_that_cannot_tell_the_value_asks",
    ),
    broken(
        "a request is signed over an old head that suits it",
        "evidence/state.py",
        "        if seq + 1 < len(self.instants) and preimage.issued > self.instants[seq + 1] + CLOCKS_APART:",
        "        if seq + 1 < 0:",
        f"{ENEMY}::test_a_request_over_an_old_head_is_refused",
    ),
)

EVIDENCE: tuple[Mutant, ...] = (
    broken(
        "the signer goes back to older records",
        CORE,
        "if known is None or known.numbers.get(record_hash(document)) != number:",
        "if known is None:",
        f"{ENEMY}::test_records_rolled_back_are_not_followed",
        f"{ENEMY}::test_a_chain_signed_again_with_new_keys_is_refused",
    ),
    broken(
        "the signer does not keep the records it accepted",
        CORE,
        "        rows.add_record(number, self._replay.add(document), text)\n",
        "        self._replay.add(document)\n",
        f"{ENEMY}::test_records_rolled_back_are_not_followed",
        f"{SIGNING}::test_status_tells_the_position",
    ),
    broken(
        "a record is taken without its signature",
        "evidence/history.py",
        '    if preimage.records_head != document["prev"]:',
        "    if False:",
        "tests/unit/test_history_signers.py::test_a_signature_over_an_older_head_is_refused",
    ),
    broken(
        "what was signed over unknown records is believed",
        CHECKS,
        "        if records_head(history, call) not in history.numbers:",
        "        if records_head(history, call) == '':",
        ENEMY,
    ),
    broken(
        "a wallet's record names another key",
        CHECKS,
        "    if (wallet.address.lower(), wallet.public_key) != (key.address, key.public_key):",
        "    if not wallet.address:",
        f"{ENEMY}::test_a_wallet_with_a_key_of_the_attackers_is_not_signed_for",
    ),
    broken(
        "a network means another chain",
        CHECKS,
        "    if not is_its_chain(history, wallet):",
        "    if history is None:",
        f"{ENEMY}::test_a_network_pointed_at_another_chain_is_not_signed_for",
    ),
    broken(
        "a wallet signs for two chains",
        CHECKS,
        "    if key.chain_id not in (None, wallet.chain_id):",
        "    if key.chain_id == -1:",
        f"{SIGNING}::test_a_wallet_that_has_signed_for_one_chain_signs_for_no_other",
    ),
    broken(
        "a request is about another wallet",
        CHECKS,
        "    if checked.wallet_id != payer:",
        "    if not checked.wallet_id:",
        f"{ENEMY}::test_another_wallet_in_the_row_is_refused",
        f"{SIGNING}::test_contradictions_within_a_batch_see_those_before_them",
    ),
    broken(
        "the fee cap comes from the caller",
        BATCH,
        "        if request.fee_cap > signed:",
        "        if request.fee_cap < 0:",
        f"{ENEMY}::test_a_raised_fee_cap_is_refused",
    ),
    broken(
        "an asset's fee cap is passed over",
        CHECKS,
        "    if found is None and isinstance(chain, dict):",
        "    if isinstance(chain, dict):",
        f"{ENEMY}::test_a_fee_cap_of_an_asset_goes_before_that_of_its_network",
    ),
    broken(
        "a request is good for ever",
        CHECKS,
        "    if now - issued > max_age_s * SECOND:",
        "    if now - issued < -(10**18):",
        f"{ENEMY}::test_a_payout_of_last_month_is_not_paid_today",
    ),
    broken(
        "nobody, the payer or the token is paid",
        CHECKS,
        "    if recipient in (ZERO, payer) or (not native and recipient == target):",
        "    if recipient is None:",
        f"{SIGNING}::test_nobody_the_payer_and_the_token_are_not_paid",
    ),
    broken(
        "a signature is not verified before it leaves",
        "signer/keys.py",
        '            raise InvariantBroken(f"a signature of',
        '            print(f"a signature of',
        f"{SIGNING}::test_a_signature_that_does_not_verify_never_leaves",
    ),
)

STOPPED: tuple[Mutant, ...] = (
    broken(
        "a freeze of everything stops nothing",
        BATCH,
        '        self._check_stopped(Scope.ALL, "")\n',
        "",
        FREEZE,
    ),
    broken(
        "a frozen wallet signs",
        BATCH,
        "        self._check_stopped(Scope.WALLET, request.wallet_id)\n",
        "",
        FREEZE,
    ),
    broken(
        "a frozen network is signed for",
        BATCH,
        "            self._check_stopped(Scope.NETWORK, known.network)\n",
        "            pass\n",
        FREEZE,
    ),
    broken(
        "a frozen network's slots are bumped",
        BATCH,
        "        self._check_stopped(Scope.NETWORK, slot.network)\n",
        "",
        FREEZE,
    ),
    broken(
        "who is frozen pays",
        BATCH,
        '        self._check_stopped(Scope.IDENTITY, intent["initiator"])\n        check_wallet',
        "        check_wallet",
        FREEZE,
    ),
    broken(
        "who is frozen bumps",
        BATCH,
        '        self._check_stopped(Scope.IDENTITY, slot.intent["initiator"])\n',
        "",
        FREEZE,
    ),
    broken("a freeze ends with a restart", CORE, "            rows.add_freeze(made)\n", "", STOPS),
    broken(
        "any record lifts any freeze",
        CORE,
        "            if number in fresh and _names(fresh[number], freeze):",
        "            if fresh:",
        f"{STOPS}::test_a_record_that_names_something_else_lifts_nothing",
    ),
    broken(
        "a new journal signs at once",
        BATCH,
        "        if not self._state.is_seeded:\n            raise unseeded()",
        "        if not self._state.is_seeded:\n            pass",
        LOST,
    ),
    broken(
        "a new journal is put in place by a record that names another",
        CORE,
        "reseed.journal_id == self._journal.journal_id and",
        "reseed.journal_id and",
        LOST,
    ),
    broken(
        "after a journal was lost its nonces are signed again",
        BATCH,
        "        if request.nonce < least:",
        "        if request.nonce < 0:",
        LOST,
    ),
    broken(
        "after a journal was lost old requests are paid",
        CHECKS,
        "    if reseeded is not None and min(each.seq for each in (request, *payout.checked.decisions)) < reseeded:",
        "    if reseeded is not None and request.seq < 0:",
        LOST,
    ),
    broken(
        "a clock that was set back signs",
        MEMORY,
        "    if behind > CLOCK_BACK_MAX:",
        "    if behind > 10**18:",
        f"{STOPS}::test_a_clock_that_was_set_back_signs_nothing_new",
    ),
)

CAPPED: tuple[Mutant, ...] = (
    broken(
        "no cap on one payout",
        WINDOWS,
        "        if cap.per_payout is not None and amount > cap.per_payout:",
        "        if cap.per_payout is not None and amount < 0:",
        CAPS,
    ),
    broken(
        "no cap on what one recipient gets",
        WINDOWS,
        "        if cap.per_recipient is not None and to_one > cap.per_recipient:",
        "        if cap.per_recipient is not None and to_one < 0:",
        CAPS,
    ),
    broken(
        "no cap on the total",
        WINDOWS,
        "        if cap.total is not None and self._total + amount > cap.total:",
        "        if cap.total is not None and self._total + amount < 0:",
        f"{ENEMY}::test_with_everything_stolen_the_signer_keeps_its_own_caps",
        CAPS,
    ),
    broken(
        "no cap on the count",
        WINDOWS,
        "        if cap.count is not None and len(self._spends) + 1 > cap.count:",
        "        if cap.count is not None and len(self._spends) < 0:",
        CAPS,
    ),
    broken(
        "no cap on fees",
        WINDOWS,
        "        if self._cap.asset == FEES:\n            return spend.fee_cap",
        "        if self._cap.asset == FEES:\n            return None",
        CAPS,
    ),
    broken(
        "a cap is compared as a float",
        WINDOWS,
        "self._total + amount > cap.total:",
        "float(self._total + amount) > float(cap.total):",
        f"{CAPS}::test_sums_are_exact_where_a_float_is_not",
    ),
    broken(
        "the signer's window includes its start",
        WINDOWS,
        "        while self._spends and self._spends[0][0] <= now - self.length:",
        "        while self._spends and self._spends[0][0] < now - self.length:",
        CAPS,
    ),
    broken(
        "caps begin anew with a restart",
        MEMORY,
        "    for slot in rows.slots_since(newest.at - windows.longest):",
        "    for slot in rows.slots_since(newest.at):",
        CAPS,
    ),
    broken(
        "caps see a batch only after it",
        BATCH,
        "            self._state.windows.add(spend_of(slot))\n",
        "",
        f"{ENEMY}::test_with_everything_stolen_the_signer_keeps_its_own_caps",
        CAPS,
    ),
    broken(
        "after a journal was lost the caps are empty",
        WINDOWS,
        "        if limited and self._full_until is not None and spend.at < self._full_until:",
        "        if limited and self._full_until is not None and spend.at < 0:",
        f"{LOST}::test_the_windows_of_all_caps_count_as_spent_at_first",
    ),
)

MUTANTS: tuple[Mutant, ...] = (*FENCED, *JOURNALED, *REPLACING, *EVIDENCE, *STOPPED, *CAPPED)
