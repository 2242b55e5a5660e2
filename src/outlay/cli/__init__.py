"""The command line. Server commands work on a deployment's directory; all others are clients of the API."""

import sys

from outlay.core.errors import OutlayError


def main() -> None:
    """Run the command line."""
    # Imported here, so that `outlay --version` and the client commands load no server.
    from rich.console import Console

    from outlay.cli.commands import app

    try:
        app()
    except OutlayError as error:
        where = f"{error.field}: " if error.field else ""
        Console(stderr=True).print(f"[red]error[/red] {where}{error.message}", highlight=False)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        Console(stderr=True).print(f"[red]error[/red] {error.filename}: {error.strerror}", highlight=False)
        sys.exit(1)
