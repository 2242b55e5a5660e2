"""The server is killed where few payouts pass: raised fees, refusals of the signer, and recovery."""

import contextlib
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from outlay.cli import freeze
from outlay.cli.output import PRINTED
from outlay.cli.playground import LocalChain
from outlay.client import Client
from outlay.client import batches as files
from outlay.core.address import ZERO
from outlay.core.errors import OutcomeUnknown
from outlay.core.faultpoint import FILE_LABELS, LABELS, RARE_LABELS
from outlay.engine.admit_batches import GROUP
from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import digest_of, leaf
from outlay.layout import Layout
from outlay.system import CRASH_VARIABLE
from tests import postgres
from tests.fault.stand import Original, Payout, Stand, make_payouts
from tests.world import NETWORK, place_of, until

PAYOUTS = 4
PARALLEL = 3
DEAR = 20 * 10**9
"""Wei per gas: more than anything was offered before, and within the fee cap of what is offered then."""

SOURCES = Path(__file__).parents[2] / "src"


def test_every_label_is_passed_somewhere_and_every_point_has_a_listed_label() -> None:
    texts = [path.read_text() for path in SOURCES.rglob("*.py")]
    passed = [label for text in texts for label in re.findall(r"\bfault\(\s*([^)]*?)\s*\)", text) if ":" not in label]
    assert sorted(passed) == sorted(f'"{label}"' for label in (*LABELS, *RARE_LABELS, *FILE_LABELS))


def start_and_die_at(stand: Stand, label: str) -> None:
    """Start the server, which kills itself at the first passing of ``label``, perhaps before it answers anybody."""
    stand.world.start({CRASH_VARIABLE: label}, wait=False)
    assert stand.world.wait_for_death(timeout_s=60) == -signal.SIGKILL, "the point was not reached"


def die_on_the_way(stand: Stand, original: Original, label: str, name: str) -> None:
    """Have everything asked for, and kill the server where the first payouts pass ``label``."""
    stand.world.start({CRASH_VARIABLE: label})
    stand.post(make_payouts(name, PAYOUTS, original.token)).result()
    stand.fund()  # only now: until then nothing can be bound
    assert stand.world.wait_for_death(timeout_s=60) == -signal.SIGKILL, "the point was not reached"


def nonces_used(stand: Stand) -> int:
    """Return how many transactions of the wallet are in blocks."""
    return int(stand.world.chain.rpc("eth_getTransactionCount", stand.wallet["address"], "latest"), 16)


# Raised fees


def base_fee(chain: LocalChain) -> int:
    """Return the base fee of the newest block, in wei per gas."""
    return int(chain.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)


@contextlib.contextmanager
def dear_blocks(chain: LocalChain) -> Iterator[None]:
    """Keep the base fee at ``DEAR``. Without that it sinks by an eighth with each empty block."""
    ended = threading.Event()

    def hold() -> None:
        while not ended.wait(0.05):
            chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(DEAR))

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        try:
            yield
        finally:
            ended.set()
        holding.result()


def replace(original: Original, label: str, folder: Path) -> None:
    """Kill the server when it has stored that a payout is to be signed again with higher fees."""
    with original.copy(folder) as stand:
        world = stand.world
        config = Layout(world.deployment.directory).config
        config.write_text(config.read_text().replace("[sending]", "[sending]\nbump_after_s = 1\nbump_every_s = 1"))
        die_on_the_way(stand, original, "store.after_commit", label)
        with dear_blocks(world.chain):
            until(lambda: base_fee(world.chain) == DEAR, "a dear block")
            start_and_die_at(stand, label)
            unsigned = world.rows("SELECT transaction_id FROM attempt WHERE number = 2 AND raw IS NULL")
            assert len(unsigned) == 1
            assert nonces_used(stand) == 0
            world.start()
            raised = "SELECT 1 FROM attempt WHERE number = 2 AND first_sent_at IS NOT NULL AND transaction_id = ?"
            until(lambda: world.rows(raised, unsigned[0]["transaction_id"]), "the raised fees on the wire")
        stand.come_to_rest()
        stand.check()


# Refusals of the signer


def refuse(original: Original, label: str, folder: Path) -> None:
    """Kill the server while it takes back the slots of payouts whose wallet was frozen when they were bound."""
    with original.copy(folder) as stand:
        world = stand.world
        die_on_the_way(stand, original, "bind.after_commit", label)
        freeze.stop(world.deployment.directory, "wallet", stand.wallet["id"], "a drill", PRINTED)
        start_and_die_at(stand, label)
        assert bool(world.rows('SELECT 1 FROM "transaction"')) is (label == "fence.after_commit")
        world.start()
        # The server binds nothing more once it knows of the freeze itself.
        until(lambda: world.rows("SELECT 1 FROM stop"), "the freeze")
        until(lambda: not world.rows('SELECT 1 FROM "transaction"'), "all slots given back")
        assert not world.rows("SELECT 1 FROM attempt")
        assert nonces_used(stand) == 0
        let_go(stand)
        stand.come_to_rest()
        stand.check()


