"""Thousands of calls made from the published description: none crashes, and each is answered as described.

Schemathesis generates right and wrong data for every operation. Each call that changes something is signed by the
admin, as a client does, so that what is tried lies behind the door and not in front of it.
"""

import collections
import concurrent.futures
import http.client
import json
import os
import random
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from outlay.evidence.keys import load_private_key
from outlay.evidence.sign import sign_challenge
from outlay.web.app import describe
from outlay.web.openapi import ANSWERS, EXTRA_BODIES, UNSIGNED, operations
from outlay.web.wire import OBJECTS
from tests.world import NETWORK, Identity, World, new_key, until

CALLS = 5000 if os.environ.get("CI") else 1500
"""Calls made at least, not counting the two of each signature."""

WORKERS = 3
HELD = 40
"""Payouts that wait for a decision when it begins."""

KEEP = {"webhookId": 4, "policyId": 6, "walletId": 12}
"""Things of which more would only slow the server down: the oldest are removed, or not added."""

MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
PEMS = [new_key()[1] for _ in range(4)]
schemathesis.openapi.format("pem", st.sampled_from(PEMS))
# Nobody listens there. A made-up host would make the server wait for a name server.
schemathesis.openapi.format(
    "uri", st.sampled_from(["http://127.0.0.1:9/hook", "http://127.0.0.1:9/", "http://[::1]:9/h"])
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World.open(tmp_path_factory.mktemp("world")) as opened:
        yield opened


@dataclass(frozen=True)
class Sent:
    """One call and its answer."""

    label: str
    mode: str
    target: str
    body: str
    is_signed: bool
    status: int
    content_type: str
    raw: bytes

    def __str__(self) -> str:
        """Return what a person needs to repeat it."""
        answer = self.raw.decode(errors="replace")[:300]
        return f"{self.label} ({self.mode}) {self.target} {self.body[:300]} -> {self.status} {answer}"


class Client:
    """Connections of one thread to the server, and the admin's signature."""

    def __init__(self, world: World) -> None:
        """Open nothing yet."""
        self._port, self._admin = world.deployment.port, world.admin
        self._key = load_private_key(world.admin.private_key)
        self._connection: http.client.HTTPConnection | None = None

    def send(
        self, method: str, target: str, body: bytes | None, token: str, action: str = ""
    ) -> tuple[int, str, bytes]:
        """Make one call and return status, content type and body."""
        headers = {"authorization": f"Bearer {token}"}
        if body is not None:
            headers["content-type"] = "application/json"
        if action:
            headers["x-dfns-useraction"] = action
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._connection.request(method, target, body, headers)
        answer = self._connection.getresponse()
        raw = answer.read()
        if answer.will_close:
            self._connection.close()
            self._connection = None
        return answer.status, answer.headers.get("content-type", ""), raw

    def sign(self, method: str, target: str, body: bytes | None) -> str:
        """Return a user-action token for a call; empty if no challenge is to be had for it."""
        intent = {
            "userActionHttpMethod": method,
            "userActionHttpPath": target,
            "userActionPayload": (body or b"").decode(errors="replace"),
        }
        status, _, raw = self.send("POST", "/auth/action/init", json.dumps(intent).encode(), self._admin.token)
        assert status in (200, 400, 413), raw
        if status != 200:
            return ""
        opened = json.loads(raw)
        answer = {
            "challengeIdentifier": opened["challengeIdentifier"],
            "firstFactor": sign_challenge(self._key, self._admin.credential_id, opened["challenge"]),
        }
        status, _, raw = self.send("POST", "/auth/action", json.dumps(answer).encode(), self._admin.token)
        assert status == 200, raw
        return str(json.loads(raw)["userAction"])


@dataclass
class Pool:
    """Identifiers that exist, by the name of the path parameter, so that calls find something."""

    known: dict[str, collections.deque[str]] = field(default_factory=lambda: collections.defaultdict(collections.deque))
    parents: dict[str, str] = field(default_factory=dict)  #: transfer -> wallet, assignment -> permission, ...
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, known_id: str, parent: str = "") -> str | None:
        """Keep an identifier; return one that is now too many."""
        with self.lock:
            ids = self.known[name]
            ids.append(known_id)
            if parent:
                self.parents[known_id] = parent
            return ids.popleft() if len(ids) > KEEP.get(name, 200) else None

    def drop(self, known_id: str) -> None:
        """Forget an identifier of something that was removed."""
        with self.lock:
            for ids in self.known.values():
                if known_id in ids:
                    ids.remove(known_id)

    def pick(self, name: str, dice: random.Random) -> str | None:
        """Return one of the identifiers."""
        with self.lock:
            ids = self.known[name]
            return ids[dice.randrange(len(ids))] if ids else None


