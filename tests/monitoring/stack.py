"""A real Prometheus and a real Alertmanager for tests, with the shipped configuration made quick and local."""

import contextlib
import copy
import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring import shipped
from tests.tools import free_port
from tests.world import until

START_S = 60.0
STOP_S = 15.0

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url: str) -> str:
    """Return what a GET of a local URL answers.

    Raises:
        OSError: nobody answers within ten seconds, or with an error (then an ``HTTPError``).
    """
    with _OPENER.open(url, timeout=10) as answer:
        found: bytes = answer.read()
        return found.decode()


@contextlib.contextmanager
def _running(words: Sequence[str], ready: str, folder: Path, name: str) -> Iterator[None]:
    """Run a program until the block ends; enter it once the URL ``ready`` answers."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder)

    def answers() -> bool:
        assert process.poll() is None, f"{name} ended: {log.read_text(errors='replace')[-3000:]}"
        with contextlib.suppress(OSError):
            return bool(fetch(ready))
        return False

    try:
        until(answers, f"{name} to answer", timeout_s=START_S)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        """Keep its base URL."""
        self._url = url

    def _get(self, path: str, **query: str) -> Any:
        try:
            text = fetch(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        except urllib.error.HTTPError as refusal:
            raise AssertionError(f"{path} {query}: {refusal.read().decode(errors='replace')}") from None
        answer = json.loads(text)
        assert answer["status"] == "success", answer
        assert not answer.get("warnings"), answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series an expression gives now.

        Raises:
            AssertionError: it cannot be evaluated.
        """
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Return every alert that is pending or firing."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def firing(self) -> set[str]:
        """Return the name of every alert that fires."""
        return {each["labels"]["alertname"] for each in self.alerts() if each["state"] == "firing"}

    def evaluations(self) -> int:
        """Return how often the rules were evaluated without an error.

        Raises:
            AssertionError: one of them cannot be evaluated.
        """
        for group in self._get("rules")["groups"]:
            for rule in group["rules"]:
                assert not rule.get("lastError"), rule
        done = self.query('prometheus_rule_evaluations_total{job="prometheus"}')
        return min((int(float(each["value"][1])) for each in done), default=0)


def _quick_rules(folder: Path) -> Path:
    """Write the shipped rules with a second in the place of each ``for``."""
    quick = [{**each, "for": "1s"} if "for" in each else each for each in shipped.rules()]
    return shipped.write_rules(folder / "quick.rules.yml", quick)


@contextlib.contextmanager
def prometheus(folder: Path, targets: Sequence[str], alertmanager: str, *, docs: str) -> Iterator[Prometheus]:
    """Run Prometheus with the shipped configuration and the rules made quick; it watches ``targets`` each second."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    config = copy.deepcopy(yaml.safe_load(shipped.PROMETHEUS.read_text()))
    config["global"].update(scrape_interval="1s", evaluation_interval="1s", external_labels={"docs": docs})
    config["rule_files"] = [str(_quick_rules(folder))]
    config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager]}]
    [job] = config["scrape_configs"]
    job.update(scrape_timeout="1s", static_configs=[{"targets": list(targets)}])
    config["scrape_configs"].append({"job_name": "prometheus", "static_configs": [{"targets": [address]}]})
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    words = [shipped.program("prometheus"), f"--config.file={path}", f"--storage.tsdb.path={folder / 'series'}"]
    words += [f"--web.listen-address={address}", "--log.level=warn"]
    with _running(words, f"http://{address}/-/ready", folder, "prometheus"):
        yield Prometheus(f"http://{address}")


@contextlib.contextmanager
def alertmanager(folder: Path, receiver: str) -> Iterator[str]:
    """Run Alertmanager with the shipped routes, made quick, all of them leading to ``receiver``; give its address."""
    address = f"127.0.0.1:{free_port()}"
    config: dict[str, Any] = yaml.safe_load(shipped.ALERTMANAGER.read_text())
    del config["global"]
    config["route"].update(group_wait="0s", group_interval="1s")
    for route in config["route"]["routes"]:
        route["group_wait"] = "0s"
    config["receivers"] = [
        {"name": each["name"], "webhook_configs": [{"url": f"{receiver}?to={each['name']}", "send_resolved": True}]}
        for each in config["receivers"]
    ]
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    words = [shipped.program("prometheus-alertmanager"), f"--config.file={path}", "--cluster.listen-address="]
    words += [f"--storage.path={folder / 'silences'}", f"--web.listen-address={address}", "--log.level=warn"]
    with _running(words, f"http://{address}/-/ready", folder, "alertmanager"):
        yield address


def told(arrivals: Sequence[Mapping[str, Any]], **labels: str) -> list[dict[str, Any]]:
    """Return what a receiver was told of the alerts that have ``labels``, in order, as Alertmanager puts it."""
    return [
        {**alert, "receiver": message["receiver"]}
        for message in arrivals
        for alert in message["alerts"]
        if all(alert["labels"].get(name) == value for name, value in labels.items())
    ]
