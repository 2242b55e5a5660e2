"""The offline verifier's command line: the same as a command of ``outlay`` and as a file of its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from outlay.evidence.payout import verify_payout
from outlay.evidence.report import ProofBroken, refused

PROVED, NOT_PROVED, UNREADABLE = 0, 1, 2
"""What the process ends with."""


def check(file: Path, root: str) -> int:
    """Check the proof in ``file``, print what it proves or the first step that fails, and return the exit code.

    Args:
        file: what ``outlay evidence export`` wrote.
        root: the organization's root fingerprint, from somewhere else than the file.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        sys.stderr.write(f"cannot read {file}: {error.strerror}\n")
        return UNREADABLE
    try:
        report = verify_payout(data, root.strip().lower())
    except ProofBroken as broken:
        sys.stdout.write(refused(broken))
        return NOT_PROVED
    sys.stdout.write(report.text())
    return PROVED


def main(words: Sequence[str] | None = None) -> int:
    """Run the verifier with these command-line words, or the process's own."""
    parser = argparse.ArgumentParser(description="Check the proof of a payout without any server.")
    parser.add_argument("file", metavar="FILE", type=Path, help="what outlay evidence export wrote")
    parser.add_argument("--root", metavar="FINGERPRINT", required=True, help="as outlay init printed it, kept apart")
    given = parser.parse_args(words)
    return check(given.file, given.root)
