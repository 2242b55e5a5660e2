"""``outlay serve``."""

import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import structlog
import uvicorn
from structlog.tracebacks import ExceptionDictTransformer

from outlay.app import Application, Layout
from outlay.cli.listener import Listener
from outlay.config import load
from outlay.core import faultpoint

CRASH_VARIABLE = "OUTLAY_CRASH_AT"
"""For the crash suite: ``LABEL`` or ``LABEL:N`` kills the process at the Nth passing of a labelled point."""


def set_up_logs() -> None:
    """Log one JSON line an event to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without local variables: they hold tokens, secrets and keys.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def _arm_crash() -> None:
    wanted = os.environ.get(CRASH_VARIABLE)
    if not wanted:
        return
    label, _, count = wanted.partition(":")
    left = int(count or 1)

    def hook(passed: str) -> None:
        nonlocal left
        if passed == label:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    faultpoint.install(hook)


def run(directory: Path, port: int | None) -> None:
    """Serve the deployment in ``directory`` until interrupted."""
    set_up_logs()
    _arm_crash()
    layout = Layout(directory)
    config = load(layout.config)
    if port is not None:
        config = replace(config, server=replace(config.server, port=port))
    application = Application(layout, config)
    log = structlog.get_logger()
    log.info("serving", url=config.server.public_url, host=config.server.host, port=config.server.port)
    uvicorn.run(
        application.asgi(),
        host=config.server.host,
        port=config.server.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        http=Listener,
        ws="none",
    )
