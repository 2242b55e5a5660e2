"""The signer as a program: what it may load, how it is hardened, what opens its keys, what a new deployment gets."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from outlay import signing
from outlay.app import initialize
from outlay.child import SignerChild
from outlay.config import Config, parse
from outlay.core.errors import InvalidInput, SignerUnavailable
from outlay.layout import Layout
from outlay.signer.journal import Journal
from outlay.system import SystemClock
from tests.door import CONFIGURATION
from tests.signer_process.backends import ON_TOKEN, PIN, REGION, TOKEN, kms
from tests.world import until

FOREIGN = (
    "sqlalchemy",
    "litestar",
    "aiohttp",
    "msgspec",
    "uvicorn",
    "structlog",
    "rich",
    "cyclopts",
    "boto3",
    "pkcs11",
)
"""What the server or another back-end needs, and the signer does not."""


def run_python(program: str) -> str:
    """Run a program in an interpreter of its own and return what it printed."""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("module", ["outlay.signer.process", "outlay.signing"])
def test_the_signer_loads_nothing_of_the_server(module: str) -> None:
    loaded = json.loads(run_python(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"))

    assert module in loaded
    assert {name.split(".")[0] for name in loaded} & set(FOREIGN) == set()
    assert [name for name in loaded if name.startswith(("outlay.store", "outlay.web", "outlay.engine"))] == []


def test_a_hardened_process_leaves_nothing_behind() -> None:
    told = run_python(
        """
import ctypes, os, resource
from outlay.signer.hardening import harden, lock_memory
harden()
lock_memory()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))
"""
    )

    assert told.split("\n")[0] == "0 (0, 0) 0o77"


def test_a_child_whose_parent_is_gone_does_not_start() -> None:
    program = (
        "from outlay.signer.hardening import die_with\ntry:\n die_with(1)\nexcept Exception as e: print(e.message)"
    )

    assert "has ended" in run_python(program)


# What opens the keys


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Return an empty directory with a passphrase."""
    made = Layout(tmp_path / "outlay")
    made.secrets.mkdir(parents=True)
    made.passphrase.write_bytes(b"from the file\n")
    made.passphrase.chmod(0o600)
    return made


