"""Pages of people, their keys, and service accounts: whose votes count and why, and who may change what."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape

import pytest

from outlay.core.event import iso
from outlay.core.seams import HOUR
from tests.dashboard.test_shell import ask
from tests.door import Door, Who, open_door_now

PEOPLE, ACCOUNTS, PASSKEYS = "/dashboard/people", "/dashboard/service-accounts", "/dashboard/passkeys"
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


@dataclass(frozen=True)
class Scene:
    door: Door
    approver: Who
    other: Who
    reader: Who  #: may read people and accounts and change nothing
    invited: str

    def raw(self, path: str, who: Who | None = None) -> tuple[int, str]:
        answer, text = ask(self.door, path, token=(who or self.door.admin).token)
        return answer.status, text

    def page(self, path: str, who: Who | None = None) -> tuple[int, str]:
        status, text = self.raw(path, who)
        return status, unescape(text)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_door_now(tmp_path_factory.mktemp("door")) as door:
        assert "No service account yet" in ask(door, ACCOUNTS)[1]
        vote = ["Policies:Evaluations:Vote"]
        approver, other = door.person("approver@example.com", vote), door.person("other@example.com", vote)
        reader = door.person("reader@example.com", ["Auth:Users:Read", "Auth:ServiceAccounts:Read"])
        body = {"email": "invited@example.com", "kind": "CustomerEmployee"}
        invited = door.write(door.admin, "POST", "/auth/users", body).ok()["userId"]
        policy = {
            "name": "Over a limit",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "AlwaysTrigger"},
            "action": {
                "kind": "RequestApproval",
                "approvalGroups": [
                    {
                        "name": "one of two",
                        "quorum": 1,
                        "approvers": {"userId": {"in": [approver.user_id, other.user_id]}},
                    },
                    {"name": "the one", "quorum": 1, "approvers": {"userId": {"in": [approver.user_id]}}},
                ],
            },
        }
        door.write(door.admin, "POST", "/v2/policies", policy).ok()
        yield Scene(door, approver, other, reader, invited)


def test_the_list_tells_whose_votes_count_and_why_not(scene: Scene) -> None:
    status, text = scene.page(PEOPLE)
    assert status == 200
    for expected in ("approver@example.com", "invited@example.com", "Votes count.", "Has not registered a key yet."):
        assert expected in text


def test_who_registered_is_let_in_by_the_whole_fingerprint(scene: Scene) -> None:
    door = scene.door
    door.execute('UPDATE "user" SET may_vote = ? WHERE id = ?', False, scene.other.user_id)
    try:
        status, text = scene.page(f"{PEOPLE}/{scene.other.user_id}")
        fingerprint = door.get(f"/auth/users/{scene.other.user_id}").ok()["credentials"][0]["fingerprint"]
        assert status == 200 and "no vote counts yet" in text
        assert f'data-sign="PUT /auth/users/{scene.other.user_id}/activate"' in text
        assert text.count(fingerprint) == 3, (
            "in the list of keys, in what is asked before signing, and in what is signed"
        )
        assert f'data-body="{{"fingerprints": ["{fingerprint}"]}}"' in text
        assert "/activate" not in scene.page(f"{PEOPLE}/{scene.other.user_id}", scene.reader)[1]
    finally:
        door.execute('UPDATE "user" SET may_vote = ? WHERE id = ?', True, scene.other.user_id)


def test_who_was_recovered_is_let_in_once_there_is_a_key(scene: Scene) -> None:
    door = scene.door
    lost = door.person("lost@example.com")
    path, activate = f"{PEOPLE}/{lost.user_id}", f"/auth/users/{lost.user_id}/activate"
    door.write(door.admin, "POST", f"/v1/users/{lost.user_id}/recovery", {}).ok()
    _, text = scene.page(path)
    assert "There is no key to let in yet" in text and "/activate" not in text
    refused = door.write(door.admin, "PUT", activate)
    assert (refused.status, refused.code) == (412, "precondition_failed")
    assert "register one with the code of their recovery" in refused.message
    door.write(door.admin, "PUT", f"/auth/users/{lost.user_id}/deactivate").ok()
    _, text = scene.page(path)
    assert f'id="switch-on" data-sign="PUT {activate}"' in text and "let in" not in text.split('id="switch-on"')[1]
    assert door.write(door.admin, "PUT", activate).ok()["mayVote"] is False


def test_it_warns_where_a_quorum_would_become_unreachable(scene: Scene) -> None:
    _, needed = scene.page(f"{PEOPLE}/{scene.approver.user_id}")
    assert "one of two" in needed and "the one" in needed
    assert needed.count(">too few<") == 1, "of the group that has nobody else"
    assert "Careful:" in needed and "Too few would be left to agree for Over a limit." in needed
    _, spare = scene.page(f"{PEOPLE}/{scene.other.user_id}")
    assert "one of two" in spare and "the one" not in spare and "Careful:" not in spare
    _, elsewhere = scene.page(f"{PEOPLE}/{scene.other.user_id}", scene.reader)
    assert "one of two" not in elsewhere, "who may not read policies reads none of them here"


def test_nobody_is_offered_to_switch_themselves_off(scene: Scene) -> None:
    _, mine = scene.page(f"{PEOPLE}/{scene.door.admin.user_id}")
    assert "This is you." in mine and "/deactivate" not in mine and "DELETE /auth/users" not in mine
    _, text = scene.page(f"{PEOPLE}/{scene.other.user_id}")
    assert f"PUT /auth/users/{scene.other.user_id}/deactivate" in text and "data-recover" in text
    assert "data-recover" not in scene.page(f"{PEOPLE}/{scene.invited}")[1], "nothing to recover before a key"


def test_what_one_may_not_change_is_not_offered(scene: Scene) -> None:
    for path in (PEOPLE, f"{PEOPLE}/{scene.approver.user_id}", ACCOUNTS):
        status, text = scene.page(path, scene.reader)
        assert status == 200
        assert "data-sign=" not in text and "<form" not in text, path


@pytest.mark.parametrize("path", [PEOPLE, ACCOUNTS, f"{PEOPLE}/us-x", f"{ACCOUNTS}/us-x"])
def test_who_may_not_read_them_gets_no_page_of_them(scene: Scene, path: str) -> None:
    status, text = scene.page(path, scene.approver)
    assert status == 403 and "lacks the permission" in text
    assert "example.com permission" not in text


def test_a_service_account_is_no_person_and_a_person_no_service_account(scene: Scene) -> None:
    bot = scene.door.service_account("payouts bot", ["Wallets:Read"])
    assert scene.page(f"{PEOPLE}/{bot.user_id}")[0] == 404
    assert scene.page(f"{ACCOUNTS}/{scene.approver.user_id}")[0] == 404
    status, text = scene.page(f"{ACCOUNTS}/{bot.user_id}")
    assert status == 200 and "Wallets:Read" in text and bot.credential_id in text
    assert bot.token not in text and "Revoke for good" in text
    _, listed = scene.page(ACCOUNTS)
    assert "payouts bot" in listed and "not lately" in listed


def test_names_are_shown_as_text(scene: Scene) -> None:
    bot = scene.door.service_account(HOSTILE, ["Wallets:Read"])
    for path in (ACCOUNTS, f"{ACCOUNTS}/{bot.user_id}"):
        status, text = scene.raw(path)
        assert status == 200
        assert "<img" not in text and "<script>" not in text and "&lt;script&gt;alert(2)" in text


def test_only_what_the_reader_holds_is_offered_to_give(scene: Scene) -> None:
    door = scene.door
    giver = door.person(
        "giver@example.com", ["Auth:Users:Read", "Permissions:Read", "Permissions:Assign", "Policies:Evaluations:Vote"]
    )
    _, text = scene.page(f"{PEOPLE}/{scene.invited}", giver)
    assert "approver@example.com permission" in text and "data-assign" in text
    assert "ManagedFullAdminAccess" not in text and "reader@example.com permission" not in text


def test_one_has_ones_own_keys_before_one_and_never_withdraws_the_last(scene: Scene) -> None:
    status, text = scene.page(PASSKEYS, scene.approver)
    assert status == 200 and "key file" in text
    assert "/auth/credentials/deactivate" not in text and "DELETE /auth/credentials" not in text
    uuid = scene.door.get("/auth/credentials", scene.approver).ok()["items"][0]["credentialUuid"]
    assert f"DELETE /auth/credentials/{uuid}" not in text
    assert scene.page(PASSKEYS, scene.other)[1].count("<tr>") == 2, "nobody sees keys of others here"


def test_an_open_code_is_told(scene: Scene) -> None:
    assert "is open until" not in scene.page(PASSKEYS, scene.reader)[1]
    expiration = iso(scene.door.clock.now() + HOUR)
    scene.door.write(scene.reader, "POST", "/auth/credentials/code", {"expiration": expiration}).ok()
    assert "is open until" in scene.page(PASSKEYS, scene.reader)[1]