def let_go(stand: Stand) -> None:
    """Lift the one freeze there is, as the admin."""
    admin = stand.world.admin
    client = Client(
        stand.world.url, token=admin.token, credential_id=admin.credential_id, private_key=admin.private_key
    )

    def listed() -> Any:
        return client.read("/v1/freezes")["freezes"]

    (stopped,) = until(listed, "the freeze")
    assert (stopped["subject"], stopped["reason"]) == (stand.wallet["id"], "a drill")
    body = {"scope": stopped["scope"], "subject": stopped["subject"], "reason": "the drill is over"}
    client.write("PUT", f"/v1/freezes/{stopped['id']}/lift", body)


# Recovery


def recover(original: Original, label: str, folder: Path) -> None:
    """Kill the server while it learns from the signer what an older copy of its database does not know."""
    with original.copy(folder) as stand:
        world = stand.world
        database = place_of(world.deployment.directory)
        older = postgres.save(database, folder / "older.db")
        world.start()
        new = world.admin.sdk.wallets.create_wallet({"network": NETWORK, "name": "new"})["id"]
        stand.post(make_payouts(label, PAYOUTS, original.token)).result()
        stand.fund()
        until(lambda: any(each["status"] == "Confirmed" for each in stand.transfers()), "a payout")
        world.kill()
        postgres.restore(older, database)
        assert not world.rows("SELECT 1 FROM wallet WHERE id = ?", new)
        start_and_die_at(stand, label)
        assert world.rows("SELECT 1 FROM wallet WHERE id = ?", new)
        assert bool(world.rows('SELECT 1 FROM "transaction"')) is (label == "recover.after_slots")
        world.start()
        stand.post_again().result()
        stand.come_to_rest()
        stand.check()


# Files of payouts


def file(original: Original, label: str, folder: Path) -> None:
    """Kill the server when it has kept what became of the first rows of a file, the second half not."""
    with original.copy(folder) as stand:
        world = stand.world
        payouts = make_payouts(label, PAYOUTS, original.token)
        stand.expect(payouts)
        rows = [row_of(each) for each in payouts]
        # Of the first group all but two are refused; two more payouts are in the next group.
        refused = [{**rows[0], "externalId": f"nobody-{at}", "recipient": ZERO} for at in range(GROUP - 2)]
        world.start({CRASH_VARIABLE: label})
        batch_id = submit_file(stand, [*refused, *rows])
        assert world.wait_for_death(timeout_s=60) == -signal.SIGKILL, "the point was not reached"
        (before,) = world.rows("SELECT admitted, refused FROM submission WHERE id = ?", batch_id)
        assert (before["admitted"], before["refused"]) == (GROUP, GROUP - 2)
        world.start()
        stand.fund()
        until(lambda: world.rows("SELECT 1 FROM submission WHERE state = 'done'"), "the rest of the file")
        until(lambda: len(stand.transfers()) == PAYOUTS, "every payout")
        stand.come_to_rest()
        stand.check()


def row_of(payout: Payout) -> dict[str, str]:
    return {
        "externalId": payout.external_id,
        "network": NETWORK,
        "asset": payout.contract or "native",
        "recipient": payout.to,
        "amount": str(payout.amount),
    }


def submit_file(stand: Stand, rows: list[dict[str, str]]) -> str:
    """Sign and upload a file; the server may die any moment after."""
    terms = files.terms(stand.client, wallet_id=stand.wallet["id"])
    digest = digest_of([leaf(canonical(each)) for each in rows])
    made = files.submit(stand.client, terms, name="payroll", digest=digest, count=len(rows))
    with contextlib.suppress(OutcomeUnknown):
        files.upload(stand.client, made["id"], 0, rows)
    return str(made["id"])


WAYS: dict[str, Callable[[Original, str, Path], None]] = {
    "replace.after_commit": replace,
    "fence.after_commit": refuse,
    "release.after_commit": refuse,
    "recover.after_records": recover,
    "recover.after_slots": recover,
    "batch.after_commit": file,
}
POINTS = (*RARE_LABELS, *FILE_LABELS)


@pytest.fixture(scope="module")
def crashes(
    request: pytest.FixtureRequest, original: Original, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[None]"]]:
    """Start the selected crashes, a few at a time: most of their time is waiting."""
    wanted = [label for label in POINTS if any(item.name.endswith(f"[{label}]") for item in request.session.items)]
    folder = tmp_path_factory.mktemp("rare")
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield {label: pool.submit(WAYS[label], original, label, folder / label) for label in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.mark.ci
@pytest.mark.parametrize("label", POINTS)
def test_a_crash_at_any_rare_point_pays_everybody_exactly_once(crashes: dict[str, "Future[None]"], label: str) -> None:
    crashes[label].result()
