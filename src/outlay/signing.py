"""The signer's own composition root: a deployment's directory becomes a signer.

``python -m outlay.signing --dir DIR`` is ``outlay signer`` with the few packages of ``outlay[signer]`` alone.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from outlay import locks
from outlay.config import Config, load
from outlay.core.errors import InvalidInput, InvariantBroken, OutlayError, SignerUnavailable
from outlay.core.seams import Clock, Entropy
from outlay.layout import Layout, write_secret
from outlay.signer.backend import Keys
from outlay.signer.hardening import die_with, harden, lock_memory
from outlay.signer.journal import Journal
from outlay.signer.keystore import Keystore
from outlay.signer.kms import KmsKeys
from outlay.signer.local import LocalSigner, SignerCore
from outlay.signer.pkcs11 import Pkcs11Keys
from outlay.signer.process import SignerServer, log
from outlay.system import SystemClock, arm_crash, keep_what_is_loaded

KMS_BATCH: Final = 8
"""Signatures asked of a key service before a freeze may come in between: each takes a tenth of a second."""

LOCK_PATIENCE_S: Final = 5.0
"""How long a signer waits for the one before it to be gone: a killed server's child is, in a moment."""


def open_keys(layout: Layout, config: Config) -> Keys:
    """Return the keys where the configuration says they are.

    Raises:
        SignerUnavailable: they do not open; says what to check.
    """
    settings = config.signer
    if settings.backend == "pkcs11":
        return Pkcs11Keys(settings.pkcs11_module, settings.pkcs11_token, layout.unlocking(config))
    if settings.backend == "aws-kms":
        return KmsKeys(settings.kms_region, settings.kms_endpoint)
    return Keystore.open(layout.keystore, layout.unlocking(config))


def create_keys(layout: Layout, config: Config, entropy: Entropy) -> Keys:
    """Return the keys of a new deployment: a new keystore under a new passphrase, or an existing token or service.

    Raises:
        InvalidInput: there is a keystore already, or the PIN of a token is not there yet.
        SignerUnavailable: they do not open.
    """
    passphrase = layout.passphrase_file(config)
    if config.signer.backend == "pkcs11" and not passphrase.exists():
        raise InvalidInput(f"write the token's PIN to {passphrase}, mode 0600, first", field="signer.passphrase_file")
    if config.signer.backend != "keystore":
        return open_keys(layout, config)
    if not passphrase.exists():
        write_secret(passphrase, entropy.token(32).hex().encode())
    return Keystore.create(layout.keystore, layout.unlocking(config), entropy)


def create_journal(layout: Layout, config: Config, keys: Keys, *, root: str, genesis: Sequence[str]) -> None:
    """Make the journal of a new deployment: seeded, since nothing can have been signed, and bound to its genesis.

    Raises:
        InvalidInput: there is one.
        SignerRefused: the genesis is not the one of ``root``.
    """
    journal = Journal.create(layout.journal, root=root, keystore_id=keys.id)
    try:
        SignerCore(keys, journal, settings=config.signer, clock=SystemClock()).accept_records(genesis)
    finally:
        journal.close()


def take_journal(layout: Layout, *, patience_s: float = 0) -> int:
    """Become the only process that writes the journal, and so the only one that signs with its keys.

    Returns:
        A descriptor: closing it lets the next one in.

    Raises:
        SignerUnavailable: another signer runs on this directory.
    """
    descriptor = locks.take(layout.journal_lock, patience_s=patience_s)
    if descriptor is None:
        raise SignerUnavailable(f"another signer is running on {layout.data}: one signer, one journal")
    return descriptor


def open_signer(layout: Layout, config: Config, clock: Clock) -> LocalSigner:
    """Return the signer of a deployment. Its caller holds the journal's lock.

    Raises:
        SignerUnavailable: keys or journal do not open.
        InvariantBroken: the journal is of other keys.
    """
    keys = open_keys(layout, config)
    journal = Journal.open(layout.journal, keystore_id=keys.id)
    return LocalSigner(keys, journal, settings=config.signer, clock=clock)


