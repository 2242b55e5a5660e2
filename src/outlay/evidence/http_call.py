"""A signed call that is one HTTP message: what is stored of it, and how it is checked again without the server.

``{v, kind, message, body}`` where the message stands for the body it names, or ``{v, kind, message, row}`` for one row
of a batch, ``{index, count, path, item}``: then the message stands for the digest of all items, and the path says that
this one is among them. So the proof of a row needs no other row.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.core.seams import SECOND
from outlay.evidence import http_signature as profile
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.canonical import canonical, read_json
from outlay.evidence.challenge import Preimage, normalize_path
from outlay.evidence.http_signature import Message, read_parameters
from outlay.evidence.merkle import digest_by_path, leaf
from outlay.evidence.shape import check_texts, members

KIND: Final = "HttpSignature"
VERSION: Final = 1

_OPTIONAL = {"contentDigest": "content_digest", "recordsHead": "records_head", "batchDigest": "batch_digest"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """One signed message and the content that it stands for; whose key signed it is not known here."""

    message: Message
    payload: dict[str, Any]  #: the parsed body; of a row of a batch, its item
    row: tuple[int, int] | None = None  #: index and count, of a row of a batch

    @property
    def path(self) -> str:
        """The path of the call, as ``normalize_path`` returns it."""
        return path_of(self.message.target_uri)

    @property
    def challenge(self) -> str:
        """What names this signed content, and is good once: a row of a batch has its own."""
        place = b"" if self.row is None else f"\n{self.row[0]}".encode()
        return to_base64url(hashlib.sha256(b"outlay.http.v1\n" + self.message.base + place).digest())


def is_http(document: object) -> bool:
    """Tell whether a signed call says that it is an HTTP message."""
    return isinstance(document, Mapping) and document.get("kind") == KIND


@functools.lru_cache(maxsize=256)
def path_of(target_uri: str) -> str:
    """Return the path of an absolute address without query or fragment, as ``normalize_path`` returns it.

    Raises:
        ActionSignatureInvalid: it is something else.
    """
    try:
        parts = urlsplit(target_uri)
        if parts.scheme not in ("http", "https") or not parts.netloc or "?" in target_uri or "#" in target_uri:
            raise InvalidInput("is not a plain address")
        return normalize_path(parts.path, field="@target-uri")
    except (InvalidInput, ValueError) as error:
        raise ActionSignatureInvalid("the signed target is not the plain address of a call") from error


def nonce_of(message: Message, credential_uuid: str) -> str:
    """Return the name under which a message's nonce is spent: each key has nonces of its own."""
    text = f"outlay.http-nonce.v1\n{credential_uuid}\n{message.parameters.nonce}"
    return to_base64url(hashlib.sha256(text.encode("ascii")).digest())


def preimage_of(
    message: Message, *, digest: str, org: str, user_id: str, credential_uuid: str, records_head: str
) -> Preimage:
    """Return what a message is, in the form in which all signed calls are judged.

    Args:
        message: the message.
        digest: of the parsed content it stands for.
        org: whose key signed it.
        user_id: whose key signed it.
        credential_uuid: of the key.
        records_head: the one it names, or the newest of when it was made.
    """
    return Preimage(
        org=org,
        identity=user_id,
        credentials=(credential_uuid,),
        method=message.method,
        path=path_of(message.target_uri),
        payload_digest=digest,
        records_head=records_head,
        nonce=nonce_of(message, credential_uuid),
        issued=message.parameters.created * SECOND,
        expires=message.parameters.expires * SECOND,
    )


# Documents


def message_document(message: Message) -> dict[str, Any]:
    """Return a message as evidence holds it."""
    given = {name: getattr(message, attribute) for name, attribute in _OPTIONAL.items()}
    return {
        "method": message.method,
        "targetUri": message.target_uri,
        **{name: value for name, value in given.items() if value is not None},
        "parameters": message.parameters.text,
        "signature": to_base64url(message.signature),
    }


def body_document(message: Message, body: bytes) -> dict[str, Any]:
    """Return the call of a message that stands for its body."""
    return {"v": VERSION, "kind": KIND, "message": message_document(message), "body": body.decode("utf-8")}


