"""The Python on the client's page runs as it is written, from top to bottom, against a server."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.door import PAYER, RECIPIENT, open_door_now

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/use-the-python-client.md"


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = '\n[server]\npublic_url = "http://127.0.0.1:1"\n'
    with open_door_now(tmp_path, extra=public) as door:
        payer, wallet = door.service_account("payouts bot", PAYER), door.wallet()["id"]
        (tmp_path / "key.pem").write_text(payer.private)
        given = {
            "URL": f"http://127.0.0.1:{door.port}",
            "CREDENTIAL": payer.credential_id,
            "KEY_FILE": str(tmp_path / "key.pem"),
            "TOKEN": payer.token,
            "WALLET": wallet,
            "RECIPIENT": RECIPIENT,
        }
        for name, value in given.items():
            monkeypatch.setenv(f"OUTLAY_{name}", value)
        monkeypatch.chdir(tmp_path)
        blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        # What the server calls itself is where it answers; here the port is known only now.
        object.__setattr__(door.gate.config.server, "public_url", given["URL"])
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec("\n".join(blocks), {"__name__": "page"})
        asked = [row[0] for row in door.rows("SELECT external_id FROM transfer")]
        assert sorted(asked) == [
            "both-1",
            "both-2",
            "invoice-7",
            "invoice-8",
            "invoice-9",
            "salary-1",
            "salary-2",
            "salary-3",
        ]
    assert "salary-2 ready" in told.getvalue()
