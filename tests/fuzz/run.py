"""The fuzz run: data made from the published description, sent to a live server, and every answer judged."""

import collections
import concurrent.futures
import json
import random
import re
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

import schemathesis
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.core import NOT_SET
from schemathesis.generation import GenerationMode

from outlay.core.operation import OPERATIONS
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.keys import normal_pem
from outlay.web import openapi
from tests.fuzz.bodies import bend_bytes, compact, mutate
from tests.fuzz.judge import Judge
from tests.fuzz.wire import ADMIN, NOBODY, OWN, POWERLESS, RECIPE, UNSIGNED, Client, Found, Sent, pool_name
from tests.world import NETWORK, Identity, World, until

WORKERS = 3
HELD, PAID = 30, 3
"""Payouts that wait for a decision, and that were paid, when it begins."""

KEEP = {"plc": 6, "wh": 4, "wa": 12}
"""Things of which more would only slow the server down: the oldest are removed, or not looked at any more."""

CALLERS = (*[ADMIN] * 12, POWERLESS, UNSIGNED, NOBODY)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
POSITIVE, NEGATIVE = (mode.value for mode in MODES)
MUTATED, BYTES = "mutated", "bytes"

_PREFIX = re.compile(r"\^([a-z]+)-")
_REMOVED_BY = {"plc": "/v2/policies", "wh": "/webhooks"}


def _public_key(secret: bytes) -> str:
    return normal_pem(ed25519.Ed25519PrivateKey.from_private_bytes(secret).public_key())


schemathesis.openapi.format("pem", st.binary(min_size=32, max_size=32).map(_public_key))
# Nobody listens there. A made-up host would make the server wait for a name server.
schemathesis.openapi.format(
    "uri", st.sampled_from(["http://127.0.0.1:9/hook", "http://127.0.0.1:9/", "http://[::1]:9/h"])
)


