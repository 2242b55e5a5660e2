"""Whether this process is alive and ready, for whoever starts it and whoever sends it calls."""

from typing import Any, Final

from litestar import Controller, get

from outlay.core.errors import Unavailable
from outlay.web.gate import Gate

HEALTH: Final = "/health/"
"""How the paths begin."""


class HealthController(Controller):
    """``/health``. Strangers are not told what is wrong: the log and the metrics tell."""

    path = "/health"
    tags = ("Health",)

    @get("/live", summary="Does this process turn?")
    async def live(self, gate: Gate) -> dict[str, Any]:
        """Return live while the loops of this process turn; 503 means: start it again. Needs no token."""
        if not gate.is_live():
            raise Unavailable("this process is stuck")
        return {"status": "live"}

    @get("/ready", summary="Can this process do its work?")
    async def ready(self, gate: Gate) -> dict[str, Any]:
        """Return ready while what is asked can be carried out; 503 means: send calls elsewhere. Needs no token."""
        if not (gate.is_open() if gate.is_ready is None else await gate.is_ready()):
            raise Unavailable("this process is not ready")
        return {"status": "ready"}
