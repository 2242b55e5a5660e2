"""Ten policies with their trace, beside Cedar judging the same ten."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from bench.rivals import talking
from bench.rows import Row
from bench.scenarios import Scenario
from bench.turns import rates
from outlay.core.policy import (
    AmountLimit,
    AmountVelocity,
    Block,
    CountVelocity,
    Facts,
    Filters,
    Group,
    NoAction,
    Policy,
    RecipientWhitelist,
    RequestApproval,
    Rule,
    evaluate_all,
    verdict,
)
from outlay.core.velocity import Scope, Window

USD = 10**8
LISTED = tuple(f"0x{number:040x}" for number in range(100))
STRANGER = "0x" + "ee" * 20
DIFFERENCES = (
    "Cedar is told whether the recipient is listed and gets every sum ready, and reports no trace;"
    " its better setting counts: one by one, or all requests in one call"
)

_HOLD = RequestApproval(1440, (Group(name="approvers", quorum=1, approvers=None),))
_RULES: tuple[tuple[Rule, Any], ...] = (
    (AmountVelocity(100_000 * USD, 1440, Scope.POLICY), Block()),
    (AmountLimit(10_000 * USD), _HOLD),
    (RecipientWhitelist(LISTED, frozenset(LISTED)), _HOLD),
    (CountVelocity(1_000, 60), Block()),
    (AmountVelocity(2_000_000 * USD, 60, Scope.ORGANIZATION), Block()),
    (CountVelocity(10, 1, Scope.RECIPIENT), Block()),
    (AmountLimit(500_000 * USD), Block()),
    (AmountVelocity(5_000 * USD, 1440, Scope.RECIPIENT), _HOLD),
    (AmountLimit(1_000 * USD), NoAction()),
    (CountVelocity(50_000, 1440, Scope.POLICY), Block()),
)
POLICIES = tuple(
    Policy(id=f"plc-{at}", version=1, name=f"policy {at}", rule=rule, action=action, filters=Filters())
    for at, (rule, action) in enumerate(_RULES)
)


def requests() -> list[tuple[Facts, Window]]:
    """Return payouts that meet every answer."""
    amounts = (50, 900, 9_000, 15_000, 600_000)
    sums = (Window(), Window(3_000 * USD, 5, 0), Window(95_000 * USD, 9, 0), Window(95_000 * USD, 10, 0))
    return [
        (
            Facts(value=amount * USD, recipient=recipient, price="1", price_source="static", price_at=1, amount=amount),
            window,
        )
        for amount, window, recipient in itertools.product(amounts, sums, (LISTED[7], STRANGER))
    ]


def judge(facts: Facts, window: Window) -> str:
    """Return the product's verdict, with every policy's trace made on the way."""
    return verdict(evaluate_all(POLICIES, facts, (window,) * len(POLICIES)), default="allow").kind


def cedar_text() -> str:
    """Return the same ten in Cedar: a Block forbids both actions, a RequestApproval the one without people."""
    lines = ["permit(principal, action, resource);"]
    for rule, action in _RULES:
        if isinstance(action, NoAction):
            scope = 'action == Action::"report"'
        elif isinstance(action, Block):
            scope = "action"
        else:
            scope = 'action == Action::"autopay"'
        lines.append(f"forbid(principal, {scope}, resource) when {{ {_condition(rule)} }};")
    return "\n".join(lines)


def _condition(rule: Rule) -> str:
    match rule:
        case AmountLimit():
            return f"context.amount > {rule.limit // USD}"
        case AmountVelocity():
            return f"context.sum + context.amount > {rule.limit // USD}"
        case CountVelocity():
            return f"context.count + 1 > {rule.limit}"
        case RecipientWhitelist():
            return "!context.listed"
    raise AssertionError(f"not one of the ten: {rule.kind}")


def _contexts(asked: Sequence[tuple[Facts, Window]]) -> list[dict[str, Any]]:
    return [
        {
            "amount": (facts.value or 0) // USD,
            "sum": window.value // USD,
            "count": window.count,
            "listed": facts.recipient in LISTED,
        }
        for facts, window in asked
    ]


def measure(scenario: Scenario) -> list[Row]:
    """Measure both; equal verdicts are asserted first."""
    asked = requests()
    rounds, seconds = scenario.number("rounds"), scenario.real("seconds")

    def ours(count: int) -> None:
        for _, (facts, window) in zip(range(count), itertools.cycle(asked), strict=False):
            judge(facts, window)

    with talking("cedar") as cedar:
        told = {"policies": cedar_text(), "requests": _contexts(asked)}
        answers = cedar.ask(json.dumps(told))
        expected = [judge(facts, window) for facts, window in asked]
        faults = [
            f"Cedar says {answer}, the product {mine}"
            for answer, mine in zip(answers, expected, strict=True)
            if answer != mine
        ]
        if len(set(expected)) != 3:
            faults.append("the requests do not meet every answer")
        mine: list[float] = []
        theirs: dict[str, list[float]] = {"one": [], "batch": []}
        for _ in range(rounds):
            mine += rates({"ours": ours}, rounds=1, seconds=seconds)["ours"]
            for how, figures in theirs.items():
                figures.append(float(cedar.ask(f"{how} {seconds}")))
    best = max(theirs.values(), key=lambda figures: sum(figures))
    times = [1e6 / rate for rate in mine]
    return [
        Row(
            key="policies.time",
            name="ten policies with trace",
            unit="us",
            rounds=times,
            target=scenario.target("time"),
            faults=faults,
        ),
        Row(
            key="policies.cedar",
            name="ten policies with trace",
            unit="verdicts/s",
            rounds=mine,
            reference="Cedar (cedarpy), the same ten",
            reference_rounds=best,
            target=scenario.target("cedar"),
            faults=faults,
            details={"Cedar one by one": theirs["one"], "Cedar in one call": theirs["batch"], "unequal": DIFFERENCES},
        ),
    ]
