"""The command line. Server commands work on a deployment's directory; all others are clients of the API."""

import gc
import os
import sys


def main() -> None:
    """Run the command line: exit as ``output.EXIT_CODES`` says, and show no stack trace of what somebody did wrong."""
    if sys.argv[1:] == ["--version"]:
        from outlay import __version__

        sys.stdout.write(f"{__version__}\n")
        return
    # Much is loaded before a command runs, and nothing of it is garbage; nor is anything of a help page.
    gc.disable()
    from outlay.cli.commands import app
    from outlay.cli.run import run

    if not {"--help", "-h"} & set(sys.argv):
        gc.enable()
    sys.exit(run(app, sys.argv[1:]))


def is_debugging() -> bool:
    """Tell whether somebody asks for stack traces: ``OUTLAY_DEBUG=1``."""
    return os.environ.get("OUTLAY_DEBUG") == "1"
