"""Write the pages of the reference that follow from the code, blocks between markers, and the single-file verifier.

``make docs`` runs it. ``tests/docs`` fails when what is in the repository is not what it would write.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import outlay
from outlay import settings
from outlay.core import errors, operation
from outlay.core.transfer import ENDS, TRANSITIONS, State
from outlay.observe import catalog
from outlay.web import contract
from outlay.web.app import create_app

ROOT = Path(__file__).resolve().parents[1]
HEADER = "<!-- Written by docs/generate.py: run `make docs`. -->\n\n"

MONEY_SETTINGS = frozenset(
    {
        "policies.default",
        "governance.loosening_delay_s",
        "prices.static.SYMBOL",
        "networks.NAME.chain_id",
        "networks.NAME.finality",
        "networks.NAME.finality.blocks",
        "networks.NAME.finality.tag",
        "networks.NAME.native",
        "networks.NAME.native.symbol",
        "networks.NAME.native.decimals",
        "networks.NAME.fee_cap",
        "assets.network",
        "assets.kind",
        "assets.contract",
        "assets.symbol",
        "assets.decimals",
        "assets.fee_cap",
    }
)
"""Settings an admin signs; ``tests/docs`` compares the list with ``Config.money_settings``."""

OPEN_ROUTES: Mapping[str, str] = {
    "POST /auth/credentials/code/init": "none",
    "POST /auth/credentials/code/verify": "none",
    "POST /auth/login/init": "none",
    "POST /auth/login": "none",
    "POST /auth/registration/init": "none",
    "POST /auth/registration": "the temporary token of the call before",
    "GET /health/live": "none",
    "GET /health/ready": "none",
    "GET /v1/health": "none",
    "GET /v1/webhook-key": "none",
}
"""What the routes that nobody is logged in for ask instead of a bearer token."""

ALSO_REQUIRED: Mapping[str, tuple[str, str]] = {
    "POST /wallets": ("Wallets:Tags:Add", "if tags are given"),
    "POST /auth/service-accounts": ("Permissions:Assign", "if permissionId is given"),
}
"""Operations that an action itself asks for; ``tests/docs`` compares them with the actions."""


# Prose

CONFIGURATION_INTRO = """\
# Configuration

One TOML file, `outlay.toml`, in the deployment's directory. It is read when the server starts. An unknown setting is
an error, and so is a value of another type.

