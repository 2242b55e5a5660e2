"""Putting a lost journal in place again: only from the nonces that the chain, the ledger and the journals allow now."""

from pathlib import Path
from typing import Any

import pytest

from tests.door import StubReconciler, open_door

REASON = "the disk with the journal was lost"


@pytest.mark.parametrize(("given", "status"), [(6, 412), (8, 412), (7, 200)])
def test_a_journal_begins_exactly_where_the_server_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int, status: int
) -> None:
    """Lower nonces could pay twice, higher ones would never be mined."""
    known: dict[str, int] = {}

    async def signer_state(_self: StubReconciler) -> dict[str, Any]:
        return {"journalId": "journal", "seeded": False, "minNonces": known}

    monkeypatch.setattr(StubReconciler, "signer_state", signer_state)
    with open_door(tmp_path) as door:
        wallet_id = door.wallet()["id"]
        known[wallet_id] = 7
        body = {"journalId": "journal", "minNonces": {wallet_id: given}, "reason": REASON}
        answer = door.write(door.admin, "PUT", "/v1/signer/reseed", body)
        assert answer.status == status, answer.raw
        if status == 200:
            assert answer.body["minNonces"] == {wallet_id: 7}
        else:
            assert wallet_id in answer.message
            assert door.spent == 1  # the wallet's: a refused journal leaves the signature to be used again