def row_document(message: Message, *, index: int, count: int, path: list[str], item: object) -> dict[str, Any]:
    """Return the call of one row of a batch."""
    row = {"index": index, "count": count, "path": path, "item": item}
    return {"v": VERSION, "kind": KIND, "message": message_document(message), "row": row}


def row_texts(
    message: Message, *, texts: Sequence[bytes], paths: Sequence[Sequence[str]], beside: Mapping[str, Any]
) -> list[str]:
    """Return what is stored of every row of a batch, as canonical text.

    Args:
        message: the signed message.
        texts: the canonical text of each item.
        paths: of each item, as ``merkle.paths_of`` gives them.
        beside: ``credential`` and ``policySet``, which no signature covers.
    """
    # Most of it is the same in every row. Members are in the order of canonical text, and paths are plain ASCII.
    credential, policies = canonical(beside["credential"]).decode(), canonical(beside["policySet"]).decode()
    signed = canonical(message_document(message)).decode()
    head = f'{{"credential":{credential},"kind":"{KIND}","message":{signed},"policySet":{policies},"row":{{'
    count = len(texts)
    return [
        f'{head}"count":{count},"index":{at},"item":{text.decode()},"path":[{_quoted(path)}]}},"v":{VERSION}}}'
        for at, (text, path) in enumerate(zip(texts, paths, strict=True))
    ]


def _quoted(path: Sequence[str]) -> str:
    return ",".join(f'"{each}"' for each in path)


def read_call(document: object, field: str) -> HttpCall:
    """Read what ``body_document`` or ``row_document`` wrote, and check that the message stands for its content.

    The signature is checked by ``HttpCall.message.verify``, with the key that the records know.

    Raises:
        InvalidInput: malformed, another spelling, or the content is not what the message stands for.
    """
    given = members(document, field, {"v": int, "kind": str, "message": dict}, {"body": str, "row": dict})
    if given["v"] != VERSION or given["kind"] != KIND:
        raise InvalidInput(f"{field} is of a version or kind that is not known here", field=f"{field}.v")
    message = _read_message(given["message"], f"{field}.message")
    if "body" in given and "row" not in given:
        return _read_body(message, given["body"], f"{field}.body")
    if "row" in given and "body" not in given:
        return _read_row(message, given["row"], f"{field}.row")
    raise InvalidInput(f"{field} holds either a body or a row", field=field)


def _read_message(document: object, field: str) -> Message:
    texts = dict.fromkeys(("method", "targetUri", "parameters", "signature"), str)
    given = members(document, field, texts, dict.fromkeys(_OPTIONAL, str))
    try:
        path_of(given["targetUri"])
        return Message(
            method=given["method"],
            target_uri=given["targetUri"],
            parameters=read_parameters(given["parameters"]),
            signature=from_base64url(given["signature"], field=f"{field}.signature"),
            **{attribute: given.get(name) for name, attribute in _OPTIONAL.items()},
        )
    except ActionSignatureInvalid as error:
        raise InvalidInput(error.message, field=field) from error


def _read_body(message: Message, text: str, field: str) -> HttpCall:
    if message.batch_digest is not None:
        raise InvalidInput(f"{field} is of a batch: its rows are proved one by one", field=field)
    body = text.encode("utf-8", "surrogatepass")
    if message.content_digest is None:
        raise InvalidInput(f"{field} is covered by no digest", field=field)
    try:
        profile.check_content_digest(message.content_digest, body)
    except ActionSignatureInvalid as error:
        raise InvalidInput(error.message, field=field) from error
    payload = read_json(body, field=field)
    if not isinstance(payload, dict):
        raise InvalidInput(f"{field} is not an object", field=field)
    return HttpCall(message=message, payload=payload)


def _read_row(message: Message, document: object, field: str) -> HttpCall:
    given = members(document, field, {"index": int, "count": int, "path": list, "item": dict})
    check_texts(given["path"], f"{field}.path")
    index, count = given["index"], given["count"]
    digest = digest_by_path(leaf(canonical(given["item"])), index=index, count=count, path=given["path"])
    if digest != message.batch_digest:
        raise InvalidInput(f"{field} is not in the batch that was signed", field=field)
    return HttpCall(message=message, payload=given["item"], row=(index, count))
