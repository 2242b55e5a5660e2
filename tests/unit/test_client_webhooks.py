"""A receiver of webhooks: what it takes is what the reference verifiers take, once, and never an older state."""

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay.client.webhooks import (
    CLAIM_S,
    KEEP_S,
    TOLERANCE_S,
    AlreadySeen,
    Event,
    Inbox,
    InProgress,
    MemorySeen,
    MovesBack,
    Seen,
    SignatureWrong,
    SqliteSeen,
    WebhookRefused,
    check_signature,
    verify,
)
from outlay.core.errors import InvalidInput
from outlay.engine.webhook_signature import DFNS_HEADER, dfns_signature, headers, public_key_text
from tests import tools

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([each]) * 32) for each in (7, 8))
OLD, NEW, FOREIGN = (f"whsec_{base64.b64encode(bytes([each]) * 32).decode()}" for each in (1, 2, 3))
NOW = 1_900_000_000
PAID = "wallet.transfer.confirmed"


def body_of(number: int = 1, *, subject: str = "xfr-1", kind: str = PAID, attempt: int = 1, sent: int = NOW) -> bytes:
    told = {
        "id": f"whe-{subject}-{number}-{attempt}",
        "kind": kind,
        "date": "2026-01-02T03:04:05.678Z",
        "data": {"transferRequest": {"id": subject, "note": "é"}},
        "timestampSent": sent,
        "deliveryAttempt": attempt,
        "subject": subject,
        "sequence": number,
    }
    return json.dumps(told, separators=(",", ":")).encode()


def signed(
    body: bytes, *, event_id: str = "evt-1", sent: int = NOW, secrets: tuple[str, ...] = (NEW,)
) -> dict[str, str]:
    return headers(secrets=secrets, key=KEY, webhook_id=event_id, timestamp=sent, body=body)


def dfns_only(body: bytes) -> dict[str, str]:
    return {DFNS_HEADER: dfns_signature(NEW, body)}


# One delivery


@pytest.mark.parametrize("how", [{"secrets": NEW}, {"secrets": [FOREIGN, NEW]}, {"public_key": public_key_text(KEY)}])
def test_what_we_send_is_taken(how: dict[str, Any]) -> None:
    event = verify(signed(body_of()), body_of(), now=NOW + TOLERANCE_S, **how)
    assert event == Event(
        webhook_id="evt-1",
        delivery_id="whe-xfr-1-1-1",
        kind=PAID,
        date="2026-01-02T03:04:05.678Z",
        data={"transferRequest": {"id": "xfr-1", "note": "é"}},
        subject="xfr-1",
        sequence=1,
        attempt=1,
        sent_at=NOW,
    )


def test_the_contracts_header_alone_suffices_and_names_no_event() -> None:
    assert verify(dfns_only(body_of()), body_of(), secrets=NEW, now=NOW).webhook_id is None
    assert verify(dfns_only(body_of()).items(), body_of(), secrets=(OLD, NEW), now=NOW).sequence == 1
    for now in (NOW + TOLERANCE_S + 1, NOW - TOLERANCE_S - 1):
        with pytest.raises(SignatureWrong, match="too long ago"):
            verify(dfns_only(body_of()), body_of(), secrets=NEW, now=now)
    with pytest.raises(SignatureWrong):
        verify(dfns_only(body_of()), body_of(), public_key=public_key_text(KEY), now=NOW)


def test_while_secrets_change_over_receivers_of_either_take_it() -> None:
    body = body_of()
    both = signed(body, secrets=(NEW, OLD))
    for secret in (NEW, OLD):
        assert verify(both, body, secrets=secret, now=NOW)
    assert both[DFNS_HEADER] == dfns_signature(OLD, body), "one value: that of the secret every receiver has"
    with pytest.raises(SignatureWrong):
        verify(both, body, secrets=FOREIGN, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt-2"},
        {"webhook-id": ""},
        {"webhook-id": "evt-1.1900000000"},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-timestamp": f"0{NOW}"},
        {"webhook-timestamp": f"+{NOW}"},
        {"webhook-timestamp": f"{NOW}.0"},
        {"webhook-timestamp": "9" * 40},
        {"webhook-timestamp": "١٩٠٠٠٠٠٠٠٠"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
        {"webhook-signature": "v2,x"},
        {"webhook-signature": "v1 v1a v1,"},
        {"webhook-signature": "v1,\x00"},
        {"webhook-signature": "v1,x " * 2000},
    ],
)
@pytest.mark.parametrize("how", [{"secrets": NEW}, {"public_key": public_key_text(KEY)}])
def test_a_changed_header_is_refused(change: dict[str, str], how: dict[str, Any]) -> None:
    with pytest.raises(SignatureWrong) as caught:
        verify({**signed(body_of()), **change}, body_of(), now=NOW, **how)
    assert caught.value.status == 401


