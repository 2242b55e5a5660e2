"""Who calls which server: the profile that ``outlay login`` writes, and what a command is told beside it.

A profile is a TOML file: ``url``, ``username``, ``credential``, ``key_file``, ``token_file``, and ``public_url`` where
the server calls itself something else. Token and key stay in files of their own. What belongs to a profile goes to the
server of the profile only: a command that names another server has to name token and key as well.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from urllib.parse import quote, urlencode

from cyclopts import Group, Parameter

from outlay.cli.output import Output, WrongUsage
from outlay.core.errors import InvalidInput, NotAuthenticated, OutcomeUnknown, OutlayError, Unavailable

if TYPE_CHECKING:
    from outlay.client import Client

T = TypeVar("T")

SERVER: Final = Group("Server", help="From the profile that outlay login wrote, unless given.", sort_key=10)
MEMBERS: Final = ("url", "username", "credential", "key_file", "token_file", "public_url")
PAGE = 500
READ_ATTEMPTS = 3
"""How often a read is tried: somebody sits and waits."""
UNREACHABLE = "Is the server running, and is this its address? outlay doctor looks at it; outlay login names another."

# Identifiers in base64url may begin with a hyphen.
Opaque = Annotated[str, Parameter(allow_leading_hyphen=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One identity at one server; paths are absolute."""

    url: str
    token_file: Path
    username: str | None = None  #: None: the token was given, and nothing can renew it
    credential: str | None = None
    key_file: Path | None = None
    public_url: str | None = None

    @property
    def is_renewable(self) -> bool:
        """Tell whether a new token can be had by logging in again."""
        return None not in (self.username, self.credential, self.key_file)


