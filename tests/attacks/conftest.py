"""An API to attack over real HTTP, and an organization to attack from within."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.actions.world import Actor, World
from tests.door import PAYER, Door, Who, open_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Return a running API without policies, shared by a module."""
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def payer(door: Door) -> Who:
    """Return the service account whose key the attacker may have stolen."""
    return door.service_account("payouts bot", PAYER)


@pytest.fixture(scope="module")
def path(door: Door) -> str:
    """Return the path under which payouts of a wallet are requested."""
    return f"/wallets/{door.wallet()['id']}/transfers"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return an organization with one admin and no policies."""
    opened = World(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def bot(world: World) -> Actor:
    """Return the service account that asks for payouts."""
    return world.service_account("payouts bot")


@pytest.fixture
def one(world: World) -> Actor:
    """Return a person who may vote."""
    return world.person("approver.one@example.com")


@pytest.fixture
def two(world: World) -> Actor:
    """Return another person who may vote."""
    return world.person("approver.two@example.com")
