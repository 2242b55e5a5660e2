"""Thousands of calls made from the published description: none crashes, and each is answered as described.

Schemathesis generates right and wrong data for every operation; what was accepted is also sent again with one thing
changed. Each call that changes something is signed, as a client does, so that what is tried lies behind the door and
not in front of it; some callers do not sign, have no token, or are permitted nothing.
"""

import collections
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.core.result import Ok

from outlay.evidence.canonical import read_canonical
from outlay.evidence.history import verify_history
from outlay.web.openapi import operations
from tests import tools
from tests.fuzz.run import NEGATIVE, POSITIVE, Run
from tests.fuzz.wire import Client
from tests.world import World

CALLS = max(2500 if os.environ.get("CI") else 700, tools.examples(700))
"""Calls made at least, not counting the two of each signature; a quarter of that again where changes are governed."""

RARE = {
    "PUT /v1/assets/unfreeze",
    "PUT /v1/freezes/{freezeId}/lift",
    "PUT /v1/networks/unfreeze",
    "PUT /v1/signer/reseed",
    "PUT /v1/wallets/{walletId}/unfreeze",
    "GET /v1/payouts/batch/{batchId}",
    "POST /v1/payouts/batch",
    "POST /v1/payouts/batch/{batchId}/decisions",
    "POST /auth/credentials/code",
    "POST /auth/credentials/code/init",
    "POST /auth/credentials/code/verify",
    "POST /v1/audit/continue",
    "POST /v1/batches",
    "POST /v1/batches/{batchId}/cancel",
    "GET /v1/batches/{batchId}",
    "GET /v1/batches/{batchId}/report.csv",
    "GET /v1/batches/{batchId}/rows",
    "POST /v1/batches/check",
    "PUT /v1/batches/{batchId}/rows",
    "POST /v1/batches/{batchId}/decisions",
    "GET /v1/mandates/{mandateId}",
    "GET /v1/mandates/{mandateId}/proposals",
    "GET /v1/mandates/{mandateId}/runs",
    "POST /v1/mandates",
    "POST /v1/mandates/{mandateId}/archive",
}
"""Never or hardly ever carried out here: nothing is frozen or broken, no made-up body names every wallet with its
nonce, is a whole mandate or ends within days from now, and a batch is signed as a message, or names a wallet beside a
digest."""


@pytest.mark.parametrize("governed", [False, pytest.param(True, marks=pytest.mark.long)], ids=["free", "governed"])
def test_every_call_that_the_description_allows_or_forbids_is_answered_as_described(
    governed: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(int(request.config.getoption("--hypothesis-seed")))
    with World.open(tmp_path, extra="[governance]\nloosening_delay_s = 0\n") as world:
        _try_everything(world, dice, governed=governed, calls=CALLS // 4 if governed else CALLS)


def _try_everything(world: World, dice: random.Random, *, governed: bool, calls: int) -> None:
    status, _, raw = Client(world.deployment.port).send("GET", "/openapi.json", None)
    assert status == 200
    described = json.loads(raw)
    # Who calls is ours to say: we sign.
    settled = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    schema = schemathesis.openapi.from_dict(described, config=settled)
    run = Run(world, described, dice, governed=governed)
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(found) == len(list(operations(described)))
    found.sort(key=lambda operation: operation.method == "delete")  # at first there is little to be removed
    for operation in found:
        run.generate(operation)
    # Round by round: what one operation makes, another finds.
    while len(run.sent) < calls and len(run.wrong) < 100:
        dice.shuffle(found)
        for operation in found:
            run.generate(operation)
    run.finish()
    done = _report(run)
    assert not run.wrong, "\n".join([f"{len(run.wrong)} wrong answers", *run.wrong[:20]])
    assert len(run.sent) >= calls
    missing = {sent.label for sent in run.sent} - done - RARE
    assert len(missing) <= (2 if calls >= 20_000 else 10), f"never carried out: {sorted(missing)}"
    behind = [sent for sent in run.sent if sent.is_signed and sent.status not in (401, 403)]
    assert len(behind) * 2 >= len(run.sent), f"only {len(behind)} of {len(run.sent)} calls got past authentication"
    modes = collections.Counter(sent.mode for sent in run.sent)
    assert min(modes[POSITIVE], modes[NEGATIVE]) * 4 >= len(run.sent), modes
    assert world.log.count("request_crashed") == 0
    _check_what_is_left(world)


def _check_what_is_left(world: World) -> None:
    """Check that whatever was accepted left records that replay, and books that balance."""
    rows = world.rows("SELECT document FROM record ORDER BY seq")
    documents: list[Any] = [read_canonical(row["document"].encode()) for row in rows]
    history = verify_history(documents, world.made["rootFingerprint"])
    print(f"{len(history.numbers)} records replayed")
    balance: collections.Counter[str] = collections.Counter()
    for row in world.rows("SELECT asset, debits, credits FROM account"):
        balance[row["asset"]] += int(row["debits"]) - int(row["credits"])
    assert not any(balance.values()), balance


def _report(run: Run) -> set[str]:
    """Print what was done, and return the operations that were carried out."""
    print()
    tried = collections.Counter(sent.label for sent in run.sent)
    done = collections.Counter(sent.label for sent in run.sent if sent.status < 300)
    for label, count in sorted(tried.items()):
        statuses = collections.Counter(sent.status for sent in run.sent if sent.label == label)
        shown = ", ".join(f"{status}: {times}" for status, times in sorted(statuses.items()))
        print(f"{done[label] * 100 // count:4d} % of {count:5d}  {label}  ({shown})")
    for name in ("status", "mode", "caller"):
        print(f"by {name}:", dict(sorted(collections.Counter(getattr(sent, name) for sent in run.sent).items())))
    print(
        f"{len(run.sent)} calls of {len(tried)} operations, {sum(done.values())} carried out, of {len(done)} operations"
    )
    return set(done)
