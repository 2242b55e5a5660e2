"""The proof of a payout: an honest one verifies, whatever is changed in it or made up is refused by name."""

import copy
import json
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outlay.core.errors import NotFound, PreconditionFailed
from outlay.evidence.canonical import canonical
from outlay.evidence.payout import verify_payout
from outlay.evidence.record import record_hash
from outlay.evidence.report import ProofBroken
from outlay.signer.keys import SigningKey
from tests import tools
from tests.actions.council import Council
from tests.actions.documents import ALWAYS, BLOCK, REPORT, ask, cap, group, known, over
from tests.actions.proof import KEY, OTHER_KEY, Document, Stage, intent_of, signed_bytes
from tests.actions.world import ALICE, BOB, SETTINGS, USDC

WATCHED = {"tags": ("payouts",)}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Return an organization with a wallet, a bot and two people; no policies yet."""
    opened = Stage(tmp_path)
    yield opened
    opened.world.close()


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """Return the proof of a payout that two people approved, and its root."""
    opened = Stage(tmp_path_factory.mktemp("approved"))
    opened.world.policy(over(1000), ask(group(opened.one, opened.two, quorum=2)), **WATCHED)
    opened.world.policy(over(9000), BLOCK, **WATCHED)
    data = opened.export(opened.pay(5000, opened.one, opened.two))
    opened.world.close()
    return data, opened.world.root


def refused(document: Any, root: str, step: str | None, match: str | None = None) -> None:
    """Check that a proof is refused, at the step and with the words expected."""
    with pytest.raises(ProofBroken, match=match) as caught:
        verify_payout(document if isinstance(document, bytes) else canonical(document), root)
    if step is not None:
        assert caught.value.step == step, caught.value.message
    assert caught.value.message


# What is honest


def test_an_approved_payout_is_proved(approved: tuple[bytes, str]) -> None:
    data, root = approved
    report = verify_payout(data, root)
    assert [name for name, _ in report.steps] == [
        "file",
        "root",
        "records",
        "requester",
        "request",
        "policies",
        "decisions",
        "quorum",
        "still there",
        "transaction",
    ]
    assert (report.intent.amount, report.intent.recipient, report.intent.asset) == ("5000000000", ALICE, USDC)
    assert report.requester.name == "payouts bot"
    assert {each.by.name for each in report.approvals} == {"approver.one@example.com", "approver.two@example.com"}
    assert sorted(answer for _, _, answer in report.judged) == ["asks for approval", "does not apply"]
    text = report.text()
    for said in ("5,000 USDC", "USD 5000", report.tx_hash, 'saying "checked"', "NOT PROVED BY THIS FILE", root):
        assert said in text


def test_a_payout_that_nobody_was_asked_about_is_proved(stage: Stage) -> None:
    stage.world.policy(over(1000), ask(group(stage.one)), **WATCHED)
    document = stage.proof(stage.pay(1000))
    assert (document["asked"], document["decisions"]) == ([], [])
    assert "nobody: no policy asked" in stage.verify(document).text()


def test_a_native_payout_is_proved(stage: Stage) -> None:
    paid = stage.world.pay(stage.bot, stage.wallet, 0, units=10**15, native=True)["id"]
    stage.sign(paid)
    report = stage.verify(stage.proof(paid))
    assert report.unit.symbol == "ETH"
    assert "0.001 ETH" in report.text()


def test_the_file_holds_the_records_that_were_signed_over_and_no_more(stage: Stage) -> None:
    stage.world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    paid = stage.pay(5, stage.one)
    before = stage.export(paid)
    stage.world.policy(ALWAYS, BLOCK)
    stage.remove(stage.one)
    assert stage.export(paid) == before
    assert stage.verify(json.loads(before))


def test_what_one_payout_cannot_show_is_listed(stage: Stage) -> None:
    stage.world.policy(cap(10_000), BLOCK, **WATCHED)
    stage.world.policy(over(10_000), BLOCK, **WATCHED)
    assert len(stage.verify(stage.proof(stage.pay(5))).unproven) == 1
    stage.apply(SETTINGS.replace('USDC = "1"', ""))
    report = stage.verify(stage.compose(stage.request(stage.bot)))  # of a coin that still has its price
    assert len(report.unproven) == 1
    stage.apply(SETTINGS.replace('ETH = "2000"', ""))
    report = stage.verify(stage.compose(stage.request(stage.bot)))
    assert [each.split(": ")[1] for each in report.unproven] == [
        "it depends on what else was paid in its window",
        "the signed settings give no single price for what was paid",
    ]
    assert "no signed price" in report.text()


def test_a_price_that_was_changed_meanwhile_is_not_known(stage: Stage) -> None:
    """The value was fixed at one of the prices; which one, only the server says."""
    policy = stage.world.policy(over(3), ask(group(stage.one)), **WATCHED)
    request = stage.request(stage.bot, 10**15)  # 2 dollars, then 4
    assert stage.verify(stage.compose(request)).value == 2 * 10**8
    stage.apply(SETTINGS.replace('ETH = "2000"', 'ETH = "4000"'))
    report = stage.verify(stage.compose(request, [stage.vote(stage.one, request, policy)], [policy]))
    assert report.value is None
    assert "no single price" in report.text()


def test_people_removed_before_the_last_vote_do_not_count_and_are_left_out(stage: Stage) -> None:
    world = stage.world
    three = world.person("approver.three@example.com")
    world.policy(ALWAYS, ask(group(stage.one, stage.two, three, quorum=2)), **WATCHED)
    paid = world.pay(stage.bot, stage.wallet, 5)["id"]
    world.decide(stage.one, paid)
    stage.remove(stage.one)
    world.decide(stage.two, paid)
    world.decide(three, paid)
    stage.sign(paid)
    document = stage.proof(paid)
    assert {each["preimage"]["identity"] for each in document["decisions"]} == {stage.two.user_id, three.user_id}
    assert stage.verify(document)


def test_a_vote_that_was_asked_again_after_an_edit_is_proved(stage: Stage) -> None:
    world = stage.world
    policy = world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    paid = world.pay(stage.bot, stage.wallet, 5)["id"]
    world.decide(stage.one, paid)
    world.replace_policy(policy, ALWAYS, ask(group(stage.two)), **WATCHED)
    assert world.bind(paid) == "held"
    world.decide(stage.two, paid)
    stage.sign(paid)
    document = stage.proof(paid)
    assert document["asked"] == [{"policyId": policy, "version": 2}]
    assert [each.by.user_id for each in stage.verify(document).approvals] == [stage.two.user_id]


def test_a_policy_that_was_archived_meanwhile_keeps_asking(stage: Stage) -> None:
    world = stage.world
    first = world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    second = world.policy(ALWAYS, ask(group(stage.two)), **WATCHED)
    paid = world.pay(stage.bot, stage.wallet, 5)["id"]
    world.decide(stage.one, paid)
    world.archive_policy(first)
    world.decide(stage.two, paid)
    stage.sign(paid)
    document = stage.proof(paid)
    assert document["asked"] == [{"policyId": each, "version": 1} for each in sorted((first, second))]
    assert len(stage.verify(document).approvals) == 2
    without = [each for each in document["decisions"] if each["preimage"]["identity"] == stage.two.user_id]
    asked = [{"policyId": second, "version": 1}]
    refused({**document, "decisions": without, "asked": asked}, world.root, "policies", "asks for approval")


def test_a_payout_under_rules_that_people_agreed_to_is_proved(tmp_path: Path) -> None:
    """The records of a change request are part of the chain; before it took hold, the old rule counts."""
    council = Council(tmp_path, guarded=False)
    stage = Stage(tmp_path, world=council)
    council.guard_all()
    change = council.set_cap(200)
    request = stage.request(stage.bot, units=75 * 10**15)  # 150 dollars
    refused(stage.compose(request), council.root, "policies", "more than the limit of USD 100")
    council.agree(change)
    council.wait()
    assert council.status(change) == "Applied"
    refused(stage.compose(request), council.root, "policies", "more than the limit of USD 100")
    document = stage.proof(stage.pay(150))
    kinds = {record["kind"] for record in document["records"]}
    assert {"change.requested", "change.decided", "change.applied"} <= kinds
    assert stage.verify(document).judged[0][1:] == (2, "does not apply")
    council.close()


def test_nonce_and_fees_are_the_servers_choice(approved: tuple[bytes, str]) -> None:
    """They are no part of what was asked: a bump of the same payment proves as well. The report says so."""
    data, root = approved
    document = json.loads(data)
    intent = {"asset": USDC, "recipient": ALICE, "amount": "5000000000", "chainId": 31337}
    raw = signed_bytes(intent, nonce=7, max_fee_per_gas=200)
    report = verify_payout(canonical({**document, "transaction": "0x" + raw.hex()}), root)
    assert (report.nonce, report.fee_max) == (7, 20_000_000)
    assert any("nonce and fees" in each for each in report.text().splitlines())


def test_what_is_not_there_cannot_be_exported(stage: Stage) -> None:
    with pytest.raises(NotFound):
        stage.export("xfr-00000-00000-0000000000000000")
    stage.world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    paid = stage.world.pay(stage.bot, stage.wallet, 5)["id"]
    for step in (lambda: None, lambda: stage.world.decide(stage.one, paid), lambda: stage.world.bind(paid)):
        step()
        with pytest.raises(PreconditionFailed, match="nothing was signed"):
            stage.export(paid)


# Every byte, leaf and member


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every member, item and leaf."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([path] if path else []) + [place for key, each in items for place in places(each, (*path, key))]


def edited(document: Any, path: tuple[Any, ...], edit: Callable[[Any, Any], None]) -> Any:
    """Return a copy in which ``edit(parent, key)`` was done."""
    copied = copy.deepcopy(document)
    place = copied
    for step in path[:-1]:
        place = place[step]
    edit(place, path[-1])
    return copied


def change(place: Any, key: Any) -> None:
    value = place[key]
    if isinstance(value, bool) or value is None:
        place[key] = not value
    elif isinstance(value, int):
        place[key] = value + 1
    elif isinstance(value, str):
        middle = len(value) // 2
        place[key] = value[:middle] + ("b" if value[middle : middle + 1] != "b" else "c") + value[middle + 1 :]
    elif isinstance(value, list):
        value.append("x")
    else:
        value["x"] = "y"


def empty(place: Any, key: Any) -> None:
    place[key] = [] if place[key] is None else None


def drop(place: Any, key: Any) -> None:
    del place[key]


def repeat(place: Any, key: Any) -> None:
    if isinstance(place, list):
        place.insert(key, copy.deepcopy(place[key]))
    else:
        place[f"{key}x"] = place[key]


@pytest.mark.parametrize("edit", [change, empty, drop, repeat])
def test_no_place_of_the_file_can_change(approved: tuple[bytes, str], edit: Callable[[Any, Any], None]) -> None:
    """Within the records a sample, because each of them is covered by one hash; everything outside of them."""
    data, root = approved
    document = json.loads(data)
    paths = places(document)
    inside = [path for path in paths if path[0] == "records" and len(path) > 2]
    sample = random.Random(7).sample(inside, min(len(inside), tools.examples(40)))
    for path in [path for path in paths if path not in set(inside)] + sample:
        wrong = edited(document, path, edit)
        assert wrong != document
        refused(wrong, root, None)


def test_no_byte_of_the_file_can_change(approved: tuple[bytes, str]) -> None:
    """A sample in each run; the long suite tries every byte."""
    data, root = approved
    seed = secrets.randbelow(2**32)
    dice = random.Random(seed)
    for at in dice.sample(range(len(data)), min(len(data), 400)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << dice.randrange(8)
        refused(bytes(flipped), root, None)
    print(f"seed {seed}")


@pytest.mark.long
def test_no_byte_of_the_file_can_change_anywhere(approved: tuple[bytes, str]) -> None:
    data, root = approved
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        refused(bytes(flipped), root, None)


@pytest.mark.parametrize("spelling", [b"%s\n", b" %s", b"\xef\xbb\xbf%s", b"[%s]"])
def test_the_file_has_one_spelling(approved: tuple[bytes, str], spelling: bytes) -> None:
    data, root = approved
    refused(spelling % data, root, "file")
    refused(json.dumps(json.loads(data)).encode(), root, "file", "canonical")
    refused(data[:-1], root, "file")
    refused(b"", root, "file")


def test_a_version_of_tomorrow_is_named(approved: tuple[bytes, str]) -> None:
    data, root = approved
    refused({**json.loads(data), "v": 2}, root, "file", "newer verifier")


def test_spellings_that_verify_as_well_are_refused(approved: tuple[bytes, str]) -> None:
    """Padding, the default algorithm, a user handle: nothing in the file is free to change."""
    data, root = approved
    document = json.loads(data)
    fields = document["payout"]["assertion"]["credentialAssertion"]
    padded = fields["clientData"] + "=" * (-len(fields["clientData"]) % 4)
    for more in ({"clientData": padded + ""}, {"algorithm": "SHA256"}, {"algorithm": None}, {"userHandle": "x"}):
        wrong = copy.deepcopy(document)
        wrong["payout"]["assertion"]["credentialAssertion"].update(more)
        if wrong != document:
            refused(wrong, root, "requester")


# Root and records


@pytest.mark.parametrize("root", ["", "ab" * 32, "AB" * 32, "x" * 64])
def test_another_root_is_refused(approved: tuple[bytes, str], root: str) -> None:
    refused(approved[0], root, "root")


def test_everything_signed_again_with_new_keys_is_refused(approved: tuple[bytes, str], tmp_path: Path) -> None:
    """By a whole organization of the forger's, and by forged keys under the right first record."""
    data, root = approved
    forged = Stage(tmp_path, seed=2)
    policy = forged.world.policy(over(1000), ask(group(forged.one, forged.two, quorum=2)), **WATCHED)
    document = forged.proof(forged.pay(5000, forged.one, forged.two))
    forged.world.close()
    assert policy and forged.verify(document)
    refused(document, root, "root", "another organization")
    genuine = json.loads(data)
    records = [genuine["records"][0], *document["records"][1:]]
    for number in range(1, len(records)):
        records[number] = {**records[number], "prev": record_hash(records[number - 1]), "org": records[0]["org"]}
    refused({**document, "records": records}, root, "records")


