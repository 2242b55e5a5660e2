"""The table of the contract against what is served, and against everything the official SDKs can call."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dfns_sdk
import pytest

from docs import generate
from outlay.web import contract
from outlay.web.contract import EXTENDED, NOT_OFFERED, OPERATIONS, SAME, Operation
from tests.door import Door, check_refusal, open_door
from tests.tools import ROOT

ABSENT = [each for each in OPERATIONS if each.verdict == NOT_OFFERED]
OFFERED = [each for each in OPERATIONS if each.verdict != NOT_OFFERED]
NODE_SDK = ROOT / "tools/node_modules/@dfns/sdk"
PYTHON_SDK = Path(dfns_sdk.__file__).parent


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


def key(operation: Operation) -> tuple[str, str]:
    """Return what an operation is compared by."""
    return operation.method, contract.normal(operation.path)


# The table itself


def test_every_operation_is_listed_once_and_says_what_it_must() -> None:
    keys = [key(each) for each in OPERATIONS]
    assert len(keys) == len(set(keys))
    for each in OPERATIONS:
        assert each.verdict in (SAME, EXTENDED, NOT_OFFERED)
        assert bool(each.note) == (each.verdict != SAME), each


def test_a_call_means_the_operation_with_the_fewest_parameters() -> None:
    for each in OPERATIONS:
        concrete = re.sub(r"\{(\w+)\}", "x-1", each.path)
        assert contract.find(each.method, concrete) is each
    assert contract.find("GET", "/wallets/all/history") is not contract.find("GET", "/wallets/x-1/history")
    for method, path in (("GET", "/"), ("GET", "/wallets/"), ("PATCH", "/wallets"), ("GET", "/wallets/x/y/z/a/b")):
        assert contract.find(method, path) is None


# Against the routes


def test_what_is_offered_are_the_routes_there_are() -> None:
    served = {
        (each.method, contract.normal(each.path))
        for each in generate.routes()
        if not each.path.startswith(("/v1/", "/health/"))
    }
    assert {key(each) for each in OFFERED} == served


def test_what_is_not_offered_answers_so_and_why(door: Door) -> None:
    """Whoever calls, with whatever in place of an id, and with or without a body."""
    before = door.stored()
    wallet = "wa-00000-00000-0000000000000000"
    for each in ABSENT:
        for text in (wallet, "x"):
            target = re.sub(r"\{\w+\}", text, each.path)
            for token in ("", door.admin.token):
                body: dict[str, Any] | None = {} if token and each.method != "GET" else None
                answer = door.call(each.method, target, body, token=token)
                check_refusal(answer)
                assert (answer.status, answer.code) == (404, "not_offered"), (each.method, target, answer.raw)
                assert answer.message == f"{each.method} {target} is not offered by this server: {each.note}"
    assert door.stored() == before


def test_what_is_offered_answers_something_else(door: Door) -> None:
    for each in OFFERED:
        target = re.sub(r"\{(\w+)\}", "x-00000-00000-0000000000000000", each.path)
        answer = door.call(each.method, target, None if each.method == "GET" else {})
        assert answer.status in (400, 401), (each.method, target, answer.raw)


# Against the SDKs


def test_every_operation_of_the_sdks_is_in_the_table_and_no_other() -> None:
    names = generate.sdk_names()
    assert {key(each) for each in OPERATIONS} == names.keys()
    assert sum(1 for python, _ in names.values() if python) > 230
    assert sum(1 for _, node in names.values() if node) > 160


def test_no_call_of_the_sdks_escapes_the_reading() -> None:
    """Every path written anywhere in them, also by the delegated clients and the helpers, is one of the table."""
    known = {path for _, path in map(key, OPERATIONS)}
    python = "".join(path.read_text() for path in PYTHON_SDK.rglob("*.py"))
    node = "".join(path.read_text() for path in NODE_SDK.rglob("*.js"))
    written = {contract.normal(path) for path in re.findall(r"""path=f?["'](/[^"']*)["']""", python)}
    routed = re.findall(r"buildPathAndQuery\)\('([^']+)'", node) + re.findall(r"[fF]etch\)\('(/[^']+)'", node)
    spelled = {contract.normal(re.sub(r":(\w+)", r"{\1}", path)) for path in routed}
    assert len(written) > 150
    assert len(spelled) > 100
    assert written <= known
    assert spelled <= known


def test_names_of_both_sdks_are_really_there() -> None:
    names = generate.sdk_names()
    assert names["POST", "/wallets/{}/transfers"] == ("wallets.transfer_asset", "wallets.transferAsset")
    assert names["DELETE", "/v2/policies/{}"] == ("policies.delete_policy", "policies.archivePolicy")
    assert names["GET", "/networks/fees"] == ("networks.estimate_fees", "networks.getFees")
    assert names["DELETE", "/permissions/{}"] == ("permissions.delete_permission", "")
    assert names["POST", "/wallets/{}/export"] == ("", "wallets.exportWallet")
