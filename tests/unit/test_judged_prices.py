"""Prices of the signed settings, as an offline judgement reads them: what is no price makes the value unknown."""

import pytest

from outlay.core.asset import NATIVE
from outlay.core.intent import Intent
from outlay.evidence.judged import judge_offline
from outlay.evidence.state import History, KnownWallet

INTENT = Intent(
    org="or-1",
    external_id=None,
    initiator="us-1",
    wallet="wa-1",
    network="Ethereum",
    chain_id=1,
    asset=NATIVE,
    recipient="0x" + "11" * 20,
    amount="5",
    memo="",
    priority="Standard",
)


def value_at(price: object) -> int | None:
    """Return what 5 base units of a coin without decimals are worth, if it costs this."""
    settings = {
        "default": "allow",
        "networks": {"Ethereum": {"native": {"symbol": "COIN", "decimals": 0}}},
        "assets": [],
        "prices": {"COIN": price},
    }
    history = History(org="or-1", money_settings=settings)
    history.note_settings(0)
    history.wallets["wa-1"] = KnownWallet(network="Ethereum", chain_id=1, address="", public_key="", tag_states=[])
    return judge_offline(history, "wa-1", INTENT, first=0, newest=0, issued=0).value


@pytest.mark.parametrize("price", ["NaN", "sNaN", "Infinity", "-Infinity", "-1", "0", "", "one", None, 2, 2.0])
def test_what_is_no_price_makes_the_value_unknown(price: object) -> None:
    assert value_at("2") == 10 * 10**8
    assert value_at(price) is None
