"""One token for the whole run: the library of a token cannot be told about another one later."""

from collections.abc import Iterator

import pytest

from tests.signer_process.backends import softhsm


@pytest.fixture(scope="session")
def pkcs11_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the path of SoftHSM's library, with a fresh token."""
    with softhsm(tmp_path_factory.mktemp("softhsm")) as module:
        yield module
