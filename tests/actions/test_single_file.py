"""The offline verifier as one file: it runs with nothing but ``cryptography``, and says what the command says."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from outlay.cli.single_file import build_verifier, needed_modules
from outlay.evidence import audit
from tests.actions.documents import ALWAYS, ask, group
from tests.actions.proof import Stage

NEEDED = ("cryptography", "cffi", "_cffi_backend", "pycparser", "typing_extensions")
"""What a plain ``pip install cryptography`` brings."""

RUN = """
import importlib.util, runpy, sys
sys.path.append(sys.argv.pop(1))
del sys.argv[0]
for name in ("msgspec", "tiny_keccak", "outlay"):
    assert importlib.util.find_spec(name) is None
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the packages that the verifier may use, and no others."""
    folder = tmp_path_factory.mktemp("packages")
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found = Path(spec.origin)
            found = found.parent if found.name == "__init__.py" else found
            (folder / found.name).symlink_to(found)
    assert (folder / "cryptography").is_dir()
    return folder


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a file that proves an approved payout, and its root."""
    folder = tmp_path_factory.mktemp("proof")
    stage = Stage(folder)
    stage.world.policy(ALWAYS, ask(group(stage.one)), tags=("payouts",))
    (folder / "proof.json").write_bytes(stage.export(stage.pay(5, stage.one)))
    stage.world.close()
    return folder / "proof.json", stage.world.root


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file."""
    path = tmp_path_factory.mktemp("verifier") / "outlay_verify.py"
    path.write_text(build_verifier())
    return path


def run(verifier: Path, bare: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the file with Python's own library and the packages in ``bare``, and nothing else."""
    command = [sys.executable, "-I", "-S", "-c", RUN, str(bare), str(verifier), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_it_says_what_the_command_says(
    verifier: Path, bare: Path, proof: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, root = proof
    ran = run(verifier, bare, "--root", root, str(file))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert audit.check(file, root) == audit.PROVED
    assert capsys.readouterr().out == ran.stdout
    assert "THE PAYOUT IS PROVED" in ran.stdout


def test_it_refuses_and_names_the_step(verifier: Path, bare: Path, proof: tuple[Path, str], tmp_path: Path) -> None:
    file, root = proof
    ran = run(verifier, bare, "--root", "ab" * 32, str(file))
    assert ran.returncode == 1
    assert "FAIL root" in ran.stdout and "NOT PROVED" in ran.stdout
    broken = tmp_path / "broken.json"
    broken.write_bytes(file.read_bytes().replace(b'"amount":"5000000"', b'"amount":"5000001"'))
    ran = run(verifier, bare, "--root", root, str(broken))
    assert ran.returncode == 1
    assert "FAIL requester" in ran.stdout and "the payload is not the one signed" in ran.stdout
    assert run(verifier, bare, "--root", root, str(tmp_path / "none")).returncode == 2
    assert run(verifier, bare, str(file)).returncode == 2


def test_a_root_may_be_pasted_with_spaces_or_in_capitals(proof: tuple[Path, str]) -> None:
    file, root = proof
    assert audit.main(["--root", f" {root.upper()}\n", str(file)]) == audit.PROVED


def test_it_holds_the_sources_as_they_are_and_no_module_too_many(verifier: Path) -> None:
    modules, text = needed_modules(), verifier.read_text()
    assert {"outlay.evidence.audit", "outlay.evidence.payout", "outlay.core", "outlay"} <= modules.keys()
    parts = {name.split(".")[1] for name in modules if "." in name}
    assert parts == {"codec", "core", "evidence"}
    for name, source in modules.items():
        assert f"SOURCES[\"{name}\"] = r'''{source}'''" in text


def test_it_takes_nothing_from_an_installed_outlay(verifier: Path, proof: tuple[Path, str]) -> None:
    """Where Outlay is installed as well, the file still brings its own modules."""
    file, root = proof
    program = (
        f"import runpy, sys; sys.argv = ['x', '--root', '{root}', '{file}']\n"
        f"try:\n    runpy.run_path('{verifier}', run_name='__main__')\n"
        "finally:\n    print(sys.modules['outlay.evidence.payout'].__spec__.loader.__class__.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ran.stdout.endswith("Embedded\n"), ran.stderr
