"""Help, version and wrong usage come at once: nothing of the server, the network or cryptography is loaded for them."""

import json
import subprocess
import sys
from typing import Literal

import pytest

from outlay.cli.commands import DEPLOYMENT, GROUPS, SERVER, app

HEAVY = frozenset(
    {"sqlalchemy", "alembic", "litestar", "uvicorn", "msgspec", "aiohttp", "cryptography", "coincurve", "argon2"}
    | {"structlog", "psycopg", "webauthn", "jinja2", "asyncio", "urllib.request", "markdown_it", "multiprocessing"}
    | {
        "outlay.client",
        "outlay.config",
        "outlay.app",
        "outlay.evidence.keys",
        "outlay.store",
        "outlay.web",
        "outlay.engine",
    }
)
_PROGRAM = """
import json, sys, time
sys.argv = ["outlay", *sys.argv[1:]]
from outlay.cli import main
try:
    main()
except SystemExit:
    pass
sys.stderr.write("\\n" + json.dumps([sorted(sys.modules), time.process_time()]))
"""


def loaded(*words: str) -> set[str]:
    """Return what a command has loaded; print how long it took."""
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words], capture_output=True, text=True, check=True, timeout=60
    )
    modules, seconds = json.loads(ran.stderr.splitlines()[-1])
    print(f"outlay {' '.join(words)}: {1000 * seconds:.0f} ms of processor, {len(modules)} modules")
    return set(modules)


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("payouts", "--help"),
        ("payouts", "create", "--help"),
        ("approvals", "show"),
        ("approvals", "--help"),
        ("nonsense",),
        ("doctor", "--help"),
        ("serve",),
        ("wallets", "list"),
    ],
)
def test_nothing_heavy_is_loaded(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAY_PROFILE", "/nonexistent/profile.toml")
    assert loaded(*words) & HEAVY == set()


@pytest.mark.ci  # every command there is, a few seconds a shell
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_group_and_its_commands(shell: Literal["bash", "zsh", "fish"]) -> None:
    script = app.generate_completion(shell=shell)
    for name in (*DEPLOYMENT, *SERVER, *GROUPS):
        assert name in script
    assert "speed-up" in script and "--external-id" in script


def test_every_group_is_where_the_list_says_and_has_verbs() -> None:
    for name in GROUPS:
        verbs = [each for each in app[name] if not each.startswith("-")]
        assert verbs and all(app[name][verb].help for verb in verbs), name


def test_only_the_group_that_is_called_is_loaded() -> None:
    ours = {name for name in loaded("payouts", "--help") if name.startswith("outlay.cli.")}
    assert ours == {f"outlay.cli.{name}" for name in ("commands", "output", "payouts", "profile", "run")}
    assert not {name for name in loaded("--version") if name in ("cyclopts", "rich", "outlay.cli.commands")}
