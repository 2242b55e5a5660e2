"""Every command of ``outlay``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from outlay import __version__
from outlay.cli.approvals import approvals
from outlay.cli.audit import audit
from outlay.cli.evidence import evidence
from outlay.cli.explain import explain
from outlay.cli.notify import notify
from outlay.cli.payouts import payouts
from outlay.cli.reconciliation import reconcile, signer_reseed
from outlay.cli.stops import freezes, unfreeze
from outlay.core.errors import InvalidInput

app = App(name="outlay", version=__version__, help="Self-hosted, policy-gated, automated crypto payouts.")
users = App(name="users", help="People: make a key, invite, register, log in, list, activate.")
settings = App(name="config", help="The settings that decide about money.")
wallets = App(name="wallets", help="Hot wallets.")
assets = App(name="assets", help="What is paid.")
app.command(users)
app.command(settings)
app.command(wallets)
app.command(assets)
app.command(audit)
app.command(evidence)
app.command(freezes)
app.command(unfreeze)
app.command(reconcile)
app.command(signer_reseed, name="signer-reseed")
app.command(payouts)
app.command(explain)
app.command(approvals)
app.command(notify)

Dir = Annotated[Path, Parameter(name="--dir", help="the deployment's directory")]

STARTER = """\
# Outlay's configuration. Every setting is described in docs/reference/configuration.md.
# What decides about money (prices, finality, assets, chain ids, fee caps, the default verdict) is signed:
# after a change of those, an admin runs `outlay config apply`.

[server]
host = "127.0.0.1"
port = 8000
public_url = "http://localhost:8000"

[policies]
default = "allow"

# [networks.EthereumSepolia]
# chain_id = 11155111
# rpc_urls = ["https://your-node.example", "https://another-node.example"]
# finality = { tag = "finalized" }
# native = { symbol = "ETH", decimals = 18 }
# fee_cap = "10000000000000000"

# [[assets]]
# network = "EthereumSepolia"
# kind = "Erc20"
# contract = "0x..."
# symbol = "USDC"
# decimals = 6

# [prices.static]
# ETH = "3000"
# USDC = "1"
"""


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


@app.command
def init(
    *,
    dir: Dir,
    preset: str = "standard",
    admin: str = "admin@localhost",
    admin_public_key: Path | None = None,
    config: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Create a deployment: keys, database, genesis record, first policies, first admin.

    Parameters
    ----------
    dir
        an empty or new directory.
    preset
        policies to start with: standard, high-volume or none.
    admin
        username of the first admin.
    admin_public_key
        PEM file of the admin's public key; without it a key pair is made here.
    config
        a configuration to start from; its money settings become part of the genesis record.
    as_json
        print the result as JSON.
    """
    from outlay import config as configuration
    from outlay.app import initialize
    from outlay.layout import Layout

    layout = Layout(dir.resolve())
    source = config or (layout.config if layout.config.exists() else None)
    text = source.read_text() if source is not None else STARTER
    made = initialize(
        layout,
        text,
        configuration.parse(text),
        preset=preset,
        admin=admin,
        admin_public_key=admin_public_key.read_text() if admin_public_key is not None else None,
    )
    document = {
        "orgId": made.founded.org_id,
        "admin": {
            "userId": made.founded.user_id,
            "credentialId": made.founded.credential_id,
            "token": made.token,
            "privateKeyFile": None if made.private_key_file is None else str(made.private_key_file),
        },
        "rootFingerprint": made.founded.root,
        "config": str(layout.config),
    }
    if as_json:
        _print_json(document)
        return
    write = sys.stdout.write
    write(f"Deployment made in {layout.root}\n\n")
    write(f"  organization       {document['orgId']}\n")
    write(f"  root fingerprint   {document['rootFingerprint']}\n")
    write("                     Write it down: it is what evidence is checked against.\n")
    write(f"  admin              {admin}, credential {made.founded.credential_id}\n")
    if made.private_key_file is not None:
        write(f"  admin's key        {made.private_key_file}\n")
    write(f"  admin's token      {made.token}\n                     Good for 24 hours; afterwards log in.\n")
    write(f"  configuration      {layout.config}\n\nNext: outlay serve --dir {dir}\n")


@app.command
def serve(*, dir: Dir, port: int | None = None, metrics_port: int | None = None) -> None:
    """Run everything: API and engine in one process, the signer in a child of it.

    Parameters
    ----------
    dir
        the deployment's directory.
    port
        listen here instead of the configured port.
    metrics_port
        tell metrics and health here instead of at the configured port.
    """
    from outlay.cli.server import run

    run(dir.resolve(), port, metrics_port=metrics_port)


@app.command
def api(*, dir: Dir, port: int | None = None, metrics_port: int | None = None) -> None:
    """Run the API alone, beside ``outlay worker`` and ``outlay signer`` on the same directory.

    Parameters
    ----------
    dir
        the deployment's directory.
    port
        listen here instead of the configured port.
    metrics_port
        tell metrics and health here instead of at the configured port.
    """
    from outlay.app import Role
    from outlay.cli.server import run

    run(dir.resolve(), port, Role.API, metrics_port=metrics_port)


