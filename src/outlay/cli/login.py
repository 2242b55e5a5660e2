"""``outlay login``: become somebody at a server, and remember it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from outlay.cli.output import PRINTED, Output, WrongUsage, facts
from outlay.cli.profile import Opaque, Profile, default_path, reaching, renew, write_profile
from outlay.core.errors import InvalidInput
from outlay.core.ids import CREDENTIAL, is_id

_SUFFIX = ".token"
"""Of the file beside the profile that holds the token."""


def login(
    *,
    url: str,
    username: str | None = None,
    key_file: Path | None = None,
    credential: Opaque | None = None,
    token_file: Path | None = None,
    public_url: str | None = None,
    profile: Annotated[
        Path | None, Parameter(help="file to write instead of the profile that is used by itself.")
    ] = None,
    output: Output = PRINTED,
) -> None:
    """Log in with a key file and keep url, token and the places of the keys; later commands log in again by themselves.

    A program logs in with the token it was given: --token-file, and --key-file and --credential to sign with.

    Parameters
    ----------
    url
        base URL of the server.
    username
        your username, as you were invited.
    key_file
        PEM file of your private key; it stays where it is.
    credential
        id of your credential; only needed where you have several keys, or with --token-file.
    token_file
        file of a token that was given to you: nothing renews it.
    public_url
        what the server calls itself, where that is another address.
    """
    if (username is None) == (token_file is None):
        raise WrongUsage("give --username and --key-file, or --token-file", field="username")
    if credential is not None and is_id(credential, CREDENTIAL):
        raise WrongUsage(
            "that is the credential's uuid: give its credentialId, as init or register printed it", field="credential"
        )
    path = (profile or default_path()).absolute()
    key_file = None if key_file is None else key_file.absolute()
    if token_file is not None:
        made = Profile(
            url=url, token_file=token_file.absolute(), key_file=key_file, credential=credential, public_url=public_url
        )
        _expect_token(made, output)
    else:
        if key_file is None:
            raise WrongUsage("give the key you log in with", field="key-file")
        made = Profile(
            url=url,
            token_file=path.with_suffix(_SUFFIX),
            username=username,
            key_file=key_file,
            credential=credential or _only_credential(url, str(username), output),
            public_url=public_url,
        )
        _new_token(made, output)
    write_profile(path, made)
    output.tell(
        {"url": made.url, "username": made.username, "credential": made.credential, "profile": str(path)},
        facts(
            [
                ("logged in at", made.url),
                ("as", made.username or "whom the token was given to"),
                ("signs with", made.credential or "nothing: this profile only reads"),
                ("profile", path),
            ]
        ),
    )


def _only_credential(url: str, username: str, output: Output) -> str:
    """Return the credential that a person can log in with.

    Raises:
        InvalidInput: there are several, or none.
    """
    from outlay.client import call

    with reaching(), output.waiting(f"waiting for {url} …"):
        begun = call(url, "POST", "/auth/login/init", {"username": username})
    known = [str(each["id"]) for each in begun["allowCredentials"]["key"]]
    if len(known) != 1:
        which = ", ".join(known) or "none"
        raise InvalidInput(f"give --credential: the key credentials of {username} are {which}", field="credential")
    return known[0]


def _new_token(made: Profile, output: Output) -> None:
    made.token_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with reaching(), output.waiting(f"waiting for {made.url} …"):
        renew(made)


def _expect_token(made: Profile, output: Output) -> None:
    """Refuse a token that the server does not know."""
    from outlay.client import call

    with reaching(), output.waiting(f"waiting for {made.url} …"):
        call(made.url, "GET", "/v1/records", token=made.token_file.read_text().strip())