class Run:
    """Sends what is generated, and keeps count."""

    def __init__(self, world: World, described: Mapping[str, Any], dice: random.Random) -> None:
        """Prepare; nothing is sent."""
        self.world, self.described, self.dice = world, described, dice
        self.pool = Pool()
        self.sent: list[Sent] = []
        self.wrong: list[str] = []
        self.passer_by: Identity = world.person("passer-by@example.com", ())
        self.settings = json.loads(read(f"{world.url}/v1/config", world.admin.token))["moneySettings"]
        self._threads = threading.local()
        self._room = threading.Semaphore(WORKERS * 4)
        self._workers = concurrent.futures.ThreadPoolExecutor(WORKERS)
        self._validators: dict[str, Any] = {}

    @property
    def client(self) -> Client:
        """Return this thread's client."""
        if not hasattr(self._threads, "client"):
            self._threads.client = Client(self.world)
        found: Client = self._threads.client
        return found

    def generate(self, operation: Any) -> None:
        """Have some right and some wrong data sent to an operation."""
        # Of data that is wrong there must be any data.
        takes_nothing = not (operation.body or operation.query or operation.path_parameters)
        for mode in MODES[:1] if takes_nothing else MODES:
            self._generate(operation, mode)

    def _generate(self, operation: Any, mode: GenerationMode) -> None:
        @seed(self.dice.getrandbits(64))
        @settings(
            max_examples=weight(operation),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            self.submit(case, mode)

        send()

    def submit(self, case: Any, mode: GenerationMode) -> None:
        """Have a generated case sent as it is and, where it names things, also with names of things that exist."""
        calls = {(self._target(case, known=known), self._body(case, known=known)) for known in (False, True)}
        label, template, method = case.operation.label, case.operation.path, case.method.upper()
        for target, body in calls:
            self._room.acquire()
            self._workers.submit(self._try, label, mode, method, template, target, body)

    def _try(self, label: str, mode: GenerationMode, method: str, template: str, target: str, body: Any) -> None:
        try:
            self._send(label, mode, method, template, target, body)
        except Exception as error:
            self.wrong.append(f"{label} {target} {body!r}: {error!r}")
        finally:
            self._room.release()

    def finish(self) -> None:
        """Wait for everything."""
        self._workers.shutdown(wait=True)

    def _target(self, case: Any, *, known: bool) -> str:
        """Return the request target as it was generated, or with the name of something that exists."""
        target, parameters = case.operation.path, dict(case.path_parameters or {})
        outer, *inner = [part[1:-1] for part in target.split("/") if part.startswith("{")] or [""]
        found = self.pool.pick((inner or [outer])[-1], self.dice) if known else None
        if found is not None:
            parameters[(inner or [outer])[-1]] = found
            if inner:
                parameters[outer] = self.pool.parents[found]
        for name, value in parameters.items():
            target = target.replace(f"{{{name}}}", urllib.parse.quote(str(value), safe=""))
        query = urllib.parse.urlencode(case.query or {}, doseq=True, errors="replace")
        return f"{target}?{query}" if query else target

    def _body(self, case: Any, *, known: bool) -> bytes | None:
        body = case.body
        if body is NOT_SET:
            return None
        if isinstance(body, bytes):
            return body
        if isinstance(body, dict) and known:
            for name, found in (
                ("name", f"thing {self.dice.getrandbits(64):x}"),
                ("network", NETWORK),
                ("identityId", self.pool.pick("userId", self.dice)),
                ("permissionId", self.pool.pick("permissionId", self.dice)),
                ("contract", self.world.token),
                ("to", str(body.get("to")).lower()),  # what is generated hardly ever has the right checksum
                ("moneySettings", self.settings),
            ):
                if name in body and found and isinstance(body[name], type(found)):
                    body = {**body, name: found}
            if "to" in body:
                body.setdefault("externalId", f"{self.dice.getrandbits(64):x}")
        return json.dumps(body).encode()

    def _send(
        self, label: str, mode: GenerationMode, method: str, template: str, target: str, body: bytes | None
    ) -> None:
        client = self.client
        token, action = self.world.admin.token, ""
        if template == "/auth/logout":
            token = self.world.log_in(self.passer_by).token
        if method != "GET" and template not in UNSIGNED:
            action = client.sign(method, target, body)
        status, kind, raw = client.send(method, target, body, token, action)
        is_signed = bool(action) or method == "GET" or template in UNSIGNED
        sent = Sent(label, mode.value, target, repr(body), is_signed, status, kind, raw)
        self.sent.append(sent)
        why = self.wrong_with(sent, template, method.lower())
        if why:
            self.wrong.append(f"{why}: {sent}")
        gone = target.partition("?")[0].removesuffix("/archive").rsplit("/", 1)[1]
        if status == 200 and (method == "DELETE" or template.endswith("/archive")):
            self.pool.drop(gone)
        elif status == 200 and method != "GET":
            self._learn(json.loads(raw), template)

    def wrong_with(self, sent: Sent, template: str, method: str) -> str | None:
        """Return what is wrong with an answer, if anything is."""
        if sent.status >= 500:
            return "a server error"
        if not sent.content_type.startswith("application/json"):
            return "not JSON"
        answer = json.loads(sent.raw)
        if sent.status >= 400:
            if not self._fits("Error", OBJECTS["Error"], answer) or answer["error"]["status"] != sent.status:
                return "not the error envelope"
            if sent.status in (400, 413, 415) and not answer["error"]["details"].get("field"):
                return "no field is named"
        documented = self.described["paths"][template][method]["responses"]
        # An empty or mangled path parameter is another path.
        elsewhere = sent.status in (404, 405) and answer["error"]["code"] in ("not_offered", "method_not_allowed")
        if str(sent.status) not in documented and not elsewhere:
            return "a status that is not described"
        if sent.status == 200:
            schema = documented["200"]["content"]["application/json"]["schema"]
            if not self._fits(f"{method} {template}", schema, answer):
                return "not the answer that is described"
        return None

    def _fits(self, name: str, schema: Mapping[str, Any], value: Any) -> bool:
        if name not in self._validators:
            whole = {**schema, "components": self.described["components"]}
            self._validators[name] = jsonschema_rs.Draft202012Validator(whole)
        return bool(self._validators[name].is_valid(value))

    def _learn(self, answer: Any, template: str) -> None:
        """Keep the identifier of what was made, and remove what has become too many."""
        created = {
            "/wallets": ("walletId", "id", ""),
            "/v2/policies": ("policyId", "id", ""),
            "/webhooks": ("webhookId", "id", ""),
            "/permissions": ("permissionId", "id", ""),
            "/auth/users": ("userId", "userId", ""),
            "/permissions/{permissionId}/assignments": ("assignmentId", "id", "permissionId"),
            "/wallets/{walletId}/transfers": ("transferId", "id", "walletId"),
        }
        if template == "/auth/service-accounts":
            self.pool.add("userId", answer["userInfo"]["userId"])
        if template not in created:
            return
        name, key, parent = created[template]
        surplus = self.pool.add(name, answer[key], answer[parent] if parent else "")
        routes = {"policyId": "/v2/policies", "webhookId": "/webhooks"}
        if surplus is not None and name in routes:
            path = f"{routes[name]}/{surplus}"
            self.client.send("DELETE", path, None, self.world.admin.token, self.client.sign("DELETE", path, None))


def read(url: str, token: str = "") -> bytes:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", parts.path, headers={"authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    raw = answer.read()
    assert answer.status == 200, raw
    connection.close()
    return raw


def prepare(run: Run) -> None:
    """Make some of everything, so that the first calls find something."""
    world, admin = run.world, run.world.admin.sdk
    for policy in admin.policies.list_policies({"status": "Active"})["items"]:
        if policy["action"]["kind"] != "RequestApproval":
            continue
        group = {"quorum": 1, "approvers": {}, "initiatorCanApprove": True}
        body = {name: policy[name] for name in ("name", "activityKind", "rule", "filters")}
        admin.policies.update_policy(
            policy["id"], {**body, "action": {"kind": "RequestApproval", "approvalGroups": [group]}}
        )
    for number in range(3):
        wallet = admin.wallets.create_wallet({"network": NETWORK, "tags": ["payouts"] if number else ["free"]})
        run.pool.add("walletId", wallet["id"])
        permission = world.permission(f"spare {number}", ["Wallets:Read"])
        run.pool.add("permissionId", permission)
        bot = world.service_account(f"spare bot {number}", None)
        run.pool.add("userId", bot.user_id)
        run.pool.add("userId", world.invite(f"spare-{number}@example.com").user_id)
        assigned = admin.permissions.assign_permission(permission, {"identityId": bot.user_id})
        run.pool.add("assignmentId", assigned["id"], permission)
        url = f"http://127.0.0.1:9/{number}"
        hook = admin.webhooks.create_webhook({"url": url, "events": ["wallet.transfer.requested"]})
        run.pool.add("webhookId", hook["id"])
    run.pool.add("userId", world.admin.user_id)
    for number in range(HELD):
        transfer = admin.wallets.transfer_asset(
            wallet["id"],
            {"kind": "Native", "to": f"0x{number + 1:040x}", "amount": "1", "externalId": f"held-{number}"},
        )
        run.pool.add("transferId", transfer["id"], wallet["id"])
        run.pool.add("approvalId", transfer["approvalId"])
    events = until(lambda: admin.webhooks.list_webhook_events(hook["id"])["items"], "an attempt to deliver")
    run.pool.drop(hook["id"])  # its attempts are to be read; the other endpoints may be removed
    for event in events:
        run.pool.add("eventId", event["id"], hook["id"])


def weight(operation: Any) -> int:
    """Return how often an operation is tried compared with others: most are tried where most can go wrong."""
    if operation.path.endswith("/transfers") and operation.method == "post":
        return 16
    return {"get": 3, "post": 6, "put": 6, "delete": 4}[operation.method]


def test_every_call_that_the_description_allows_or_forbids_is_answered_as_described(
    world: World, request: pytest.FixtureRequest
) -> None:
    described = json.loads(read(f"{world.url}/openapi.json"))
    # Who calls is ours to say: we sign.
    settled = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    schema = schemathesis.openapi.from_dict(described, config=settled)
    dice = random.Random(int(request.config.getoption("--hypothesis-seed")))
    run = Run(world, described, dice)
    prepare(run)
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(found) == len(list(operations(described)))
    # Round by round: what one operation makes, another finds.
    while len(run.sent) < CALLS:
        for operation in found:
            run.generate(operation)
    run.finish()
    done = _report(run)
    assert not run.wrong, "\n".join([f"{len(run.wrong)} wrong answers", *run.wrong[:5]])
    assert len(run.sent) >= CALLS
    assert len(done) >= 48, "too little is carried out for the rest to mean much"
    behind = [sent for sent in run.sent if sent.is_signed and sent.status not in (401, 403)]
    assert len(behind) * 2 >= len(run.sent), f"only {len(behind)} of {len(run.sent)} calls got past authentication"
    modes = collections.Counter(sent.mode for sent in run.sent)
    assert min(modes["positive"], modes["negative"]) * 3 >= len(run.sent), modes
    assert world.log.count("request_crashed") == 0


def _report(run: Run) -> set[str]:
    """Print what was done, and return the operations that were carried out."""
    done = {sent.label for sent in run.sent if sent.status == 200}
    labels = {sent.label for sent in run.sent}
    statuses = collections.Counter(sent.status for sent in run.sent)
    print(f"\n{len(run.sent)} calls of {len(labels)} operations, {len(done)} of them carried out; {dict(statuses)}")
    print("never carried out:", ", ".join(sorted(labels - done)) or "none")
    return done


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
            assert operation["security"] == [{"bearer": [], "userAction": []}], place
        named = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert {p["name"] for p in operation["parameters"] if p["in"] == "path"} == named, place
    assert {(method, path) for method, path, _ in operations(described)} >= set(ANSWERS) | set(EXTRA_BODIES)


def test_every_body_is_closed_and_every_reference_leads_somewhere() -> None:
    described = describe()
    schemas = described["components"]["schemas"]
    for name, schema in schemas.items():
        if name not in OBJECTS:
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
