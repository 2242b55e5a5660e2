"""The pages of approvals, without a browser: who sees what, whole and escaped, and how decisions stand."""

import json
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from outlay.core.address import checksum
from outlay.evidence.canonical import digest
from tests.dashboard.asked import Scene, block, members
from tests.door import RECIPIENT, open_door

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_door(tmp_path_factory.mktemp("door")) as door:
        yield Scene(door)


def test_what_is_shown_is_exactly_what_is_signed(scene: Scene) -> None:
    paid = scene.pay(memo=f" {HOSTILE}  two spaces ")
    for path in (f"/dashboard/approvals/{paid['approvalId']}", f"/dashboard/approvals/{paid['approvalId']}/words"):
        status, text = scene.page(path)
        assert status == 200, text
        ((intent, stored),) = scene.door.rows("SELECT intent_digest, intent FROM transfer WHERE id = ?", paid["id"])
        assert members(text) == json.loads(stored)
        assert digest(members(text)) == intent
        assert checksum(RECIPIENT) in text and "1,250.5 USDC" in unescape(text)
        assert "<script>alert" not in text and "<img src=x" not in text
    opened = scene.opened(scene.first, f"/v2/policy-approvals/{paid['approvalId']}")
    _, text = scene.page(f"/dashboard/approvals/{paid['approvalId']}")
    assert opened["intentDigest"] == digest(members(text))
    assert opened["groupsDigest"] == digest(block(text, "data-groups"))


