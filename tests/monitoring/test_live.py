"""A deployment that is watched as in production: the figures are there, nobody is woken, and a fault reaches a person.

One deployment serves the whole module; the tests that disturb it come last.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from outlay.cli.profile import Profile, write_profile
from tests.monitoring import shipped, stack
from tests.monitoring.cases import MINUTES, page_of
from tests.tools import free_port
from tests.world import POLL_S, USDC, Receiver, World, until

pytestmark = pytest.mark.ci

DOCS = "https://docs.example.com/"
LEGEND = re.compile(r"\{\{(\w+)\}\}")
RUNNABLE = re.compile(r"^```sh runnable\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ALERTS = sorted({rule["alert"] for rule in shipped.rules()})
QUIET_EVALUATIONS = 4
OF_THE_MACHINE = "OutlayDiskFilling"
"""What a machine that runs tests may really suffer from."""


class Watched:
    """A deployment, the Prometheus that scrapes it, and the endpoint that Alertmanager tells."""

    def __init__(self, world: World, metrics: str, prometheus: stack.Prometheus, receiver: Receiver) -> None:
        """Make a payout, so that there is something to see."""
        self.world, self.metrics, self.prometheus, self.receiver = world, metrics, prometheus, receiver
        payer = world.service_account("payouts bot")
        self.wallet = world.wallet("hot")
        self.webhook = world.admin.sdk.webhooks.create_webhook({"url": receiver.url, "events": ["wallet.created"]})
        self.paid = world.pay(payer, self.wallet, "0x" + "ab" * 20, 5 * USDC, "watched-1", contract=world.token)
        world.wait_for(self.paid, "Confirmed")

    def told(self, **labels: str) -> list[dict[str, Any]]:
        """Return what came out of Alertmanager about the alerts with these labels, in order."""
        messages = [each.event for each in list(self.receiver.arrivals)]
        return stack.told([each for each in messages if "alerts" in each], **labels)

    def wait_until_told(self, status: str, **labels: str) -> dict[str, Any]:
        """Return the newest word about an alert once it says ``firing`` or ``resolved``."""

        def newest() -> Any:
            said = self.told(**labels)
            return said[-1] if said and said[-1]["status"] == status else None

        found: dict[str, Any] = until(newest, f"{labels} to be told as {status}", timeout_s=60)
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Open a deployment with everything that watches it."""
    folder = tmp_path_factory.mktemp("watched")
    port = free_port()
    receiver = Receiver()
    try:
        with (
            World.open(folder, preset="high-volume", extra=f"[metrics]\nport = {port}\n") as world,
            stack.alertmanager(folder, receiver.url) as alertmanager,
            stack.prometheus(folder, [f"127.0.0.1:{port}"], alertmanager, docs=DOCS) as prometheus,
        ):
            yield Watched(world, f"http://127.0.0.1:{port}/metrics", prometheus, receiver)
    finally:
        receiver.close()


def _is_in_order(watched: Watched) -> bool:
    text = stack.fetch(watched.metrics)
    return "outlay_admitting 1.0" in text and "outlay_payout_delayed 0.0" in text


def test_whatever_a_rule_or_a_panel_asks_for_is_exported(watched: Watched) -> None:
    until(lambda: _is_in_order(watched), "the figures")
    exported = set(re.findall(r"^# TYPE (\w+) ", stack.fetch(watched.metrics), re.MULTILINE))
    asked = shipped.named_metrics()
    assert len(asked) > 35
    assert sorted(asked - exported) == []


def test_a_healthy_deployment_wakes_nobody(watched: Watched) -> None:
    prometheus = watched.prometheus
    until(lambda: prometheus.query('up{job="outlay"} == 1'), "the first scrape")
    until(lambda: _is_in_order(watched), "the figures")
    # With the pauses of the rules made so short, what is not there yet while a server starts is told of.
    until(lambda: prometheus.firing() <= {OF_THE_MACHINE}, "the start to be over")
    since = prometheus.evaluations()
    while prometheus.evaluations() < since + QUIET_EVALUATIONS:
        assert prometheus.firing() <= {OF_THE_MACHINE}
        time.sleep(POLL_S)


