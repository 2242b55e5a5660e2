"""What one real process tells: numbers that are right, one trace a payout, health that is true, and no secret.

One deployment for all of it; what breaks it comes last.
"""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dfns_sdk.types import DfnsError

from outlay.cli.playground import free_port
from outlay.layout import Layout
from outlay.observe.tracing import ids_of
from tests import postgres
from tests.observe.watched import Watched, leaks, parse, secrets_of, watch
from tests.signer_process.parts import Part, part
from tests.world import ETH, USDC, place_of, until

TO = "0x" + "1a" * 20
STAGES = ("requested", "ready", "assigned", "signed", "broadcast", "mined", "confirmed")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Run a deployment that is watched."""
    with watch(tmp_path_factory.mktemp("watched")) as opened:
        yield opened


def paid(watched: Watched, name: str, amount: int = 10**15, contract: str | None = None) -> Any:
    """Pay and return the transfer once it is confirmed."""
    world = watched.world
    made = world.pay(watched.payer, watched.wallet, TO, amount, name, contract=contract)
    return world.wait_for(made, "Confirmed")


def one(samples: Any, name: str, **labels: str) -> float:
    """Return the value of one sample."""
    value = samples[name, tuple(sorted(labels.items()))]
    assert isinstance(value, float)
    return value


def test_stages_are_counted_and_timed(watched: Watched) -> None:
    before = watched.metrics()
    with watched.world.receiver() as (receiver, _):
        for number in range(3):
            paid(watched, f"count-{number}")
        receiver.wait_for("wallet.transfer.confirmed")
        until(lambda: one(watched.metrics(), "outlay_deliveries_total", outcome="delivered") >= 12, "deliveries")
    after = watched.metrics()

    for stage in STAGES:
        assert one(after, "outlay_payouts_total", stage=stage) - one(before, "outlay_payouts_total", stage=stage) == 3
    for stage in ("accept", "decide", "sign", "broadcast", "confirm"):
        name = "outlay_stage_seconds_count"
        assert one(after, name, stage=stage) - one(before, name, stage=stage) == 3, stage
    assert one(after, "outlay_stage_seconds_count", stage="notify") >= 12
    assert one(after, "outlay_payouts_total", stage="failed") == 0


def test_a_repeated_request_is_no_new_payout(watched: Watched) -> None:
    first = paid(watched, "repeated")
    before = watched.metrics()
    again = watched.world.pay(watched.payer, watched.wallet, TO, 10**15, "repeated")
    after = watched.metrics()

    assert again["id"] == first["id"]
    name = "outlay_payouts_total"
    assert one(after, name, stage="requested") == one(before, name, stage="requested")


@pytest.mark.ci
def test_gauges_show_what_the_database_holds(watched: Watched) -> None:
    world, wallet = watched.world, watched.wallet["id"]
    world.fund(watched.wallet, dollars=25 * USDC)
    with world.no_blocks():
        made = world.pay(watched.payer, watched.wallet, TO, 7 * USDC, "in-flight", contract=world.token)
        world.wait_for(made, "Broadcasted")
        until(lambda: one(watched.metrics(), "outlay_payouts", state="broadcast") == 1, "the payout in flight")
        shown = watched.metrics()
        assert one(shown, "outlay_in_flight", wallet=wallet, network="EthereumSepolia") == 1
        assert one(shown, "outlay_reserved_units", wallet=wallet, asset="USDC") == 7
        assert one(shown, "outlay_oldest_waiting_seconds", stage="confirm") > 0
        assert one(shown, "outlay_lane_gap", wallet=wallet) == 0
    world.wait_for(made, "Confirmed")
    until(lambda: one(watched.metrics(), "outlay_payouts", state="broadcast") == 0, "the confirmed payout")
    shown = watched.metrics()
    spendable = world.spendable(wallet, world.token) / USDC
    place = {"wallet": wallet, "network": "EthereumSepolia", "asset": "USDC"}
    for kind in ("ledger", "spendable"):
        assert one(shown, "outlay_balance_units", **place, kind=kind) == spendable
    assert one(shown, "outlay_reconciliation_difference_units", wallet=wallet, asset="USDC") == 0
    assert one(shown, "outlay_wallet_frozen", wallet=wallet) == 0
    assert one(shown, "outlay_provider_up", network="EthereumSepolia", endpoint="1") == 1
    assert one(shown, "outlay_provider_up", network="PolygonAmoy", endpoint="1") == 0
    assert one(shown, "outlay_rpc_requests_total", network="PolygonAmoy", endpoint="1", outcome="failed") > 0
    assert one(shown, "outlay_signer_up") == one(shown, "outlay_admitting") == one(shown, "outlay_live") == 1
    assert one(shown, "outlay_scrape_errors_total") == one(shown, "outlay_payout_delayed") == 0
    assert 0 < one(shown, "outlay_disk_free_ratio", path="data") < 1


def test_calls_are_counted_by_route_and_their_ids_are_in_the_answer(watched: Watched) -> None:
    host = watched.world.url.removeprefix("http://")
    seen = set()
    for path in ("/wallets/wa-none", "/wallets/wa-other", "/no/such/path", "/openapi.json"):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", path)
        seen.add(connection.getresponse().headers["x-request-id"])
        connection.close()
    shown = watched.metrics()

    assert len(seen) == 4
    assert None not in seen
    name = "outlay_http_requests_total"
    assert one(shown, name, method="GET", route="/wallets/{wallet_id}", status="401") == 2
    assert one(shown, name, method="GET", route="unmatched", status="404") == 1
    assert not [labels for (found, labels) in shown if found.startswith("outlay_http") and "wa-none" in str(labels)]


def test_a_payout_is_one_trace_from_the_call_to_the_receipt(watched: Watched) -> None:
    with watched.world.receiver() as (receiver, _):
        made = paid(watched, "traced")
        receiver.wait_for("wallet.transfer.confirmed", lambda data: data["transferRequest"]["id"] == made["id"])
        trace, root = ids_of(made["id"])
        wanted = {"admit", "request", "decide", "bind", "sign", "broadcast", "mine", "confirm", "notify"}
        until(lambda: {span.name for span in watched.spans() if span.trace == trace} >= wanted, "all spans")
    spans = {span.name: span for span in watched.spans() if span.trace == trace}

    assert spans["admit"].id == root
    assert spans["admit"].parent == 0
    assert {span.parent for name, span in spans.items() if name != "admit"} == {root}
    assert {span.attributes["outlay.payout"] for span in spans.values()} == {made["id"]}
    order = ["admit", "decide", "bind", "sign", "broadcast", "confirm"]
    assert [spans[name].ended for name in order] == sorted(spans[name].ended for name in order)
    assert all(span.began <= span.ended for span in spans.values())
    assert TO[2:] not in str(watched.spans())


def test_nothing_that_is_written_shows_a_secret(watched: Watched, tmp_path: Path) -> None:
    """Success and failures of every kind, then every sink is searched for every secret."""
    world, secrets = watched.world, secrets_of(watched)
    answers: list[bytes] = []
    with world.receiver() as (receiver, webhook):
        secrets["webhook's secret"] = webhook["secret"]
        for status in (500, 302, 403):
            receiver.answers.put(status)
        made = paid(watched, "canary")
        invitation = world.invite("canary@example.com")
        secrets["registration code"] = invitation.code
        answers += _failures(watched, secrets)
        receiver.wait_for("wallet.transfer.confirmed", lambda data: data["transferRequest"]["id"] == made["id"])
        arrived = b"".join(json.dumps(dict(each.headers)).encode() + each.body for each in receiver.arrivals)
    _break_and_mend(watched)
    held = world.wallet("held", tags=["held"], coins=ETH, dollars=0)
    world.watch("held", {})
    world.pay(watched.payer, held, TO, 10**15, "asked-about")
    until(lambda: watched.chat.arrivals, "a message to the chat")
    dump = _dump(watched)
    sinks = {
        "log": world.deployment.log.read_bytes(),
        "metrics": watched.get("/metrics")[1].encode(),
        "traces": b"".join(each.body for each in watched.collector.arrivals),
        "deliveries": arrived,
        "chat": b"".join(each.body for each in watched.chat.arrivals),
        "answers": b"".join(answers),
        "database": dump,
        "start of a process without its database": _start_without_a_database(watched, secrets, tmp_path),
    }

    assert b"chain_unavailable" in sinks["log"]
    assert all(len(content) > 100 for content in sinks.values()), {name: len(text) for name, text in sinks.items()}
    found = {name: leaks(secrets, content) for name, content in sinks.items()}
    found["database"].remove("webhook's secret")  # deliveries are signed with it; it opens nothing here
    assert {name: shown for name, shown in found.items() if shown} == {}


def _failures(watched: Watched, secrets: dict[str, str]) -> list[bytes]:
    """Make calls that fail, each with a secret in the wrong place, and return the answers."""
    host = watched.world.url.removeprefix("http://")
    token = {"authorization": f"Bearer {watched.payer.token}"}
    json_type = {"content-type": "application/json"}
    calls: list[tuple[str, str, dict[str, str], str]] = [
        ("GET", "/wallets", {"authorization": f"Bearer {secrets['passphrase']}"}, ""),
        ("GET", "/wallets", {"authorization": f"Bearer {watched.payer.token}x"}, ""),
        ("GET", f"/wallets/{secrets['passphrase']}", token, ""),
        ("POST", "/auth/action/init", {**token, **json_type}, json.dumps({"userActionPayload": watched.payer.token})),
        ("POST", "/auth/action", {**token, **json_type}, json.dumps({"challengeIdentifier": secrets["webhook key"]})),
        ("POST", "/wallets", {**token, **json_type, "x-dfns-useraction": secrets["registration code"]}, "{}"),
        ("POST", "/auth/login", json_type, "{" + secrets["admin's key"]),
        ("GET", "/health/ready", token, ""),
    ]
    answers = []
    for method, path, headers, body in calls:
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request(method, path, body=body or None, headers=headers)
        answer = connection.getresponse()
        # A path is the caller's own and is told back.
        answers.append(answer.read().replace(path.encode(), b""))
        connection.close()
    with pytest.raises(DfnsError) as refused:
        watched.world.pay(watched.payer, watched.wallet, TO, 2 * ETH, "canary")  # another payout under the same id
    return [*answers, str(refused.value).encode()]


def _break_and_mend(watched: Watched) -> None:
    """Let the signer die and come back, and the node be away for a while."""
    world = watched.world
    os.kill(signer_pid(watched), signal.SIGKILL)
    node = world.chain.process.pid
    os.kill(node, signal.SIGSTOP)
    made = world.pay(watched.payer, watched.wallet, TO, 10**15, "while-all-is-broken")
    until(lambda: "signer_ended" in world.log, "the end of the signer")
    os.kill(node, signal.SIGCONT)
    world.wait_for(made, "Confirmed", timeout_s=40)


def signer_pid(watched: Watched) -> int:
    """Return the process id of the signer that runs."""
    lines = [json.loads(line) for line in watched.world.log.splitlines() if '"signer_started"' in line]
    return int(lines[-1]["pid"])


def _dump(watched: Watched) -> bytes:
    """Return every text of the database."""
    world = watched.world
    if isinstance(place_of(world.deployment.directory), str):
        names = [row[0] for row in world.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        return "\n".join(str(row) for name in names for row in world.rows(f'SELECT * FROM "{name}"')).encode()
    return b"".join(file.read_bytes() for file in Layout(world.deployment.directory).data.glob("outlay.db*"))


def _start_without_a_database(watched: Watched, secrets: dict[str, str], folder: Path) -> bytes:
    """Start a process whose PostgreSQL is not there, and return what it said."""
    secrets["database password"] = "canary-db-5512f0"
    password = folder / "password"
    password.write_text(secrets["database password"])
    password.chmod(0o600)
    directory = folder / "copy"
    directory.mkdir()
    text = (watched.world.deployment.directory / "outlay.toml").read_text().split("[database]")[0]
    database = f'\n[database]\nurl = "postgresql://outlay@127.0.0.1:9/outlay"\npassword_file = "{password}"\n'
    (directory / "outlay.toml").write_text(text + database)
    for name in ("data", "secrets"):
        (directory / name).symlink_to(watched.world.deployment.directory / name)
    command = [sys.executable, "-m", "outlay", "doctor", "--dir", str(directory)]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert ran.returncode != 0
    return ran.stdout + ran.stderr


# Health. What follows breaks the deployment.


def ready(watched: Watched) -> bool:
    """Tell whether it says that it is ready, at both places alike."""
    public = int(watched.world.url.rpartition(":")[2])
    answers = {watched.get("/health/ready")[0], watched.get("/health/ready", port=public)[0]}
    return answers == {200}


def failing(watched: Watched) -> set[str]:
    """Return the checks that fail, once the process is not ready any more at either place."""
    public = int(watched.world.url.rpartition(":")[2])

    def unready() -> bool:
        return {watched.get("/health/ready")[0], watched.get("/health/ready", port=public)[0]} == {503}

    until(unready, "being unready")
    shown = watched.metrics()
    return {dict(labels)["check"] for (name, labels), value in shown.items() if name == "outlay_ready" and not value}


@contextlib.contextmanager
def changed(watched: Watched, table: str, column: str, value: str) -> Iterator[None]:
    """Write another value behind everybody's back, until the block ends."""
    where = place_of(watched.world.deployment.directory)
    (before,) = watched.world.rows(f"SELECT {column} FROM {table}")[0]
    postgres.change(where, f"UPDATE {table} SET {column} = ?", value)
    try:
        yield
    finally:
        postgres.change(where, f"UPDATE {table} SET {column} = ?", before)


