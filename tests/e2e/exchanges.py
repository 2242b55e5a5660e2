"""What the official SDKs sent to the server and how it answered: read off the wire, not off the tests.

A *step* is one part of a story, told through one SDK. Each runs once, whoever asks for it first: the test of the step
itself, or the test that adds up what all of them exercised.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import httpx

from outlay.web import contract
from outlay.web.contract import NOT_OFFERED, OPERATIONS, Operation
from tests.world import World

OFFERED = [each for each in OPERATIONS if each.verdict != NOT_OFFERED]

Step = Callable[[World], "list[Exchange] | None"]
"""Tells one part of a story; returns its exchanges where another process made them."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and the status of its answer."""

    method: str
    path: str  #: without the query
    status: int


@contextlib.contextmanager
def recorded() -> Iterator[list[Exchange]]:
    """Note every exchange of the Python SDK, which sends with httpx and is the only one here that does."""
    found: list[Exchange] = []
    send = httpx.Client.send

    def noted(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        response = send(client, request, **options)
        found.append(Exchange(request.method, request.url.path, response.status_code))
        return response

    with mock.patch.object(httpx.Client, "send", noted):
        yield found


def of_script(result: Any) -> list[Exchange]:
    """Return the exchanges that a script of ``node/`` printed."""
    return [Exchange(each["method"], each["path"].partition("?")[0], each["status"]) for each in result["exchanges"]]


class Told:
    """The steps that ran, with their exchanges."""

    def __init__(self) -> None:
        """Begin with none."""
        self._exchanges: dict[Step, list[Exchange]] = {}

    def tell(self, step: Step, world: World) -> list[Exchange]:
        """Return the exchanges of a step; run it if it has not run.

        Raises:
            AssertionError: it failed, now or before.
        """
        if step not in self._exchanges:
            self._exchanges[step] = []
            with recorded() as ours:
                theirs = step(world)
            self._exchanges[step] = ours if theirs is None else theirs
        assert self._exchanges[step], f"{step.__name__} failed before: see there"
        return self._exchanges[step]


def unexercised(exchanges: Collection[Exchange], names: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the offered operations that an SDK has a name for and that no exchange exercised with success.

    Args:
        exchanges: what was sent and answered; 202 is a success too.
        names: method and path without parameter names -> what the SDK calls it, empty if it does not have it.
    """
    done = {contract.find(each.method, each.path) for each in exchanges if 200 <= each.status < 300}
    return [
        f"{each.method} {each.path}: {name}" for each in OFFERED if (name := names[_key(each)]) and each not in done
    ]


def _key(operation: Operation) -> tuple[str, str]:
    return operation.method, contract.normal(operation.path)
