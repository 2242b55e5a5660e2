"""An API to attack over real HTTP, and an organization to attack from within."""

from collections.abc import Iterator

import pytest

from tests.actions.conftest import bot, one, two, world
from tests.door import PAYER, Door, Who, open_door

__all__ = ["bot", "door", "one", "path", "payer", "two", "world"]


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
