"""What a process is told about itself once it has loaded what it needs."""

import subprocess
import sys


def test_what_is_loaded_is_not_gone_over_again() -> None:
    code = (
        "import gc; from outlay.system import keep_what_is_loaded; "
        "kept = gc.get_freeze_count(); keep_what_is_loaded(); "
        "print(gc.get_freeze_count() - kept, gc.get_threshold()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, young = map(int, done.stdout.split())
    assert count > 1_000 and young == 10_000
