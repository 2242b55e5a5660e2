"""While a database may be an older copy, everybody reads and nobody writes."""

from pathlib import Path

from tests.door import PAYER, open_door, transfer


def test_nothing_is_written_before_recovery_is_done(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        payer = door.service_account("payouts bot", PAYER)
        path = f"/wallets/{door.wallet()['id']}/transfers"
        body = transfer()
        action = door.sign(payer, "POST", path, body)
        before = door.stored()
        object.__setattr__(door.gate, "is_open", lambda: False)
        refused = door.call("POST", path, body, token=payer.token, action=action)
        assert (refused.status, "recovering" in refused.message) == (503, True)
        assert door.open(payer, "POST", path, body).status == 503
        assert door.stored() == before
        assert door.get("/v1/health").ok()["status"] == "recovering"
        object.__setattr__(door.gate, "is_open", lambda: True)
        made = door.call("POST", path, body, token=payer.token, action=action).ok()
        assert made["externalId"] == body["externalId"]
