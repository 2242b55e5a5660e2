"""An organization with a past, and its pages: what is in them is made by the units of ``tests.actions.world``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from litestar.testing import TestClient

from outlay.evidence.seal import SealingKeys
from outlay.web.app import create_app
from outlay.web.cookies import COOKIE
from outlay.web.gate import Gate
from tests.actions.world import Actor, World
from tests.door import StubChains, StubCourier, StubReconciler, StubSigner

ORIGIN = "http://pages.local"


@dataclass(frozen=True, kw_only=True)
class Pages:
    """The pages of a world."""

    world: World
    seals: SealingKeys
    app: Any
    client: TestClient[Any]

    def open(self, path: str, who: Actor | None = None) -> httpx.Response:
        """Ask for a page as a browser does for what its own pages lead to; by default as the admin."""
        token = self.seals.sign_token((who or self.world.admin).claims)
        headers = {"cookie": f"{COOKIE}={token}", "sec-fetch-site": "same-origin"}
        answer: httpx.Response = self.client.get(path, headers=headers, follow_redirects=False)
        return answer

    def text(self, path: str, who: Actor | None = None) -> str:
        """Return the text of a page that is shown."""
        answer = self.open(path, who)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text[-600:]}"
        return answer.text


@contextmanager
def open_pages(folder: Path, world: World) -> Iterator[Pages]:
    """Serve the pages of a world inside the test until the block ends."""
    seals = SealingKeys.create(folder / "sealing-keys.json", world.entropy)
    gate = Gate(
        db=world.db,
        seals=seals,
        config=world.config,
        clock=world.clock,
        entropy=world.entropy,
        price_of=lambda asset, _now: world.quote(asset),
        webhook_public_key="whpk_test",
    )
    # To describe the API takes longer than all else, and no page looks at it.
    with mock.patch("outlay.web.app.describe", dict):
        app = create_app(gate, StubSigner(), StubCourier(), StubChains(), StubReconciler())
    with TestClient(app, base_url=ORIGIN) as client:
        yield Pages(world=world, seals=seals, app=app, client=client)