def test_a_header_that_comes_twice_is_refused_however_it_is_written() -> None:
    body = body_of()
    for name in ("webhook-id", "Webhook-Timestamp", "WEBHOOK-SIGNATURE", DFNS_HEADER.lower()):
        twice = [*signed(body).items(), (name, {n.lower(): v for n, v in signed(body).items()}[name.lower()])]
        with pytest.raises(SignatureWrong):
            verify(twice, body, secrets=NEW, now=NOW)
    assert verify([(name.upper(), value) for name, value in signed(body).items()], body, secrets=NEW, now=NOW)


@pytest.mark.parametrize("off", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
def test_what_is_old_or_of_the_future_is_refused(off: float) -> None:
    hows: list[dict[str, Any]] = [{"secrets": NEW}, {"public_key": public_key_text(KEY)}]
    for how in hows:
        with pytest.raises(SignatureWrong, match="too long ago"):
            verify(signed(body_of()), body_of(), now=NOW + off, **how)


def test_a_stolen_secret_forges_nothing_for_who_checks_the_public_key() -> None:
    body = body_of()
    forged = headers(secrets=[NEW], key=OTHER_KEY, webhook_id="evt-1", timestamp=NOW, body=body)
    assert verify(forged, body, secrets=NEW, now=NOW)
    for each in (forged, dfns_only(body)):
        with pytest.raises(SignatureWrong):
            verify(each, body, public_key=public_key_text(KEY), now=NOW)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{}", b'{"id":1}', b"\xff", b"[" * 100_000]
    + [body_of().replace(b'"sequence":1', each) for each in (b'"sequence":true', b'"sequence":"1"', b'"other":1')]
    + [body_of().replace(b'"deliveryAttempt":1', b'"deliveryAttempt":1.0')],
)
def test_what_is_signed_and_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookRefused, match="no event"):
        verify(signed(body), body, secrets=NEW, now=NOW)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"secrets": ()},
        {"secrets": NEW, "public_key": public_key_text(KEY)},
        {"secrets": "whsec_"},
        {"secrets": "whsec_!"},
        {"secrets": "hunter2"},
        {"public_key": "whpk_AAAA"},
        {"public_key": NEW},
    ],
)
def test_wrong_keys_are_the_receivers_own_mistake(how: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        verify(signed(body_of()), body_of(), now=NOW, **how)


# The reference verifiers


def test_the_reference_signs_and_we_verify() -> None:
    sent = int(time.time())
    for number in range(20):
        body = body_of(number, sent=sent)
        at = datetime.fromtimestamp(sent, UTC)
        signature = standardwebhooks.Webhook(NEW).sign(f"evt-{number}", at, body.decode())
        given = {"webhook-id": f"evt-{number}", "webhook-timestamp": str(sent), "webhook-signature": signature}
        assert verify(given, body, secrets=[OLD, NEW]).sequence == number
        with pytest.raises(SignatureWrong):
            verify(given, body, secrets=[OLD])


def reference_takes(given: dict[str, str], body: bytes) -> bool:
    try:
        standardwebhooks.Webhook(NEW).verify(body, given, json_parse=False)
    except (standardwebhooks.WebhookVerificationError, ValueError):
        return False
    return True


TEXTS = st.text(st.characters(min_codepoint=0, max_codepoint=0x2FF), max_size=40)
SIGNATURE = st.one_of(
    st.just("keep"),
    TEXTS,
    st.lists(st.sampled_from(["v1,keep", "v1a,keep", "v1,AAAA", "v2,x", "v1", ",", "v1,", ""]), max_size=5).map(
        " ".join
    ),
)


@settings(max_examples=tools.examples(300))
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "webhook-id": TEXTS,
            "webhook-timestamp": st.one_of(TEXTS, st.integers(-10, 2 * NOW).map(str)),
            "webhook-signature": SIGNATURE,
            DFNS_HEADER: TEXTS,
            "other": TEXTS,
        },
    ),
    body=st.one_of(st.none(), st.binary(max_size=60), TEXTS.map(str.encode)),
    missing=st.sets(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), max_size=2),
)
def test_nothing_hostile_is_taken_that_the_reference_refuses(
    changes: dict[str, str], body: bytes | None, missing: set[str]
) -> None:
    """Whatever comes, the answer is an event or a refusal, and what is taken is what the reference takes."""
    sent = int(time.time())
    good = body_of(sent=sent)
    honest = signed(good, sent=sent)
    v1, v1a = (part.split(",")[1] for part in honest["webhook-signature"].split(" "))
    given = {name: value for name, value in {**honest, **changes}.items() if name not in missing}
    if "webhook-signature" in given:
        text = given["webhook-signature"]
        text = honest["webhook-signature"] if text == "keep" else text
        given["webhook-signature"] = text.replace("v1,keep", f"v1,{v1}").replace("v1a,keep", f"v1a,{v1a}")
    came = good if body is None else body
    try:
        webhook_id = check_signature(given, came, secrets=NEW)
    except WebhookRefused as error:
        assert isinstance(error, SignatureWrong)
    else:
        if webhook_id is None:
            assert came == good and given[DFNS_HEADER] == honest[DFNS_HEADER]
        else:
            assert reference_takes(given, came)
            assert (came, webhook_id) == (good, "evt-1")
    with pytest.raises(SignatureWrong):
        check_signature(given, came + b" ", secrets=NEW)