def test_of_a_batch_and_of_a_change_what_is_shown_is_exactly_what_is_signed(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        scene = Scene(door)
        batch = scene.ask_for_a_file(3)
        status, text = scene.page("/dashboard/approvals")
        assert status == 200
        assert f"/dashboard/approvals/{batch}" in text and "Salaries" in text
        assert text.count("/dashboard/approvals/ap-") == 0, "what is decided as a whole is listed one by one"
        status, text = scene.page(f"/dashboard/approvals/{batch}")
        assert status == 200, text
        opened = scene.opened(scene.first, f"/v1/batches/{batch}")
        assert opened["intentDigest"] == digest(members(text))
        assert opened["groupsDigest"] == digest(block(text, "data-groups"))
        # The same of a change.
        approval = scene.ask_for_a_change()
        status, text = scene.page(f"/dashboard/approvals/{approval}")
        assert status == 200
        ((signed,),) = scene.door.rows("SELECT digest FROM change_request")
        assert digest(block(text, "data-content")) == signed
        opened = scene.opened(scene.first, f"/v2/policy-approvals/{approval}")
        assert opened["intentDigest"] == signed
        assert opened["groupsDigest"] == digest(block(text, "data-groups"))
        shown = unescape(text)
        assert "A change: Update policy" in shown
        line = shown.split('<th scope="row">action.autoRejectTimeout</th>')[1].split("</tr>")[0]
        assert "<del>60</del>" in line and "<ins>30</ins>" in line


def test_each_sees_what_waits_for_them(scene: Scene) -> None:
    approval = scene.pay()["approvalId"]
    for who, mine in ((scene.first, True), (scene.second, True), (scene.reader, False)):
        for part, here in (("mine", mine), ("others", not mine), ("decided", False)):
            status, text = scene.page(f"/dashboard/approvals?show={part}", who)
            assert status == 200
            assert (approval in text) is here, (who.username, part)
    scene.decide(scene.first, approval).ok()
    assert approval not in scene.page("/dashboard/approvals", scene.first)[1]
    assert approval in scene.page("/dashboard/approvals?show=others", scene.first)[1]
    scene.decide(scene.second, approval).ok()
    assert approval in scene.page("/dashboard/approvals?show=decided", scene.reader)[1]


def test_who_lacks_the_permission_is_told_so(scene: Scene) -> None:
    approval = scene.pay()["approvalId"]
    for path in ("", f"/{approval}", f"/{approval}/words"):
        status, text = scene.page(f"/dashboard/approvals{path}", scene.stranger)
        assert status == 403 and "Policies:Evaluations:Read" in text
        assert checksum(RECIPIENT) not in text
    assert scene.page("/dashboard/approvals/ap-none")[0] == 404
    assert scene.page("/dashboard/approvals?show=all")[0] == 400
    assert scene.page("/dashboard/approvals?limit=x")[0] == 400


def test_the_page_says_why_one_may_not_decide(scene: Scene) -> None:
    approval = scene.pay()["approvalId"]
    page = f"/dashboard/approvals/{approval}"
    assert 'id="decide"' in scene.page(page)[1]
    status, text = scene.page(page, scene.reader)
    assert 'id="decide"' not in text and "you lack the permission Policies:Evaluations:Vote" in text
    scene.decide(scene.first, approval).ok()
    status, text = scene.page(page)
    assert 'id="decide"' not in text and "You have decided already" in text
    assert "1 of 2 needed" in text
    scene.decide(scene.second, approval, "Denied", reason=HOSTILE).ok()
    status, text = scene.page(page)
    assert status == 200
    assert "It is decided: denied." in text
    assert HOSTILE not in text and HOSTILE in unescape(text)


def test_a_vote_that_was_reopened_is_told(scene: Scene) -> None:
    approval = scene.pay()["approvalId"]
    scene.decide(scene.first, approval).ok()
    scene.door.execute("UPDATE approval SET groups_digest = ? WHERE id = ?", "0" * 64, approval)
    _, text = scene.page(f"/dashboard/approvals/{approval}")
    assert "other groups were asked then: it does not count any more" in text


def test_what_speaks_against_a_payout_is_said(scene: Scene) -> None:
    other = "0x" + "2b" * 20
    paid = scene.pay(amount="40000000", recipient=other)
    page = f"/dashboard/approvals/{paid['approvalId']}"
    first = "this is the first payment to it in this asset"
    assert first in scene.page(page, scene.second)[1]
    assert first in scene.page(page, scene.first)[1], "who decides is told what matters"
    _, text = scene.page(page, scene.reader)
    assert "you may not read payouts" in text and first not in text
    scene.confirmed("ref-earlier", other, 10_000_000)
    twin = other[:6] + "ee" * 16 + other[-4:]
    scene.confirmed("ref-twin", twin, 5_000_000)
    text = unescape(scene.page(page, scene.second)[1])
    assert first not in text
    assert "1 payouts of this asset, 10 USDC together, the largest 10 USDC" in text
    assert "It is more than 3 times the largest payment to this address before." in text
    assert f"It looks like another address that was paid before, and is not the same: {checksum(twin)}" in text


def test_pages_of_many_and_a_deadline_that_passed(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        scene = Scene(door)
        assert "Nothing waits for you" in scene.page("/dashboard/approvals")[1]
        found = {scene.pay()["approvalId"] for _ in range(5)}
        seen: set[str] = set()
        target = "/dashboard/approvals?limit=2"
        for _ in range(3):
            _, text = scene.page(target)
            seen |= {each for each in found if each in text}
            if 'rel="next"' in text:
                target = unescape(text.split('rel="next" href="')[1].split('"')[0])
        assert seen == found
        scene.door.clock.instant += 3600 * 1_000_000
        status, text = scene.page(f"/dashboard/approvals/{min(found)}")
        assert status == 200
        assert "The time to decide has run out." in text and 'id="decide"' not in text
        assert min(found) not in scene.page("/dashboard/approvals")[1]


def test_on_the_address_for_decisions_there_are_only_decisions(tmp_path: Path) -> None:
    extra = '\n[server]\npublic_url = "http://localhost:8000"\napproval_url = "http://localhost:9000"\n'
    with open_door(tmp_path, extra=extra) as door:
        scene = Scene(door)
        approval = scene.pay()["approvalId"]
        page = f"/dashboard/approvals/{approval}"
        there = "http://localhost:9000" + page
        _, text = scene.page(page, host="localhost:8000")
        assert 'id="decide"' not in text and f'href="{there}"' in text
        status, text = scene.page(page, host="localhost:9000")
        assert status == 200 and 'id="decide"' in text
        assert 'href="/dashboard/people"' not in text
        assert scene.goes("/dashboard/people", host="localhost:9000") == "http://localhost:8000/dashboard/people"
        assert scene.goes("/dashboard", host="localhost:9000") == "/dashboard/approvals"
        # Who could add a key on the dashboard could decide with it.
        keys = "/dashboard/passkeys"
        assert scene.goes(keys, host="localhost:8000") == f"http://localhost:9000{keys}"
        assert 'id="add"' in scene.page(keys, host="localhost:9000")[1]
        assert 'id="join"' in scene.page("/dashboard/join", host="localhost:9000")[1]
