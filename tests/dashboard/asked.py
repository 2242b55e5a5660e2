"""An organization in which people are asked, and what a page of an approval says, read as its script reads it."""

import asyncio
import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

from outlay.engine.admit_batches import AdmitBatches
from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import digest_of, leaf
from tests.dashboard.test_shell import ask
from tests.door import NETWORK, PAYER, RECIPIENT, TOKEN, Door, Who

VOTER = ("Policies:Evaluations:Read", "Policies:Evaluations:Vote")


class Members(HTMLParser):
    """Reads a page as shown.js does."""

    def __init__(self) -> None:
        super().__init__()
        self.content: dict[str, Any] = {}
        self._open: list[tuple[str, str]] = []
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if "data-member" in given:
            name = str(given["data-member"])
            assert name not in self.content
            self._open.append((name, str(given.get("data-type", ""))))
            self.content[name] = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.content[self._open[-1][0]] += data

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            name, kind = self._open.pop()
            text = self.content[name]
            read = {"none": None, "empty": "", "address": text.lower()}
            self.content[name] = int(text) if kind == "number" else read.get(kind, text)


def members(text: str) -> dict[str, Any]:
    reader = Members()
    reader.feed(text)
    return reader.content


def block(text: str, name: str) -> Any:
    """Return the JSON that stands in the element with the attribute ``name``."""
    found = re.search(rf"<pre[^>]* {name}>(.*?)</pre>", text, re.DOTALL)
    assert found is not None
    return json.loads(unescape(found.group(1)))


class Scene:
    """An organization in which two people decide about what a program asks for."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.bot = door.service_account("payouts bot", PAYER)
        self.first = door.person("first@example.com", VOTER)
        self.second = door.person("second@example.com", (*VOTER, "Wallets:Transfers:Read"))
        self.reader = door.person("reader@example.com", ("Policies:Evaluations:Read",))
        self.stranger = door.person("stranger@example.com")
        self.wallet = door.wallet("asked")["id"]
        group = {
            "name": "approvers",
            "quorum": 2,
            "approvers": {"userId": {"in": [self.first.user_id, self.second.user_id]}},
        }
        self.policy: dict[str, Any] = {
            "name": "Two look at everything",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "AlwaysTrigger", "configuration": {}},
            "action": {"kind": "RequestApproval", "autoRejectTimeout": 60, "approvalGroups": [group]},
            "filters": {"walletTags": {"hasAny": ["asked"]}},
        }
        self.policy_id = door.write(door.admin, "POST", "/v2/policies", self.policy).ok()["id"]
        self.number = 0

    def pay(self, **changes: Any) -> dict[str, Any]:
        """Ask for a payout; return it."""
        self.number += 1
        body = {
            "walletId": self.wallet,
            "asset": TOKEN,
            "recipient": RECIPIENT,
            "amount": "1250500000",
            "externalId": f"ref-{self.number}",
            **changes,
        }
        found: dict[str, Any] = self.door.write(self.bot, "POST", "/v1/payouts", body).ok()
        return found

    def page(self, path: str, who: Who | None = None, host: str = "localhost") -> tuple[int, str]:
        """Return status and text of a page, by default as the first approver sees it."""
        answer, text = ask(self.door, path, token=(who or self.first).token, host=host)
        return answer.status, text

    def let_vote(self, user_id: str) -> None:
        """Put somebody into the group that is asked."""
        (group,) = self.policy["action"]["approvalGroups"]
        group["approvers"]["userId"]["in"].append(user_id)
        self.door.write(self.door.admin, "PUT", f"/v2/policies/{self.policy_id}", self.policy).ok()

    def opened(self, who: Who, path: str) -> Any:
        """Return what a challenge for approving is the hash of."""
        return self.door.open(who, "POST", f"{path}/decisions", {"value": "Approved"}).ok()["preimage"]

    def decide(self, who: Who, approval: str, value: str = "Approved", **more: Any) -> Any:
        """Decide with a key, as a program does."""
        path = f"/v2/policy-approvals/{approval}/decisions"
        return self.door.write(who, "POST", path, {"value": value, **more})

    def goes(self, path: str, *, host: str) -> str | None:
        """Return where a page leads to."""
        answer, _ = ask(self.door, path, token=self.first.token, host=host)
        return answer.headers["location"]

    def ask_for_a_change(self) -> str:
        """Have changes watched over, ask for one, and return its approval."""
        group = {"quorum": 1, "approvers": {"userId": {"in": [self.first.user_id, self.second.user_id]}}}
        guard = {
            "name": "One agrees to changes",
            "activityKind": "Policies:Modify",
            "rule": {"kind": "AlwaysTrigger", "configuration": {}},
            "action": {"kind": "RequestApproval", "autoRejectTimeout": 4320, "approvalGroups": [group]},
        }
        self.door.write(self.door.admin, "POST", "/v2/policies", guard).ok()
        action = {**self.policy["action"], "autoRejectTimeout": 30}
        answer = self.door.write(
            self.door.admin, "PUT", f"/v2/policies/{self.policy_id}", {**self.policy, "action": action}
        )
        assert answer.status == 202, answer
        return str(answer.body["approvalId"])

    def ask_for_a_file(self, count: int) -> str:
        """Ask for payouts as a file that is decided about as a whole; return its id."""
        action = {**self.policy["action"], "per": "batch"}
        self.door.write(
            self.door.admin, "PUT", f"/v2/policies/{self.policy_id}", {**self.policy, "action": action}
        ).ok()
        rows = [
            {
                "externalId": f"row-{at}",
                "network": NETWORK,
                "asset": TOKEN,
                "recipient": f"0x{at + 1:040x}",
                "amount": "1000000",
            }
            for at in range(count)
        ]
        digest = digest_of([leaf(canonical(row)) for row in rows])
        body = {"name": "Salaries", "walletId": self.wallet, "digest": digest, "count": count}
        batch: str = self.door.write(self.bot, "POST", "/v1/batches", body).ok()["id"]
        self.door.call("PUT", f"/v1/batches/{batch}/rows", {"from": 0, "rows": rows}, token=self.bot.token).ok()
        gate = self.door.gate
        step = AdmitBatches(gate.db, gate.clock, gate.entropy, gate.config, price_of=gate.price_of)
        while asyncio.run(step.step()):
            pass
        return batch

    def confirmed(self, external_id: str, recipient: str, amount: int) -> None:
        """Have a payout been paid before, behind the server's back."""
        paid = self.pay(externalId=external_id, recipient=recipient, amount=str(amount))
        self.door.execute(
            "UPDATE transfer SET state = 'confirmed', confirmed_at = ? WHERE id = ?", self.door.clock.now(), paid["id"]
        )