@pytest.mark.parametrize(
    ("how", "step"),
    [("drop", "records"), ("move", "records"), ("repeat", "records"), ("cut", "records"), ("hang on", "records")],
)
def test_records_cannot_be_dropped_moved_repeated_or_cut_off(stage: Stage, how: str, step: str) -> None:
    stage.world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    document = stage.proof(stage.pay(5, stage.one))
    stage.world.policy(over(1), REPORT)
    records = document["records"]
    middle = len(records) // 2
    wrong = {
        "drop": [*records[:middle], *records[middle + 1 :]],
        "move": [*records[:middle], records[middle + 1], records[middle], *records[middle + 2 :]],
        "repeat": [*records[:middle], records[middle], *records[middle:]],
        "cut": records[:-1],
        "hang on": stage.records(),
    }[how]
    said = {"cut": "cut off", "hang on": "covered by no signature"}.get(how)
    refused({**document, "records": wrong}, stage.world.root, step, said)


# The request


def test_the_request_of_another_payout_is_refused(stage: Stage) -> None:
    stage.world.policy(over(1000), ask(group(stage.one)), **WATCHED)
    small, other = stage.pay(5), stage.pay(6)
    document = stage.proof(small)
    wrong = {**document, "payout": stage.stored(other)}
    refused(wrong, stage.world.root, "transaction", "something else than what was requested")
    large, twin = stage.pay(5000, stage.one), stage.pay(5000, stage.one)
    document = stage.proof(large)
    refused({**document, "payout": stage.stored(twin)}, stage.world.root, "decisions", "another payout")


