"""Going to production: the example files fit each other, the page and the program, and backups come back."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from outlay.config import load
from outlay.layout import CREDENTIALS
from outlay.store.database import Database
from outlay.store.migrate import require_fitting
from outlay.store.schema import metadata
from outlay.web.body import BATCH_BODY_MAX
from tests import postgres, tools
from tests.actions.world import World

DEPLOY, OPERATE = tools.ROOT / "deploy", tools.ROOT / "docs/operate"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PAGE = (OPERATE / "production.md").read_text()
PROXY = (DEPLOY / "nginx.conf").read_text()

STRICT = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
    "Restart": "always",
}


def service_of(path: Path) -> dict[str, str]:
    """Return the settings of a unit's service; of one that is given twice the last."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return dict(parser["Service"])


def unit(name: str) -> dict[str, str]:
    return service_of(DEPLOY / "systemd" / name)


def test_every_unit_takes_away_what_is_not_needed() -> None:
    assert [path.name for path in UNITS] == ["outlay-api@.service", "outlay-signer.service", "outlay-worker@.service"]
    for path in UNITS:
        settings = service_of(path)
        assert {name: settings.get(name) for name in STRICT} == STRICT, path.name
        user = settings["User"]
        assert settings["StateDirectory"] == user
        assert settings["StateDirectoryMode"] == "0700"
        assert f"--dir /var/lib/{user}" in settings["ExecStart"]
        assert re.search(rf"^useradd .*\b{user}$", PAGE, re.MULTILINE)


def test_the_signer_has_a_user_of_its_own_and_no_network() -> None:
    signer, api, worker = unit("outlay-signer.service"), unit("outlay-api@.service"), unit("outlay-worker@.service")
    assert signer["User"] != api["User"] == worker["User"]
    assert (signer["PrivateNetwork"], signer["RestrictAddressFamilies"]) == ("yes", "AF_UNIX")
    name, path = signer["LoadCredential"].split(":")
    assert name == "signer-passphrase"
    assert path in PAGE
    assert CREDENTIALS == "CREDENTIALS_DIRECTORY"


def test_systemd_reads_the_units(tmp_path: Path) -> None:
    """Where systemd is installed it judges them; what they start is not installed here."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return  # the tests above have read them
    for path in UNITS:
        copy = tmp_path / path.name.replace("@", "@1")
        copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", path.read_text(), flags=re.M))
        ran = subprocess.run(
            [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (ran.returncode, copy.name in ran.stderr) == (0, False), ran.stderr


def test_the_files_name_the_same_ports_and_places() -> None:
    server, signer = load(DEPLOY / "outlay.toml"), load(DEPLOY / "signer.toml")
    runtime = unit("outlay-signer.service")["RuntimeDirectory"]
    assert server.signer.socket == signer.signer.socket == f"/run/{runtime}/signer.sock"
    uid = re.search(r"^useradd .*--uid (\d+) .*\boutlay$", PAGE, re.MULTILINE)
    assert uid is not None
    assert signer.signer.allow_uids == (int(uid[1]),)
    port = re.search(r"--port (\S+)", unit("outlay-api@.service")["ExecStart"])
    assert port is not None
    started = re.findall(r"outlay-api@(\d)\b", PAGE)
    assert set(re.findall(r"server 127\.0\.0\.1:(\d+);", PROXY)) == {port[1].replace("%i", each) for each in started}
    pooler = configparser.ConfigParser(interpolation=None)
    pooler.read(DEPLOY / "pgbouncer.ini")
    assert pooler["pgbouncer"]["pool_mode"] == "transaction"
    behind = dict(each.split("=") for each in pooler["databases"]["outlay"].split())
    url, listening = urlsplit(server.database.url), urlsplit(server.database.listen_url)
    assert (url.port, url.path) == (int(pooler["pgbouncer"]["listen_port"]), "/outlay")
    assert (listening.port, listening.path) == (int(behind["port"]), f"/{behind['dbname']}")
    assert f"server_name {urlsplit(server.server.public_url).hostname};" in PROXY


def test_the_proxy_passes_on_what_the_program_takes_and_believes_no_caller() -> None:
    size = re.search(r"client_max_body_size (\d+)m;", PROXY)
    assert size is not None
    assert BATCH_BODY_MAX < int(size[1]) * 2**20 <= 2 * BATCH_BODY_MAX
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in PROXY
    assert "non_idempotent" not in PROXY
    assert PROXY.count("{") == PROXY.count("}")


def test_every_file_is_installed_by_the_page() -> None:
    for path in sorted(each for each in DEPLOY.rglob("*") if each.is_file() and each.suffix != ".service"):
        assert f"deploy/{path.name}" in PAGE, path.name
    assert "deploy/systemd/*.service" in PAGE


def rows_of(url: str) -> dict[str, list[Any]]:
    engine = Database(url).engine
    with engine.connect() as database:
        found = {
            table.name: sorted(map(repr, database.execute(sa.select(table)).all())) for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


@pytest.mark.ci
def test_a_dump_of_postgresql_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(postgres.DATABASE, "postgresql")
    world = World(tmp_path)
    world.pay(world.service_account("payouts bot"), world.wallet("hot"), 5)
    source = str(world.db.where)
    blocks = re.findall(r"^```sh runnable\n(.*?)^```$", (OPERATE / "postgresql.md").read_text(), re.M | re.S)
    server = postgres.server_url()
    restored = server.rpartition("/")[0] + "/outlay_restored"
    ran = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input="\n".join(blocks),
        env={
            **os.environ,
            "PATH": f"{postgres.binaries()}{os.pathsep}{os.environ['PATH']}",
            "DATABASE": source,
            "SERVER": server,
            "RESTORED": restored,
            "BACKUP": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    require_fitting(restored)
    before = rows_of(source)
    assert before["transfer"] and before["record"]
    assert rows_of(restored) == before
    world.close()
    postgres.drop(restored)