def test_a_healthy_process_says_so_and_nothing_else(watched: Watched) -> None:
    until(lambda: ready(watched), "being ready")

    public = int(watched.world.url.rpartition(":")[2])
    assert watched.get("/health/live", port=public) == (200, '{"status":"live"}')
    assert watched.get("/health/ready", port=public) == (200, '{"status":"ready"}')
    assert watched.get("/health/live") == (200, '{"status": "live"}')
    assert watched.get("/nothing")[0] == 404


@pytest.mark.ci
def test_a_signer_that_does_not_answer_makes_it_unready(watched: Watched) -> None:
    pid = signer_pid(watched)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert failing(watched) >= {"signer"}
        assert one(watched.metrics(), "outlay_signer_up") == 0
        assert watched.get("/health/live")[0] == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: ready(watched), "being ready again")


@pytest.mark.ci
def test_settings_that_nobody_signed_make_it_unready(watched: Watched) -> None:
    with changed(watched, "organization", "money_settings", "0" * 64):
        assert failing(watched) == {"settings"}
        assert one(watched.metrics(), "outlay_admitting") == 0
    until(lambda: ready(watched), "being ready again")


@pytest.mark.ci
def test_another_head_of_the_records_makes_it_unready(watched: Watched) -> None:
    with changed(watched, "organization", "head", "0" * 64):
        assert failing(watched) == {"records"}
    until(lambda: ready(watched), "being ready again")