def test_a_requester_who_was_not_permitted_is_refused(stage: Stage) -> None:
    world = stage.world
    stranger = world.person("stranger@example.com", vouched=False)
    assert stage.verify(stage.compose(stage.request(stage.bot)))
    refused(stage.compose(stage.request(stranger)), world.root, "requester", "vouched")
    for actor, said in ((stage.unpermitted("clerk@example.com"), "not permitted"), (stage.bot, "withdrawn")):
        if actor is stage.bot:
            stage.switch_off(stage.bot)
        refused(stage.compose(stage.request(actor)), world.root, "requester", said)


def test_a_personal_access_token_requests_within_its_limit(stage: Stage) -> None:
    """Its key may be permitted less than its holder."""
    reader, _ = stage.world.personal_token(stage.one, "Wallets:Read")
    refused(stage.compose(stage.request(reader)), stage.world.root, "requester", "not permitted")
    payer, _ = stage.world.personal_token(stage.one, "Wallets:Transfers:Create")
    assert stage.verify(stage.compose(stage.request(payer)))


def test_a_key_that_signs_over_older_records_is_judged_by_those(stage: Stage) -> None:
    """A head from before the bot was there does not help."""
    early = record_hash(stage.records()[0])
    refused(stage.compose(stage.request(stage.bot, records_head=early)), stage.world.root, "requester")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"amount": "0"}, "pays nobody"),
        ({"amount": 5}, "string"),
        ({"amount": "05"}, "leading zero"),
        ({"to": "0x12"}, "40 hexadecimal"),
        ({"kind": "Erc721"}, "not known here"),
        ({"contract": USDC}, "unknown member"),
        ({"externalId": "a b"}, "without spaces"),
        ({"priority": "Now"}, "Slow"),
        ({"memo": "x"}, "unknown member"),
    ],
)
def test_a_request_that_no_server_takes_is_refused(stage: Stage, payload: Document, said: str) -> None:
    body = {"kind": "Native", "to": ALICE, "amount": "5", "externalId": "x", **payload}
    request = stage.signed(stage.bot, "POST", f"/wallets/{stage.wallet}/transfers", body)
    good = stage.compose(stage.request(stage.bot))
    refused({**good, "payout": request}, stage.world.root, "request", said)


