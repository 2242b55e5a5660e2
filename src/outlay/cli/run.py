"""One command, run: what went wrong becomes a line that says what to do, and an exit code."""

import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any

from cyclopts import App, CycloptsError, UnknownCommandError

from outlay.cli import is_debugging
from outlay.cli.output import DONE, INTERRUPTED, WrongUsage, exit_code, report
from outlay.core.errors import OutlayError, Refused

JSON = "--json"


class FileTrouble(Refused):
    """A file that was named cannot be read or written."""

    code = "file_trouble"


def run(app: App, arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    as_json = JSON in arguments
    try:
        return _result(app(arguments, exit_on_error=False, print_error=False, result_action="return_value"))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _close_quietly()
        return DONE
    except CycloptsError as error:
        refusal: OutlayError = _usage(app, arguments, error)
    except OutlayError as error:
        refusal = error
    except OSError as error:
        if error.filename is None:
            raise
        refusal = FileTrouble(f"{error.filename}: {error.strerror}")
    if is_debugging():
        raise refusal
    report(refusal, as_json=as_json)
    return exit_code(refusal)


def _result(returned: Any) -> int:
    """Flush while an error of it can still be caught, and return the exit code of a command that ended well."""
    sys.stdout.flush()
    return returned if isinstance(returned, int) else DONE


def _usage(app: App, arguments: Sequence[str], error: CycloptsError) -> WrongUsage:
    """Return what is wrong with what was typed, and where to look."""
    names, apps, _ = app.parse_commands(arguments)
    if isinstance(error, UnknownCommandError):
        # Its own words would load every command there is.
        meant = str(error.unused_tokens[0]) if error.unused_tokens else ""
        near = difflib.get_close_matches(meant, [name for name in apps[-1] if not name.startswith("-")], n=1)
        said = f"there is no command {' '.join([*names, meant])}" + "".join(f"; did you mean {name}?" for name in near)
    else:
        said = " ".join(str(error).split())
    return WrongUsage(said, hint=f"See {' '.join(['outlay', *names])} --help")


def _close_quietly() -> None:
    """Have nothing flushed at the end into a pipe that nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
