"""The offline verifiers, each as one file: the modules it needs, as they are, and a loader for them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import outlay
from outlay import __version__
from outlay.core.errors import InvariantBroken


@dataclass(frozen=True, slots=True)
class Program:
    """A verifier."""

    entry: str  #: the module whose ``main`` it runs
    text: str  #: what it says of itself


PAYOUT = Program(
    "outlay.evidence.audit",
    """Check the proof of a payout of Outlay {version} with no server, and with nothing installed but `cryptography`.

    python outlay_verify.py --root FINGERPRINT FILE

FINGERPRINT is what `outlay init` printed; it must come from somewhere else than FILE. Exit code 0: proved; 1: not
proved, the first step that fails is named; 2: the file cannot be read. Python 3.11 to 3.13.

`outlay evidence verifier` wrote this file: the modules below stand in it exactly as in the repository.
""",
)
LOG = Program(
    "outlay.evidence.audit_log",
    """Check an audit log of Outlay {version} with no server, and with nothing installed but `cryptography`.

    python outlay_audit.py --root FINGERPRINT --anchor ANCHORS FILE

FINGERPRINT is what `outlay init` printed, ANCHORS the anchor file from the other place it was kept in; neither may come
from where FILE does. Exit code 0: whole; 1: not whole, the first thing that does not hold is named; 2: a file cannot be
read; 3: whole, but the log says itself that something is missing. Python 3.11 to 3.13.

`outlay audit verifier` wrote this file: the modules below stand in it exactly as in the repository.
""",
)

_HEAD = '''\
#!/usr/bin/env python3
# ruff: noqa
# fmt: off
"""{text}"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

SOURCES = {{}}
'''

_TAIL = '''

class Embedded(MetaPathFinder, Loader):
    """Finds every module of Outlay here, and none anywhere else."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "outlay":
            return None
        if name not in SOURCES:
            raise ModuleNotFoundError(f"{name} is not part of the verifier", name=name)
        inside = any(other.startswith(name + ".") for other in SOURCES)
        return ModuleSpec(name, self, is_package=inside)

    def exec_module(self, module):
        name = module.__name__
        exec(compile(SOURCES[name], f"{__file__}: {name}", "exec"), module.__dict__)


if __name__ == "__main__":
    sys.meta_path.insert(0, Embedded())
    from {entry} import main

    sys.exit(main())
'''


def build_verifier(program: Program = PAYOUT) -> str:
    """Return the text of the file.

    Raises:
        InvariantBroken: a module cannot be quoted as it is.
    """
    parts = [_HEAD.format(text=program.text.format(version=__version__))]
    for name, source in sorted(needed_modules(program.entry).items()):
        if "'''" in source or "\r" in source or source.endswith("\\"):
            raise InvariantBroken(f"{name} cannot stand between three quotes as it is")
        parts.append(f"\nSOURCES[\"{name}\"] = r'''{source}'''\n")
    return "".join([*parts, _TAIL.replace("{entry}", program.entry)])


def needed_modules(entry: str = PAYOUT.entry) -> dict[str, str]:
    """Return the source of a verifier and of all it imports of ours, by dotted name."""
    found: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name in found or path is None:
            continue
        found[name] = path.read_text("utf-8")
        waiting += [*_imports(found[name]), name.rpartition(".")[0]]
    return found


def _imports(source: str) -> Iterator[str]:
    """Yield the dotted names of ours that a module imports; some are of what is in a module, not of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{each.name}" for each in node.names))


def _path(name: str) -> Path | None:
    """Return the file of a module of ours, or None where the name is no module's."""
    if name.partition(".")[0] != outlay.__name__:
        return None
    base = Path(str(outlay.__file__)).parent.joinpath(*name.split(".")[1:])
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)