@app.command
def worker(*, dir: Dir, metrics_port: int | None = None) -> None:
    """Run the engine alone: it sends payouts and delivers webhooks. Several may run; one takes over from another.

    Parameters
    ----------
    dir
        the deployment's directory.
    metrics_port
        tell metrics and health here instead of at the configured port.
    """
    from outlay.cli.worker import run

    run(dir.resolve(), metrics_port)


@app.command
def signer(
    *,
    dir: Dir,
    check: Annotated[bool, Parameter(negative=())] = False,
    new_journal: Annotated[bool, Parameter(negative=())] = False,
    root: str | None = None,
) -> None:
    """Run the signer alone: it holds the keys, listens on a Unix socket and needs no network.

    Parameters
    ----------
    dir
        the deployment's directory.
    check
        only open keys and journal, print every wallet's address, and end: to rehearse a backup.
    new_journal
        make an empty journal in place of one that was lost, and end. Nothing is signed with it until admins have
        signed where it begins.
    root
        with --new-journal: the root fingerprint that ``outlay init`` printed.
    """
    from outlay.signing import rehearse, renew_journal, run

    if check:
        sys.stdout.write(rehearse(dir.resolve()))
    elif new_journal:
        sys.stdout.write(renew_journal(dir.resolve(), root) + "\n")
    else:
        run(dir.resolve())


@app.command
def freeze(
    *,
    dir: Dir,
    reason: str,
    wallet: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    network: str | None = None,
    identity: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
) -> None:
    """Stop signing at once, in every process; only a signed record lets it go on.

    Parameters
    ----------
    dir
        the deployment's directory.
    reason
        shown to everybody who finds a payout waiting.
    wallet
        id of a wallet to stop.
    network
        name of a network to stop.
    identity
        id of a person or service account: what they asked for is not signed.
    everything
        stop all signing.
    """
    from outlay.cli.freeze import stop

    scopes = {"wallet": wallet, "network": network, "identity": identity, "all": "" if everything else None}
    stop(dir.resolve(), scopes, reason)


@app.command
def migrate(*, dir: Dir, phase: Literal["pre", "post"] | None = None) -> None:
    """Bring the database to this version's schema. ``serve`` does it too, where it is alone on a SQLite file.

    Parameters
    ----------
    dir
        the deployment's directory.
    phase
        pre: what this version adds, while processes of the version before go on working; post: what they needed goes,
        once none of them runs. Both unless given: then nothing else may be running.
    """
    from outlay.cli.migrate import run
    from outlay.store.migrate import Phase

    run(dir.resolve(), None if phase is None else Phase(phase))


@app.command
def doctor(*, dir: Dir) -> None:
    """Look at a deployment and say what is wrong or unwise; exits 1 if payouts cannot or should not flow."""
    from outlay.cli.doctor import examine

    sys.exit(examine(dir.resolve()))


@app.command
def demo(*, keep: bool = False, port: int = 0, svg: Path | None = None, profile: Path | None = None) -> None:
    """Show the whole path on a local chain: payouts that flow, wait, are approved, denied and blocked.

    Parameters
    ----------
    keep
        keep serving afterwards, until interrupted.
    port
        listen here; 0 takes a free port.
    svg
        also save what was printed as a picture.
    profile
        with --keep: where to write the addresses, tokens and keys a program needs to pay through this server.
    """
    from outlay.cli.demo import run

    sys.exit(run(keep=keep, port=port, svg=svg, profile=profile))


Profile = Annotated[str, Parameter(help="base URL of the server")]
Token = Annotated[Path, Parameter(name="--token-file", help="file that holds your bearer token")]
KeyFile = Annotated[Path, Parameter(name="--key-file", help="PEM file of your private key")]
# Identifiers in base64url may begin with a hyphen.
Opaque = Annotated[str, Parameter(allow_leading_hyphen=True)]


@users.command
def key(*, key_file: KeyFile) -> None:
    """Make an Ed25519 key pair: writes the private key to a new file of mode 0600 and prints the public key."""
    from outlay.client import write_new_key

    sys.stdout.write(write_new_key(key_file))


