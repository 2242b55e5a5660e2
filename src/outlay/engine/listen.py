"""Being told when another process has written something. Everything works without, only later."""

import asyncio
from collections.abc import Callable

import structlog

from outlay.store import postgresql

AGAIN_S = 1.0
"""Pause before a connection that ended is made again."""

log = structlog.get_logger()


async def listen(text: str, heard: Callable[[], None]) -> None:
    """Call ``heard`` whenever a process has written something to the database that a URL names, for ever.

    The connection is made again when it ends; what was written meanwhile is found by looking, as everything is.
    Not through a pooler: it would give the session to others.
    """
    import psycopg  # which a deployment on SQLite does without

    address = postgresql.parse_url(text).set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(address, **postgresql.CONNECT) as connection:
                await connection.execute(f"LISTEN {postgresql.CHANNEL}")
                log.info("listening")
                heard()
                async for _ in connection.notifies():
                    heard()
        except psycopg.OperationalError as error:
            log.warning("not_listening", message=str(error).strip())
        await asyncio.sleep(AGAIN_S)