_NODE = """
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";
const { secret, cases, toSign } = JSON.parse(readFileSync(0, "utf8"));
const hook = new Webhook(secret);
const taken = cases.map(([headers, body]) => {
  try { hook.verify(body, headers); return true; } catch { return false; }
});
const signed = toSign.map(([id, seconds, body]) => hook.sign(id, new Date(seconds * 1000), body));
console.log(JSON.stringify({ taken, signed }));
"""


def test_the_reference_for_node_agrees_both_ways() -> None:
    assert shutil.which("node") is not None, "node is a prerequisite: see README.md"
    sent = int(time.time())
    body = body_of(sent=sent)
    both, text = signed(body, sent=sent, secrets=(OLD, NEW)), body.decode()
    late = signed(body, sent=sent - 1000)
    cases = [
        (signed(body, sent=sent), text),
        (both, text),
        (signed(body, sent=sent), text + " "),
        ({**both, "webhook-id": "evt-2"}, text),
        ({**both, "webhook-timestamp": str(sent - 1)}, text),
        (late, text),
        (signed(body, sent=sent, secrets=(FOREIGN,)), text),
    ]
    given = {"secret": NEW, "cases": cases, "toSign": [("evt-9", sent, text)]}
    ran = subprocess.run(
        ["node", "--input-type=module", "-e", _NODE],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=ROOT / "tools",
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)

    def ours(headers_: dict[str, str], came: str) -> bool:
        try:
            verify(headers_, came.encode(), secrets=NEW)
        except SignatureWrong:
            return False
        return True

    assert said["taken"] == [ours(*each) for each in cases] == [True, True, False, False, False, False, False]
    made = {"webhook-id": "evt-9", "webhook-timestamp": str(sent), "webhook-signature": said["signed"][0]}
    assert verify(made, body, secrets=NEW).webhook_id == "evt-9"


# What is remembered


@pytest.fixture(params=["memory", "sqlite"])
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Seen]:
    if request.param == "memory":
        yield MemorySeen()
        return
    file = SqliteSeen(tmp_path / "seen.db")
    yield file
    file.close()


class Receiver:
    """An inbox with a clock, and what was taken."""

    def __init__(self, seen: Seen) -> None:
        self.now = float(NOW)
        self.inbox = Inbox(secrets=NEW, seen=seen, clock=lambda: self.now)
        self.taken: list[tuple[str | None, int | None]] = []

    def take(
        self,
        number: int = 1,
        *,
        attempt: int = 1,
        strip: bool = False,
        then: Callable[[], None] = lambda: None,
        **of: Any,
    ) -> None:
        body = body_of(number, attempt=attempt, sent=int(self.now), **of)
        given = (
            dfns_only(body) if strip else signed(body, sent=int(self.now), event_id=f"evt-{number}-{of.get('subject')}")
        )
        with self.inbox.receive(given, body) as event:
            then()
            self.taken.append((event.subject, event.sequence))


def fail() -> None:
    raise RuntimeError("the ledger is away")


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("kind", [PAID, "wallet.blockchainevent.detected"])
def test_an_event_is_taken_once_whichever_headers_and_attempt_it_comes_with(seen: Seen, strip: bool, kind: str) -> None:
    receiver = Receiver(seen)
    receiver.take(kind=kind)
    for again in ({"strip": strip}, {"attempt": 2, "strip": strip}, {"attempt": 3}):
        with pytest.raises(AlreadySeen) as caught:
            receiver.take(kind=kind, **again)
        assert caught.value.status == 200, "what was taken needs no other attempt"
    assert receiver.taken == [("xfr-1", 1)]


