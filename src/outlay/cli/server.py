"""``outlay serve`` and ``outlay api``."""

import contextlib
import socket
import sys
from dataclasses import replace
from pathlib import Path

import structlog
import uvicorn

from outlay.app import Application, Role
from outlay.cli.listener import Listener
from outlay.cli.logs import set_up_logs, take_over_library_logs
from outlay.config import load, with_metrics_port
from outlay.layout import Layout
from outlay.system import arm_crash, keep_what_is_loaded

STARTUP_FAILED = 3
"""The exit code of a server that never served, as uvicorn's own command has it."""

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """Says that it serves once it does: somebody may wait for that line."""

    def __init__(self, settings: uvicorn.Config, *, url: str) -> None:
        super().__init__(settings)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            keep_what_is_loaded()
            log.info("serving", url=self._url, host=self.config.host, port=self.config.port)


def run(directory: Path, port: int | None, role: Role = Role.SERVE, *, metrics_port: int | None = None) -> None:
    """Serve the deployment in ``directory`` until interrupted."""
    set_up_logs()
    take_over_library_logs()
    arm_crash(in_signer=False)
    layout = Layout(directory)
    config = with_metrics_port(load(layout.config), metrics_port)
    if port is not None:
        config = replace(config, server=replace(config.server, port=port))
    application = Application(layout, config, role=role)
    settings = uvicorn.Config(
        application.asgi(),
        host=config.server.host,
        port=config.server.port,
        log_level="warning",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        http=Listener,
        ws="none",
    )
    server = _Server(settings, url=config.server.public_url)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILED)
