"""Messages to people from a live server: an approval by mail, its words in the terminal, a chat that is away."""

import re
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from outlay.core.address import checksum
from tests.tools import free_port
from tests.world import USDC, World, until

pytestmark = pytest.mark.ci

RECIPIENT = "0x" + "c5" * 20
APPROVER = "approver.one@example.com"
OPS = "ops@example.com"


class Mailbox:
    """Keeps mail."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"

    def to(self, address: str) -> list[Any]:
        return [each for each in self.mails if each["To"] == address]


@pytest.fixture(scope="module")
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """Open a mail server; give its port."""
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield box, controller.port
    controller.stop()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, mailbox: tuple[Mailbox, int]) -> Iterator[World]:
    """Open a server that tells people; its chat is away."""
    folder = tmp_path_factory.mktemp("messages")
    chat = folder / "chat-url"
    chat.write_text(f"http://127.0.0.1:{free_port()}/CANARY-of-the-chat\n")
    chat.chmod(0o600)
    settings = "\n".join(
        [
            "",
            "[notify]",
            'smtp_host = "127.0.0.1"',
            f"smtp_port = {mailbox[1]}",
            'smtp_security = "none"',
            'mail_from = "outlay@example.com"',
            f'mail_to = ["{OPS}"]',
            f'chat_url_file = "{chat}"',
            "",
        ]
    )
    with World.open(folder, preset="none", extra=settings) as world:
        yield world


def outlay(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    program = Path(sys.executable).parent / "outlay"
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False)


def shown(world: World, approval_id: str, folder: Path) -> str:
    token = folder / "token"
    token.write_text(world.admin.token)
    ran = outlay("approvals", "show", approval_id, "--url", world.url, "--token-file", str(token))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def words_in(text: str) -> str:
    found = re.search(r"^words +((?:[a-z]+ ){7}[a-z]+)\s*$", text, re.MULTILINE | re.IGNORECASE)
    assert found is not None, text
    return found[1]


def test_an_approval_is_mailed_with_the_words_that_the_terminal_works_out(
    own: World, mailbox: tuple[Mailbox, int], tmp_path: Path
) -> None:
    box, _ = mailbox
    own.person(APPROVER)
    approver = own.log_in(own.person("approver.two@example.com"))
    bot = own.service_account("payouts bot")
    hot, free = own.wallet("hot", tags=("watched",)), own.wallet("free")
    own.watch("watched", {"userId": {"in": [approver.user_id]}}, quorum=1)
    flows = own.pay(bot, free, RECIPIENT, 5 * USDC, "flows", contract=own.token)
    held = own.pay(bot, hot, RECIPIENT, 1_250 * USDC, "waits", contract=own.token)
    (mail,) = until(lambda: box.to(approver.username), "the mail")
    text = mail.get_content()
    assert checksum(RECIPIENT) in text
    (approval,) = own.admin.sdk.policies.list_approvals({"query": {"status": "Pending"}})["items"]
    assert f"/dashboard/approvals/{approval['id']}" in text
    said = shown(own, approval["id"], tmp_path)
    assert words_in(said) == words_in(text)
    assert checksum(RECIPIENT) in said
    # The chat is away, and what pays did not notice.
    own.wait_for(flows, "Confirmed")
    approver.sdk.policies.create_approval_decision(approval["id"], {"value": "Approved"})
    own.wait_for(held, "Confirmed")
    assert box.to(APPROVER) == []
    until(lambda: "message_failed" in own.log, "the log to tell of the chat")
    assert "CANARY" not in own.log
    doctor = outlay("doctor", "--dir", str(own.deployment.directory))
    assert "messages to people were not taken and are tried again" in doctor.stdout
    assert "CANARY" not in doctor.stdout


def test_one_command_tries_every_way(own: World, mailbox: tuple[Mailbox, int]) -> None:
    box, _ = mailbox
    ran = outlay("messages", "test", "--dir", str(own.deployment.directory))
    assert ran.returncode == 1
    assert f"{OPS}: taken" in ran.stdout
    assert "chat: NOT TAKEN: the endpoint could not be reached" in ran.stdout
    assert "CANARY" not in ran.stdout + ran.stderr
    assert [each["Subject"] for each in box.to(OPS)] == ["[Outlay] A test"]
