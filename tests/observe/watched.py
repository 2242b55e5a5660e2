"""A whole deployment that is watched: metrics on a port, traces to a collector, people told by mail and chat.

Its secrets are known, so that they can be looked for wherever it writes.
"""

import base64
import contextlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from outlay.cli.playground import free_port
from tests.world import Identity, Receiver, World

RPC_KEY, CHAT_KEY, SMTP_PASSWORD = "canary-rpc-9f3a1c", "canary-chat-77b0e2", "canary-smtp-41d9aa"
"""What operators put into URLs and files, marked."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span as the collector got it."""

    trace: int
    id: int
    parent: int
    name: str
    began: int  #: nanoseconds
    ended: int
    attributes: dict[str, str]


@dataclass(kw_only=True)
class Watched:
    """The deployment, and who is told of it."""

    world: World
    port: int  #: of metrics and health
    collector: Receiver
    chat: Receiver
    payer: Identity
    wallet: Any
    files: dict[str, str] = field(default_factory=dict)  #: secrets in files, by name

    def get(self, path: str, *, port: int | None = None) -> tuple[int, str]:
        """Return status and body of what the listener answers; 0: nothing."""
        try:
            with _OPENER.open(f"http://127.0.0.1:{port or self.port}{path}", timeout=15) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Return what a scrape shows: (name, labels in order) -> value."""
        status, text = self.get("/metrics")
        assert status == 200, text
        return parse(text)

    def spans(self) -> list[Span]:
        """Return the spans that came so far."""
        return [span for arrival in list(self.collector.arrivals) for span in read_spans(arrival.body)]


def parse(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples of an exposition."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read_spans(body: bytes) -> Iterator[Span]:
    """Yield the spans of one OTLP request."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    trace=int.from_bytes(span.trace_id, "big"),
                    id=int.from_bytes(span.span_id, "big"),
                    parent=int.from_bytes(span.parent_span_id, "big"),
                    name=span.name,
                    began=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    attributes={each.key: each.value.string_value for each in span.attributes},
                )


@contextlib.contextmanager
def watch(folder: Path) -> Iterator[Watched]:
    """Run one until the block ends. One of its networks never answers."""
    collector, chat, port = Receiver(), Receiver(), free_port()
    for name, text in (("chat-url", f"{chat.url}/{CHAT_KEY}"), ("smtp-password", SMTP_PASSWORD)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    extra = f"""
[networks.PolygonAmoy]
chain_id = 31337
rpc_urls = ["http://127.0.0.1:9/?key={RPC_KEY}"]
finality = {{ blocks = 1 }}
native = {{ symbol = "POL", decimals = 18 }}
fee_cap = "10000000000000000"

[metrics]
port = {port}

[tracing]
endpoint = "{collector.url}"

[notify]
smtp_host = "127.0.0.1"
smtp_port = {free_port()}
smtp_user = "ops"
smtp_password_file = "{folder / "smtp-password"}"
mail_from = "outlay@example.com"
mail_to = ["ops@example.com"]
chat_url_file = "{folder / "chat-url"}"
"""

    def edit(text: str) -> str:
        return re.sub(r'rpc_urls = \["([^"]*)"\]', rf'rpc_urls = ["\1/?key={RPC_KEY}"]', text)

    with World.open(
        folder, preset="none", extra=extra, edit=edit, environment={"OTEL_BSP_SCHEDULE_DELAY": "100"}
    ) as world:
        payer = world.service_account("payouts bot")
        yield Watched(world=world, port=port, collector=collector, chat=chat, payer=payer, wallet=world.wallet("hot"))
    collector.close()
    chat.close()


def secrets_of(watched: Watched) -> dict[str, str]:
    """Return every secret of the deployment, by what it is: no sink may show one."""
    folder = watched.world.deployment.directory / "secrets"
    ring = json.loads((folder / "sealing-keys.json").read_text())
    keys = [text for text in _texts(ring) if len(text) > 20]
    assert keys
    found = {
        "RPC key": RPC_KEY,
        "chat URL": CHAT_KEY,
        "SMTP password": SMTP_PASSWORD,
        "admin's token": watched.world.admin.token,
        "payer's token": watched.payer.token,
        "admin's key": _body(watched.world.admin.private_key),
        "payer's key": _body(watched.payer.private_key),
        "passphrase": (folder / "signer-passphrase").read_text().strip(),
        "webhook key": _body((folder / "webhook-key.pem").read_text()),
        **{f"sealing key {number}": text for number, text in enumerate(keys)},
    }
    assert all(len(text) > 12 for text in found.values())
    return found


def leaks(secrets: dict[str, str], content: bytes) -> list[str]:
    """Return which secrets a sink shows, plainly or in base64."""
    return [
        name
        for name, text in secrets.items()
        if any(form in content for form in (text.encode(), base64.b64encode(text.encode()).rstrip(b"=")))
    ]


def _texts(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for value in document.values():
            yield from _texts(value)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value)


def _body(pem: str) -> str:
    return "".join(line for line in pem.splitlines() if "-----" not in line)
