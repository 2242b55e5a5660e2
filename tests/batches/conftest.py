"""A fresh organization and signer for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.actions.world import Actor, World
from tests.signer.bank import Bank


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    """Return an organization without policies, and its signer."""
    opened = Bank(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def world(bank: Bank) -> World:
    return bank.world


@pytest.fixture
def bot(bank: Bank) -> Actor:
    """Return the service account that submits files."""
    return bank.world.service_account("payouts bot")


@pytest.fixture
def one(bank: Bank) -> Actor:
    return bank.world.person("one@example.com")


@pytest.fixture
def two(bank: Bank) -> Actor:
    return bank.world.person("two@example.com")


@pytest.fixture
def wallet(bank: Bank) -> str:
    return bank.wallet("payouts")