def test_another_call_is_not_a_request(stage: Stage) -> None:
    good = stage.compose(stage.request(stage.bot))
    body, path = good["payout"]["payload"], f"/wallets/{stage.wallet}/transfers"
    for method, elsewhere in (("PUT", path), ("POST", path + "/x"), ("POST", "/wallets/wa-1/transfers")):
        request = stage.signed(stage.bot, method, elsewhere, body)
        refused({**good, "payout": request}, stage.world.root, "request")


# Policies


def test_a_policy_that_blocks_is_seen(stage: Stage) -> None:
    """At what the requester saw, and at the newest record."""
    stage.world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    blocked = stage.world.policy(known(BOB), BLOCK, **WATCHED)
    request = stage.request(stage.bot)
    refused(stage.compose(request), stage.world.root, "policies", "blocks this payout")
    stage.world.archive_policy(blocked)
    request = stage.request(stage.bot)
    stage.world.policy(over(1), BLOCK, **WATCHED)
    request = stage.request(stage.bot, units=10**15)
    refused(stage.compose(request), stage.world.root, "policies", "more than the limit")


def test_a_policy_made_after_the_request_is_seen_by_the_votes(stage: Stage) -> None:
    policy = stage.world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    request = stage.request(stage.bot)
    stage.world.policy(ALWAYS, BLOCK, **WATCHED)
    vote = stage.vote(stage.one, request, policy)
    refused(stage.compose(request, [vote], [policy]), stage.world.root, "policies", "blocks")


