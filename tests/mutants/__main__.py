"""``python -m tests.mutants [WORD ...]``: break every rule (whose name holds a word), and say which test noticed."""

import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.listed import MUTANTS
from tests.mutants.mutant import Verdict, try_all

WORKERS = 2


def tell(verdict: Verdict) -> None:
    """Print one line of the table."""
    said = verdict.caught_by or f"SURVIVED {verdict.problem}".rstrip()
    print(f"{verdict.mutant.name:<72} {said}", flush=True)


def main(words: list[str]) -> int:
    """Return 0 if none survived."""
    chosen = [each for each in MUTANTS if not words or any(word in each.name for word in words)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        verdicts = try_all(chosen, Path(folder), workers=WORKERS, tell=tell)
    alive = [each for each in verdicts if each.caught_by is None]
    took = time.monotonic() - began
    print(f"{len(verdicts)} rules broken, {len(verdicts) - len(alive)} noticed, {len(alive)} not, {took:.0f} s")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
