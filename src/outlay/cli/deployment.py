"""Commands that work on a deployment's directory, on its own machine: what runs them is loaded inside."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from outlay.cli.output import PRINTED, Output, WrongUsage, facts

Dir = Annotated[Path, Parameter(name="--dir", help="The deployment's directory.")]

STARTER = """\
# Outlay's configuration. Every setting is described in docs/reference/configuration.md.
# What decides about money (prices, finality, assets, chain ids, fee caps, the default verdict) is signed:
# after a change of those, an admin runs `outlay settings apply`.

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


def init(
    *,
    dir: Dir,
    preset: str = "standard",
    admin: str = "admin@localhost",
    admin_public_key: Path | None = None,
    config: Path | None = None,
    output: Output = PRINTED,
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
    output.tell(document, lambda: _made(layout.root, admin, document))


def _made(root: Path, admin: str, document: Any) -> str:
    """Return what was made, in the words of the terminal, and what to do next."""
    credential, key_file = document["admin"]["credentialId"], document["admin"]["privateKeyFile"]
    shown = facts(
        [
            ("organization", document["orgId"]),
            ("root fingerprint", document["rootFingerprint"]),
            ("", "Write it down: it is what evidence is checked against."),
            ("admin", f"{admin}, credential {credential}"),
            ("admin's key", key_file),
            ("admin's token", document["admin"]["token"]),
            ("", "Good for 24 hours; afterwards log in."),
            ("configuration", document["config"]),
        ]
    )
    login = f"outlay login --url http://localhost:8000 --username {admin} --key-file {key_file or 'YOUR-KEY.pem'}"
    return f"Deployment made in {root}\n\n{shown}\nNext: outlay serve --dir {root}\nThen: {login}\n"


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


def api(*, dir: Dir, port: int | None = None, metrics_port: int | None = None) -> None:
    """Run the API alone, beside outlay worker and outlay signer on the same directory.

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
        with --new-journal: the root fingerprint that outlay init printed.
    """
    from outlay.signing import rehearse, renew_journal, run

    if check:
        sys.stdout.write(rehearse(dir.resolve()))
    elif new_journal:
        sys.stdout.write(renew_journal(dir.resolve(), root) + "\n")
    else:
        run(dir.resolve())


def freeze(
    *,
    dir: Dir,
    reason: str,
    wallet: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    network: str | None = None,
    identity: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    output: Output = PRINTED,
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
    scopes = {"wallet": wallet, "network": network, "identity": identity, "all": "" if everything else None}
    given = {scope: subject for scope, subject in scopes.items() if subject is not None}
    if len(given) != 1:
        raise WrongUsage("give one of --wallet, --network, --identity and --all", field="scope")
    from outlay.cli.freeze import stop

    stop(dir.resolve(), *given.popitem(), reason, output)


def migrate(*, dir: Dir, phase: Literal["pre", "post"] | None = None, output: Output = PRINTED) -> None:
    """Bring the database to this version's schema. serve does it too, where it is alone on a SQLite file.

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

    run(dir.resolve(), None if phase is None else Phase(phase), output)


def doctor(*, dir: Dir, output: Output = PRINTED) -> int:
    """Look at a deployment and say what is wrong or unwise; exits 1 if payouts cannot or should not flow."""
    from outlay.cli.doctor import examine

    return examine(dir.resolve(), output)


def demo(
    *,
    keep: Annotated[bool, Parameter(negative=())] = False,
    port: int = 0,
    svg: Path | None = None,
    profile: Path | None = None,
) -> int:
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

    return run(keep=keep, port=port, svg=svg, profile=profile)
