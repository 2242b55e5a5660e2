"""An organization in the test's own process, before a real browser: its clock obeys, and no payout leaves it.

It is reached at two addresses, the dashboard's own and one that may be for decisions only; passkeys belong to both.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser

from tests.browser.stage import DESKTOP, Person, newcomer_at
from tests.dashboard.asked import VOTER
from tests.door import PAYER, TOKEN, Door, Who, open_door
from tests.tools import free_port

MINUTE = 60_000_000


class Tube:
    """Passes the bytes of connections on, whichever way they go."""

    def __init__(self, port: int) -> None:
        """Listen on ``port``."""
        self.to = 0  #: where they go; set before the first comes
        self._server = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


@dataclass
class Desk:
    """The organization, and who is before it."""

    door: Door
    browser: Browser
    url: str  #: of the dashboard
    apart: str  #: the other address
    bot: Who
    number: int = 0

    def person(self, email: str, operations: Sequence[str] = VOTER, *, size: tuple[int, int] = DESKTOP) -> Person:
        """Invite somebody, who registers a passkey; an admin lets it in, and they sign in."""
        door = self.door
        body = {"email": email, "kind": "CustomerEmployee"}
        invited = door.write(door.admin, "POST", "/auth/users", body).ok()
        who = newcomer_at(self.browser, self.url, email, size=size)
        who.user_id = invited["userId"]
        who.goto("/dashboard/join#" + urlencode({"username": email, "code": invited["registrationCode"]}))
        who.press("Register a passkey")
        who.page.get_by_role("heading", name="The passkey is registered").wait_for()
        permission = {"name": f"{email} permission", "operations": sorted(operations)}
        given = door.write(door.admin, "POST", "/permissions", permission).ok()["id"]
        assignment = {"identityId": who.user_id}
        door.write(door.admin, "POST", f"/permissions/{given}/assignments", assignment).ok()
        door.write(door.admin, "PUT", f"/auth/users/{who.user_id}/activate").ok()
        who.sign_in()
        return who

    def watch(self, *people: Person, quorum: int = 1) -> str:
        """Return a wallet whose payouts these people decide about."""
        self.number += 1
        tag = f"watched-{self.number}"
        group = {"quorum": quorum, "approvers": {"userId": {"in": [each.user_id for each in people]}}}
        policy = {
            "name": f"People look at {tag}",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "AlwaysTrigger", "configuration": {}},
            "action": {"kind": "RequestApproval", "autoRejectTimeout": 60, "approvalGroups": [group]},
            "filters": {"walletTags": {"hasAny": [tag]}},
        }
        self.door.write(self.door.admin, "POST", "/v2/policies", policy).ok()
        return str(self.door.wallet(tag)["id"])

    def pay(self, wallet_id: str, to: str, amount: int, memo: str = "") -> str:
        """Ask for a payout; return its approval."""
        self.number += 1
        body = {"walletId": wallet_id, "asset": TOKEN, "recipient": to, "amount": str(amount)}
        body |= {"externalId": f"payout-{self.number}", **({"memo": memo} if memo else {})}
        return str(self.door.write(self.bot, "POST", "/v1/payouts", body).ok()["approvalId"])

    def change(self, *people: Person) -> str:
        """Have these people agree to changes from now on, ask for one, and return its approval."""
        group = {"quorum": 1, "approvers": {"userId": {"in": [each.user_id for each in people]}}}
        policy = {
            "name": "People agree to changes",
            "activityKind": "Policies:Modify",
            "rule": {"kind": "AlwaysTrigger", "configuration": {}},
            "action": {"kind": "RequestApproval", "autoRejectTimeout": 60, "approvalGroups": [group]},
        }
        made = self.door.write(self.door.admin, "POST", "/v2/policies", policy).ok()
        action = {**policy["action"], "autoRejectTimeout": 4320}  # type: ignore[dict-item]
        answer = self.door.write(self.door.admin, "PUT", f"/v2/policies/{made['id']}", {**policy, "action": action})
        assert answer.status == 202, answer
        return str(answer.body["approvalId"])

    def move_head(self) -> None:
        """Have a record been written by somebody else."""
        self.number += 1
        permission = {"name": f"permission {self.number}", "operations": ["Wallets:Read"]}
        self.door.write(self.door.admin, "POST", "/permissions", permission).ok()

    def ask_others(self, approval: str) -> None:
        """Have other groups been asked about an approval since, behind the server's back."""
        change = "UPDATE approval SET groups_digest = ? WHERE id = ?"
        # The browser's own loop runs in this thread.
        thread = threading.Thread(target=self.door.execute, args=(change, "ab" * 32, approval))
        thread.start()
        thread.join()

    def status(self, approval: str) -> Any:
        """Return how an approval stands."""
        return self.door.get(f"/v2/policy-approvals/{approval}").ok()["status"]

    def votes(self, approval: str) -> int:
        """Return how many decisions are kept."""
        return int(self.door.rows("SELECT count(*) FROM decision WHERE approval_id = ?", approval)[0][0])

    def receipts(self, email: str) -> list[str]:
        """Return what somebody was told about their decisions, the oldest first."""
        told = "SELECT text FROM notify_message WHERE kind = 'approval.decided' AND place = ? ORDER BY seq"
        return [text for (text,) in self.door.rows(told, email)]


@contextlib.contextmanager
def open_desk(browser: Browser, folder: Path, *, apart: bool = False) -> Iterator[Desk]:
    """Open an organization without policies.

    Args:
        browser: people's.
        folder: an empty directory.
        apart: decisions count only from the other address.
    """
    ports = free_port(), free_port()
    url, other = (f"http://localhost:{port}" for port in ports)
    extra = f'\n[server]\npublic_url = "{url}"\n'
    extra += f'approval_url = "{other}"\n' if apart else ""
    extra += '\n[notify]\nsmtp_host = "127.0.0.1"\nmail_from = "outlay@example.com"\n'
    with contextlib.ExitStack() as closing:
        tubes = [Tube(port) for port in ports]
        for each in tubes:
            closing.callback(each.close)
        door = closing.enter_context(open_door(folder, extra=extra, begins=time.time_ns() // 1000))
        for each in tubes:
            each.to = door.port
        yield Desk(door, browser, url, other, door.service_account("payouts bot", PAYER))