def test_a_policy_that_asks_cannot_be_left_out(stage: Stage) -> None:
    world = stage.world
    policy = world.policy(over(1), ask(group(stage.one)), **WATCHED)
    request = stage.request(stage.bot, units=10**15)
    refused(stage.compose(request), world.root, "policies", "asks for approval")
    assert stage.verify(stage.compose(request, [stage.vote(stage.one, request, policy)], [policy]))
    # Not by taking its tag off the wallet after the request, either.
    other = world.policy(ALWAYS, ask(group(stage.two)))
    world.untag(stage.wallet, "payouts")
    vote = stage.vote(stage.two, request, other)
    refused(stage.compose(request, [vote], [other]), world.root, "policies", "asks for approval")


def test_what_was_about_a_payout_stays_so(stage: Stage) -> None:
    """As on the server: a limit that was lowered meanwhile judges although the wallet lost its tag."""
    world = stage.world
    policy = world.policy(over(1_000_000), ask(group(stage.one)), **WATCHED)
    request = stage.request(stage.bot, units=10**15)
    assert stage.verify(stage.compose(request))
    world.replace_policy(policy, over(1), ask(group(stage.one)), **WATCHED)
    world.untag(stage.wallet, "payouts")
    other = world.policy(ALWAYS, ask(group(stage.two)))
    vote = stage.vote(stage.two, request, other)
    refused(stage.compose(request, [vote], [other]), world.root, "policies", "asks for approval")


def test_a_wallet_that_no_policy_is_about_follows_the_default(stage: Stage) -> None:
    assert stage.verify(stage.compose(stage.request(stage.bot)))
    stage.apply(SETTINGS.replace('default = "allow"', 'default = "block"'))
    refused(stage.compose(stage.request(stage.bot)), stage.world.root, "policies", "no policy is about")


