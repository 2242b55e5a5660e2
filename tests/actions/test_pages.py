"""What wakes people by Prometheus wakes them by mail too, where an event tells of it."""

from collections.abc import Mapping

from outlay.actions.notices import PAGES
from outlay.core.event import EVENT_KINDS
from tests.monitoring import shipped

BEHIND: Mapping[str, str | None] = {
    "OutlayPayoutDelayed": "payout.delayed",
    "OutlayNonceGap": "wallet.stuck",
    "OutlayReconciliationDifference": "reconciliation.difference",
    "OutlayWalletFrozen": "wallet.frozen",
    "OutlayWalletEmptySoon": "wallet.balance.low",
    "OutlayAuditBroken": "audit.broken",
    # No event can tell of these: they are about the processes and machines themselves, or have figures only.
    "OutlayNotAdmitting": None,
    "OutlayFrozen": None,
    "OutlaySignerDown": None,
    "OutlaySignerRefusals": None,
    "OutlayProviderDown": None,
    "OutlayProviderDisagreement": None,
    "OutlayClockOffset": None,
    "OutlayDiskFilling": None,
    "OutlayNotScraped": None,
    "OutlayFiguresMissing": None,
}
"""Each alert that wakes somebody -> the event behind it."""


def test_every_event_behind_an_alert_that_wakes_somebody_is_mailed() -> None:
    waking = {rule["alert"]: rule for rule in shipped.rules() if rule["labels"]["severity"] == "page"}
    assert set(BEHIND) == set(waking), "say which event is behind it"
    by_name = {"Outlay" + "".join(part.title() for part in kind.split(".")): kind for kind in EVENT_KINDS}
    for alert in waking:
        assert BEHIND[alert] == by_name.get(alert, BEHIND[alert]), alert
    missing = {kind for kind in BEHIND.values() if kind is not None} - set(PAGES)
    assert not missing


def test_the_page_of_an_alert_and_of_its_event_are_one() -> None:
    for rule in shipped.rules():
        kind = BEHIND.get(rule["alert"])
        if kind is not None and kind not in ("wallet.stuck", "wallet.balance.low"):
            assert rule["annotations"]["runbook_url"].endswith(PAGES[kind]), kind
