"""Policies: any document is a policy that keeps its meaning through every form, or is refused by field."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput
from outlay.core.policy import Facts, evaluate, matches
from outlay.core.policy_document import parse_policy, preset_policies, read_policy, stored_document, wire_document
from outlay.evidence.canonical import canonical, read_canonical, read_json
from tests.fuzz.junk import bent, sized, values
from tests.property.test_policy_properties import facts, policies, wallet_windows

ID = "plc-00000-00000-0000000000000000"
WALLET = "wa-00000-00000-0000000000000000"

UNKNOWN = Facts(value=None, recipient=None)

documents = policies.map(wire_document) | st.sampled_from(
    [each for preset in ("standard", "high-volume") for each in preset_policies(preset)]
)


@sized(200)
@example({"": None}, UNKNOWN, None)
@given(documents.flatmap(bent) | values, facts, wallet_windows)
def test_any_document_is_one_policy_in_every_form_or_refused_by_field(document: Any, payout: Any, window: Any) -> None:
    sent = read_json(json.dumps(document).encode(), max_depth=32)
    try:
        policy = parse_policy(sent, id=ID, version=1, allow_empty=True)
    except InvalidInput as error:
        assert error.field
        assert 0 < len(error.message) < 1000
        return
    stored = stored_document(policy)
    assert read_policy(stored, id=ID, version=1) == policy
    assert read_policy(read_canonical(canonical(stored)), id=ID, version=1) == policy  # type: ignore[arg-type]
    answered = read_json(json.dumps(wire_document(policy)).encode(), max_depth=32)
    assert parse_policy(answered, id=ID, version=1, allow_empty=True) == policy
    assert stored_document(read_policy(stored, id=ID, version=1)) == stored
    evaluate(policy, payout, window)
    matches(policy, WALLET, frozenset({"a"}))
