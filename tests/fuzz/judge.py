"""What is wrong with an answer, if anything is, by the published description and by who called."""

import collections
import json
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from outlay.core.errors import OutlayError
from outlay.web.openapi import OPEN, UNSIGNED
from outlay.web.wire import OBJECTS
from tests.fuzz.wire import ADMIN, NOBODY, OWN, POWERLESS, RECIPE, Sent

FREE = (
    *("post /auth/action", "put /auth/logout", "get /v1/records", "get /v1/config", "get /networks/fees"),
    *(f"{method} {path}" for method in ("get", "post", "put", "delete") for path in OWN),
)
"""Beginnings of the calls that need a token and no permission."""


def _codes() -> dict[str, set[int]]:
    """Return every error code there is, with the statuses it may have."""
    found: dict[str, set[int]] = collections.defaultdict(set)
    waiting: list[type[OutlayError]] = [OutlayError]
    while waiting:
        kind = waiting.pop()
        found[kind.code].add(kind.status)
        waiting += kind.__subclasses__()
    return found


class Judge:
    """Compares answers with a description."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        """Keep the description."""
        self._described, self._codes = described, _codes()
        self._validators: dict[str, Any] = {}

    def wrong_with(self, sent: Sent, template: str, method: str) -> str | None:
        """Return what is wrong with the answer to a call of this operation; None if nothing is."""
        if sent.status >= 500:  # also 503: nothing is broken here
            return "a server error"
        if sent.status < 300 and (why := _trespass(sent, template, method)):
            return why
        (kind,) = self._described["paths"][template][method]["responses"]["200"]["content"]
        if sent.status < 300 and kind != "application/json":
            return None if sent.content_type.startswith(kind) else f"not {kind}"
        if not sent.content_type.startswith("application/json"):
            return "not JSON"
        answer = json.loads(sent.raw)
        if sent.status >= 400 and (why := self._wrong_refusal(sent, answer)):
            return why
        documented = self._described["paths"][template][method]["responses"]
        # An empty or mangled path parameter is another path.
        elsewhere = sent.status in (404, 405) and answer["error"]["code"] in ("not_offered", "method_not_allowed")
        if str(sent.status) not in documented and not elsewhere:
            return "a status that is not described"
        if sent.status < 300:
            schema = documented[str(sent.status)]["content"]["application/json"]["schema"]
            if not self._fits(f"{method} {template} {sent.status}", schema, answer):
                return "not the answer that is described"
            return self._wrong_body(sent, template, method)
        return None

    def _wrong_body(self, sent: Sent, template: str, method: str) -> str | None:
        """Return why the body should not have been accepted."""
        wanted = self._described["paths"][template][method].get("requestBody")
        given = (sent.body or b"").strip()
        if not wanted or not given:
            return "a body where none is taken" if not wanted and given not in (b"", b"{}") else None
        schema = wanted["content"]["application/json"]["schema"]
        fits = self._fits(f"{method} {template} body", schema, json.loads(given))
        return None if fits else "a body was accepted that the description forbids"

    def _wrong_refusal(self, sent: Sent, answer: Any) -> str | None:
        if not self._fits("Error", OBJECTS["Error"], answer):
            return "not the error envelope"
        error = answer["error"]
        if error["status"] != sent.status or sent.status not in self._codes.get(error["code"], ()):
            return "a code that is not one of this status"
        if not error["message"] or error["message"] != answer["message"]:
            return "no message"
        if sent.status in (400, 413, 415) and not error["details"].get("field"):
            return "no field is named"
        if len(sent.raw) > 8192:
            return "a refusal that repeats too much"
        return None

    def _fits(self, name: str, schema: Mapping[str, Any], value: Any) -> bool:
        if name not in self._validators:
            whole = {**schema, "components": self._described["components"]}
            self._validators[name] = jsonschema_rs.Draft202012Validator(whole)
        return bool(self._validators[name].is_valid(value))


def _trespass(sent: Sent, template: str, method: str) -> str | None:
    """Return why this caller should not have been served."""
    if sent.caller in (ADMIN, RECIPE) or template in OPEN:
        return None
    if sent.caller == NOBODY:
        return "served without a token"
    if sent.caller == POWERLESS:
        return None if f"{method} {template}".startswith(FREE) else "served without the permission"
    return None if method == "get" or template in UNSIGNED else "carried out without a signature"
