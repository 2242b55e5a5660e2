"""Pages of policies: in words, with their past, beside a draft; and who may see what."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest

from outlay.web.dashboard.difference import difference
from tests.dashboard.test_shell import OURS, ask
from tests.door import RECIPIENT, TOKEN, Door, Who, open_door_now, transfer

PAGES = "/dashboard/policies"
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


def over(limit: float, *people: str, name: str = "Over a limit", **more: Any) -> dict[str, Any]:
    group = {"name": "approvers", "quorum": 1, "approvers": {"userId": {"in": list(people)}} if people else {}}
    return {
        "name": name,
        "activityKind": "Wallets:Sign",
        "rule": {"kind": "TransactionAmountLimit", "configuration": {"limit": limit, "currency": "USD"}},
        "action": {"kind": "RequestApproval", "autoRejectTimeout": 1440, "approvalGroups": [group]},
        **more,
    }


@dataclass(frozen=True)
class Scene:
    door: Door
    approver: Who
    reader: Who  #: may read policies and nothing else
    nobody: Who
    policy: str
    cap: str
    payout: str

    def page(self, path: str, who: Who | None = None) -> tuple[int, str]:
        answer, text = ask(self.door, path, token=(who or self.door.admin).token)
        return answer.status, unescape(text)

    def check(self, body: Any, who: Who | None = None, **headers: str) -> tuple[int, Any]:
        sent = {"origin": OURS, "sec_fetch_site": "same-origin", **headers}
        token = (who or self.door.admin).token
        answer, text = ask(
            self.door, f"{PAGES}/check", method="POST", token=token, body=json.dumps(body).encode(), **sent
        )
        return answer.status, json.loads(text)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_door_now(tmp_path_factory.mktemp("door")) as door:
        empty = ask(door, PAGES)[1]
        assert "No policy is in force" in empty and "/dashboard/policies/new" in empty
        approver = door.person("approver@example.com")
        write, wallet = door.write, door.wallet("payouts")
        made = write(door.admin, "POST", "/v2/policies", over(10_000, approver.user_id, name=HOSTILE)).ok()
        write(door.admin, "PUT", f"/v2/policies/{made['id']}", over(20_000, approver.user_id, name=HOSTILE)).ok()
        rule = {"limit": 100_000, "currency": "USD", "timeframe": 1440, "scope": "policy"}
        cap = {"kind": "TransactionAmountVelocity", "configuration": rule}
        body = {"name": "A cap", "activityKind": "Wallets:Sign", "rule": cap, "action": {"kind": "Block"}}
        capped = write(door.admin, "POST", "/v2/policies", body).ok()
        asked = transfer(kind="Erc20", contract=TOKEN, amount=str(25_000 * 10**6), to=RECIPIENT)
        paid = write(door.admin, "POST", f"/wallets/{wallet['id']}/transfers", asked).ok()
        reader = door.person("reader@example.com", ["Policies:Read"])
        yield Scene(door, approver, reader, door.person("nobody@example.com"), made["id"], capped["id"], paid["id"])


def test_each_policy_is_listed_in_words_with_what_is_used_of_its_limit(scene: Scene) -> None:
    status, text = scene.page(PAGES)
    assert status == 200
    assert "worth more than $20,000: it waits until approver@example.com agrees; unanswered it is refused" in text
    assert "more than $100,000 would leave within 24 hours from all these wallets together: it is refused." in text
    assert "Used of its limit now: 25.0%" in text


def test_one_policy_is_told_with_its_people_its_past_and_where_it_triggered(scene: Scene) -> None:
    status, text = scene.page(f"{PAGES}/{scene.policy}")
    assert status == 200
    assert f'approver@example.com <code class="soft">{scene.approver.user_id}</code>' in text
    assert "Version 2 updated by admin" in text and "Version 1 created by admin" in text
    assert '"limit": "10000"' in text, "what it said before"
    assert f'href="/dashboard/payouts/{scene.payout}"' in text and "more than the limit of USD 20000" in text
    assert f"PUT /v2/policies/{scene.policy}" not in text, "nothing is changed without being looked at"
    assert f'data-sign="DELETE /v2/policies/{scene.policy}"' in text
    assert scene.payout not in scene.page(f"{PAGES}/{scene.cap}")[1], "the cap did not trigger"


@pytest.mark.parametrize("place", ["", "/{}", "/{}/edit"])
def test_a_name_is_text_wherever_it_stands(scene: Scene, place: str) -> None:
    text = ask(scene.door, PAGES + place.format(scene.policy))[1]
    assert "<img" not in text and "alert(2)</script>" not in text
    assert "&lt;script&gt;alert(2)" in text


def test_who_may_only_read_sees_no_buttons_and_no_names(scene: Scene) -> None:
    status, text = scene.page(f"{PAGES}/{scene.policy}", scene.reader)
    assert status == 200
    assert 'data-sign="DELETE' not in text and f"{scene.policy}/edit" not in text
    assert "approver@example.com" not in text and scene.approver.user_id in text
    assert "You may not read what policies decided." in text
    assert "Used of its limit" not in scene.page(PAGES, scene.reader)[1], "what others paid adds up to it"
    assert "/dashboard/policies/new" not in scene.page(PAGES, scene.reader)[1]


@pytest.mark.parametrize("place", ["", "/new", "/{}", "/{}/edit"])
def test_who_may_not_is_told_so(scene: Scene, place: str) -> None:
    status, text = scene.page(PAGES + place.format(scene.policy), scene.nobody)
    assert status == 403 and "lacks the permission Policies:Read" in text


@pytest.mark.parametrize("place", ["/new", "/{}/edit"])
def test_a_form_is_for_those_who_may_write(scene: Scene, place: str) -> None:
    assert scene.page(PAGES + place.format(scene.policy), scene.reader)[0] == 403
    status, text = scene.page(PAGES + place.format(scene.policy))
    assert status == 200 and "approver@example.com" in text


def test_there_is_no_page_of_no_policy(scene: Scene) -> None:
    assert scene.page(f"{PAGES}/plc-xxxxx-xxxxx-xxxxxxxxxxxxxxxx")[0] == 404
    assert scene.page(f"{PAGES}?status=Odd")[0] == 400


def test_those_archived_are_shown_where_they_are_asked_for(scene: Scene) -> None:
    made = scene.door.write(scene.door.admin, "POST", "/v2/policies", over(1, name="Gone soon")).ok()
    scene.door.write(scene.door.admin, "DELETE", f"/v2/policies/{made['id']}").ok()
    assert "Gone soon" not in scene.page(PAGES)[1]
    assert "Gone soon" in scene.page(f"{PAGES}?status=Archived")[1]
    text = scene.page(f"{PAGES}/{made['id']}")[1]
    assert "archived by admin" in text and f"{made['id']}/edit" not in text


def test_a_draft_is_told_beside_what_is_in_force_and_nothing_is_done(scene: Scene) -> None:
    before = scene.door.stored()
    looser = over(50_000, scene.approver.user_id, name=HOSTILE)
    status, told = scene.check({"policyId": scene.policy, "policy": looser})
    assert status == 200
    assert "$20,000" in told["wordsBefore"] and "$50,000" in told["words"]
    assert ["-", '      "limit": 20000,'] in told["lines"] and ["+", '      "limit": 50000,'] in told["lines"]
    assert (told["isTighter"], told["isSame"], told["asks"], told["blocks"]) == (False, False, [], [])
    assert told["version"] == scene.door.get(f"/v2/policies/{scene.policy}", scene.door.admin).ok()["version"]
    tighter = scene.check({"policyId": scene.policy, "policy": over(5, scene.approver.user_id, name=HOSTILE)})[1]
    same = scene.check({"policyId": scene.policy, "policy": over(20_000, scene.approver.user_id, name=HOSTILE)})[1]
    assert tighter["isTighter"] and same["isSame"]
    fresh = scene.check({"policy": over(5)})[1]
    assert fresh["isTighter"] is None and fresh["wordsBefore"] is None and not fresh["opens"]
    assert scene.door.stored() == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "policy"),
        ({"policy": over(-1)}, "rule.configuration.limit"),
        ({"policy": over(1, "us-xxxxx-xxxxx-xxxxxxxxxxxxxxxx")}, "action.approvalGroups[0].approvers.userId.in[0]"),
        ({"policy": over(1), "policyId": 1}, "policyId"),
        ({"policy": over(1), "more": 1}, "policy"),
        ({"policy": over(1, name="x" * 201)}, "name"),
    ],
)
def test_a_draft_that_is_no_policy_is_refused_by_its_field(scene: Scene, body: Any, field: str) -> None:
    status, told = scene.check(body)
    assert (status, told["error"]["details"]["field"]) == (400, field)


def test_a_draft_is_told_to_those_alone_who_may_read_and_to_our_own_pages(scene: Scene) -> None:
    assert scene.check({"policy": over(5)}, scene.reader)[0] == 200
    assert scene.check({"policy": over(5)}, scene.nobody)[0] == 403
    assert scene.check({"policy": over(5)}, origin="https://evil.example")[0] == 401


def test_while_changes_are_watched_over_it_says_whom_they_wait_for(scene: Scene) -> None:
    may_vote = ("Policies:Evaluations:Vote", "Policies:Evaluations:Read")
    voters = [scene.door.person(f"voter-{at}@example.com", may_vote) for at in range(2)]
    group = {"quorum": 1, "approvers": {"userId": {"in": [each.user_id for each in voters]}}}
    guard = {
        "name": "Two look at changes",
        "activityKind": "Policies:Modify",
        "rule": {"kind": "AlwaysTrigger", "configuration": {}},
        "action": {"kind": "RequestApproval", "autoRejectTimeout": 4320, "approvalGroups": [group]},
    }
    made = scene.door.write(scene.door.admin, "POST", "/v2/policies", guard).ok()
    looser = over(50_000, scene.approver.user_id, name=HOSTILE)
    told = scene.check({"policyId": scene.policy, "policy": looser})[1]
    assert told["asks"] == ["Two look at changes"] and told["waitsAfter"]
    asked = scene.door.write(scene.door.admin, "PUT", f"/v2/policies/{scene.policy}", looser)
    assert asked.status == 202
    link = f'href="/dashboard/approvals/{asked.body["approvalId"]}"'
    assert link in scene.page(f"{PAGES}/{scene.policy}")[1] and link in scene.page(PAGES)[1]
    assert made["name"] in scene.page(PAGES)[1]


def test_a_difference_holds_each_line_once() -> None:
    before, after = {"name": "a", "limit": 1}, {"name": "a", "limit": 2}
    assert difference(before, after) == [
        (" ", "{"),
        (" ", '  "name": "a",'),
        ("-", '  "limit": 1'),
        ("+", '  "limit": 2'),
        (" ", "}"),
    ]
    assert {sign for sign, _ in difference(None, after)} == {"+"}
    assert {sign for sign, _ in difference(after, after)} == {" "}
