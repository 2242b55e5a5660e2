"""Pages show nobody more than the API would: names, addresses and sums each have a permission of their own."""

from pathlib import Path

from outlay.web.cookies import COOKIE
from tests.dashboard.test_shell import ask
from tests.door import open_door_now

CAP = {
    "name": "cap of a day",
    "activityKind": "Wallets:Sign",
    "rule": {
        "kind": "TransactionAmountVelocity",
        "configuration": {"limit": 1_000_000, "currency": "USD", "timeframe": 60},
    },
    "action": {"kind": "Block"},
}


def test_caps_and_the_first_wallet_are_for_those_who_may_read_them(tmp_path: Path) -> None:
    with open_door_now(tmp_path) as door:
        wallet = door.wallet("payouts")
        door.write(door.admin, "POST", "/v2/policies", CAP).ok()
        for at, (operations, sees_caps, sees_wallet) in enumerate(
            (
                ([], False, False),
                (["Policies:Read"], False, False),
                (["Policies:Read", "Policies:Evaluations:Read"], True, False),
                (["Wallets:Read"], False, True),
            )
        ):
            reader = door.person(f"reader{at}@example.com", operations)
            _, text = ask(door, "/dashboard", token=reader.token)
            assert ("cap of a day" in text) is sees_caps, operations
            assert (wallet["id"] in text or wallet["address"].lower() in text.lower()) is sees_wallet, operations


def test_a_batch_names_people_and_wallets_to_those_who_may_read_them(tmp_path: Path) -> None:
    with open_door_now(tmp_path) as door:
        wallet = door.wallet("payouts")
        body = {"name": "May", "walletId": wallet["id"], "digest": "0" * 64, "count": 1}
        batch = door.write(door.admin, "POST", "/v1/batches", body).ok()["id"]
        for at, more in enumerate(([], ["Auth:Users:Read"], ["Wallets:Read"])):
            reader = door.person(f"reader{at}@example.com", ["Wallets:Transfers:Read", *more])
            for path in ("/dashboard/batches", f"/dashboard/batches/{batch}"):
                answer, text = ask(door, path, token=reader.token)
                assert answer.status == 200
                main = text[text.index("<main") :]
                assert (door.admin.username in main) is ("Auth:Users:Read" in more), (path, more)
                assert (wallet["address"].lower() in main.lower()) is ("Wallets:Read" in more), (path, more)


def test_a_session_that_ended_is_forgotten_at_sign_out(tmp_path: Path) -> None:
    with open_door_now(tmp_path) as door:
        sent = {"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}
        answer, _ = ask(door, "/dashboard/sign-out", method="POST", body=b"{}", token="nonsense", **sent)
        assert answer.status == 200 and "Max-Age=0" in answer.headers["set-cookie"]
        assert answer.headers["set-cookie"].startswith(COOKIE)