def test_a_systemd_credential_goes_before_the_file_of_init(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert layout.unlocking(Config()) == b"from the file"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert layout.unlocking(Config()) == b"from the file"
    (tmp_path / "signer-passphrase").write_bytes(b"from systemd\n")
    (tmp_path / "signer-passphrase").chmod(0o440)

    assert layout.unlocking(Config()) == b"from systemd"
    named = parse('[signer]\npassphrase_file = "secrets/signer-passphrase"\n')
    assert layout.unlocking(named) == b"from the file", "what the configuration names goes first"


def test_a_passphrase_is_not_read_from_the_environment(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.passphrase.unlink()
    for name in ("OUTLAY_SIGNER_PASSPHRASE", "SIGNER_PASSPHRASE", "PASSPHRASE"):
        monkeypatch.setenv(name, "from the environment")

    with pytest.raises(SignerUnavailable, match="passphrase"):
        layout.unlocking(Config())


def test_a_passphrase_that_others_can_read_opens_nothing(layout: Layout) -> None:
    layout.passphrase.chmod(0o640)

    with pytest.raises(SignerUnavailable, match="chmod 600"):
        layout.unlocking(Config())


# New deployments on other back-ends


def on_token(module: str) -> str:
    """Return a configuration with keys in the run's token."""
    keys = f'backend = "pkcs11"\npkcs11_module = "{module}"\npkcs11_token = "{TOKEN}"\n'
    return f"{CONFIGURATION}\n[signer]\n{keys}"


@pytest.fixture(params=[ON_TOKEN, "aws-kms"])
def settings(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a configuration of each back-end in turn."""
    with ExitStack() as closing:
        if request.param == "pkcs11":
            module = request.getfixturevalue("pkcs11_module")
            yield on_token(module)
        else:
            closing.enter_context(kms())
            yield f'{CONFIGURATION}\n[signer]\nbackend = "aws-kms"\nkms_region = "{REGION}"\n'


async def test_a_deployment_is_made_on_any_back_end(layout: Layout, settings: str) -> None:
    layout.passphrase.write_bytes(PIN)
    config = parse(settings)

    made = initialize(layout, settings, config, preset="none", admin="admin", admin_public_key=None)
    assert not layout.keystore.exists()
    signer = signing.open_signer(layout, config, SystemClock())
    status = await signer.status()
    key = await signer.create_key("wa-of-" + config.signer.backend)

    assert (status.root, status.record_seq, status.seeded) == (made.founded.root, 0, True)
    assert await signer.create_key("wa-of-" + config.signer.backend) == key


@pytest.mark.ci
def test_a_deployment_on_a_token_asks_for_the_pin_first(layout: Layout, pkcs11_module: str) -> None:
    layout.passphrase.unlink()
    text = (
        f'{CONFIGURATION}\n[signer]\nbackend = "pkcs11"\npkcs11_module = "{pkcs11_module}"\npkcs11_token = "{TOKEN}"\n'
    )

    with pytest.raises(InvalidInput, match="PIN"):
        initialize(layout, text, parse(text), preset="none", admin="admin", admin_public_key=None)
    assert not layout.database.exists()


@pytest.mark.parametrize("backend", ["pkcs11", "kms"])
def test_a_missing_extra_says_what_to_install(backend: str) -> None:
    program = f"""
import sys
sys.modules["pkcs11"] = sys.modules["boto3"] = None
from outlay.signer.kms import KmsKeys
from outlay.signer.pkcs11 import Pkcs11Keys
try:
    {"KmsKeys('eu-central-1')" if backend == "kms" else "Pkcs11Keys('/lib.so', 'token', b'1234')"}
except Exception as error:
    print(error.message)
"""
    assert f'pip install "outlay[{backend}]"' in run_python(program)


# The journal


def test_one_process_at_a_time_has_the_journal(layout: Layout) -> None:
    layout.data.mkdir()
    first = signing.take_journal(layout)
    with pytest.raises(SignerUnavailable, match="another signer is running"):
        signing.take_journal(layout)
    os.close(first)

    os.close(signing.take_journal(layout))


def test_a_new_journal_is_unseeded_and_never_replaces_one(layout: Layout, settings: str) -> None:
    layout.passphrase.write_bytes(PIN)
    layout.data.mkdir()
    layout.config.write_text(settings)
    keys = signing.open_keys(layout, parse(settings))

    said = signing.renew_journal(layout.root, "ab" * 32)
    journal = Journal.open(layout.journal, keystore_id=keys.id)
    assert journal.journal_id in said
    assert journal.root == "ab" * 32
    with journal.reading() as rows:
        assert not rows.was_made_seeded()
    journal.close()
    with pytest.raises(InvalidInput, match="exists"):
        signing.renew_journal(layout.root, "ab" * 32)
    for root in (None, "", "AB" * 32, "ab" * 31):
        with pytest.raises(InvalidInput, match="root"):
            signing.renew_journal(layout.root, root)


# The child


async def test_a_signer_that_cannot_start_is_tried_again_and_not_waited_for(layout: Layout) -> None:
    child = SignerChild(layout.root)  # no configuration there
    with structlog.testing.capture_logs() as said:
        began = asyncio.get_running_loop().time()
        await child.start()
        assert asyncio.get_running_loop().time() - began < 10
        while len([line for line in said if line["event"] == "signer_ended"]) < 2:
            await asyncio.sleep(0.01)
        await child.stop()

    assert {line["code"] for line in said if line["event"] == "signer_ended"} == {1}
    assert child.pid is None


async def test_a_stopped_child_has_ended(layout: Layout) -> None:
    child = SignerChild(layout.root)
    starting = asyncio.create_task(child.start())
    while child.pid is None:
        await asyncio.sleep(0)
    pid = child.pid
    await child.stop()
    starting.cancel()

    until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
