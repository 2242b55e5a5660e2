"""The processes of a deployment: the signer as a child, api and workers beside it, and stopping all of them."""

import asyncio
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from dfns_sdk.types import DfnsError

from outlay import app
from outlay.app import Application, Role
from outlay.cli import deployment, doctor
from outlay.cli.output import WrongUsage
from outlay.config import load
from outlay.core.errors import SignerUnavailable, Unavailable
from outlay.layout import Layout
from outlay.signer import Scope, SignerStatus
from outlay.signer.client import SignerClient
from outlay.signing import take_journal
from tests.signer_process.parts import Part, is_alive, outlay, part, said, signatures
from tests.world import ETH, Identity, World, until

ACKNOWLEDGED_S = 2.0


class Scene:
    """A world with somebody who pays."""

    def __init__(self, world: World) -> None:
        """Make the payer and a wallet of many coins."""
        self.world = world
        self.directory = world.deployment.directory
        self.payer: Identity = world.service_account("payouts bot")
        self.wallet = world.wallet("hot", dollars=0)
        self._count = 0

    def pay(self, wallet: Any = None) -> Any:
        """Ask for a payout of an amount of its own."""
        self._count += 1
        to = "0x" + os.urandom(20).hex()
        return self.world.pay(self.payer, wallet or self.wallet, to, 10**12 + self._count, f"role-{self._count}")

    def confirmed(self, transfer: Any) -> None:
        """Wait until a payout has ended well."""
        self.world.wait_for(transfer, "Confirmed", timeout_s=60)

    def status(self) -> SignerStatus:
        """Ask the signer."""

        async def ask() -> SignerStatus:
            client = SignerClient(Layout(self.directory).data / "signer.sock")
            try:
                return await client.status()
            finally:
                await client.close()

        return asyncio.run(ask())

    @contextmanager
    def flow(self, wallet: Any) -> Iterator[list[Any]]:
        """Keep asking for payouts, one after the other, until the block ends."""
        asked: list[Any] = []
        end = threading.Event()

        def post() -> None:
            while not end.is_set():
                try:
                    asked.append(self.pay(wallet))
                except DfnsError as error:
                    assert "412" in str(error), error  # what is known to be frozen is not admitted
                    return

        thread = threading.Thread(target=post)
        thread.start()
        try:
            yield asked
        finally:
            end.set()
            thread.join(30)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Open the world; each test leaves ``serve`` running."""
    with World.open(tmp_path_factory.mktemp("world"), preset="none") as world:
        yield Scene(world)


def child(scene: Scene) -> int:
    """Return the process id of the running signer child."""
    return int(said(scene.world.log, "signer_started")[-1]["pid"])


# serve and its child


def test_the_signer_is_a_process_of_its_own(scene: Scene) -> None:
    scene.confirmed(scene.pay())

    server = scene.world.deployment.process
    assert server is not None
    assert is_alive(child(scene))
    command = Path(f"/proc/{child(scene)}/cmdline").read_bytes().split(b"\0")
    assert b"outlay.signing" in command
    maps = Path(f"/proc/{child(scene)}/maps").read_text()
    assert "sqlalchemy" not in maps and "uvloop" not in maps and "msgspec" not in maps


def test_a_dead_signer_is_started_again_and_only_signing_waits_for_it(scene: Scene) -> None:
    first = child(scene)
    os.kill(first, signal.SIGSTOP)  # it holds the socket and answers nothing
    asked = [scene.pay() for _ in range(3)]
    reads = scene.world.admin.sdk.wallets.list_wallets()
    os.kill(first, signal.SIGKILL)

    assert reads["items"]
    for transfer in asked:
        scene.confirmed(transfer)
    assert child(scene) != first
    assert said(scene.world.log, "signer_ended")[-1]["code"] == -signal.SIGKILL


def test_a_killed_server_takes_its_signer_with_it(scene: Scene) -> None:
    before = child(scene)
    scene.world.kill()
    until(lambda: not is_alive(before), "the end of the signer")
    scene.world.start()

    scene.confirmed(scene.pay())
    assert child(scene) != before


def test_one_signer_and_one_server_on_a_directory(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LOCK_PATIENCE_S", 0.0)

    with pytest.raises(SignerUnavailable, match="another signer is running"):
        take_journal(Layout(scene.directory))
    for role in Role:
        with pytest.raises(Unavailable, match="another server is running"):
            Application(Layout(scene.directory), role=role)


def test_doctor_asks_the_signer_that_runs(scene: Scene) -> None:
    findings = list(doctor._signer(Layout(scene.directory), load(Layout(scene.directory).config)))

    assert [level for level, _ in findings] == [doctor.GOOD]
    assert "the signer is running" in findings[0][1]


# Stopping


def freeze(scene: Scene, *arguments: str) -> str:
    """Run the command and return the id of what it says it has stopped."""
    answer = outlay("freeze", "--dir", str(scene.directory), *arguments, "--reason", "drill")
    return answer.split("freeze ")[1].split()[0]


def check_that_it_stops(scene: Scene, wallet: Any, other: Any) -> None:
    """Freeze a wallet while payouts flow from it: from the acknowledgement on nothing of it is signed."""
    with scene.flow(wallet) as asked:
        until(lambda: signatures(scene.directory, wallet["id"]) >= 3, "signatures")
        stopped = freeze(scene, "--wallet", wallet["id"])
        signed = signatures(scene.directory, wallet["id"])
        asked_then = len(asked)
    assert stopped in {each.id for each in scene.status().freezes}
    for _ in range(2):  # another wallet's payout passes every step meanwhile
        scene.confirmed(scene.pay(other))
    assert signatures(scene.directory, wallet["id"]) == signed
    assert asked_then >= 3


def test_a_freeze_stops_serve(scene: Scene) -> None:
    check_that_it_stops(scene, scene.world.wallet("to be frozen", coins=ETH, dollars=0), scene.wallet)


def test_a_freeze_is_acknowledged_within_two_seconds(scene: Scene) -> None:
    wallet = scene.world.wallet("to be frozen quickly", coins=ETH, dollars=0)

    async def ask() -> float:
        client = SignerClient(Layout(scene.directory).data / "signer.sock")
        began = time.monotonic()
        await client.freeze(Scope.WALLET, wallet["id"], "drill")
        took = time.monotonic() - began
        await client.close()
        return took

    with scene.flow(wallet):
        until(lambda: signatures(scene.directory, wallet["id"]) >= 3, "signatures")
        assert asyncio.run(ask()) < ACKNOWLEDGED_S


def test_a_freeze_names_exactly_one_thing(scene: Scene) -> None:
    wrong: list[dict[str, Any]] = [
        {},
        {"wallet": "wa-1", "everything": True},
        {"network": "Polygon", "identity": "us-1"},
    ]
    for scopes in wrong:
        with pytest.raises(WrongUsage, match="give one of"):
            deployment.freeze(dir=scene.directory, reason="drill", **scopes)


# api, workers and signer apart


@pytest.fixture
def apart(scene: Scene, tmp_path: Path) -> Iterator[Callable[..., Part]]:
    """End ``serve`` for good, so this comes last here; give a function that starts a role."""
    scene.world.deployment.stop()
    with ExitStack() as closing:

        def start(name: str, role: str) -> Part:
            return closing.enter_context(part(tmp_path, name, role, "--dir", str(scene.directory)))

        yield start


def health(scene: Scene) -> str:
    """Return what the API says of itself, once it answers."""

    def ask() -> str | None:
        try:
            with urllib.request.urlopen(f"{scene.world.url}/v1/health", timeout=5) as answer:
                return str(json.load(answer)["status"])
        except OSError:
            return None

    return str(until(ask, "the API", timeout_s=60))


@pytest.mark.ci
def test_two_workers_share_the_work_and_one_takes_over(scene: Scene, apart: Callable[..., Part]) -> None:
    """The API opens once the signer has answered; a worker's death stops nothing; a freeze stops both workers.

    Before all of that, a freeze goes into the journal while no signer runs, and holds for the one that comes.
    """
    stopped = freeze(scene, "--identity", scene.world.admin.user_id)
    api = apart("api", "api")
    assert health(scene) == "recovering"
    with pytest.raises(DfnsError, match="recovering"):
        scene.pay()
    assert scene.world.admin.sdk.wallets.list_wallets()["items"]

    apart("signer", "signer")
    until(lambda: health(scene) == "ok", "the opened API", timeout_s=60)
    (found,) = [each for each in scene.status().freezes if each.id == stopped]
    assert (found.scope, found.subject, found.reason) == (Scope.IDENTITY, scene.world.admin.user_id, "drill")
    workers = [apart("one", "worker"), apart("two", "worker")]
    with scene.world.receiver("wallet.transfer.confirmed") as (receiver, _):
        scene.confirmed(scene.pay())
        for each in workers:
            each.wait_for('"working"')
        (lease,) = scene.world.rows("SELECT holder FROM lease WHERE name = 'housekeeping'")
        next(each for each in workers if f"-{each.process.pid}-" in lease["holder"]).kill()
        # A wallet of its own: the lanes of the dead worker wait until their leases run out.
        other = scene.world.wallet("after the first", coins=ETH, dollars=0)
        paid = scene.pay(other)
        scene.confirmed(paid)
        receiver.wait_for(
            "wallet.transfer.confirmed", lambda data: data["transferRequest"]["id"] == paid["id"], timeout_s=60
        )
    apart("three", "worker").wait_for('"working"')
    check_that_it_stops(scene, scene.world.wallet("of two workers", coins=ETH, dollars=0), other)
    assert api.process.poll() is None
