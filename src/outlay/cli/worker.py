"""``outlay worker``."""

import asyncio
import os
import signal
from pathlib import Path

import structlog

from outlay.app import Application, Role
from outlay.cli.logs import set_up_logs, take_over_library_logs
from outlay.config import load, with_metrics_port
from outlay.layout import Layout
from outlay.system import arm_crash, keep_what_is_loaded


def run(directory: Path, metrics_port: int | None = None) -> None:
    """Run the engine of the deployment in ``directory`` until interrupted."""
    set_up_logs()
    take_over_library_logs()
    arm_crash(in_signer=False)
    layout = Layout(directory)
    config = with_metrics_port(load(layout.config), metrics_port)
    asyncio.run(_work(Application(layout, config, role=Role.WORKER)))


async def _work(application: Application) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    structlog.get_logger().info("working", pid=os.getpid())
    try:
        await application.start()
        keep_what_is_loaded()
        await end.wait()
    finally:
        await application.stop()
