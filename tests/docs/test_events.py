"""Every kind of event has a schema, a description of it and a real example that fits."""

import json
import re
from typing import Any

import jsonschema_rs
import pytest

from docs.event_examples import examples
from outlay.core.event import EVENT_KINDS
from outlay.web.app import describe
from outlay.web.v1.event_data import DATA, body
from tests.tools import ROOT

PAGE = (ROOT / "docs/reference/events.md").read_text()


@pytest.fixture(scope="module")
def components() -> dict[str, Any]:
    described = describe()
    assert set(described["webhooks"]) == set(EVENT_KINDS)
    return dict(described["components"])


def test_every_kind_has_a_schema() -> None:
    assert set(DATA) == set(EVENT_KINDS)


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_the_example_of_a_kind_fits_its_schema_and_stands_on_the_page(kind: str, components: dict[str, Any]) -> None:
    example = examples()[kind]
    jsonschema_rs.validator_for({**body(kind), "components": components}).validate(example)
    assert (example["kind"], example["deliveryAttempt"]) == (kind, 1)
    assert example["sequence"] >= 1
    part = PAGE.split(f"\n### {kind}\n")[1].split("\n### ")[0]
    found = re.search(r"```json\n(.*?)\n```", part, re.DOTALL)
    assert found is not None and json.loads(found[1]) == example


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_a_schema_refuses_what_lacks_a_member(kind: str, components: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for({**body(kind), "components": components})
    example = examples()[kind]
    for name in body(kind)["required"]:
        assert not validator.is_valid({each: value for each, value in example.items() if each != name}), name
    for name in DATA[kind]["required"]:
        data = {each: value for each, value in example["data"].items() if each != name}
        assert not validator.is_valid({**example, "data": data}), name


def test_subjects_and_sequences_are_those_of_what_is_told() -> None:
    told = examples()
    paid = told["wallet.transfer.confirmed"]
    assert paid["subject"] == paid["data"]["transferRequest"]["id"]
    assert told["wallet.transfer.requested"]["sequence"] == 1 < told["wallet.transfer.broadcasted"]["sequence"]
    assert told["wallet.frozen"]["subject"] == told["wallet.frozen"]["data"]["wallet"]["id"]
    assert told["payout.delayed"]["subject"] == told["payout.delayed"]["data"]["payout"]["id"]
