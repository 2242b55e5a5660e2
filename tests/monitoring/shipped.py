"""What `monitoring/` ships, read; and Prometheus's own tools, run on it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.tools import ROOT, ToolMissing

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "prometheus/outlay.rules.yml"
PROMETHEUS = MONITORING / "prometheus/prometheus.yml"
ALERTMANAGER = MONITORING / "alertmanager/alertmanager.yml"
DASHBOARD = MONITORING / "grafana/outlay.json"
PAGES = ROOT / "docs/operate/alerts"

METRIC = re.compile(r"\boutlay_[a-z_]+\b")
PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}


def program(name: str) -> str:
    """Return the path of one of ``PACKAGES``.

    Raises:
        ToolMissing: it is not installed; the message names the package.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/local/bin")
    if found is None:
        raise ToolMissing(f"{name} is not installed: RUNLEVEL=1 apt-get install {PACKAGES[name]}")
    return found


def run(name: str, *words: str) -> str:
    """Run one of Prometheus's tools and return what it printed.

    Raises:
        AssertionError: it ended with another code than 0; the message is what it printed.
    """
    ran = subprocess.run([program(name), *words], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, f"{name} {' '.join(words)}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def rules() -> list[dict[str, Any]]:
    """Return every rule, in the order of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def write_rules(path: Path, chosen: Iterable[Mapping[str, Any]]) -> Path:
    """Write a file of rules and return its path."""
    path.write_text(yaml.safe_dump({"groups": [{"name": "outlay", "rules": [dict(each) for each in chosen]}]}))
    return path


def queries() -> dict[str, list[str]]:
    """Return every query of the dashboard by its panel's title, with a window of a minute in the place of Grafana's."""
    document = json.loads(DASHBOARD.read_text())
    found = {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in document["panels"]
        if panel["type"] != "row"
    }
    found["annotations"] = [each["expr"] for each in document["annotations"]["list"]]
    return {title: [each.replace("$__rate_interval", "1m") for each in exprs] for title, exprs in found.items()}


def legends() -> dict[str, str]:
    """Return the legend of every query of the dashboard, by the query as ``queries`` gives it."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    targets = [target for panel in panels for target in panel.get("targets", [])]
    return {each["expr"].replace("$__rate_interval", "1m"): each["legendFormat"] for each in targets}


def base(metric: str) -> str:
    """Return the name of the metric that a sample belongs to."""
    return re.sub(r"_(bucket|sum|count)$", "", metric)


def named_metrics() -> set[str]:
    """Return the name of every metric that a rule or the dashboard asks for."""
    asked = [rule["expr"] for rule in rules()] + [each for exprs in queries().values() for each in exprs]
    return {base(name) for text in asked for name in METRIC.findall(text)}