class Run:
    """Sends what is generated, and keeps count."""

    def __init__(
        self, world: World, described: Mapping[str, Any], dice: random.Random, *, governed: bool = False
    ) -> None:
        """Make some of everything, so that the first calls find something.

        Args:
            world: freshly opened.
            described: the published description.
            dice: what is tried.
            governed: begin with policies over policies and permissions, so that most changes wait for people.
        """
        self.world, self.dice = world, dice
        self.sent: list[Sent] = []
        self.wrong: list[str] = []
        self._judge = Judge(described)
        self._prefixes = {
            path: {each["name"]: _pool(path, each) for each in operation["parameters"] if each["in"] == "path"}
            for _, path, operation in openapi.operations(described)
        }
        self._accepted: dict[str, collections.deque[tuple[str, Any]]] = collections.defaultdict(
            lambda: collections.deque(maxlen=20)
        )
        self._tokens: dict[str, str] = {}  # of the next page, by path template
        self.passer_by: Identity = world.person("passer-by@example.com", ())
        self.powerless: Identity = world.person("powerless@example.com", ())
        self.keeper: Identity = world.person("keeper@example.com", OPERATIONS)
        self._threads = threading.local()
        self._room = threading.Semaphore(WORKERS * 4)
        self._workers = concurrent.futures.ThreadPoolExecutor(WORKERS)
        self.voter: Identity = world.person("voter@example.com")
        people = (self.passer_by, self.powerless, self.keeper, self.voter)
        keys = [each for who in people for each in self._read("/auth/credentials", who.token)["items"]]
        self.found = Found(KEEP, {who.user_id for who in people} | {each["credentialUuid"] for each in keys})
        self._settings = self._read("/v1/config", world.admin.token)["moneySettings"]
        self._prepare()
        self._govern("Policies:Modify" if governed else "")

    @property
    def client(self) -> Client:
        """Return this thread's client."""
        if not hasattr(self._threads, "client"):
            self._threads.client = Client(self.world.deployment.port)
        found: Client = self._threads.client
        return found

    def _read(self, path: str, token: str) -> Any:
        status, _, raw = self.client.send("GET", path, None, token)
        assert status == 200, raw
        return json.loads(raw)

    def _prepare(self) -> None:
        world, admin = self.world, self.world.admin.sdk
        for policy in admin.policies.list_policies({"status": "Active"})["items"]:
            if policy["action"]["kind"] != "RequestApproval":
                continue
            group = {"quorum": 1, "approvers": {}, "initiatorCanApprove": True}
            body = {name: policy[name] for name in ("name", "activityKind", "rule", "filters")}
            admin.policies.update_policy(
                policy["id"], {**body, "action": {"kind": "RequestApproval", "approvalGroups": [group]}}
            )
        made: list[Any] = [{"userId": world.admin.user_id}]
        machines: list[Any] = []
        for number in range(3):
            wallet = admin.wallets.create_wallet({"network": NETWORK, "tags": ["payouts"] if number else ["free"]})
            permission = world.permission(f"spare {number}", ["Wallets:Read"])
            bot = world.service_account(f"spare bot {number}", None)
            person = {"userId": world.invite(f"spare-{number}@example.com").user_id}
            assigned = admin.permissions.assign_permission(permission, {"identityId": bot.user_id})
            hook = admin.webhooks.create_webhook(
                {"url": f"http://127.0.0.1:9/{number}", "events": ["wallet.transfer.requested"]}
            )
            made += [wallet, {"id": permission}, person, assigned, hook]
            machines.append({"userId": bot.user_id})
        funded = world.wallet("funded", tags=("free",))
        made.append(funded)
        paid = [
            world.pay(world.admin, funded, f"0x{number + 0x1000:040x}", 1, f"paid-{number}") for number in range(PAID)
        ]
        made += [world.wait_for(each, "Confirmed") for each in paid]
        for number in range(HELD):
            body = {"kind": "Native", "to": f"0x{number + 1:040x}", "amount": "1", "externalId": f"held-{number}"}
            made.append(admin.wallets.transfer_asset(wallet["id"], body))
        events = until(lambda: admin.webhooks.list_webhook_events(hook["id"])["items"], "an attempt to deliver")
        self.found.hidden.add(hook["id"])  # its attempts are to be read; the other endpoints may be removed
        self.found.learn(made, {}, "/auth/users")
        self.found.learn(machines, {}, "/auth/service-accounts")
        self.found.learn([{"id": event["id"], "webhookId": hook["id"]} for event in events], {})

    def _govern(self, also: str) -> None:
        """Let changes of one permission wait for people, and changes of policies where ``also`` says so."""
        permission = self.world.permission("governed", ["Wallets:Read"])
        self.found.learn({"id": permission}, {})
        only = {"permissionId": {"in": [permission]}}
        for kind, filters in (("Permissions:Modify", only), ("Permissions:Assign", only), (also, {})):
            if kind:
                group = {"quorum": 1, "approvers": {}}
                made = self.world.admin.sdk.policies.create_policy(
                    {
                        "name": kind,
                        "activityKind": kind,
                        "rule": {"kind": "AlwaysTrigger"},
                        "filters": filters,
                        "action": {"kind": "RequestApproval", "approvalGroups": [group]},
                    }
                )
                self.found.hidden.add(made["id"])  # else it would soon be among those that are too many

    # Making calls

    def generate(self, operation: Any) -> None:
        """Have some right, some wrong and some almost right data sent to an operation."""
        # Of data that is wrong there must be any data.
        takes_nothing = not (operation.body or operation.query or operation.path_parameters)
        for mode in MODES[:1] if takes_nothing else MODES:
            self._generate(operation, mode)
        label, method, template = operation.label, operation.method.upper(), operation.path
        for _ in range(weight(operation)):
            if label in RECIPES:
                self._submit(self._follow, label, method, template)
            if method != "GET" and self._accepted[label]:
                target, body = self.dice.choice(self._accepted[label])
                how = self.dice.choice((MUTATED, MUTATED, BYTES))
                raw = self._mutated(body, as_bytes=how == BYTES)
                self._submit(self._send, label, how, self._caller(template), method, template, target, raw)

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
            """Send a generated case as it is and, where it names things, also with names of things that exist."""
            label, template, method = case.operation.label, case.operation.path, case.method.upper()
            # A right identifier that nobody made finds nothing, whatever else the call says: once in a while is enough.
            is_idle = mode is MODES[0] and self._prefixes[template] and self.dice.random() < 0.8
            tries = (True,) if is_idle else (False, True)
            calls = {(self._target(case, known=known), self._body(case, known=known)) for known in tries}
            for target, body in sorted(calls, key=repr):
                self._submit(self._send, label, mode.value, self._caller(template), method, template, target, body)

        send()

    def _caller(self, template: str) -> str:
        return ADMIN if template == "/auth/logout" else self.dice.choice(CALLERS)

    def _mutated(self, body: Any, *, as_bytes: bool) -> bytes:
        if isinstance(body, dict) and "externalId" in body and self.dice.random() < 0.7:
            body = {**body, "externalId": f"{self.dice.getrandbits(64):x}"}
        return bend_bytes(compact(body), self.dice) if as_bytes else compact(mutate(body, self.dice))

    def _submit(self, send: Any, label: str, *call: Any) -> None:
        self._room.acquire()
        self._workers.submit(self._guarded, send, label, *call)

    def _guarded(self, send: Any, label: str, *call: Any) -> None:
        try:
            send(label, *call)
        except Exception as error:
            self.wrong.append(f"{label} {call!r}: {error!r}"[:2000])
        finally:
            self._room.release()

    def finish(self) -> None:
        """Wait for everything."""
        self._workers.shutdown(wait=True)

    def _target(self, case: Any, *, known: bool) -> str:
        """Return the request target as it was generated, or with the names of something that exists."""
        target, parameters = case.operation.path, dict(case.path_parameters or {})
        if known:
            parameters.update(self.found.fill(self._prefixes[target], self.dice))
        for name, value in parameters.items():
            target = target.replace(f"{{{name}}}", urllib.parse.quote(str(value), safe=""))
        asked = dict(case.query or {})
        if known:
            asked = self.found.exchange(asked, self.dice)
            if "network" in asked:
                asked["network"] = NETWORK
            if "paginationToken" in asked:
                asked["paginationToken"] = self._tokens.get(case.operation.path, "")
        query = urllib.parse.urlencode(asked, doseq=True, errors="replace")
        return f"{target}?{query}" if query else target

    def _body(self, case: Any, *, known: bool) -> bytes | None:
        body = case.body
        if body is NOT_SET:
            return None
        if isinstance(body, bytes):
            return body
        if isinstance(body, dict) and known:
            body = self.found.exchange(body, self.dice)
            for name, found in (
                ("name", f"thing {self.dice.getrandbits(64):x}"),
                ("network", NETWORK),
                ("contract", self.world.token),
                ("to", str(body.get("to")).lower()),  # what is generated hardly ever has the right checksum
                ("moneySettings", self._settings),
            ):
                if name in body and isinstance(body[name], type(found)):
                    body = {**body, name: found}
            if "to" in body:
                if self.dice.random() < 0.5:
                    body["amount"] = str(self.dice.randrange(1, 1000))
                body.setdefault("externalId", f"{self.dice.getrandbits(64):x}")
        return json.dumps(body).encode()

    # Sending

    def _follow(self, label: str, method: str, template: str) -> None:
        """Send what a client would really send at this point; from then on also what is almost that."""
        token, body = RECIPES[label](self)
        raw = compact(mutate(body, self.dice)) if self.dice.random() < 0.4 else compact(body)
        target = template
        for name, value in self.found.fill(self._prefixes[template], self.dice).items():
            target = target.replace(f"{{{name}}}", value)
        self._send(label, RECIPE, RECIPE, method, template, target, raw, token=token)

    def _send(
        self,
        label: str,
        mode: str,
        caller: str,
        method: str,
        template: str,
        target: str,
        body: bytes | None,
        *,
        token: str = "",
    ) -> None:
        client, action = self.client, ""
        who = {POWERLESS: self.powerless}.get(caller, self.keeper if template.startswith(OWN) else self.world.admin)
        if caller not in (NOBODY, RECIPE):
            token = client.log_in(self.passer_by, self.world.org_id) if template == "/auth/logout" else who.token
        must_sign = method != "GET" and template not in openapi.UNSIGNED
        if must_sign and caller in (ADMIN, POWERLESS, RECIPE):
            action = client.sign(who, method, target, body)
        status, kind, raw = client.send(method, target, body, token, action)
        for _ in range(WORKERS):
            if not action or b'"head_moved"' not in raw:
                break
            action = client.sign(who, method, target, body)  # another thread changed the records meanwhile
            status, kind, raw = client.send(method, target, body, token, action)
        sent = Sent(label, mode, caller, target, body, bool(action) or not must_sign, status, kind, raw)
        self.sent.append(sent)
        why = self._judge.wrong_with(sent, template, method.lower())
        if why:
            self.wrong.append(f"{why}: {sent}")
        elif status < 300:
            self._note(sent, template, method, body)

    def _note(self, sent: Sent, template: str, method: str, body: bytes | None) -> None:
        """Keep what a call that was carried out found, and remove what has become too many."""
        path = sent.target.partition("?")[0]
        gone = path.removesuffix("/archive").rsplit("/", 1)[1]
        if method == "DELETE" or path.endswith("/archive"):
            self.found.drop(gone)
            return
        if not sent.content_type.startswith("application/json"):
            return
        answer = json.loads(sent.raw)
        if sent.status == 202 and self.dice.random() < 0.8:
            self._approve(answer)
        if method == "GET":
            if answer.get("nextPageToken"):
                self._tokens[template] = answer["nextPageToken"]
            return
        if body and body.strip():
            self._accepted[sent.label].append((sent.target, json.loads(body)))
        call = dict(zip(self._prefixes[template], _parameters(template, path), strict=True))
        for each in self.found.learn(answer, call, template):
            if each.partition("-")[0] in _REMOVED_BY:
                path = f"{_REMOVED_BY[each.partition('-')[0]]}/{each}"
                token = self.client.sign(self.world.admin, "DELETE", path, None)
                self.client.send("DELETE", path, None, self.world.admin.token, token)

    def _approve(self, change: Any) -> None:
        """Let a change that waits for people happen."""
        path, body = f"/v2/policy-approvals/{change['approvalId']}/decisions", compact({"value": "Approved"})
        action = self.client.sign(self.voter, "POST", path, body)
        self.client.send("POST", path, body, self.voter.token, action)

    # What a client would really send

    def intent(self) -> tuple[str, Any]:
        """Ask for the challenge of some call."""
        path = f"/wallets/{self.found.pick('wa', self.dice)}/tags"
        body = {"userActionHttpMethod": "PUT", "userActionHttpPath": path, "userActionPayload": '{"tags":["a"]}'}
        return self.world.admin.token, body

    def answer_of_intent(self) -> tuple[str, Any]:
        """Answer the challenge of some call."""
        token, body = self.intent()
        return token, self.client.answer(self.world.admin, self.client.post("/auth/action/init", body, token))

    def login(self) -> tuple[str, Any]:
        """Ask for the challenge of a login."""
        return "", {"username": self.passer_by.username, "orgId": self.world.org_id}

    def answer_of_login(self) -> tuple[str, Any]:
        """Answer the challenge of a login."""
        return "", self.client.answer(self.passer_by, self.client.post("/auth/login/init", self.login()[1]))

    def invitation(self) -> tuple[str, Any]:
        """Take up an invitation."""
        admin, path = self.world.admin, "/auth/users"
        body = compact({"email": f"{self.dice.getrandbits(64):x}@example.com", "kind": "CustomerEmployee"})
        while True:
            action = self.client.sign(admin, "POST", path, body)
            status, _, raw = self.client.send("POST", path, body, admin.token, action)
            if status != 409:  # another thread changed the records meanwhile
                break
        made = json.loads(raw)
        assert status == 200, made
        return "", {"username": made["username"], "registrationCode": made["registrationCode"]}

    def registration(self) -> tuple[str, Any]:
        """Finish taking up an invitation."""
        opened = self.client.post("/auth/registration/init", self.invitation()[1])
        info = key_attestation(new_key_pair()[0], opened["challenge"])
        factor = {"credentialKind": "Key", "credentialInfo": info, "credentialName": "a key"}
        return opened["temporaryAuthenticationToken"], {"firstFactorCredential": factor}

    def new_key(self) -> tuple[str, Any]:
        """Ask for the challenge of a new key of one's own."""
        return self.keeper.token, {"kind": "Key"}

    def attested_key(self) -> tuple[str, Any]:
        """Add a new key of one's own."""
        opened = self.client.post("/auth/credentials/init", {"kind": "Key"}, self.keeper.token)
        info = key_attestation(new_key_pair()[0], opened["challenge"])
        body = {"credentialKind": "Key", "credentialInfo": info, "challengeIdentifier": opened["challengeIdentifier"]}
        return self.keeper.token, body

    def own_key(self) -> tuple[str, Any]:
        """Name a key of one's own."""
        return self.keeper.token, {"credentialUuid": self.found.pick(pool_name("cr", OWN[0]), self.dice) or "cr-"}

    def access_token(self) -> tuple[str, Any]:
        """Make a personal access token that may do all its owner may."""
        name = f"token {self.dice.getrandbits(64):x}"
        return self.keeper.token, {"name": name, "publicKey": _public_key(self.dice.randbytes(32))}

    def policy(self) -> tuple[str, Any]:
        """Write a policy that makes sense."""
        dice = self.dice
        limit = {"limit": dice.choice((0, 0.5, 10**6)), "currency": "USD"}
        rule = dice.choice(
            (
                {"kind": "AlwaysTrigger"},
                {"kind": "TransactionAmountLimit", "configuration": limit},
                {"kind": "TransactionAmountVelocity", "configuration": {**limit, "timeframe": 60, "scope": "policy"}},
                {"kind": "TransactionCountVelocity", "configuration": {"limit": 5, "timeframe": 1440}},
                {"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": [self.world.token]}},
            )
        )
        someone = {"userId": {"in": [self.voter.user_id, self.world.admin.user_id]}}
        group = {"name": "x", "quorum": dice.choice((1, 2)), "approvers": dice.choice(({}, someone))}
        action = dice.choice(({"kind": "NoAction"}, {"kind": "RequestApproval", "approvalGroups": [group]}))
        filters = dice.choice(({"walletTags": {"hasAny": ["payouts"]}}, {"walletTags": {"hasAll": ["a", "payouts"]}}))
        body = {"name": "a policy", "activityKind": "Wallets:Sign", "rule": rule, "action": action, "filters": filters}
        return self.world.admin.token, body


