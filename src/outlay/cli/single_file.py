"""The offline verifier as one file: the modules it needs, as they are, and a loader for them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import outlay
from outlay import __version__
from outlay.core.errors import InvariantBroken

ENTRY = "outlay.evidence.audit"

_HEAD = '''\
#!/usr/bin/env python3
# ruff: noqa
# fmt: off
"""Check the proof of a payout of Outlay {version} with no server, and with nothing installed but `cryptography`.

    python outlay_verify.py --root FINGERPRINT FILE

FINGERPRINT is what `outlay init` printed; it must come from somewhere else than FILE. Exit code 0: proved; 1: not
proved, the first step that fails is named; 2: the file cannot be read. Python 3.11 to 3.13.

`outlay evidence verifier` wrote this file: the modules below stand in it exactly as in the repository.
"""

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
    from outlay.evidence.audit import main

    sys.exit(main())
'''


def build_verifier() -> str:
    """Return the text of the file.

    Raises:
        InvariantBroken: a module cannot be quoted as it is.
    """
    parts = [_HEAD.format(version=__version__)]
    for name, source in sorted(needed_modules().items()):
        if "'''" in source or "\r" in source or source.endswith("\\"):
            raise InvariantBroken(f"{name} cannot stand between three quotes as it is")
        parts.append(f"\nSOURCES[\"{name}\"] = r'''{source}'''\n")
    return "".join([*parts, _TAIL])


def needed_modules() -> dict[str, str]:
    """Return the source of the verifier and of all it imports of ours, by dotted name."""
    found: dict[str, str] = {}
    waiting = [ENTRY]
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