@pytest.mark.ci
def test_a_database_that_is_locked_makes_it_unready_and_figures_stay(watched: Watched) -> None:
    where = place_of(watched.world.deployment.directory)
    if isinstance(where, str):
        return  # stopping a server is for tests/fleet; its lock is the same lock
    file = sqlite3.connect(where, isolation_level=None)
    errors = one(watched.metrics(), "outlay_scrape_errors_total")
    try:
        file.execute("BEGIN IMMEDIATE")
        assert failing(watched) == {"database"}
        assert one(watched.metrics(), "outlay_scrape_errors_total") == errors  # readers are not kept out
    finally:
        file.execute("ROLLBACK")
        file.close()
    until(lambda: ready(watched), "being ready again", timeout_s=40)


@pytest.mark.ci
def test_a_schema_that_does_not_fit_makes_it_unready(watched: Watched) -> None:
    with (
        changed(watched, "schema_floor", "revision", "9999"),
        changed(watched, "alembic_version", "version_num", "9999"),
    ):
        until(lambda: failing(watched) == {"schema"}, "the schema that does not fit")
    until(lambda: ready(watched), "being ready again", timeout_s=40)


@pytest.mark.ci
def test_the_roles_apart_each_tell_their_own(watched: Watched, tmp_path: Path) -> None:
    """API, worker and signer as processes of their own, each with a port for metrics."""
    world, directory = watched.world, watched.world.deployment.directory
    world.deployment.stop()
    public, of_api, of_worker = int(world.url.rpartition(":")[2]), free_port(), free_port()
    with contextlib.ExitStack() as closing:

        def start(role: str, *arguments: str) -> Part:
            return closing.enter_context(part(tmp_path, role, role, "--dir", str(directory), *arguments))

        def status(path: str, port: int) -> int:
            return watched.get(path, port=port)[0]

        start("api", "--port", str(public), "--metrics-port", str(of_api))
        until(lambda: status("/health/live", public) == 200, "the API", timeout_s=60)
        assert (status("/health/ready", public), status("/health/ready", of_api)) == (503, 503)
        signer = start("signer")
        until(lambda: status("/health/ready", public) == 200, "the opened API", timeout_s=60)
        worker = start("worker", "--metrics-port", str(of_worker))
        until(lambda: status("/health/ready", of_worker) == 200, "the worker", timeout_s=60)
        paid(watched, "with-roles")
        until(
            lambda: one(parse(watched.get("/metrics", port=of_worker)[1]), "outlay_payouts_total", stage="confirmed"),
            "the confirmed payout",
        )
        of_the_api = parse(watched.get("/metrics", port=of_api)[1])
        assert one(of_the_api, "outlay_payouts_total", stage="requested") == 1
        assert one(of_the_api, "outlay_payouts_total", stage="confirmed") == 0
        assert "outlay_wallet_frozen" not in {name for name, _ in of_the_api}

        worker.kill()  # who admits goes on
        assert status("/health/ready", public) == 200
        signer.kill()
        until(lambda: status("/health/ready", public) == 503, "being unready without a signer")
        assert status("/health/live", public) == 200
