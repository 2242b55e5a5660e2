"""The receiver process, talked to."""

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.node import until
from bench.processes import listening

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Hook:
    """One receiver."""

    def __init__(self, url: str) -> None:
        """Talk to the receiver at ``url``."""
        self.url = url

    def begin(self, secret: str) -> None:
        """Forget what came; expect signatures made with ``secret``."""
        request = urllib.request.Request(self.url, secret.encode(), method="PUT")
        with _OPENER.open(request, timeout=10):
            pass

    def counts(self) -> dict[str, int]:
        """Return how many deliveries came, were different, and were wrongly signed."""
        with _OPENER.open(self.url, timeout=10) as answer:
            told: dict[str, int] = json.load(answer)
            return told

    def check(self, count: int) -> list[str]:
        """Wait until ``count`` different payouts were told of; return what is wrong."""
        with contextlib.suppress(Exception):
            until(lambda: self.counts()["different"] >= count, "not everything was told of")
        told = self.counts()
        faults = []
        if told["different"] != count:
            faults.append(f"of {count} payouts {told['different']} were told of")
        if told["received"] != told["different"]:
            faults.append(f"{told['received'] - told['different']} payouts were told of twice")
        if told["wrong"]:
            faults.append(f"{told['wrong']} deliveries were wrongly signed")
        return faults


@contextlib.contextmanager
def receiving(folder: Path) -> Iterator[Hook]:
    """Run a receiver until the block ends."""
    with listening(folder, "bench.receiver") as running:
        yield Hook(f"{running.url}/hook")
