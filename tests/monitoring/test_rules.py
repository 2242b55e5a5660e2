"""The shipped rules: each fires when it should and not earlier, ends, and says what to do."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import shipped
from tests.monitoring.cases import ABSENT, BEGINS, CASES, ENDS, MINUTES, Case, Value, page_of
from tests.tools import ROOT

SEVERITIES = ("page", "warn")
MANY = 35
"""Metrics that are asked for, at the least: fewer, and they were not found."""
DOCS = "https://example.com/"


def _samples(series: str, calm: Value, bad: Value) -> Iterator[str]:
    """Yield a value a minute, as promtool writes them."""
    grows, total, before = "_total{" in series, 0.0, ""
    for minute in range(MINUTES + 1):
        value = bad if BEGINS <= minute < ENDS else calm
        if isinstance(value, str):
            assert value == ABSENT
            now = "_" if before in ("_", "stale") else "stale"
        else:
            total = total + value if grows else value
            now = f"{total:.10g}"
        yield now
        before = now


def _test(name: str, series: list[dict[str, str]], checks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": "1m",
        "external_labels": {"docs": DOCS},
        "input_series": series,
        "alert_rule_test": checks,
    }


def _series_of(case: Case) -> list[dict[str, str]]:
    found = []
    for series, (calm, bad) in case.series.items():
        found.append({"series": series, "values": " ".join(_samples(series, calm, bad))})
        if case.one_is_enough and not series.startswith("up{") and "_total{" not in series:
            other = series.replace("{", '{process="calm",')
            found.append({"series": other, "values": " ".join(_samples(other, calm, calm))})
    return found


def _expected(case: Case, *, says: bool) -> dict[str, Any]:
    expected: dict[str, Any] = {"exp_labels": {"severity": case.severity, **case.labels}}
    if says:
        url = f"{DOCS}docs/operate/alerts/{page_of(case.alert)}.md"
        expected["exp_annotations"] = {"summary": case.summary, "runbook_url": url}
    return expected


def _at(minute: int, alert: str, expected: list[dict[str, Any]]) -> dict[str, Any]:
    return {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": expected}


def _promtool(folder: Path, severity: str, tests: list[dict[str, Any]], *, says: bool) -> None:
    """Run tests against the rules of one severity; without what they say, which changes with the values, unless asked.

    Raises:
        AssertionError: one failed; the message names it.
    """
    chosen: list[Mapping[str, Any]] = [each for each in shipped.rules() if each["labels"]["severity"] == severity]
    if not says:
        chosen = [{name: part for name, part in each.items() if name != "annotations"} for each in chosen]
    path = shipped.write_rules(folder / f"{severity}-{says}.rules.yml", chosen)
    document = {"rule_files": [str(path)], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(document))
    shipped.run("promtool", "test", "rules", str(folder / "tests.yml"))


def test_every_rule_has_a_case_and_a_page() -> None:
    rules = shipped.rules()
    named = [(rule["alert"], rule["labels"]["severity"]) for rule in rules]
    assert len(set(named)) == len(named)
    assert {severity for _, severity in named} == set(SEVERITIES)
    assert {(case.alert, case.severity) for case in CASES} == set(named)
    for rule in rules:
        page = f"docs/operate/alerts/{page_of(rule['alert'])}.md"
        assert rule["annotations"]["runbook_url"] == "{{ $externalLabels.docs }}" + page
        assert (ROOT / page).is_file(), page
    pages = {path.stem for path in shipped.PAGES.glob("*.md")}
    assert pages == {page_of(alert) for alert, _ in named}


HEADINGS = ("Look first", "Do", "Over when", "Never")


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in shipped.rules()}))
def test_a_page_says_when_it_is_read_and_what_to_do(alert: str) -> None:
    page = (shipped.PAGES / f"{page_of(alert)}.md").read_text()
    assert page.startswith(f"# {alert}\n\nSeverity ")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == list(HEADINGS)
    first = page.splitlines()[2]
    mine = [rule for rule in shipped.rules() if rule["alert"] == alert]
    said = [f"`{rule['labels']['severity']}` {'after ' + rule['for'] if 'for' in rule else 'at once'}" for rule in mine]
    assert first == f"Severity {'; '.join(said)}."
    severities = ", ".join(rule["labels"]["severity"] for rule in mine)
    row = rf"^\| `{alert}` \| {severities} \| \[[^]]+\]\(alerts/{page_of(alert)}\.md\) \|$"
    assert re.search(row, shipped.PAGES.with_suffix(".md").read_text(), re.MULTILINE)


def test_rules_and_dashboard_ask_for_metrics_that_are_documented() -> None:
    page = (ROOT / "docs/operate/metrics.md").read_text()
    asked = shipped.named_metrics()
    assert len(asked) > MANY
    assert [name for name in sorted(asked) if f"| `{name}` |" not in page] == []


def test_the_dashboard_is_one() -> None:
    panels = json.loads(shipped.DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert all(panel["description"] and panel["targets"] for panel in panels if panel["type"] != "row")


@pytest.mark.ci
def test_the_files_are_well_formed() -> None:
    said = shipped.run("promtool", "check", "config", str(shipped.PROMETHEUS))
    assert "1 rule files found" in said
    shipped.run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(shipped.RULES))
    shipped.run("amtool", "check-config", str(shipped.ALERTMANAGER))


@pytest.mark.ci
@pytest.mark.parametrize(("severity", "receiver"), [("page", "on-call"), ("warn", "office")])
def test_pages_wake_somebody_and_warnings_do_not(severity: str, receiver: str) -> None:
    words = ("config", "routes", "test", f"--config.file={shipped.ALERTMANAGER}", f"severity={severity}")
    assert shipped.run("amtool", *words, "alertname=OutlayAny").strip() == receiver


@pytest.mark.ci
@pytest.mark.parametrize("severity", SEVERITIES)
def test_each_alert_fires_on_time_and_ends(severity: str, tmp_path: Path) -> None:
    tests = []
    for case in CASES:
        if case.severity == severity:
            fires = [_expected(case, says=False)]
            checks = [
                _at(case.fires - 1, case.alert, []),
                _at(case.fires, case.alert, fires),
                _at(case.ends - 1, case.alert, fires),
                _at(case.ends, case.alert, []),
                _at(MINUTES, case.alert, []),
            ]
            tests.append(_test(f"{case} {case.labels}", _series_of(case), checks))
    _promtool(tmp_path, severity, tests, says=False)


@pytest.mark.ci
@pytest.mark.parametrize("severity", SEVERITIES)
def test_each_alert_says_what_to_do_and_where_it_is_written(severity: str, tmp_path: Path) -> None:
    tests = [
        _test(str(case), _series_of(case), [_at(case.fires, case.alert, [_expected(case, says=True)])])
        for case in CASES
        if case.severity == severity
    ]
    _promtool(tmp_path, severity, tests, says=True)
