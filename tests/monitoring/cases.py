"""When each alert fires, when it ends, and what it says: one case a rule, in minutes of made-up samples.

Until minute ``BEGINS`` and from minute ``ENDS`` on every series is calm, between them it is bad. A calm value lies just
within the limit, a bad one just beyond it, so that a rule with another limit fails its case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

BEGINS = 10
ENDS = 70
MINUTES = 100

ABSENT = "absent"

Value = float | str


@dataclass(frozen=True, kw_only=True)
class Case:
    """One rule, and the samples it is tried with."""

    alert: str
    severity: str
    series: Mapping[str, tuple[Value, Value]]  #: series -> (calm, bad); of a counter: how much it grows a minute
    fires: int  #: the first minute at which it fires
    ends: int = ENDS  #: the first minute at which it fires no more
    labels: Mapping[str, str] = field(default_factory=dict)  #: of the alert, beside its name and severity
    one_is_enough: bool = True  #: it fires also while another process goes on to tell that all is calm
    summary: str  #: what the person who is woken reads

    def __str__(self) -> str:
        """Name it in the output of tests."""
        return f"{self.alert} ({self.severity})"


def page_of(alert: str) -> str:
    """Return the name of an alert's page, without folder and ending: ``OutlayNonceGap`` has ``nonce-gap``."""
    name = alert.removeprefix("Outlay")
    return "".join(f"-{each.lower()}" if each.isupper() else each for each in name).strip("-")


