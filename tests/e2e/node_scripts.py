"""Runs the scripts of ``node/`` against a live server: they use the official JavaScript SDK as it is installed."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.tools import ROOT
from tests.world import World

SCRIPTS = Path(__file__).parent / "node"


def run(world: World, script: str, **given: Any) -> Any:
    """Run one script against ``world`` and return what it printed."""
    assert (ROOT / "tools/node_modules/@dfns/sdk-keysigner").is_dir(), "the SDK is missing: run `make setup`"
    text = json.dumps({"url": world.url, "orgId": world.org_id, **given})
    ran = subprocess.run(
        ["node", SCRIPTS / script], input=text, capture_output=True, text=True, timeout=90, check=False
    )
    assert ran.returncode == 0, f"{script} failed: {ran.stderr[-3000:]}"
    return json.loads(ran.stdout)


def caller(who: Any) -> dict[str, str]:
    """Return what a script needs to call as somebody."""
    return {"token": who.token, "credentialId": who.credential_id, "privateKey": who.private_key}


def statuses(result: Any, *, method: str | None = None, path: str = "") -> set[int]:
    """Return the HTTP statuses of a script's exchanges; only of one method or of paths containing ``path``."""
    return {
        each["status"]
        for each in result["exchanges"]
        if (method is None or each["method"] == method) and path in each["path"]
    }