def test_the_groups_are_those_in_force(stage: Stage) -> None:
    """An older version whose groups were easier to satisfy does not do."""
    world = stage.world
    policy = world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    before = stage.request(stage.bot)
    easy = stage.vote(stage.one, before, policy)
    world.replace_policy(policy, ALWAYS, ask(group(stage.one, stage.two, quorum=2)), **WATCHED)
    request = stage.request(stage.bot)
    binds = {"groups_digest": easy["preimage"]["groupsDigest"]}
    vote = stage.vote(stage.one, request, policy, **binds)
    document = stage.compose(request, [vote], [policy])
    refused(document, world.root, "decisions", "other groups")
    older = {"asked": [{"policyId": policy, "version": 1}]}
    refused({**document, **older}, world.root, "policies", "no version")
    # Requested under the old version, voted on under the new one: the policy asks its groups of now.
    vote = stage.vote(stage.one, before, policy, **binds)
    refused({**stage.compose(before, [vote], [policy]), **older}, world.root, "policies", "no version")


def test_a_version_that_was_gone_before_the_request_cannot_have_asked(stage: Stage) -> None:
    world = stage.world
    policy = world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    world.replace_policy(policy, ALWAYS, ask(group(stage.two)), **WATCHED)
    request = stage.request(stage.bot)
    world.archive_policy(policy)
    other = world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    votes = [stage.vote(stage.one, request, policy, other), stage.vote(stage.two, request, policy, other)]
    document = stage.compose(request, votes, [policy, other])
    assert stage.verify(document)
    older = [{**each, "version": 1} for each in document["asked"]]
    refused({**document, "asked": older}, world.root, "policies", "no version")
    for asked in (list(reversed(document["asked"])), document["asked"] * 2):
        refused({**document, "asked": asked}, world.root, "policies", "out of order")


def test_of_versions_with_the_same_groups_only_the_newest_is_told(stage: Stage) -> None:
    """So that the number in the file is not free to change."""
    world = stage.world
    policy = world.policy(ALWAYS, ask(group(stage.one)), **WATCHED)
    request = stage.request(stage.bot)
    world.replace_policy(policy, over(1), ask(group(stage.one)), **WATCHED)
    world.archive_policy(policy)
    vote = stage.vote(stage.one, request, policy)
    document = stage.compose(request, [vote], [policy])
    assert document["asked"] == [{"policyId": policy, "version": 2}]
    assert stage.verify(document)
    refused({**document, "asked": [{"policyId": policy, "version": 1}]}, world.root, "policies", "no version")


def test_an_asset_that_is_not_listed_is_refused(stage: Stage) -> None:
    body = {"kind": "Erc20", "contract": BOB, "to": ALICE, "amount": "5", "externalId": "x"}
    request = stage.signed(stage.bot, "POST", f"/wallets/{stage.wallet}/transfers", body)
    refused(stage.compose(request), stage.world.root, "policies", "do not list")


# Decisions


@pytest.fixture
def asked(stage: Stage) -> tuple[Stage, str, Document]:
    """Return an organization in which one person has to agree, the policy, and a request."""
    policy = stage.world.policy(ALWAYS, ask(group(stage.one, stage.two)), **WATCHED)
    return stage, policy, stage.request(stage.bot)


Asked = tuple[Stage, str, Document]


def test_a_decision_about_another_payout_is_refused(asked: Asked) -> None:
    stage, policy, request = asked
    for other in (stage.request(stage.bot, 6_000_000), stage.request(stage.one)):
        vote = stage.vote(stage.one, other, policy)
        refused(stage.compose(request, [vote], [policy]), stage.world.root, "decisions", "another payout")


def test_without_its_decisions_nothing_is_proved(asked: Asked) -> None:
    stage, policy, request = asked
    refused(stage.compose(request, [], [policy]), stage.world.root, "quorum", "quorum")


def test_a_denial_is_no_approval(asked: Asked) -> None:
    stage, policy, request = asked
    for value in ("Denied", "approved", "Pending"):
        vote = stage.vote(stage.one, request, policy, value=value)
        refused(stage.compose(request, [vote], [policy]), stage.world.root, "decisions", "does not approve")


def test_another_call_is_not_a_decision(asked: Asked) -> None:
    stage, policy, request = asked
    vote = stage.vote(stage.one, request, policy)
    bound = {
        "intent_digest": vote["preimage"]["intentDigest"],
        "groups_digest": vote["preimage"]["groupsDigest"],
    }
    for method, path in (("PUT", "/v2/policy-approvals/x/decisions"), ("POST", "/v2/policy-approvals/x")):
        wrong = stage.signed(stage.one, method, path, {"value": "Approved"}, **bound)
        refused(stage.compose(request, [wrong], [policy]), stage.world.root, "decisions", "not a decision")


