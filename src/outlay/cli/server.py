"""``outlay serve`` and ``outlay api``."""

from dataclasses import replace
from pathlib import Path

import structlog
import uvicorn

from outlay.app import Application, Role
from outlay.cli.listener import Listener
from outlay.cli.logs import set_up_logs, take_over_library_logs
from outlay.config import load, with_metrics_port
from outlay.layout import Layout
from outlay.system import arm_crash


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
    log = structlog.get_logger()
    log.info("serving", url=config.server.public_url, host=config.server.host, port=config.server.port)
    uvicorn.run(
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