Settings marked **signed** decide about money. Their digest is in the organization's records; while the file differs
from what was signed, the server answers reads, admits no payout, and says so until an admin runs
`outlay settings apply` (see [operate](../operate.md#settings-that-decide-about-money)).
"""

ERRORS_INTRO = """\
# Errors

Every error answer has this body. `code` is stable; `message` is for people and says what to do; `details.field` is
there when one member of the request is to blame. The same message also stands on top, where older clients look.

```json
{"error": {"id": "err-…", "status": 400, "code": "invalid_input", "message": "amount: …",
           "details": {"field": "amount"}},
 "message": "amount: …"}
```

What to do follows from the family. A refusal by the action itself (404, 409, 412, a field's value) spends the signed
challenge: sign again for another try. A body that cannot be read, a missing token or permission, a signature that does
not fit, and 503 spend nothing.
"""

ROUTES_INTRO = """\
# Routes

The server describes every body at `/openapi.json`. What is not listed here answers 404 `not_offered`.

- **token**: `Authorization: Bearer …` of a person or a service account.
- **signed**: the call also carries `X-DFNS-USERACTION`. The SDKs obtain it by themselves: `POST /auth/action/init`
  with method, path and body gives a challenge, the caller's key signs it, `POST /auth/action` exchanges it for a token
  that is good for this one call.
- **operation**: what a permission of the caller must list; where there is none, being known is enough.

Lists take `limit` (1 to 500) and `paginationToken`, and answer newest first.
"""

COMPATIBILITY_INTRO = """\
# Compatibility

Every operation of the Dfns API that its official SDKs can call ({all}), and what it does here: {same} are the same,
{extended} are the same but for what is said, {not} are not offered. Beyond it there is only what begins with `/v1/`;
all routes with their permissions are in [routes](api.md), and what the contract leaves open in
[open points](open-points.md).

- **same**: as in the contract. Answers may hold members of our own; the SDKs ignore what they do not know.
- **extended**: as in the contract, with what is added or left out.
- **not offered**: answers 404 with the code `not_offered`, and the reason in the message, to everybody.

*Python* and *Node* are the names in `dfns-sdk` and `@dfns/sdk`; where one is empty, that SDK does not have it.
"""


# Configuration


def all_settings() -> Iterator[tuple[str, str, str, str]]:
    """Yield every setting: path, type, default (empty: required), description."""
    sections: dict[str, type[Any]] = {
        "server": settings.Server,
        "networks.NAME": settings.Network,
        "networks.NAME.finality": settings.Finality,
        "networks.NAME.native": settings.Native,
        "assets": settings.Token,
        "policies": settings.Policies,
        "governance": settings.Governance,
        "webhooks": settings.Webhooks,
        "api": settings.Api,
        "signer": settings.SignerSettings,
        "signer.caps": settings.SignerCap,
        "sending": settings.Sending,
        "database": settings.DatabaseSettings,
        "metrics": settings.Metrics,
        "tracing": settings.Tracing,
        "notify": settings.Notify,
        "audit": settings.Audit,
        "limits": settings.Limits,
        "limits.endpoints": settings.EndpointLimit,
    }
    for name, kind in sections.items():
        yield from _of(name, kind)
        if name == "policies":
            yield "prices.static.SYMBOL", "text", "none", "dollars for one whole unit of the asset, as decimal text"
            yield from _of("prices.live.SYMBOL", settings.LivePrice)


def _of(name: str, kind: Any) -> Iterator[tuple[str, str, str, str]]:
    for field in dataclasses.fields(kind):
        if "doc" in field.metadata:
            yield f"{name}.{field.name}", _type(field), _default(field), field.metadata["doc"]


def _type(field: Any) -> str:
    if field.name == "band":
        return "text"
    if field.name in ("fee_cap", "per_payout", "per_recipient", "total"):
        return "text of digits"
    if field.name == "caps":
        return "list of tables"
    hint = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    names = {"str": "text", "int": "whole number", "bool": "true or false", "float": "number"}
    if "tuple" in str(field.type):
        return "list of whole numbers" if "int" in str(field.type) else "list of texts"
    for name, text in names.items():
        if name in re.findall(r"\w+", str(field.type) if hint not in names else hint):
            return text
    return "table"


def _default(field: Any) -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "**required**"
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value)}`" if isinstance(value, tuple) else f"`{value}`"


def configuration_page() -> str:
    """Return docs/reference/configuration.md."""
    lines = [CONFIGURATION_INTRO]
    section = ""
    for path, kind, default, doc in all_settings():
        table = path.rpartition(".")[0]
        if table != section:
            section = table
            title = {"assets": "[[assets]]", "signer.caps": "[[signer.caps]]", "prices.static": "[prices.static]"}.get(
                table, f"[{table}]"
            )
            lines.append(
                f"\n## `{title}`\n\n| setting | type | default | signed | meaning |\n| --- | --- | --- | --- | --- |\n"
            )
        signed = "yes" if path in MONEY_SETTINGS else ""
        lines.append(f"| `{path.rpartition('.')[2]}` | {kind} | {default} | {signed} | {_cell(doc)} |\n")
    return HEADER + "".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# Errors


def _import_everything() -> None:
    for module in pkgutil.walk_packages(outlay.__path__, "outlay."):
        if module.name != "outlay.__main__" and ".migrations" not in module.name:
            importlib.import_module(module.name)


def error_classes() -> list[type[errors.OutlayError]]:
    """Return the first class of every error code, parents before children."""
    _import_everything()
    found: dict[str, type[errors.OutlayError]] = {}
    waiting: list[type[errors.OutlayError]] = [errors.OutlayError]
    while waiting:
        kind = waiting.pop(0)
        if kind.__module__ != "outlay.client":  # a client's error carries the server's code
            found.setdefault(kind.code, kind)
        waiting.extend(sorted(kind.__subclasses__(), key=lambda each: (each.__module__, each.code, each.__name__)))
    return list(found.values())


def errors_page() -> str:
    """Return docs/reference/errors.md."""
    families: dict[type[errors.OutlayError], str] = {
        errors.Refused: "The call is wrong or not allowed. Nothing was done, and repeating it will not help.",
        errors.Unavailable: "Nothing has happened. The same call may be repeated later; `Retry-After` says when.",
        errors.OutcomeUnknown: "It may have happened. Look before you do anything.",
        errors.InvariantBroken: "Something that must always hold does not. A wallet stops, and a person must look.",
        errors.OutlayError: "A fault on our side, or a refusal by the signer, which freezes the wallet; see the log.",
    }
    lines = [ERRORS_INTRO]
    classes = error_classes()
    for family, meaning in families.items():
        mine = [kind for kind in classes if _family(kind, list(families)) is family]
        lines.append(f"\n## {_title(family)}\n\n{meaning}\n\n| code | status | meaning |\n| --- | --- | --- |\n")
        for kind in mine:
            doc = _cell(inspect.getdoc(kind) or "").replace("``", "`")
            if kind is errors.OutlayError:
                doc = "Nobody foresaw this. Nothing can be said about what you sent: look before you repeat it."
            lines.append(f"| `{kind.code}` | {kind.status} | {doc} |\n")
    return HEADER + "".join(lines)


def _family(kind: type[errors.OutlayError], families: list[type[errors.OutlayError]]) -> type[errors.OutlayError]:
    return next(family for family in families if issubclass(kind, family))


def _title(family: type[errors.OutlayError]) -> str:
    if family is errors.OutlayError:
        return "Others"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", family.__name__).capitalize()


# Events


def events_page() -> str:
    """Return docs/reference/events.md."""
    return HEADER + str(importlib.import_module("docs.event_page").page())


# Routes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RouteEntry:
    """One route, as its handler's source tells it."""

    method: str
    path: str
    summary: str
    tag: str
    operations: tuple[str, ...]  #: empty: anybody who is logged in, or nobody
    signed: bool
    bearer: str  #: what the Authorization header carries


@functools.cache
def routes() -> list[RouteEntry]:
    """Return every route of the application, in the order of the controllers."""
    nothing: Any = None
    app = create_app(nothing, nothing, nothing, nothing, nothing)
    found = []
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            summary = getattr(handler, "summary", None)
            if summary is None:
                continue  # what the framework adds by itself
            for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                found.append(_route(method, _path(route.path_format), handler, summary))
    return sorted(found, key=lambda each: (each.tag, each.path, each.method))


def _path(text: str) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", r"{\1}", text)


def _route(method: str, path: str, handler: Any, summary: str) -> RouteEntry:
    kind, operations = gate_call(handler.fn)
    name = f"{method} {path}"
    if kind is None and name not in OPEN_ROUTES:
        raise SystemExit(f"{name} neither reads nor writes through the gate: say in OPEN_ROUTES what it asks for")
    return RouteEntry(
        method=method,
        path=path,
        summary=summary,
        tag=sorted(handler.resolve_tags())[0],
        operations=operations,
        signed=kind == "write",
        bearer=OPEN_ROUTES.get(name, "token"),
    )


def gate_call(function: Callable[..., Any]) -> tuple[str | None, tuple[str, ...]]:
    """Return how a handler passes the gate (``read``, ``write`` or None) and the operations it names there.

    Raises:
        SystemExit: the operation is not written out in the call, so that it cannot be read here.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    kind: str | None = None
    operations: set[str] = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, name = node.func.value, node.func.attr
        if not (isinstance(owner, ast.Name) and owner.id == "gate" and name in ("read", "write", "check", "admit")):
            continue
        named = _literals(node.args[1], inspect.unwrap(function).__globals__)
        if named is None:
            raise SystemExit(f"{function.__qualname__}: write the operation out in gate.{name}(…)")
        operations.update(named)
        kind = "write" if name != "read" or kind == "write" else "read"
    return kind, tuple(sorted(operations))


def _literals(node: ast.expr, names: Mapping[str, Any]) -> list[str] | None:
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str)):
        return [] if node.value is None else [node.value]
    if isinstance(node, ast.Name) and names.get(node.id) == ():
        return []  # a name for: being known is enough
    if isinstance(node, ast.Tuple | ast.List):
        found = [_literals(each, names) for each in node.elts]
        return None if any(each is None for each in found) else [text for each in found for text in each or []]
    return None


def api_page() -> str:
    """Return docs/reference/api.md."""
    lines = [ROUTES_INTRO]
    tag = ""
    for each in routes():
        if each.tag != tag:
            tag = each.tag
            lines.append(f"\n## {tag}\n\n| method | path | what | token | signed | operation |\n")
            lines.append("| --- | --- | --- | --- | --- | --- |\n")
        needs = [f"`{name}`" for name in each.operations]
        also = ALSO_REQUIRED.get(f"{each.method} {each.path}")
        if also is not None:
            needs.append(f"`{also[0]}` {also[1]}")
        token = "yes" if each.bearer == "token" else each.bearer
        lines.append(
            f"| {each.method} | `{each.path}` | {_cell(each.summary)} | {token} | {'yes' if each.signed else ''} "
            f"| {', '.join(needs)} |\n"
        )
    lines.append("\n## Operations\n\nWhat a permission may list: ")
    lines.append(", ".join(f"`{name}`" for name in operation.OPERATIONS) + ".\n\n")
    lines.append("Older spellings are taken too: ")
    lines.append(", ".join(f"`{old}` for `{new}`" for old, new in operation.ALIASES.items()) + ".\n")
    return HEADER + "".join(lines)


# Compatibility


def sdk_names(root: Path = ROOT) -> dict[tuple[str, str], tuple[str, str]]:
    """Return what the installed SDKs call each operation: method and path without names -> (Python, Node) or empty."""
    python, node = _python_names(), _node_names(root / "tools/node_modules/@dfns/sdk/generated")
    return {key: (python.get(key, ""), node.get(key, "")) for key in python.keys() | node.keys()}


def _python_names() -> dict[tuple[str, str], str]:
    found = {}
    for path in Path(inspect.getfile(importlib.import_module("dfns_sdk"))).parent.glob("generated/*/client.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                said = {each.arg: each.value.value for each in call.keywords if isinstance(each.value, ast.Constant)}
                if {"method", "path"} <= said.keys():
                    key = (str(said["method"]), contract.normal(str(said["path"])))
                    found[key] = f"{path.parent.name}.{function.name}"
    return found


def _node_names(folder: Path) -> dict[tuple[str, str], str]:
    found = {}
    call = re.compile(r"buildPathAndQuery\)\('([^']+)'.*?method: '(\w+)'", re.DOTALL)
    for path in folder.glob("*/client.js"):
        for function in path.read_text().split("\n    async ")[1:]:
            said = call.search(function)
            if said is not None:  # else an old name of another one
                route = contract.normal(re.sub(r":(\w+)", r"{\1}", said[1]))
                found[said[2], route] = f"{path.parent.name}.{function.partition('(')[0]}"
    return found


def compatibility_page() -> str:
    """Return docs/reference/compatibility.md; ``tests/e2e/test_contract.py`` holds its table against the routes."""
    counts = Counter(each.verdict for each in contract.OPERATIONS)
    lines = [COMPATIBILITY_INTRO.format(all=len(contract.OPERATIONS), **{k.split()[0]: n for k, n in counts.items()})]
    names, area = sdk_names(), ""
    for each in contract.OPERATIONS:
        if each.area != area:
            area = each.area
            lines.append(f"\n## {area}\n\n| method | path | | how, or why not | Python | Node |\n")
            lines.append("| --- | --- | --- | --- | --- | --- |\n")
        known = names.get((each.method, contract.normal(each.path)), ("", ""))
        python, node = (f"`{name}`" if name else "" for name in known)
        verdict = f"**{each.verdict}**" if each.verdict == contract.NOT_OFFERED else each.verdict
        lines.append(f"| {each.method} | `{each.path}` | {verdict} | {_cell(each.note)} | {python} | {node} |\n")
    return HEADER + "".join(lines)


# The life of a transfer


def state_diagram() -> str:
    """Return the transition table as a Mermaid state diagram in a code fence."""
    lines = ["```mermaid\n", "stateDiagram-v2\n", f"    [*] --> {State.REQUESTED}\n"]
    for state, exits in TRANSITIONS.items():
        targets: dict[State, list[str]] = {}
        for what, after in exits.items():
            targets.setdefault(after, []).append(str(what).replace("_", " "))
        lines += [f"    {state} --> {after}: {', '.join(words)}\n" for after, words in targets.items()]
    lines += [f"    {state} --> [*]\n" for state in State if state in ENDS]
    return "".join([*lines, "```\n"])


def state_table() -> str:
    """Return the transition table as lines of text, one a state."""
    width = max(len(state) for state in State)
    lines = ["```\n"]
    for state, exits in TRANSITIONS.items():
        if exits:
            told = [f"{str(what).replace('_', ' ')} → {after}" for what, after in exits.items()]
            rows = [" · ".join(told[start : start + 4]) for start in range(0, len(told), 4)]
            lines.append(f"{state:<{width}}  {rows[0]}\n")
            lines += [f"{'':<{width}}  {row}\n" for row in rows[1:]]
    ends = ", ".join(state for state in State if state in ENDS)
    return "".join([*lines, f"{'ends':<{width}}  {ends}\n", "```\n"])


# Writing


def command_page() -> str:
    """Return docs/reference/cli.md."""
    return HEADER + str(importlib.import_module("docs.command_page").command_page())


PAGES: Mapping[str, Callable[[], str]] = {
    "docs/reference/cli.md": command_page,
    "docs/reference/configuration.md": configuration_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/events.md": events_page,
    "docs/reference/api.md": api_page,
    "docs/reference/compatibility.md": compatibility_page,
}
BLOCKS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "ARCHITECTURE.md": {"states": state_table},
    "docs/concepts.md": {"diagram": state_diagram},
    "docs/operate/metrics.md": {"metrics": catalog.table},
}
"""Page -> name of a block between ``<!-- begin NAME … -->`` and ``<!-- end NAME -->`` -> what writes it."""


def with_blocks(text: str, blocks: Mapping[str, Callable[[], str]]) -> str:
    """Return ``text`` with every named block written anew.

    Raises:
        SystemExit: a block's markers are missing.
    """
    for name, write in blocks.items():
        begin = f"<!-- begin {name}: written by docs/generate.py, run `make docs` -->\n"
        end = f"<!-- end {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"the page needs these markers, once each: {begin.strip()} and {end}")
        before, rest = text.split(begin)
        text = before + begin + write() + end + rest.split(end)[1]
    return text


@functools.cache
def generated() -> dict[str, str]:
    """Return every file this program writes, whole: path from the repository's root -> text."""
    files = {path: write() for path, write in PAGES.items()}
    for path, blocks in BLOCKS.items():
        files[path] = with_blocks((ROOT / path).read_text(), blocks)
    return files


def main() -> None:
    """Write what has changed and name it."""
    sys.path.insert(0, str(ROOT))
    for path, text in generated().items():
        target = ROOT / path
        if not target.is_file() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
