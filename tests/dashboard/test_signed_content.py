"""The scripts of the pages say what the server says: canonical JSON, digests, words, what a challenge stands for."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outlay.evidence.canonical import CanonicalError, canonical, digest
from outlay.evidence.challenge import Preimage, action_challenge
from outlay.evidence.words import WORDS, words

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "src/outlay/web/dashboard/static"
VECTORS = ROOT / "tests/vectors"
RUNNER = """
import { webcrypto } from 'node:crypto'
import { readFileSync } from 'node:fs'
if (!globalThis.crypto) globalThis.crypto = webcrypto
const { canonical, digest } = await import('./canonical.js')
const { words } = await import('./words.js')
const { expectCall, expectDecision } = await import('./binding.js')
const DONE = {
  canonical: async (text) => canonical(JSON.parse(text)),
  digest: async (text) => digest(JSON.parse(text)),
  words: async (hex) => words(hex),
  call: async ([opened, method, path, payload]) => (await expectCall(opened, method, path, payload), 'fits'),
  decision: async ([opened, content, groups]) => (await expectDecision(opened, content, groups), 'fits')
}
const answers = []
for (const [what, argument] of JSON.parse(readFileSync(0, 'utf8'))) {
  answers.push(await DONE[what](argument).catch((error) => `refused: ${error.message}`))
}
console.log(JSON.stringify(answers))
"""

Run = Callable[[list[tuple[str, Any]]], list[Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return what runs functions of the pages' scripts, many at once."""
    folder = tmp_path_factory.mktemp("scripts")
    for each in STATIC.glob("*.js"):
        shutil.copy(each, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(RUNNER)

    def call(asked: list[tuple[str, Any]]) -> list[Any]:
        done = subprocess.run(
            ["node", "run.js"], cwd=folder, input=json.dumps(asked), capture_output=True, text=True, check=True
        )
        found: list[Any] = json.loads(done.stdout)
        return found

    return call


def test_canonical_text_is_the_servers(run: Run) -> None:
    values: list[Any] = [
        {"b": 1, "a": [True, False, None, ""], "\u20ac": "\x7f\x80\U0001d11e", "\U0001d11e": 0, "\ufb01": -0.0},
        {"nested": {"z": [], "y": {}}, "quote": '"\\/\b\f\n\r\t\x00\x1f', "numbers": [1.5, 1e-7, 123456789.25, 1e15]},
        2**53 - 1,
        -(2**53 - 1),
        {"1": 1, "10": 2, "2": 3, "A": 4, "a": 5, "é": 6},
    ]
    answers = run([("canonical", json.dumps(each)) for each in values])
    assert answers == [canonical(each).decode() for each in values]
    texts = ["9007199254740993", "1e400", '"\\ud800"', '{"\\udc00": 1}']
    assert all(each.startswith("refused") for each in run([("canonical", each) for each in texts]))
    with pytest.raises(CanonicalError):
        canonical(2**53)


def test_the_shared_vectors_hold_in_the_pages_too(run: Run) -> None:
    taken = [each for each in json.loads((VECTORS / "canonical.json").read_text()) if "canonical" in each]
    assert len(taken) > 5
    assert run([("canonical", each["input"]) for each in taken]) == [each["canonical"] for each in taken]
    assert run([("digest", each["input"]) for each in taken]) == [each["digest"] for each in taken]


def test_words_are_the_servers(run: Run) -> None:
    digests = [digest(number) for number in range(300)]
    answers = run([("words", each) for each in digests])
    assert answers == [words(each) for each in digests]
    assert {word for each in answers for word in each.split()} == set(WORDS)


def preimage(**changes: Any) -> Preimage:
    stated: dict[str, Any] = {
        "org": "or-1",
        "identity": "us-1",
        "credentials": ("cr-1",),
        "method": "POST",
        "path": "/v2/policy-approvals/ap-1/decisions",
        "payload_digest": digest({"value": "Approved"}),
        "intent_digest": digest({"org": "or-1", "amount": "1"}),
        "groups_digest": digest([{"quorum": 1}]),
        "records_head": "00" * 32,
        "nonce": "once",
        "issued": 1_000_000,
        "expires": 901_000_000,
    }
    return Preimage(**{**stated, **changes})


def opened(of: Preimage, **changes: Any) -> dict[str, Any]:
    return {"challenge": action_challenge(of), "preimage": of.document() | changes}


def test_a_challenge_is_signed_only_if_it_stands_for_this_call(run: Run) -> None:
    good, path, payload = preimage(), "/v2/policy-approvals/ap-1/decisions", '{"value":"Approved"}'
    wrong = [
        {**opened(good), "preimage": None},
        opened(good, method="PUT"),
        opened(good, path="/v2/policy-approvals/ap-2/decisions"),
        opened(good, payloadDigest="ab" * 32),
        opened(good, nonce="twice"),
        opened(good, intentDigest="ab" * 32),
        opened(preimage(path="/v2/policy-approvals/ap-2/decisions")),
        opened(preimage(payload_digest=digest({"value": "Denied"}))),
        opened(preimage(expires=902_000_000)),
        {**opened(good), "challenge": action_challenge(preimage(nonce="twice"))},
    ]
    answers = run([("call", [each, "POST", path, payload]) for each in [opened(good), *wrong]])
    assert answers[0] == "fits"
    assert all(each.startswith("refused: STOP: nothing was signed.") for each in answers[1:]), answers


def test_a_decision_is_signed_only_about_what_is_shown(run: Run) -> None:
    content, groups = {"org": "or-1", "amount": "1"}, [{"quorum": 1}]
    wrong: list[tuple[Any, Any]] = [
        ({**content, "amount": "2"}, groups),
        ({**content, "memo": ""}, groups),
        (content, [{"quorum": 2}]),
        (content, []),
        ({**content, "org": "or-2"}, groups),
    ]
    answers = run([("decision", [opened(preimage()), *each]) for each in [(content, groups), *wrong]])
    assert answers[0] == "fits"
    assert all(each.startswith("refused: STOP: nothing was signed.") for each in answers[1:]), answers