CASES = (
    Case(
        alert="OutlayPayoutDelayed",
        severity="page",
        series={
            'outlay_payout_delayed{instance="a"}': (0, 2),
            'outlay_payout_delayed{instance="b"}': (0, 1),
        },
        fires=25,
        summary="2 payouts have not moved for more than three times the expected time. Look at the oldest one first; do"
        " not pay it by another way.",
    ),
    Case(
        alert="OutlayNonceGap",
        severity="page",
        series={'outlay_lane_gap{wallet="wa-1"}': (0, 1), 'outlay_lane_gap{wallet="wa-2"}': (0, 0)},
        fires=15,
        labels={"wallet": "wa-1"},
        summary="1 nonces are missing in the lane of wallet wa-1: nothing behind them can be mined. Run outlay"
        " wallets reconcile, and see why no void fills them.",
    ),
    Case(
        alert="OutlayNotAdmitting",
        severity="page",
        series={'outlay_admitting{instance="a"}': (1, 1), 'outlay_admitting{instance="b"}': (1, 0)},
        fires=15,
        labels={"instance": "b"},
        summary="b answers 503 to every new payout. outlay_ready and outlay doctor say why.",
    ),
    Case(
        alert="OutlayStepFailures",
        severity="warn",
        # Five in ten minutes are borne.
        series={
            'outlay_step_failures_total{instance="a",step="deliver"}': (0.25, 0.5),
            'outlay_step_failures_total{instance="b",step="deliver"}': (0.25, 0.5),
        },
        fires=15,
        ends=79,
        labels={"step": "deliver"},
        summary="The step deliver failed 8 times in ten minutes and backs off. Read step_failed in the log.",
    ),
    Case(
        alert="OutlayReconciliationDifference",
        severity="page",
        series={'outlay_reconciliation_difference_units{wallet="wa-1",asset="USDC"}': (0, -0.000001)},
        fires=11,
        labels={"wallet": "wa-1", "asset": "USDC"},
        summary="Ledger and chain differ by 1e-06 USDC in wallet wa-1. It stops by itself; find the transaction before"
        " you let it go on.",
    ),
    Case(
        alert="OutlayWalletFrozen",
        severity="page",
        series={'outlay_wallet_frozen{wallet="wa-1"}': (0, 1), 'outlay_wallet_frozen{wallet="wa-2"}': (0, 0)},
        fires=10,
        labels={"wallet": "wa-1"},
        summary="Wallet wa-1 is frozen and signs nothing new. outlay freezes list says why; look before you unfreeze.",
    ),
    Case(
        alert="OutlayFrozen",
        severity="page",
        series={'outlay_frozen{kind="network"}': (0, 1), 'outlay_frozen{kind="wallet"}': (0, 0)},
        fires=10,
        labels={"kind": "network"},
        summary="1 freezes of the kind network stop payouts. outlay freezes list names each with its reason.",
    ),
    Case(
        alert="OutlayWalletLow",
        severity="warn",
        series={
            'outlay_balance_units{wallet="wa-1",network="N",asset="USDC",kind="spendable"}': (1000, 999.5),
            'outlay_balance_units{wallet="wa-1",network="N",asset="USDC",kind="ledger"}': (5000, 5000),
            'outlay_balance_units{wallet="wa-2",network="N",asset="USDC",kind="spendable"}': (1, 1),
            # A process that has not heard of the refill.
            'outlay_balance_units{instance="b",wallet="wa-1",network="N",asset="USDC",kind="spendable"}': (900, 900),
            'outlay_refill_min_units{wallet="wa-1",asset="USDC"}': (1000, 1000),
        },
        one_is_enough=False,
        fires=20,
        labels={"wallet": "wa-1", "asset": "USDC"},
        summary="Wallet wa-1 has 999.5 USDC to spend, less than its mandate's minimum, and no refill has come. Look at"
        " the treasury.",
    ),
    Case(
        alert="OutlayWalletEmptySoon",
        severity="warn",
        series={'outlay_hours_to_empty{wallet="wa-1",asset="USDC"}': (24, 23.9)},
        fires=25,
        labels={"wallet": "wa-1", "asset": "USDC"},
        summary="At the pace of now wallet wa-1 has no USDC left in 23.9 hours. Fund it.",
    ),
    Case(
        alert="OutlayWalletEmptySoon",
        severity="page",
        series={'outlay_hours_to_empty{wallet="wa-1",asset="USDC"}': (4, 3.9)},
        fires=15,
        labels={"wallet": "wa-1", "asset": "USDC"},
        summary="At the pace of now wallet wa-1 has no USDC left in 3.9 hours. Fund it now.",
    ),
    Case(
        alert="OutlaySignerDown",
        severity="page",
        series={'outlay_signer_up{instance="a"}': (1, 1), 'outlay_signer_up{instance="b"}': (1, 0)},
        fires=11,
        summary="The signer does not answer: nothing is signed, and payouts wait. Read its last lines in the log.",
    ),
    Case(
        alert="OutlaySignerRefusals",
        severity="page",
        # Nine in ten minutes of the others are nothing.
        series={
            'outlay_signer_refusals_total{why="evidence"}': (0, 1),
            'outlay_signer_refusals_total{why="frozen"}': (1, 1),
        },
        fires=10,
        ends=79,
        labels={"why": "evidence"},
        summary="The signer refused a signature (evidence): what it was shown is not what people signed. Treat it as an"
        " intrusion until you know better.",
    ),
    Case(
        alert="OutlaySignerRefusals",
        severity="warn",
        series={
            'outlay_signer_refusals_total{why="cap"}': (0, 1),
            'outlay_signer_refusals_total{why="frozen"}': (5, 5),
        },
        fires=10,
        ends=79,
        labels={"why": "cap"},
        summary="The signer refused 1 signatures in ten minutes (cap). The payouts wait; signer_refused in the log says"
        " which.",
    ),
    Case(
        alert="OutlaySignerRefusals",
        severity="warn",
        series={
            'outlay_signer_refusals_total{instance="a",why="frozen"}': (2.5, 3),
            'outlay_signer_refusals_total{instance="b",why="frozen"}': (2.5, 3),
        },
        fires=10,
        ends=79,
        labels={"why": "frozen"},
        summary="The signer refused 51 signatures in ten minutes (frozen). The payouts wait; signer_refused in the log"
        " says which.",
    ),
    Case(
        alert="OutlayApprovalsAgeing",
        severity="warn",
        series={'outlay_approval_oldest_seconds{instance="a"}': (7200, 7201)},
        fires=15,
        summary="An approval has waited for 2h 0m 1s; it expires, and its payout with it. Ask the approvers.",
    ),
    Case(
        alert="OutlayWebhookLag",
        severity="warn",
        series={'outlay_webhook_oldest_undelivered_seconds{instance="a"}': (3600, 3660)},
        fires=15,
        summary="An event has not reached a webhook for 1h 1m 0s. See what its endpoint answers.",
    ),
    Case(
        alert="OutlayWebhookParked",
        severity="warn",
        series={'outlay_webhook_parked{webhook="wh-1"}': (0, 3), 'outlay_webhook_parked{webhook="wh-2"}': (0, 0)},
        fires=15,
        labels={"webhook": "wh-1"},
        summary="3 events for webhook wh-1 were given up after their last attempt. Repair the endpoint, then replay"
        " them.",
    ),
    Case(
        alert="OutlayWebhookDisabled",
        severity="warn",
        series={'outlay_webhook_disabled{webhook="wh-1"}': (0, 1), 'outlay_webhook_disabled{webhook="wh-2"}': (0, 0)},
        fires=15,
        labels={"webhook": "wh-1"},
        summary="Webhook wh-1 is disabled and gets nothing. Repair its endpoint, enable it, replay what it missed.",
    ),
    Case(
        alert="OutlayPriceStale",
        severity="warn",
        series={
            'outlay_price_age_seconds{symbol="ETH"}': (300, 301),
            'outlay_price_age_seconds{symbol="USDC"}': (0, 0),
        },
        fires=15,
        labels={"symbol": "ETH"},
        summary="The newest price of ETH is 5m 1s old. Policies that count in money do not let its payouts go by"
        " themselves.",
    ),
    Case(
        alert="OutlayProviderDown",
        severity="warn",
        series={
            'outlay_provider_up{instance="a",network="N",endpoint="0"}': (1, 0),
            'outlay_provider_up{instance="b",network="N",endpoint="0"}': (1, 0),
            'outlay_provider_up{instance="a",network="N",endpoint="1"}': (0, 0),
            'outlay_provider_up{instance="b",network="N",endpoint="1"}': (1, 1),
        },
        one_is_enough=False,
        fires=15,
        labels={"network": "N", "endpoint": "0"},
        summary="Endpoint 0 of N does not answer. Look at the provider's status page.",
    ),
    Case(
        alert="OutlayProviderDown",
        severity="page",
        series={
            'outlay_provider_up{network="N",endpoint="0"}': (1, 0),
            'outlay_provider_up{network="N",endpoint="1"}': (0, 0),
        },
        one_is_enough=False,
        fires=12,
        labels={"network": "N"},
        summary="No endpoint of N answers: payouts there are neither sent nor confirmed. Add an endpoint of another"
        " provider.",
    ),
    Case(
        alert="OutlayProviderDisagreement",
        severity="warn",
        series={
            'outlay_provider_lag_blocks{network="N",endpoint="0"}': (0, 0),
            'outlay_provider_lag_blocks{network="N",endpoint="1"}': (2, 3),
        },
        fires=15,
        labels={"network": "N", "endpoint": "1"},
        summary="Endpoint 1 of N is 3 blocks behind the others. Replace it, if it does not catch up.",
    ),
    Case(
        alert="OutlayProviderDisagreement",
        severity="page",
        series={
            'outlay_log_events_total{event="rpc_disagreement",level="error"}': (0, 1),
            'outlay_log_events_total{event="wallet_waits",level="warning"}': (9, 9),
        },
        fires=11,
        ends=74,
        summary="Endpoints of one network tell different things about the same block or transaction. Nothing is decided"
        " unless two agree; find out which one is wrong.",
    ),
    Case(
        alert="OutlayProviderDisagreement",
        severity="page",
        # One only, and the first of all: the series begins with it.
        series={'outlay_log_events_total{event="rpc_disagreement"}': (ABSENT, 0)},
        fires=11,
        ends=15,
        summary="Endpoints of one network tell different things about the same block or transaction. Nothing is decided"
        " unless two agree; find out which one is wrong.",
    ),
    Case(
        alert="OutlayAuditBroken",
        severity="page",
        series={'outlay_audit_broken{instance="a"}': (0, 1)},
        fires=10,
        summary="The audit log does not verify: something in the database was changed past Outlay. Keep everything as"
        " it is and find out who had access.",
    ),
    Case(
        alert="OutlayAuditUnchecked",
        severity="warn",
        series={
            'outlay_audit_verified_seconds{instance="a"}': (172800, 172860),
            # It is enough that one process has found it whole.
            'outlay_audit_verified_seconds{instance="b"}': (999999, 999999),
        },
        one_is_enough=False,
        fires=20,
        summary="The audit log was last found whole 2d 0h 1m 0s ago; it should be every day. See whether a worker runs,"
        " and check it by hand.",
    ),
    Case(
        alert="OutlayClockOffset",
        severity="warn",
        series={
            'outlay_clock_offset_seconds{instance="a",against="database"}': (-2, -2.1),
            'outlay_clock_offset_seconds{instance="b",against="chain"}': (0, 0),
        },
        fires=15,
        labels={"instance": "a"},
        summary="The clock of a is 2.1 seconds off. Set it right before it is ten.",
    ),
    Case(
        alert="OutlayClockOffset",
        severity="page",
        series={'outlay_clock_offset_seconds{instance="a",against="database"}': (-10, -10.1)},
        fires=11,
        labels={"instance": "a"},
        summary="The clock of a is 10.1 seconds off: windows, expiry and order are not to be relied on. Set it right"
        " now.",
    ),
    Case(
        alert="OutlayDiskFilling",
        severity="warn",
        series={
            'outlay_disk_free_ratio{instance="a",path="data"}': (0.2, 0.199),
            'outlay_disk_free_ratio{instance="b",path="data"}': (0.9, 0.9),
        },
        fires=20,
        labels={"instance": "a", "path": "data"},
        summary="The disk under data on a has 19.9% left. Make room before it is full.",
    ),
    Case(
        alert="OutlayDiskFilling",
        severity="page",
        series={'outlay_disk_free_ratio{instance="a",path="data"}': (0.05, 0.049)},
        fires=11,
        labels={"instance": "a", "path": "data"},
        summary="The disk under data on a has 4.9% left: soon nothing can be recorded, and so nothing paid. Make room"
        " now.",
    ),
    Case(
        alert="OutlayNotScraped",
        severity="page",
        series={'up{job="outlay",instance="a"}': (1, 0), 'up{job="outlay",instance="b"}': (1, 1)},
        fires=12,
        labels={"job": "outlay", "instance": "a"},
        summary="No figures come from a: it is down or unreachable, and no other alert can be relied on.",
    ),
    Case(
        alert="OutlayNotScraped",
        severity="page",
        series={'up{job="outlay",instance="a"}': (1, ABSENT), 'up{job="node",instance="b"}': (1, 1)},
        fires=12,
        labels={"job": "outlay"},
        summary="No figures come from any process of Outlay: it is down or unreachable, and no other alert can be"
        " relied on.",
    ),
    Case(
        alert="OutlayFiguresMissing",
        severity="page",
        series={
            'outlay_scrape_errors_total{instance="a"}': (0, 1),
            'outlay_payout_delayed{instance="a"}': (0, 0),
        },
        fires=15,
        ends=74,
        summary="Figures could not be read from the database: alerts that need them stay silent. See whether the"
        " database answers.",
    ),
    Case(
        alert="OutlayFiguresMissing",
        severity="page",
        series={
            'outlay_scrape_errors_total{instance="a"}': (0, 0),
            'outlay_payout_delayed{instance="a"}': (0, ABSENT),
        },
        one_is_enough=False,
        fires=15,
        summary="Figures could not be read from the database: alerts that need them stay silent. See whether the"
        " database answers.",
    ),
)
