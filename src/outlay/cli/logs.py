"""How processes that run for long say what they do: one JSON object a line, on standard error.

Lines of one request carry ``request``, the id that its answer has as ``x-request-id``; those about a payout ``payout``.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

COUNTS: dict[tuple[str, str], int] = {}
"""Lines so far, by event and level. Events are words of this program, so there are few."""


def set_up_logs() -> None:
    """Log one JSON line an event to standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _count,
            *_RENDERING,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def take_over_library_logs() -> None:
    """Write what libraries warn of in the same form; what they say beside warnings is not shown."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, *_RENDERING],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _count(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    key = (str(line.get("event")), str(line.get("level")))
    COUNTS[key] = COUNTS.get(key, 0) + 1
    return line


_RENDERING = (
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    # Without local variables: they hold tokens, secrets and keys.
    structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
)
