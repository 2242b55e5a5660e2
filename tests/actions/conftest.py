"""A fresh organization for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.actions.world import Actor, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return an organization with one admin and no policies; without a policy everything is allowed."""
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
