"""One digest for a list of documents, such that each document can be proved to be in its place with a short path.

A binary tree over SHA-256. Leaves, inner nodes and the digest are hashed in domains of their own, and the digest
covers how many leaves there are: nothing can be taken for something else, or moved. A node without a sibling moves up
as it is.
"""

import hashlib
from collections.abc import Sequence

from outlay.core.errors import InvalidInput
from outlay.evidence.base64url import from_base64url, to_base64url

_DOMAIN = b"outlay.batch.v1\n"
_SIZE = 32


def leaf(canonical_item: bytes) -> bytes:
    """Return the leaf of one document, given its canonical bytes."""
    return hashlib.sha256(b"\x00" + _DOMAIN + canonical_item).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + _DOMAIN + left + right).digest()


def _digest(root: bytes, count: int) -> str:
    return hashlib.sha256(b"\x02" + _DOMAIN + count.to_bytes(8, "big") + root).hexdigest()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return every level of the tree, leaves first, the root alone last."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [_node(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
        levels.append(above + below[len(above) * 2 :])
    return levels


def digest_of(leaves: Sequence[bytes]) -> str:
    """Return the digest of a list of one leaf or more, in lower-case hex."""
    return _digest(_levels(leaves)[-1][0], len(leaves))


def paths_of(leaves: Sequence[bytes]) -> list[list[str]]:
    """Return for each leaf its path: the siblings from the bottom up, in base64url."""
    levels = [[(each, to_base64url(each)) for each in level] for level in _levels(leaves)[:-1]]
    found = []
    for at in range(len(leaves)):
        path, place = [], at
        for level in levels:
            if place ^ 1 < len(level):
                path.append(level[place ^ 1][1])
            place //= 2
        found.append(path)
    return found


class Frontier:
    """The digest of a list that is told leaf by leaf, in memory that grows with its logarithm."""

    def __init__(self, state: Sequence[str] = (), count: int = 0) -> None:
        """Begin, or go on.

        Args:
            state: what ``state`` was.
            count: leaves so far.
        """
        # One peak for each bit of the count that is set, the highest first.
        self._peaks = [from_base64url(text, field="state") for text in state]
        self.count = count

    @property
    def state(self) -> list[str]:
        """What to go on from, beside the count."""
        return [to_base64url(each) for each in self._peaks]

    def add(self, item_leaf: bytes) -> None:
        """Append a leaf."""
        node, height = item_leaf, self.count
        while height & 1:
            node, height = _node(self._peaks.pop(), node), height >> 1
        self._peaks.append(node)
        self.count += 1

    def digest(self) -> str:
        """Return what ``digest_of`` returns of all leaves so far; one or more."""
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = _node(peak, node)
        return _digest(node, self.count)


class Tree:
    """The tree over many leaves, packed: 64 bytes a leaf."""

    def __init__(self, leaves: bytes) -> None:
        """Build it over leaves that stand one after the other."""
        self._levels = [leaves]
        while len(self._levels[-1]) > _SIZE:
            below = self._levels[-1]
            above = bytearray()
            for at in range(0, len(below) - _SIZE, 2 * _SIZE):
                above += _node(below[at : at + _SIZE], below[at + _SIZE : at + 2 * _SIZE])
            rest = len(below) % (2 * _SIZE)
            self._levels.append(bytes(above) + below[len(below) - rest :])

    def path(self, at: int) -> list[str]:
        """Return the path of the leaf at a place, from 0, as ``paths_of`` does."""
        found = []
        for level in self._levels[:-1]:
            beside = (at ^ 1) * _SIZE
            if beside < len(level):
                found.append(to_base64url(level[beside : beside + _SIZE]))
            at //= 2
        return found

    def digest(self) -> str:
        """Return what ``digest_of`` returns."""
        return _digest(self._levels[-1], len(self._levels[0]) // _SIZE)


def digest_by_path(item_leaf: bytes, *, index: int, count: int, path: Sequence[str]) -> str:
    """Return the digest of the list in which a leaf stands at ``index``.

    Args:
        item_leaf: the leaf.
        index: its place, from 0.
        count: how many leaves there are.
        path: its siblings, as ``paths_of`` gives them.

    Raises:
        InvalidInput: the place is outside of the list, or the path has another length or is malformed.
    """
    if not 0 <= index < count <= 2**32:
        raise InvalidInput("is outside of the list", field="index")
    siblings = [from_base64url(text, field="path") for text in path]
    if any(len(each) != _SIZE for each in siblings):
        raise InvalidInput("holds something else than hashes", field="path")
    node, place, width = item_leaf, index, count
    while width > 1:
        if place ^ 1 < width:
            if not siblings:
                raise InvalidInput("is too short", field="path")
            sibling = siblings.pop(0)
            node = _node(sibling, node) if place & 1 else _node(node, sibling)
        place, width = place // 2, (width + 1) // 2
    if siblings:
        raise InvalidInput("is too long", field="path")
    return _digest(node, count)
