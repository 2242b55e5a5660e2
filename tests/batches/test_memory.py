"""What a file of 100,000 rows takes of the memory of whoever reads it."""

import subprocess
import sys
from pathlib import Path

import pytest

MORE_MAX = 60 * 1024
"""KiB that the process may be larger than with 1,000 rows."""

PROGRAM = """
import resource, sys
from pathlib import Path
from outlay.client import batches
from outlay.client.batch_file import Listed

on = batches.Terms({"walletId": "wa-x"}, "EthereumSepolia", (Listed("0x" + "1c" * 20, "USDC", 6),))
path = Path(sys.argv[1])
found = batches.read_file(path, on)
assert (found.reader.count, found.reader.problem_count) == (int(sys.argv[2]), 0)
assert sum(len(items) for _, _, items in batches.parts_of(path, on)) == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder: Path, count: int, *, as_json: bool) -> int:
    """Return the most KiB that a process held which has read a file of so many rows."""
    path = folder / f"{count}.{'json' if as_json else 'csv'}"
    with path.open("w") as file:
        if not as_json:
            file.write("reference,recipient,network,asset,amount,memo\n")
        for at in range(count):
            cells = (f"payroll-{at}", f"0x{at + 1:040x}", "EthereumSepolia", "USDC", f"{at + 1}.25", f"salary {at}")
            if as_json:
                names = ("reference", "recipient", "network", "asset", "amount", "memo")
                members = ",".join(f'"{name}":"{cell}"' for name, cell in zip(names, cells, strict=True))
                file.write(("[" if at == 0 else ",") + "{" + members + "}")
            else:
                file.write(",".join(cells) + "\n")
        file.write("]" if as_json else "")
    command = [sys.executable, "-c", PROGRAM, str(path), str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return int(ran.stdout)


@pytest.mark.ci
@pytest.mark.parametrize("as_json", [False, True])
def test_a_hundred_thousand_rows_take_little_more_than_a_thousand(tmp_path: Path, as_json: bool) -> None:
    few, many = peak(tmp_path, 1_000, as_json=as_json), peak(tmp_path, 100_000, as_json=as_json)
    assert many - few < MORE_MAX, f"{few} KiB with 1,000 rows, {many} KiB with 100,000"
