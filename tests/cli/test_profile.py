"""The profile: what login keeps, who gets it, and that a login that ran out is renewed by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlay.cli.profile import Caller, Profile, read_profile, write_private, write_profile
from outlay.core.errors import InvalidInput, NotAuthenticated
from tests.cli.commands import PUBLIC_URL, outlay, url_of
from tests.door import Door, Who
from tests.door import open_door as open_still_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_still_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def person(door: Door) -> Who:
    return door.person("treasury@example.com", ["Wallets:Read"])


def log_in(door: Door, who: Who, folder: Path, *more: str) -> Path:
    (folder / "key.pem").write_text(who.private)
    path = folder / "settings" / "profile.toml"
    words = ("--url", url_of(door), "--username", who.username, "--key-file", str(folder / "key.pem"), *more)
    outlay(path, "login", *words, "--public-url", PUBLIC_URL).ok()
    return path


def test_a_profile_is_what_was_written_and_nobody_elses_to_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "profile.toml"
    made = Profile(
        url="https://a.example",
        token_file=tmp_path / 'to"ken\n',
        username="ü@example.com",
        credential="-abc",
        key_file=tmp_path / "key.pem",
        public_url="https://b.example",
    )
    write_profile(path, made)
    assert read_profile(path) == made
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    write_private(path, "x")
    assert path.stat().st_mode & 0o777 == 0o600 and [each.name for each in path.parent.iterdir()] == ["profile.toml"]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("url = 'a", "profile"),
        ("url = 'https://a'\n", "token_file"),
        ("url = 'https://a'\ntoken_file = 't'\nsecret = 'x'\n", "secret"),
        ("url = 1\ntoken_file = 't'\n", "url"),
    ],
)
def test_what_is_no_profile_is_said(tmp_path: Path, text: str, field: str) -> None:
    (tmp_path / "profile.toml").write_text(text)
    with pytest.raises(InvalidInput) as refused:
        read_profile(tmp_path / "profile.toml")
    assert refused.value.field == field


def test_what_belongs_to_a_profile_goes_to_no_other_server(tmp_path: Path) -> None:
    for name in ("token", "key.pem", "other"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "profile.toml"
    write_profile(
        path,
        Profile(url="https://a.example", token_file=tmp_path / "token", key_file=tmp_path / "key.pem", credential="c"),
    )
    with pytest.raises(NotAuthenticated, match="another server"):
        _ = Caller(profile=path, url="https://a.example.evil").identity
    other = Caller(profile=path, url="https://b.example", token_file=tmp_path / "other").identity
    assert (other.key_file, other.credential, other.username) == (None, None, None)
    same = Caller(profile=path, url="https://a.example/").identity
    assert same.token_file == tmp_path / "token" and same.credential == "c"


def test_a_person_logs_in_once_and_is_logged_in_again_when_it_ran_out(door: Door, person: Who, tmp_path: Path) -> None:
    path = log_in(door, person, tmp_path)
    made = read_profile(path)
    assert made.credential == person.credential_id, "the only key need not be named"
    token = made.token_file
    assert token.stat().st_mode & 0o777 == 0o600
    before = token.read_text()
    outlay(path, "wallets", "list").ok()
    assert token.read_text() == before
    door.clock.instant += 9 * 3600 * 1_000_000
    outlay(path, "wallets", "list").ok()
    assert token.read_text() != before
    (tmp_path / "key.pem").unlink()
    door.clock.instant += 9 * 3600 * 1_000_000
    ran = outlay(path, "wallets", "list")
    assert ran.code == 3 and "key.pem" in ran.err


def test_a_given_token_that_ran_out_is_not_renewed(door: Door, person: Who, tmp_path: Path) -> None:
    path = log_in(door, door.log_in(person), tmp_path)
    old = tmp_path / "old"
    old.write_text("nonsense")
    ran = outlay(path, "wallets", "list", "--token-file", str(old))
    assert ran.code == 3 and "outlay login" in ran.err


def test_who_has_several_keys_names_one(door: Door, person: Who, tmp_path: Path) -> None:
    ran = outlay(tmp_path / "p", "login", "--url", url_of(door), "--username", "x")
    assert ran.code == 2 and "key" in ran.err
    ran = outlay(tmp_path / "p", "login", "--url", url_of(door))
    assert ran.code == 2 and not (tmp_path / "p").exists()


def test_the_uuid_of_a_credential_is_not_its_id(door: Door, person: Who, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text(person.private)
    words = ("--url", url_of(door), "--username", person.username, "--key-file", str(key))
    ran = outlay(tmp_path / "p", "login", *words, "--credential", "cr-00000-00000-0000000000000000")
    assert ran.code == 2 and "credentialId" in ran.err


def test_a_failed_login_leaves_the_profile_as_it_was(door: Door, person: Who, tmp_path: Path) -> None:
    path = log_in(door, door.log_in(person), tmp_path)
    before = path.read_text()
    wrong = tmp_path / "wrong.pem"
    outlay(None, "keys", "create", str(wrong)).ok()
    words = ("--url", url_of(door), "--username", person.username, "--key-file", str(wrong))
    ran = outlay(path, "login", *words)
    assert ran.code in (1, 3), ran
    assert path.read_text() == before
    outlay(path, "wallets", "list").ok()


def test_without_a_profile_it_is_said_what_to_do() -> None:
    ran = outlay(None, "payouts", "list")
    assert (ran.code, ran.out) == (3, "") and "outlay login" in ran.err


def test_a_server_that_is_not_there_is_told_from_an_unknown_outcome(door: Door, person: Who, tmp_path: Path) -> None:
    path = log_in(door, door.log_in(person), tmp_path)
    gone = tmp_path / "gone.toml"
    gone.write_text(path.read_text().replace(url_of(door), "http://127.0.0.1:1"))
    for words in (("wallets", "list"), ("wallets", "create", "--network", "EthereumSepolia")):
        ran = outlay(gone, *words)
        assert ran.code == 5 and "Is the server running" in ran.err, ran
