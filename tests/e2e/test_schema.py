"""The published description says all there is to say about every operation, and holds together.

That the server keeps to it is tried in ``tests/fuzz/test_calls.py``.
"""

from typing import Any

import jsonschema_rs

from outlay.web.app import describe
from outlay.web.openapi import ANSWERS, EVERY_OBJECT, EXTRA_BODIES, UNSIGNED, operations
from outlay.web.v1 import batch_shapes
from outlay.web.v1.payout_shapes import MESSAGES, ONLY_MESSAGES


def ways_to_sign(method: str, path: str) -> list[dict[str, list[str]]]:
    """Return the ways in which a write may be signed, as the description lists them."""
    handshake: list[dict[str, list[str]]] = [{"bearer": [], "userAction": []}]
    message: list[dict[str, list[str]]] = [{"httpSignature": []}]
    if (method, path) in ONLY_MESSAGES:
        return message
    return handshake + message if (method, path) in MESSAGES | batch_shapes.MESSAGES else handshake


def test_every_operation_says_who_may_call_what_it_takes_and_what_it_answers() -> None:
    described = describe()
    jsonschema_rs.meta.validate(described["components"]["schemas"]["Transfer"])
    for method, path, operation in operations(described):
        place = f"{method} {path}"
        assert operation["summary"], place
        assert operation["description"], place
        assert operation["operationId"], place
        assert (method, path) in ANSWERS, f"{place}: describe its answer in ANSWERS"
        assert set(operation["responses"]) >= {"200", "400", "503"}, place
        assert "security" in operation, place
        if method != "get" and path not in UNSIGNED:
            assert operation["security"] == ways_to_sign(method, path), place
        named = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert {p["name"] for p in operation["parameters"] if p["in"] == "path"} == named, place
    assert {(method, path) for method, path, _ in operations(described)} >= set(ANSWERS) | set(EXTRA_BODIES)


def test_a_wallet_may_be_made_without_tags_and_tags_are_added_by_at_least_one() -> None:
    schemas = describe()["components"]["schemas"]
    for name, body, fits in (
        ("CreateWallet", {"network": "EthereumSepolia", "tags": []}, True),
        ("Tags", {"tags": []}, False),
    ):
        assert jsonschema_rs.is_valid({**schemas[name], "components": {"schemas": schemas}}, body) is fits, name


def test_every_body_is_closed_and_every_reference_leads_somewhere() -> None:
    described = describe()
    schemas = described["components"]["schemas"]
    for name, schema in schemas.items():
        if name not in EVERY_OBJECT:
            assert schema["additionalProperties"] is False, name
    references: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            references.update(each for key, each in value.items() if key == "$ref" and isinstance(each, str))
            for each in value.values():
                collect(each)
        elif isinstance(value, list):
            for each in value:
                collect(each)

    collect(described)
    for reference in references:
        _, _, kind, name = reference.split("/")
        assert name in described["components"][kind], reference