def rehearse(directory: Path) -> str:
    """Open keys and journal, change nothing, and return each wallet with the address that its key gives.

    Raises:
        SignerUnavailable: they do not open. InvariantBroken: a key is not the one the journal knows.
    """
    layout = Layout(directory)
    config = load(layout.config)
    keys = open_keys(layout, config)
    journal = Journal.open(layout.journal, keystore_id=keys.id)
    try:
        journal.verify()
        with journal.reading() as rows:
            known = rows.keys()
    finally:
        journal.close()
    lines = []
    for row in sorted(known.values(), key=lambda each: each.index):
        if keys.find(row.reference).address != row.address:
            raise InvariantBroken(f"the key of wallet {row.wallet_id} is not the one the journal knows")
        lines.append(f"{row.wallet_id}  {row.address}\n")
    return "".join(lines) + f"{len(lines)} keys open and are the wallets' keys; the journal is whole\n"


async def _serve(layout: Layout, config: Config) -> None:
    signer = open_signer(layout, config, SystemClock())
    is_locked = lock_memory()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    batch_max = KMS_BATCH if config.signer.backend == "aws-kms" else None
    server = SignerServer(signer, allow_uids=config.signer.allow_uids, batch_max=batch_max)
    path = layout.socket(config)

    def ready() -> None:
        log("listening", socket=str(path), backend=config.signer.backend, memory_locked=is_locked)
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    await server.serve(path, until=end, ready=ready)


def renew_journal(directory: Path, root: str | None) -> str:
    """Make an empty journal where the one before was lost, and return what to do next.

    Raises:
        InvalidInput: there is a journal, or no root fingerprint was given.
        SignerUnavailable: another signer is running, or the keys do not open.
    """
    layout = Layout(directory)
    if root is None or not re.fullmatch(r"[0-9a-f]{64}", root):
        raise InvalidInput("give the root fingerprint that outlay init printed, 64 hex digits", field="root")
    config = load(layout.config)
    lock = take_journal(layout)
    try:
        keys = open_keys(layout, config)
        journal = Journal.create(layout.journal, root=root, keystore_id=keys.id, seeded=False)
        journal.close()
    finally:
        os.close(lock)
    return (
        f"new journal {journal.journal_id} in {layout.journal}\n"
        "It signs nothing yet. Start the server, then have admins sign where it begins: outlay signers reseed --help"
    )


def run(directory: Path, *, parent: int | None = None) -> None:
    """Be the signer of the deployment in ``directory`` until asked to end.

    Args:
        directory: of the deployment.
        parent: process id of the server that started this one and with which it ends; None: by itself.

    Raises:
        SignerUnavailable: another one is running, or keys, journal or socket do not open.
        InvalidInput: no deployment there, or a wrong configuration.
    """
    harden()
    if parent is not None:
        die_with(parent)
    arm_crash(in_signer=True)
    layout = Layout(directory)
    config = load(layout.config)
    if not layout.data.is_dir():
        raise InvalidInput(f"{layout.root} holds no deployment: run outlay init --dir {layout.root}", field="dir")
    # A child may meet the child of a server that was killed just now.
    lock = take_journal(layout, patience_s=0 if parent is None else LOCK_PATIENCE_S)
    keep_what_is_loaded()
    try:
        asyncio.run(_serve(layout, config))
    finally:
        os.close(lock)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m outlay.signing", description="Sign for one deployment.")
    parser.add_argument("--dir", type=Path, required=True, help="the deployment's directory")
    parser.add_argument("--parent", type=int, help="end when this process, which started this one, ends")
    arguments = parser.parse_args()
    try:
        run(arguments.dir.resolve(), parent=arguments.parent)
    except OutlayError as error:
        log("cannot_start", code=error.code, message=error.message)
        sys.exit(1)


if __name__ == "__main__":
    main()
