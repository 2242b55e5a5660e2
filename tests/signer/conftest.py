"""A fresh organization and signer for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.core import faultpoint
from tests.actions.world import Actor
from tests.signer.bank import Bank

Found = Callable[..., Bank]


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Found]:
    """Found banks with settings of their own."""
    made: list[Bank] = []

    def make(**settings: Any) -> Bank:
        made.append(Bank(tmp_path / str(len(made)), seed=len(made) + 1, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def bank(found: Found) -> Bank:
    """Return an organization without policies: everything that is asked for is allowed."""
    return found()


@pytest.fixture
def bot(bank: Bank) -> Actor:
    """Return the service account that asks for payouts."""
    return bank.world.service_account("payouts bot")


@pytest.fixture
def wallet(bank: Bank) -> str:
    """Return a wallet."""
    return bank.wallet()


@pytest.fixture
def hook() -> Iterator[Callable[[Callable[[str], None] | None], None]]:
    """Install a fault hook for one test."""
    yield faultpoint.install
    faultpoint.install(None)