def test_the_decisions_are_about_one_approval(stage: Stage) -> None:
    policy = stage.world.policy(ALWAYS, ask(group(stage.one, stage.two, quorum=2)), **WATCHED)
    request = stage.request(stage.bot)
    votes = [stage.vote(who, request, policy, approval=name) for who, name in ((stage.one, "x"), (stage.two, "y"))]
    refused(stage.compose(request, votes, [policy]), stage.world.root, "decisions", "not a decision about this")
    votes[1] = stage.vote(stage.two, request, policy)
    document = stage.compose(request, votes, [policy])
    assert stage.verify(document)
    refused({**document, "decisions": document["decisions"][::-1]}, stage.world.root, "decisions", "out of order")
    refused({**document, "decisions": document["decisions"][:1]}, stage.world.root, "quorum")


def test_a_decision_of_somebody_removed_is_refused(asked: Asked) -> None:
    """The vote was given; the person was removed before another signature of the file."""
    stage, policy, request = asked
    vote = stage.vote(stage.one, request, policy)
    assert stage.verify(stage.compose(request, [vote], [policy]))
    stage.remove(stage.one)
    later = stage.vote(stage.two, request, policy)
    refused(stage.compose(request, [vote, later], [policy]), stage.world.root, "decisions", "switched off since")
    assert stage.verify(stage.compose(request, [later], [policy]))
    afterwards = stage.vote(stage.one, request, policy)
    refused(stage.compose(request, [afterwards], [policy]), stage.world.root, "decisions", "withdrawn")


def test_a_decision_by_a_key_that_was_withdrawn_is_refused(asked: Asked) -> None:
    stage, policy, request = asked
    world = stage.world
    spare = world.second_key(stage.one)
    vote = stage.vote(spare, request, policy)
    assert stage.verify(stage.compose(request, [vote], [policy]))
    world.switch_key(stage.one, spare.credential_uuid, "deactivate")
    later = stage.vote(stage.two, request, policy)
    refused(stage.compose(request, [vote, later], [policy]), world.root, "decisions", "switched off since")
    afterwards = stage.vote(spare, request, policy)
    refused(stage.compose(request, [afterwards], [policy]), world.root, "decisions", "withdrawn")


def test_one_person_counts_once(stage: Stage) -> None:
    """Not twice with one key, and not with two keys."""
    policy = stage.world.policy(ALWAYS, ask(group(stage.one, stage.two, quorum=2)), **WATCHED)
    spare = stage.world.second_key(stage.one)
    request = stage.request(stage.bot)
    for again in (stage.one, spare):
        votes = [stage.vote(who, request, policy) for who in (stage.one, again)]
        refused(stage.compose(request, votes, [policy]), stage.world.root, "decisions", "decided already")


def test_who_asked_does_not_approve(stage: Stage) -> None:
    policy = stage.world.policy(ALWAYS, ask(group(stage.one, stage.two)), **WATCHED)
    request = stage.request(stage.one)
    vote = stage.vote(stage.one, request, policy)
    refused(stage.compose(request, [vote], [policy]), stage.world.root, "decisions", "initiator")
    open_to_all = ask(group(stage.one, stage.two, initiatorCanApprove=True))
    stage.world.replace_policy(policy, ALWAYS, open_to_all, **WATCHED)
    request = stage.request(stage.one)
    assert stage.verify(stage.compose(request, [stage.vote(stage.one, request, policy)], [policy]))


def test_who_is_in_no_group_or_may_not_vote_is_refused(asked: Asked) -> None:
    stage, policy, request = asked
    outsider = stage.world.person("outsider@example.com")
    clerk = stage.unpermitted("clerk@example.com")
    stage.world.replace_policy(policy, ALWAYS, ask(group(stage.one, clerk)), **WATCHED)
    request = stage.request(stage.bot)
    for who, said in ((outsider, "none of the groups"), (clerk, "not permitted Policies:Evaluations:Vote")):
        vote = stage.vote(who, request, policy)
        refused(stage.compose(request, [vote], [policy]), stage.world.root, "decisions", said)


def test_a_machine_decides_only_where_the_group_says_so(stage: Stage) -> None:
    robot = stage.world.service_account("reviewer bot")
    policy = stage.world.policy(ALWAYS, ask(group()), **WATCHED)  # any person
    request = stage.request(stage.bot)
    vote = stage.vote(robot, request, policy)
    refused(stage.compose(request, [vote], [policy]), stage.world.root, "decisions", "none of the groups")
    stage.world.replace_policy(policy, ALWAYS, ask(group(robot, serviceAccountsCanApprove=True)), **WATCHED)
    request = stage.request(stage.bot)
    assert stage.verify(stage.compose(request, [stage.vote(robot, request, policy)], [policy]))


