"""The documents say what is so: generated pages are current, links lead somewhere, snippets run."""

import ast
import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from docs import generate
from outlay import config, settings
from outlay.cli.commands import GROUPS, app
from outlay.cli.logs import set_up_logs
from outlay.cli.playground import free_port
from outlay.core.event import EVENT_KINDS
from outlay.core.transfer import TRANSITIONS
from outlay.engine.webhook_signature import dfns_signature
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.seal import SealingKeys
from outlay.system import SystemEntropy
from tests import tools
from tests.world import until

ROOT = tools.ROOT
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.md"), *ROOT.glob("examples/*.md")]
    if path.name != "LICENSE"
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(?P<info>[^\n`]*)\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
START_TIMEOUT_S = 60.0


def named(path: Path) -> str:
    """Return a page's path from the root, to name tests with."""
    return str(path.relative_to(ROOT))


def blocks(path: Path, marked: str) -> Iterator[tuple[str, str]]:
    """Yield (info, code) of each fenced block of a page whose info holds the word or prefix ``marked``."""
    for found in FENCE.finditer(path.read_text()):
        info = found.group("info").strip()
        if any(word == marked or word.startswith(marked + "=") for word in info.split()[1:]):
            yield info, found.group("code")


def anchor(heading: str) -> str:
    """Return the fragment that forges give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


# What is generated


@pytest.mark.parametrize("name", sorted([*generate.PAGES, *generate.BLOCKS]))
def test_generated_pages_are_current(name: str) -> None:
    assert (ROOT / name).read_text() == generate.generated()[name], f"{name} is not current: run make docs"


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text()
    missing = [path for path, *_ in generate.all_settings() if f"| `{path.rpartition('.')[2]}` |" not in page]
    assert missing == []

    known = {path.rpartition(".")[2] for path, *_ in generate.all_settings()}
    kinds = [kind for kind in vars(settings).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    fields = {each.name for kind in kinds if kind is not settings.Network for each in _fields(kind)}
    assert fields <= known, "a setting without a description"
    assert {each.name for each in _fields(settings.Network)} - {"name"} <= known
    tables = {path.split(".")[0] for path, *_ in generate.all_settings()}
    assert {each.name for each in _fields(config.Config) if each.init} - {"live_prices"} <= tables  # in [prices]


def _fields(kind: Any) -> tuple[Any, ...]:
    return tuple(each for each in dataclasses.fields(kind))


SAMPLE = """
[policies]
default = "allow"
[networks.N]
chain_id = 1
trust = "single"
rpc_urls = ["http://127.0.0.1:1"]
finality = { blocks = 2 }
native = { symbol = "ETH", decimals = 18 }
fee_cap = "7"
[networks.M]
chain_id = 2
trust = "single"
rpc_urls = ["http://127.0.0.1:1"]
finality = { tag = "safe" }
native = { symbol = "ETH", decimals = 18 }
fee_cap = "7"
[[assets]]
network = "N"
contract = "0x1111111111111111111111111111111111111111"
symbol = "USD"
decimals = 6
fee_cap = "5"
[prices.static]
ETH = "3000"
"""
CHANGES: Mapping[str, tuple[str, str]] = {
    "policies.default": ('"allow"', '"block"'),
    "governance.loosening_delay_s": ("[policies]", "[governance]\nloosening_delay_s = 0\n[policies]"),
    "prices.static.SYMBOL": ('"3000"', '"3001"'),
    "networks.NAME.chain_id": ("chain_id = 1\n", "chain_id = 3\n"),
    "networks.NAME.finality": ("{ blocks = 2 }", '{ tag = "finalized" }'),
    "networks.NAME.finality.blocks": ("blocks = 2", "blocks = 3"),
    "networks.NAME.finality.tag": ('"safe"', '"finalized"'),
    "networks.NAME.native": ('symbol = "ETH", decimals = 18', 'symbol = "XYZ", decimals = 17'),
    "networks.NAME.native.symbol": ('symbol = "ETH"', 'symbol = "XYZ"'),
    "networks.NAME.native.decimals": ("decimals = 18", "decimals = 17"),
    "networks.NAME.fee_cap": ('"7"', '"8"'),
    "assets.network": ('network = "N"', 'network = "M"'),
    "assets.contract": ("0x1111", "0x2222"),
    "assets.symbol": ('"USD"', '"EUR"'),
    "assets.decimals": ("decimals = 6", "decimals = 7"),
    "assets.fee_cap": ('"5"', '"6"'),
    "networks.NAME.rpc_urls": ("127.0.0.1:1", "127.0.0.1:2"),
    "server.port": ("[policies]", "[server]\nport = 9\n[policies]"),
    "sending.in_flight_max": ("[policies]", "[sending]\nin_flight_max = 2\n[policies]"),
    "api.require_external_id": ("[policies]", "[api]\nrequire_external_id = false\n[policies]"),
}


@pytest.mark.parametrize("setting", sorted(CHANGES))
def test_the_settings_called_signed_are_those_an_admin_signs(setting: str) -> None:
    before, after = CHANGES[setting]
    assert before in SAMPLE
    unchanged = config.parse(SAMPLE).money_settings()
    changed = config.parse(SAMPLE.replace(before, after, 1)).money_settings()
    assert (changed != unchanged) == (setting in generate.MONEY_SETTINGS)


def test_every_signed_setting_is_tried() -> None:
    assert generate.MONEY_SETTINGS - set(CHANGES) == {"assets.kind"}  # only one kind is offered


def test_every_error_code_is_documented() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text()
    codes: set[str] = set()
    for path in (ROOT / "src/outlay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                codes |= {
                    str(each.value.value)
                    for each in node.body
                    if isinstance(each, ast.Assign)
                    and isinstance(each.targets[0], ast.Name)
                    and each.targets[0].id == "code"
                    and isinstance(each.value, ast.Constant)
                }
    assert len(codes) > 20
    assert [code for code in sorted(codes) if f"| `{code}` |" not in page] == []


def test_every_event_is_documented() -> None:
    page = (ROOT / "docs/reference/events.md").read_text()
    assert [kind for kind in EVENT_KINDS if f"\n### {kind}\n" not in page] == []


def test_every_state_is_in_both_pictures() -> None:
    for name in ("ARCHITECTURE.md", "docs/concepts.md"):
        text = (ROOT / name).read_text()
        assert [state for state in TRANSITIONS if not re.search(rf"\b{state}\b", text)] == []


def test_every_log_line_is_explained() -> None:
    page = (ROOT / "docs/operate.md").read_text()
    said = set()
    for path in (ROOT / "src/outlay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("debug", "info", "warning", "error", "exception", "critical")
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("log", "_log", "logger")
            ):
                assert isinstance(node.args[0], ast.Constant), f"{path}: a log event is a fixed name"
                said.add(str(node.args[0].value))
    assert len(said) > 5
    assert [event for event in sorted(said) if f"| `{event}` |" not in page] == []


def test_the_log_holds_no_values_of_variables(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "xyzzy-plugh"
    before = structlog.get_config()
    try:
        set_up_logs()
        try:
            raise ValueError(len(secret))
        except ValueError as error:
            structlog.get_logger().error("step_failed", step="test", exc_info=error)
    finally:
        structlog.configure(**before)

    said = json.loads(capsys.readouterr().err)
    assert said["exception"][0]["exc_type"] == "ValueError"
    assert secret not in json.dumps(said)


def test_the_route_table_reads_operations_from_the_handlers() -> None:
    found = {f"{each.method} {each.path}": each for each in generate.routes()}

    assert found["POST /wallets/{wallet_id}/transfers"].operations == ("Wallets:Transfers:Create",)
    assert found["POST /wallets/{wallet_id}/transfers"].signed
    assert found["GET /wallets"].operations == ("Wallets:Read",)
    assert not found["GET /wallets"].signed
    assert found["GET /auth/credentials"].operations == ()
    assert found["GET /auth/credentials"].bearer == "token"
    assert set(generate.OPEN_ROUTES) <= set(found)


def test_every_write_is_signed_but_for_those_that_come_before_a_signature() -> None:
    unsigned = {f"{each.method} {each.path}" for each in generate.routes() if each.method != "GET" and not each.signed}
    assert unsigned == {name for name in generate.OPEN_ROUTES if name.startswith("POST")} | {
        "POST /auth/action",
        "POST /auth/action/init",
        "POST /auth/credentials/init",
        "PUT /auth/logout",
        "POST /v1/batches/check",
        "PUT /v1/batches/{batch_id}/rows",
    }


def test_operations_that_actions_ask_for_are_in_the_route_table() -> None:
    asked = set()
    for path in (ROOT / "src/outlay/actions").glob("*.py"):
        asked |= set(re.findall(r'\.require\("([^"]+)"', path.read_text()))
    assert asked == {name for name, _ in generate.ALSO_REQUIRED.values()}


# Links and commands


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    broken = []
    for link in LINK.findall(text):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        anchors = {anchor(each) for each in HEADING.findall(target.read_text())} if fragment else {""}
        if not target.exists() or fragment not in anchors:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_targets_of_make_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    wanted = {
        word
        for line in re.findall(r"`make ([a-z -]+)`|^make ([a-z -]+)$", page.read_text(), re.MULTILINE)
        for word in " ".join(line).split()
    }
    assert [word for word in sorted(wanted) if f"\n{word}:" not in makefile] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_of_the_documents_exist(page: Path) -> None:
    called = re.findall(
        r"(?:`|^|\$ |/bin/|\(|&& )outlay ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", page.read_text(), re.MULTILINE
    )
    unknown = [words for words in called if not is_command(words.split())]
    assert unknown == []


def is_command(words: list[str]) -> bool:
    """Tell whether a command is named; what follows a command's name is its arguments."""
    if not words or words[0] not in app or words[0].startswith("-"):
        return False
    group = app[words[0]]
    return words[0] not in GROUPS or len(words) == 1 or words[1] in group


def test_tests_named_as_proof_exist() -> None:
    text = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    named_tests = re.findall(r"`(?:tests/)?((?:[\w]+/)*test_\w+\.py)(?:::(\w+))?`", text)
    assert len(named_tests) > 30
    missing = [
        f"{file}::{name}"
        for file, name in named_tests
        if not (ROOT / "tests" / file).is_file() or (name and f"def {name}(" not in (ROOT / "tests" / file).read_text())
    ]
    assert missing == []


def test_every_attack_is_on_its_page() -> None:
    page = (ROOT / "docs/reference/attacks.md").read_text()
    tried = [
        f"attacks/{path.name}::{name}"
        for path in sorted((ROOT / "tests/attacks").glob("test_*.py"))
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
    ]
    assert len(tried) > 100
    assert [name for name in tried if f"`{name}`" not in page] == []


def test_a_decision_names_its_check() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("0*.md"))
    assert 1 <= len(decisions) <= 12
    for path in decisions:
        for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**Check.** `tests/"):
            assert part in path.read_text(), f"{path.name} lacks {part}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_quoted_code_is_the_code(page: Path) -> None:
    for info, code in blocks(page, "from"):
        source = info.split("from=")[1]
        assert code in (ROOT / source).read_text(), f"{page.name} quotes {source} as it was once"


def test_the_picture_of_the_demo_is_there_and_fetches_nothing() -> None:
    picture = (ROOT / "docs/demo.svg").read_text()
    assert "events" in picture
    assert re.findall(r"url\([\"']?https?:", picture) == []


# Snippets


def _snippet(info: str) -> str:
    page = ROOT / "docs/how-to/verify-webhooks.md"
    return next(code for found, code in blocks(page, "runnable") if found.split()[0] == info)


BODY = b'{"id":"whe-1","kind":"wallet.transfer.confirmed"}'
SECRET = "whsec_c2VjcmV0"


def test_the_python_receiver_takes_what_is_genuine_and_nothing_else() -> None:
    names: dict[str, Any] = {}
    exec(_snippet("python"), names)
    is_genuine = names["is_genuine"]

    assert is_genuine(SECRET, BODY, dfns_signature(SECRET, BODY))
    assert not is_genuine(SECRET, BODY + b" ", dfns_signature(SECRET, BODY))
    assert not is_genuine("whsec_b3RoZXI=", BODY, dfns_signature(SECRET, BODY))


def test_the_node_receiver_takes_what_is_genuine_and_nothing_else(tmp_path: Path) -> None:
    program = tmp_path / "check.mjs"
    calls = [
        [SECRET, BODY.decode(), dfns_signature(SECRET, BODY)],
        [SECRET, BODY.decode() + " ", dfns_signature(SECRET, BODY)],
        [SECRET, BODY.decode(), "sha256=00"],
    ]
    program.write_text(
        _snippet("js")
        + f"\nconst calls = {json.dumps(calls)};\n"
        + "console.log(JSON.stringify(calls.map(([s, b, g]) => isGenuine(s, Buffer.from(b), g))));\n"
    )
    ran = subprocess.run(["node", str(program)], capture_output=True, text=True, check=False, timeout=20)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [True, False, False]


def _environment() -> dict[str, str]:
    """Return the environment of somebody who has activated the virtual environment."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_sealing_keys_rotate_as_written(tmp_path: Path) -> None:
    path = tmp_path / "var/outlay/secrets/sealing-keys.json"
    path.parent.mkdir(parents=True)
    keys = SealingKeys.create(path, SystemEntropy())
    sealed = keys.seal("test", {"a": 1})
    before = json.loads(path.read_text())["current"]

    [(_, script)] = blocks(ROOT / "docs/how-to/rotate-keys.md", "runnable")
    ran = subprocess.run(
        ["bash", "-e"], input=script, cwd=tmp_path, env=_environment(), capture_output=True, text=True, timeout=30
    )

    assert ran.returncode == 0, ran.stderr
    after = json.loads(path.read_text())
    assert (after["previous"], after["current"]) == (before, ran.stdout.strip())
    assert keys.open("test", sealed) == {"a": 1}


WAIT_FOR_PORT = "until (exec 3<>/dev/tcp/127.0.0.1/PORT) 2>/dev/null; do sleep 0.1; done\n"


@pytest.mark.ci
def test_the_start_page_leads_to_a_payout(tmp_path: Path) -> None:
    """Run every block of docs/start.md in one shell, in an empty directory that looks like the clone."""
    for name in ("examples", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    chain_port, port = free_port(), free_port()
    script = "set -euo pipefail\n"
    for _, code in blocks(ROOT / "docs/start.md", "runnable"):
        waits = [number for word, number in (("anvil", "8545"), ("outlay serve", "8000")) if word in code]
        script += code + "".join(WAIT_FOR_PORT.replace("PORT", number) for number in waits)
    script += (
        "outlay users list | grep -q treasury@example.com\n"
        'SEEN=$(python -c \'import json; print(json.load(open("var/registered.json"))["fingerprint"])\')\n'
        'outlay users activate "$APPROVER" --fingerprint $SEEN --json | grep -q \'"mayVote": true\'\n'
        'WALLET=$(python -c \'import json; print(json.load(open("var/profile.json"))["walletId"])\')\n'
        '(outlay wallets unfreeze "$WALLET" --reason looked 2>&1 || true) | grep -q "not frozen"\n'
        "(outlay assets unfreeze --network EthereumSepolia --asset 0x00 --reason looked 2>&1 || true)"
        ' | grep -q "not frozen"\n'
    )
    script = script.replace("8545", str(chain_port)).replace("8000", str(port))
    shell = subprocess.Popen(
        ["bash"],
        stdin=subprocess.PIPE,
        stdout=(tmp_path / "out").open("wb"),
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
        env=_environment(),
        start_new_session=True,
    )
    try:
        assert shell.stdin is not None
        shell.stdin.write(script.encode())
        shell.stdin.close()
        code_of_shell = shell.wait(180)
        told = (tmp_path / "out").read_text(errors="replace")
        assert code_of_shell == 0, told[-5000:]
        assert "not paid yet" in told
        assert ": Approved" in told
        recipient = json.loads((tmp_path / "var/profile.json").read_text())["recipient"]
        until(lambda: _balance(chain_port, recipient) == 10_000 * 10**18 + 10**15, f"the payout; {told[-2000:]}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)


def _balance(port: int, address: str) -> int:
    return int(tools.rpc(f"http://127.0.0.1:{port}", "eth_getBalance", [address, "latest"]), 16)


def test_identifiers_that_begin_with_a_hyphen_are_taken_as_they_come(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(new_key_pair()[0])
    who = ["--key-file", str(tmp_path / "key.pem"), "--url", f"http://127.0.0.1:{free_port()}"]
    for command in (
        ["login", "--username", "a@b.example", "--credential", "-abc"],
        ["users", "register", "--email", "a@b.example", "--code", "--x"],
    ):
        ran = subprocess.run(
            [sys.executable, "-m", "outlay", *command, *who],
            env=os.environ | {"OUTLAY_PROFILE": str(tmp_path / "profile.toml")},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert "no usable answer" in ran.stderr, ran.stdout + ran.stderr


def test_the_first_payout_of_the_readme(tmp_path: Path) -> None:
    """Run what make run runs, then what README says to run in another terminal."""
    profile = tmp_path / "build/run.json"
    told = tmp_path / "out"
    running = subprocess.Popen(
        [sys.executable, "-m", "outlay", "demo", "--keep", "--profile", str(profile)],
        stdout=told.open("wb"),
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        until(
            lambda: running.poll() is not None or "Serving at" in told.read_text(errors="replace"),
            "make run",
            timeout_s=START_TIMEOUT_S,
        )
        assert running.poll() is None, told.read_text(errors="replace")
        known = json.loads(profile.read_text())
        assert profile.stat().st_mode & 0o077 == 0
        command = re.search(r"\.venv/bin/python (examples/first_payout\.py) (\S+)", told.read_text(errors="replace"))
        assert command is not None
        ran = subprocess.run(
            [sys.executable, str(ROOT / "examples/first_payout.py"), str(profile)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ": Confirmed 0x" in ran.stdout
        assert known["url"].startswith("http://127.0.0.1:")
    finally:
        running.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)


def test_make_run_writes_the_profile_the_example_reads() -> None:
    assert "demo --keep --profile build/run.json" in (ROOT / "Makefile").read_text()
    assert '"build/run.json"' in (ROOT / "examples/first_payout.py").read_text()