def test_an_event_that_could_not_be_handled_comes_again(seen: Seen) -> None:
    receiver = Receiver(seen)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            receiver.take(then=fail)
    receiver.take(attempt=2)
    assert receiver.taken == [("xfr-1", 1)]


def test_a_state_never_moves_back_and_facts_are_taken_in_any_order(seen: Seen) -> None:
    receiver = Receiver(seen)
    receiver.take(3)
    for older in (1, 2):
        with pytest.raises(MovesBack) as caught:
            receiver.take(older, kind="wallet.transfer.broadcasted")
        assert caught.value.status == 200
    receiver.take(1, subject="xfr-2")
    receiver.take(2, kind="policy.triggered")
    receiver.take(5, subject="wa-1", kind="wallet.blockchainevent.detected")
    receiver.take(4, subject="wa-1", kind="wallet.blockchainevent.detected")
    receiver.take(4)
    assert receiver.taken == [("xfr-1", 3), ("xfr-2", 1), ("xfr-1", 2), ("wa-1", 5), ("wa-1", 4), ("xfr-1", 4)]


def test_while_an_event_is_handled_its_subject_waits(seen: Seen) -> None:
    receiver = Receiver(seen)

    def meanwhile() -> None:
        for number, attempt in ((1, 2), (2, 1)):
            with pytest.raises(InProgress) as caught:
                receiver.take(number, attempt=attempt)
            assert caught.value.status == 503
        receiver.take(1, subject="xfr-2")

    receiver.take(1, then=meanwhile)
    receiver.take(2)
    assert receiver.taken == [("xfr-2", 1), ("xfr-1", 1), ("xfr-1", 2)]


def test_a_handler_that_died_is_taken_over_after_a_while(seen: Seen) -> None:
    receiver = Receiver(seen)
    seen.claim(verify(signed(body_of()), body_of(), secrets=NEW, now=NOW), receiver.now)
    receiver.now += CLAIM_S - 1
    with pytest.raises(InProgress):
        receiver.take(attempt=2)
    receiver.now += 1
    receiver.take(attempt=3)
    assert receiver.taken == [("xfr-1", 1)]


def test_memory_is_bounded_and_forgets_nothing_that_could_be_played_again() -> None:
    receiver = Receiver(MemorySeen(3, at_least_s=2 * TOLERANCE_S))
    for number in range(3):
        receiver.take(1, subject=f"xfr-{number}")
    with pytest.raises(InProgress, match="too many"):
        receiver.take(1, subject="xfr-3")
    receiver.now += 2 * TOLERANCE_S
    receiver.take(1, subject="xfr-3")
    receiver.take(1, subject="xfr-4")
    with pytest.raises(AlreadySeen):
        receiver.take(1, subject="xfr-2")
    assert len(receiver.taken) == 5


def test_a_file_remembers_over_restarts_and_the_newest_for_ever(tmp_path: Path) -> None:
    receiver = Receiver(SqliteSeen(tmp_path / "seen.db"))
    receiver.take(2)
    again = Receiver(SqliteSeen(tmp_path / "seen.db"))
    with pytest.raises(AlreadySeen):
        again.take(2, attempt=2)
    with pytest.raises(MovesBack):
        again.take(1)
    again.now += KEEP_S + 1
    again.take(1, subject="xfr-2")
    with pytest.raises(MovesBack):
        again.take(2, attempt=3)
    file: Any = again.inbox._seen
    assert file._file.execute("SELECT count(*) FROM seen").fetchone() == (3,), "what is old is forgotten"


def test_many_threads_take_an_event_once(seen: Seen) -> None:
    taken: list[int] = []
    inbox = Inbox(secrets=NEW, seen=seen, clock=lambda: float(NOW))

    def take(attempt: int) -> None:
        body = body_of(attempt=attempt)
        try:
            with inbox.receive(signed(body), body):
                taken.append(attempt)
        except WebhookRefused:
            return

    threads = [threading.Thread(target=take, args=(number,)) for number in range(1, 17)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(taken) == 1


def test_ids_of_other_subjects_are_not_confused() -> None:
    event = verify(signed(body_of()), body_of(), secrets=NEW, now=NOW)
    other = replace(event, subject="1/xfr-1", webhook_id="evt-2", delivery_id="whe-2")
    assert not set(event.keys) & set(other.keys)


def test_a_signature_is_not_good_for_another_split_of_what_it_covers() -> None:
    whole = f"{NOW}.".encode() + body_of()
    given = signed(whole)
    assert check_signature(given, whole, secrets=NEW, now=NOW) == "evt-1"
    with pytest.raises(SignatureWrong):
        check_signature({**given, "webhook-id": f"evt-1.{NOW}"}, body_of(), secrets=NEW, now=NOW)