@users.command
def invite(
    *,
    email: str,
    url: Profile,
    token_file: Token,
    key_file: KeyFile,
    credential: Opaque,
    public_key: Path | None = None,
) -> None:
    """Invite a person and print their registration code, once.

    Parameters
    ----------
    email
        whom to invite.
    credential
        id of your credential.
    public_key
        PEM file of the person's public key: only it can take up the invitation, and it is vouched for at once.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    named = {} if public_key is None else {"publicKey": public_key.read_text()}
    _print_json(client.write("POST", "/auth/users", {"email": email, "kind": "CustomerEmployee", **named}))


@users.command(name="list")
def list_people(*, url: Profile, token_file: Token) -> None:
    """Print the newest people as JSON: their keys with fingerprints, and ``mayVote``: whether somebody vouches."""
    from outlay.client import call

    _print_json(call(url, "GET", "/auth/users?limit=500", token=token_file.read_text().strip())["items"])


@users.command
def activate(
    *,
    user: str,
    url: Profile,
    token_file: Token,
    key_file: KeyFile,
    credential: Opaque,
    fingerprint: list[str] | None = None,
) -> None:
    """Switch a person on and vouch for the keys they registered: from now on what they sign counts.

    Shows the fingerprints on record and asks whether they are what the person told you, unless you give those.

    Parameters
    ----------
    user
        id of the person.
    credential
        id of your credential.
    fingerprint
        a fingerprint the person told you; once for each of their keys.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    keys = client.read(f"/auth/users/{user}")["credentials"]
    _compare({each["fingerprint"]: each["name"] for each in keys}, fingerprint)
    _print_json(client.write("PUT", f"/auth/users/{user}/activate"))


def _compare(on_record: dict[str, str], told: list[str] | None) -> None:
    """Refuse to vouch for keys nobody compared.

    Raises:
        InvalidInput: the fingerprints are not exactly those told, or whoever was asked did not say yes.
    """
    if told:
        if {each.lower() for each in told} != set(on_record):
            raise InvalidInput(f"the keys on record are {', '.join(on_record) or 'none'}", field="fingerprint")
        return
    for value, name in on_record.items():
        sys.stderr.write(f"{value}  {name}\n")
    if not sys.stdin.isatty():
        raise InvalidInput("give the fingerprints the person told you, so that they are compared", field="fingerprint")
    sys.stderr.write("Are these, and no others, what the person told you? Type yes: ")
    if input().strip() != "yes":
        raise InvalidInput("not activated", field="fingerprint")


@users.command
def register(*, email: str, code: Opaque, url: Profile, key_file: KeyFile) -> None:
    """Take up an invitation: makes a key at the given path, or uses the one that is there; prints its fingerprint.

    Tell the fingerprint to the admin who invited you, by another way than the code came.

    Parameters
    ----------
    email
        as it was invited.
    code
        the registration code.
    """
    from outlay.client import register as take_up
    from outlay.client import write_new_key

    if not key_file.exists():
        write_new_key(key_file)
    _print_json(take_up(url, username=email, code=code, private_key=key_file.read_text()))


@users.command
def login(*, email: str, credential: Opaque, url: Profile, key_file: KeyFile) -> None:
    """Log in with a key and print a bearer token that lives eight hours.

    Parameters
    ----------
    email
        your username.
    credential
        id of your credential.
    """
    from outlay.client import log_in

    token = log_in(url, username=email, credential_id=credential, private_key=key_file.read_text())
    sys.stdout.write(token + "\n")


@settings.command
def apply(
    *,
    url: Profile,
    token_file: Token,
    key_file: KeyFile,
    credential: Opaque,
    file: Path | None = None,
    yes: bool = False,
) -> None:
    """Sign the money settings the server has loaded, so that it admits payouts under them.

    Where changes wait for approval, sign those of a new FILE instead, before the server loads it: it goes on paying
    under the old ones until people agreed, the wait is over, and it is restarted with the new file.

    Parameters
    ----------
    credential
        id of your credential.
    file
        a configuration file that the server has not loaded yet.
    yes
        do not ask.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    shown = client.read("/v1/config")
    wanted = shown["moneySettings"]
    if file is not None:
        from outlay.config import load

        wanted = load(file).money_settings()
    elif shown["applied"]:
        sys.stdout.write("the loaded settings are the signed ones already\n")
        return
    _print_json(wanted)
    if not yes and input("Sign these settings? Type yes: ").strip() != "yes":
        raise InvalidInput("not signed", field="yes")
    answer = client.write("PUT", "/v1/config", {"moneySettings": wanted})
    _print_json(answer)
    if answer.get("status") == "Pending":
        sys.stdout.write(f"\nwaits for approval {answer['approvalId']}; then restart the server with the new file\n")


@wallets.command(name="unfreeze")
def unfreeze_wallet(
    *, wallet: str, reason: str, url: Profile, token_file: Token, key_file: KeyFile, credential: Opaque
) -> None:
    """Let a frozen wallet pay again, after you have looked at why it was stopped.

    Parameters
    ----------
    wallet
        id of the wallet.
    reason
        what you found; it is signed and recorded.
    credential
        id of your credential.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    _print_json(client.write("PUT", f"/v1/wallets/{wallet}/unfreeze", {"reason": reason}))


@assets.command(name="unfreeze")
def unfreeze_asset(
    *, network: str, asset: str, reason: str, url: Profile, token_file: Token, key_file: KeyFile, credential: Opaque
) -> None:
    """Let a frozen asset be paid again, after you have looked at why it was stopped.

    Parameters
    ----------
    network
        name of its network.
    asset
        the token's contract in lower case.
    reason
        what you found; it is signed and recorded.
    credential
        id of your credential.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    _print_json(client.write("PUT", "/v1/assets/unfreeze", {"network": network, "asset": asset, "reason": reason}))