def default_path() -> Path:
    """Return where the profile is: ``OUTLAY_PROFILE``, else ``outlay/profile.toml`` among the user's settings."""
    named = os.environ.get("OUTLAY_PROFILE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "outlay" / "profile.toml"


def read_profile(path: Path) -> Profile:
    """Return the profile in a file.

    Raises:
        InvalidInput: it is not a profile; ``field`` names what is wrong.
    """
    import tomllib

    try:
        found = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}", field="profile") from None
    for name, value in found.items():
        if name not in MEMBERS or not isinstance(value, str):
            raise InvalidInput(f"{path} holds texts named {', '.join(MEMBERS)}, and no other", field=name)
    for name in ("url", "token_file"):
        if name not in found:
            raise InvalidInput(f"{path} has none: write it anew with outlay login", field=name)
    base = path.parent
    key_file = base / found["key_file"] if "key_file" in found else None
    return Profile(
        url=found["url"],
        token_file=base / found["token_file"],
        username=found.get("username"),
        credential=found.get("credential"),
        key_file=key_file,
        public_url=found.get("public_url"),
    )


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile, mode 0600, in the place of the one that is there."""
    lines = [
        f"{name} = {json.dumps(str(getattr(profile, name)), ensure_ascii=False)}\n"
        for name in MEMBERS
        if getattr(profile, name) is not None
    ]
    write_private(path, "".join(lines))


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all, in the place of the one that is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def join_link(identity: Profile, **given: str) -> str:
    """Return the address of the page where a passkey is registered; what is given stands where no server sees it.

    Passkeys belong to names: on this machine, to ``localhost`` and not to its number.
    """
    base = (identity.public_url or identity.url).rstrip("/")
    base = base.replace("//127.0.0.1", "//localhost").replace("//[::1]", "//localhost")
    return f"{base}/dashboard/join#{urlencode(given)}"


def path_of(*segments: str) -> str:
    """Return the path of a call, with what people gave quoted: ``path_of("v1", "payouts", payout)``."""
    return "/" + "/".join(quote(each, safe="") for each in segments)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Caller(Output):
    """Who calls which server, and how the result is told: the last parameter of every command that asks a server."""

    profile: Annotated[Path | None, Parameter(group=SERVER, help="File of another profile.")] = None
    url: Annotated[str | None, Parameter(group=SERVER, help="Base URL of the server.")] = None
    token_file: Annotated[Path | None, Parameter(group=SERVER, help="File that holds your bearer token.")] = None
    key_file: Annotated[Path | None, Parameter(group=SERVER, help="PEM file of your private key.")] = None
    credential: Annotated[
        str | None, Parameter(group=SERVER, allow_leading_hyphen=True, help="Id of your credential.")
    ] = None

    @property
    def identity(self) -> Profile:
        """Who calls: the profile, with what was given beside it.

        Raises:
            NotAuthenticated: there is no profile, and what was given is not enough.
            InvalidInput: another server is named and not who calls there.
        """
        path = self.profile or default_path()
        if self.profile is not None and not path.is_file():
            raise NotAuthenticated(f"{path}: there is no such profile", field="profile")
        found = read_profile(path) if path.is_file() else None
        if found is None or (self.url is not None and self.url.rstrip("/") != found.url.rstrip("/")):
            if self.url is None:
                raise NotAuthenticated("you are not logged in, and --url is not given")
            if self.token_file is None:
                what = "the profile is of another server" if found is not None else "you are not logged in"
                raise NotAuthenticated(f"{what}: give --token-file too", field="url")
            found = Profile(url=self.url, token_file=self.token_file)
        given = {name: getattr(self, name) for name in ("token_file", "key_file", "credential")}
        told = {name: value for name, value in given.items() if value is not None}
        if told:
            told["username"] = None  # what was given for one call renews no token of the profile
        return replace(found, **told)

    def client(self) -> "Client":
        """Return a client that reads; and signs, where a key is known."""
        from outlay.client import Client, Retry

        who = self.identity
        return Client(
            who.url,
            token=_content(who.token_file, "token").strip(),
            credential_id=who.credential or "",
            private_key="" if who.key_file is None else _content(who.key_file, "key"),
            public_url=who.public_url,
            retry=Retry(attempts=READ_ATTEMPTS),
        )

    def read(self, path: str, **query: str | int | None) -> dict[str, Any]:
        """Return the answer of a GET; a query that is None is left out."""
        given = {name: value for name, value in query.items() if value is not None}
        with reaching():
            return self.ask(lambda client: client.read(f"{path}?{urlencode(given)}" if given else path))

    def items(self, path: str, *, limit: int | None = None, **query: str | int | None) -> Iterator[dict[str, Any]]:
        """Yield what a list has, page by page, ``limit`` at most."""
        left = limit
        page: str | None = None
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            answer = self.read(path, limit=size, paginationToken=page, **query)
            yield from answer["items"][:left]
            left = None if left is None else left - len(answer["items"])
            page = answer.get("nextPageToken")
            if page is None:
                return

    def write(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sign a call, make it, and return its answer: perhaps a change that waits for people, see ``said``."""
        self.expect_key()
        try:
            return self.ask(lambda client: client.write(method, path, body))
        except OutcomeUnknown as error:
            if not _was_never_sent(error):
                raise
            raise Unavailable(f"{error.message}; nothing was sent", hint=UNREACHABLE) from error

    def expect_key(self) -> None:
        """Refuse before anything is asked where nothing can be signed.

        Raises:
            NotAuthenticated: key or credential are not known.
        """
        if self.identity.key_file is None or not self.identity.credential:
            raise NotAuthenticated(
                "this is signed: give --key-file and --credential, or log in with a key", field="key_file"
            )

    def ask(self, call: Callable[["Client"], T]) -> T:
        """Make calls with a client and return what they give; log in again, once, if the token has run out.

        A call that was answered 401 has done nothing and may be made again.
        """
        with self.waiting(f"waiting for {self.identity.url} …"):
            try:
                return call(self.client())
            except OutlayError as error:
                if error.status != NotAuthenticated.status or not self.identity.is_renewable:
                    raise
            renew(self.identity)
            return call(self.client())


FROM_PROFILE: Final = Caller()
"""Who calls where a command is told nothing: the profile."""


def renew(profile: Profile) -> None:
    """Log in as the profile says and keep the new token."""
    from outlay.client import log_in

    if profile.username is None or profile.credential is None or profile.key_file is None:
        raise NotAuthenticated("this profile cannot log in by itself: outlay login")
    token = log_in(
        profile.url,
        username=profile.username,
        credential_id=profile.credential,
        private_key=_content(profile.key_file, "key"),
    )
    write_private(profile.token_file, token + "\n")


@contextmanager
def reaching() -> Iterator[None]:
    """Say of calls that change nothing that the server was not reached, instead that nobody knows what became of them.

    Raises:
        Unavailable: there was no answer.
    """
    try:
        yield
    except OutcomeUnknown as error:
        raise Unavailable(error.message, hint=UNREACHABLE) from error


def _was_never_sent(error: OutcomeUnknown) -> bool:
    """Tell whether there was no connection at all: the calls before the last one of a signed write change nothing."""
    cause = getattr(error.__cause__, "reason", error.__cause__)
    return isinstance(cause, ConnectionRefusedError | socket.gaierror)


def _content(path: Path, what: str) -> str:
    """Return the text of a file that the profile or the command names.

    Raises:
        NotAuthenticated: it is not there. WrongUsage: it is no text.
    """
    try:
        return path.read_text()
    except FileNotFoundError:
        raise NotAuthenticated(f"{path}: there is no such {what} file") from None
    except UnicodeDecodeError:
        raise WrongUsage(f"{path} is no {what} file") from None