def test_a_personal_access_token_does_not_vote(asked: Asked) -> None:
    stage, policy, request = asked
    token, _ = stage.world.personal_token(stage.one)
    vote = stage.vote(token, request, policy)
    refused(stage.compose(request, [vote], [policy]), stage.world.root, "decisions", "not permitted")


def test_decisions_that_nobody_asked_for_are_refused(stage: Stage) -> None:
    request = stage.request(stage.bot)
    vote = stage.vote(stage.one, request)
    refused(stage.compose(request, [vote]), stage.world.root, "decisions", "none of the groups")


def test_a_requester_who_was_removed_before_the_last_vote_is_refused(asked: Asked) -> None:
    stage, policy, request = asked
    stage.switch_off(stage.bot)
    vote = stage.vote(stage.one, request, policy)
    refused(stage.compose(request, [vote], [policy]), stage.world.root, "still there", "switched off since")


# The transaction


def test_a_transaction_that_is_not_this_payment_is_refused(stage: Stage) -> None:
    request = stage.request(stage.bot)
    intent = intent_of(request)
    cases: list[tuple[bytes, str]] = [
        (signed_bytes(intent, key=OTHER_KEY), "wallet's key"),
        (signed_bytes(intent, chain_id=1), "another chain"),
        (signed_bytes(intent, value=5_000_001), "something else"),
        (signed_bytes(intent, to=BOB), "something else"),
        (signed_bytes(intent, data=b"\x01"), "something else"),
        (signed_bytes({**intent, "asset": USDC}), "something else"),
        (signed_bytes(intent) + b"\x00", "12 members"),
        (signed_bytes(intent)[:-1], "end too early"),
        (b"\x01" + signed_bytes(intent)[1:], "type 2"),
    ]
    for raw, said in cases:
        refused(stage.compose(request, transaction="0x" + raw.hex()), stage.world.root, "transaction", said)
    text = "0x" + signed_bytes(intent).hex()
    for spelling in (text.upper(), text[2:], "0x", text + "0"):
        refused(stage.compose(request, transaction=spelling), stage.world.root, "transaction", "lower-case hex")


def test_a_chain_that_the_settings_do_not_mean_any_more_is_refused(stage: Stage) -> None:
    stage.apply(SETTINGS.replace("chain_id = 31337", "chain_id = 1337"))
    refused(stage.compose(stage.request(stage.bot)), stage.world.root, "transaction", "another chain")


def test_a_wallet_of_another_key_is_refused(stage: Stage) -> None:
    """The request names a wallet; another wallet's key cannot pay for it."""
    other = stage.world.wallet("payouts", key=OTHER_KEY)
    request = stage.request(stage.bot, wallet=other)
    assert KEY.address != OTHER_KEY.address
    refused(stage.compose(request), stage.world.root, "transaction", "wallet's key")
    raw = signed_bytes(intent_of(request), key=OTHER_KEY)
    assert stage.verify(stage.compose(request, transaction="0x" + raw.hex()))


def test_a_wallet_whose_record_contradicts_itself_proves_nothing(stage: Stage) -> None:
    """The server makes address and key: both must be of who signed."""
    third = SigningKey(b"\x09" * 32)
    its_key: Any = SimpleNamespace(address=third.address, public_key=OTHER_KEY.public_key)
    its_address: Any = SimpleNamespace(address=OTHER_KEY.address, public_key=third.public_key)
    for made_up in (its_key, its_address):
        request = stage.request(stage.bot, wallet=stage.world.wallet("payouts", key=made_up))
        raw = signed_bytes(intent_of(request), key=OTHER_KEY)
        document = stage.compose(request, transaction="0x" + raw.hex())
        refused(document, stage.world.root, "transaction", "wallet's key")


def test_names_cannot_steer_a_terminal(stage: Stage) -> None:
    stage.world.policy(ALWAYS, REPORT, **WATCHED)
    report = stage.verify(stage.proof(stage.pay(5)))
    report = replace(report, requester=replace(report.requester, name="\x1b[2Jcleared"))
    assert "\x1b" not in report.text()
    assert "\\u001b" in report.text()