def test_the_rules_stay_quiet_on_an_hour_of_these_samples(watched: Watched, tmp_path: Path) -> None:
    series = [{"series": 'up{instance="a",job="outlay"}', "values": f"1x{MINUTES}"}]
    for family in text_string_to_metric_families(stack.fetch(watched.metrics)):
        for sample in family.samples:
            labels = {**sample.labels, "instance": "a", "job": "outlay"}
            said = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
            # What has been counted so far is counted again every minute.
            grows = family.type in ("counter", "histogram")
            values = f"0+{sample.value:.17g}x{MINUTES}" if grows else f"{sample.value:.17g}x{MINUTES}"
            series.append({"series": f"{sample.name}{{{said}}}", "values": values})
    assert len(series) > 100
    checks = [
        {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}
        for alert in ALERTS
        if alert != OF_THE_MACHINE
        for minute in range(0, 61, 10)
    ]
    document = {
        "rule_files": [str(shipped.RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": checks}],
    }
    (tmp_path / "healthy.yml").write_text(yaml.safe_dump(document))
    shipped.run("promtool", "test", "rules", str(tmp_path / "healthy.yml"))


def _empty(watched: Watched) -> list[str]:
    """Run every query of the dashboard; return those that find nothing although what they ask for is exported."""
    exported = {
        shipped.base(sample.name)
        for family in text_string_to_metric_families(stack.fetch(watched.metrics))
        for sample in family.samples
    }
    legends = shipped.legends()
    empty = []
    for title, expressions in shipped.queries().items():
        for expression in expressions:
            found = watched.prometheus.query(expression)
            wanted = {shipped.base(name) for name in shipped.METRIC.findall(expression)}
            # A pattern may rightly match none of what there is.
            if not found and wanted and wanted <= exported and "=~" not in expression:
                empty.append(f"{title}: {expression}")
            for name in LEGEND.findall(legends.get(expression, "")):
                assert all(each["metric"].get(name) for each in found), f"{title}: no label {name} in {found}"
    return empty


def test_every_query_of_the_dashboard_runs_and_finds_what_there_is(watched: Watched) -> None:
    # What grows is seen from the second scrape on.
    until(lambda: not _empty(watched), "an answer to every query", timeout_s=60)
    assert _empty(watched) == []


@pytest.mark.parametrize("alert", ALERTS)
def test_the_commands_of_the_page_run(watched: Watched, alert: str, tmp_path: Path) -> None:
    world = watched.world
    blocks = RUNNABLE.findall((shipped.PAGES / f"{page_of(alert)}.md").read_text())
    assert blocks, "a page without a command"
    for name, text in (("token", world.admin.token), ("key.pem", world.admin.private_key)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    who = Profile(
        url=world.url,
        token_file=tmp_path / "token",
        key_file=tmp_path / "key.pem",
        credential=world.admin.credential_id,
    )
    write_profile(tmp_path / "profile.toml", who)
    names = {
        "DIR": str(world.deployment.directory),
        "URL": world.url,
        "METRICS": watched.metrics,
        "LOG": str(world.deployment.log),
        "OUTLAY_PROFILE": str(tmp_path / "profile.toml"),
        "WALLET": watched.wallet["id"],
        "PAYOUT": watched.paid["id"],
        "WEBHOOK": watched.webhook["id"],
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input="\n".join(blocks),
        env={**os.environ, "no_proxy": "127.0.0.1,localhost", "PATH": path, **names},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert ran.stdout.strip()


def test_a_frozen_wallet_wakes_the_one_on_call_and_ends_when_it_is_let_go(watched: Watched, tmp_path: Path) -> None:
    world, wallet = watched.world, watched.wallet
    frozen = {"alertname": "OutlayWalletFrozen", "wallet": wallet["id"]}
    (tmp_path / "token").write_text(world.admin.token)
    (tmp_path / "key.pem").write_text(world.admin.private_key)
    (tmp_path / "key.pem").chmod(0o600)
    _outlay("freeze", "--dir", str(world.deployment.directory), "--wallet", wallet["id"], "--reason", "a drill")
    said = watched.wait_until_told("firing", **frozen)
    assert (said["labels"]["severity"], said["receiver"]) == ("page", "on-call")
    assert said["annotations"]["runbook_url"] == f"{DOCS}docs/operate/alerts/wallet-frozen.md"
    assert said["annotations"]["summary"].startswith(f"Wallet {wallet['id']} is frozen")

    signed = ("--key-file", str(tmp_path / "key.pem"), "--credential", world.admin.credential_id)
    caller = ("--url", world.url, "--token-file", str(tmp_path / "token"), *signed)
    _outlay("unfreeze", "--wallet", wallet["id"], "--reason", "the drill is over", *caller)
    watched.wait_until_told("resolved", **frozen)


def _outlay(*words: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "outlay", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, f"{words}: {ran.stdout}{ran.stderr}"


def test_a_server_that_is_gone_is_told_of_and_its_return_too(watched: Watched) -> None:
    gone = {"alertname": "OutlayNotScraped"}
    watched.world.kill()
    said = watched.wait_until_told("firing", **gone)
    assert said["labels"]["job"] == "outlay"
    watched.world.start()
    watched.wait_until_told("resolved", **gone)
