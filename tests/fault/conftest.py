"""One prepared deployment for all crash tests: making it takes longer than most of them."""

from collections.abc import Iterator

import pytest

from tests import tools
from tests.fault.stand import Original


@pytest.fixture(scope="package")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    """Prepare the deployment that the tests here copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTLAY_ANVIL", str(tools.anvil_binary()))
        made = Original(tmp_path_factory.mktemp("original"))
        yield made
        made.close()