RECIPES = {
    "POST /auth/action/init": Run.intent,
    "POST /auth/action": Run.answer_of_intent,
    "POST /auth/login/init": Run.login,
    "POST /auth/login": Run.answer_of_login,
    "POST /auth/registration/init": Run.invitation,
    "POST /auth/registration": Run.registration,
    "POST /auth/credentials/init": Run.new_key,
    "POST /auth/credentials": Run.attested_key,
    "POST /v2/policies": Run.policy,
    "PUT /v2/policies/{policyId}": Run.policy,
    "POST /auth/pats": Run.access_token,
    "PUT /auth/credentials/activate": Run.own_key,
    "PUT /auth/credentials/deactivate": Run.own_key,
}
"""Call -> the token and the body where it must be made with what calls before it gave."""


def _pool(template: str, parameter: Mapping[str, Any]) -> str:
    """Return under which name ``Found`` keeps what a path parameter may be."""
    found = _PREFIX.match(parameter["schema"].get("pattern", ""))
    return pool_name(found[1], template) if found else ""


def _parameters(template: str, path: str) -> list[str]:
    pattern = re.sub(r"\\\{\w+\\\}", "([^/]+)", re.escape(template))
    found = re.fullmatch(pattern, path)
    return list(found.groups()) if found else [""] * template.count("{")


def weight(operation: Any) -> int:
    """Return how often an operation is tried compared with others: most are tried where most can go wrong."""
    if operation.path.endswith("/transfers") and operation.method == "post":
        return 16
    return {"get": 3, "post": 6, "put": 6, "delete": 4}[operation.method]
