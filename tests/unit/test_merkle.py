"""The digest of a batch: every item can be proved in its place, and nothing else can."""

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.merkle import digest_by_path, digest_of, leaf, paths_of


def leaves(count: int) -> list[bytes]:
    return [leaf(b"item %d" % number) for number in range(count)]


def test_a_digest_by_hand() -> None:
    """Three items: the third has no sibling and moves up as it is."""

    def sha(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    domain = b"outlay.batch.v1\n"
    one, two, three = (sha(b"\x00", domain, b"item %d" % number) for number in range(3))
    root = sha(b"\x01", domain, sha(b"\x01", domain, one, two), three)
    assert digest_of(leaves(3)) == sha(b"\x02", domain, (3).to_bytes(8, "big"), root).hex()


@pytest.mark.parametrize("count", [*range(1, 34), 1000])
def test_every_item_is_proved_in_its_place_and_in_no_other(count: int) -> None:
    all_leaves = leaves(count)
    digest, paths = digest_of(all_leaves), paths_of(all_leaves)
    assert max(len(path) for path in paths) == (count - 1).bit_length()
    for at, path in enumerate(paths):
        assert digest_by_path(all_leaves[at], index=at, count=count, path=path) == digest
        for other_at, other_count in ((at + 1, count), (at - 1, count), (at, count + 1), (at, count - 1)):
            try:
                said = digest_by_path(all_leaves[at], index=other_at, count=other_count, path=path)
            except InvalidInput:
                continue
            assert said != digest


def test_digests_of_all_short_lists_differ() -> None:
    """Also of a list and its beginning, and of one that repeats its last item."""
    seen: dict[str, object] = {}
    for count in range(1, 7):
        for chosen in itertools.product(b"ab", repeat=count):
            digest = digest_of([leaf(bytes([each])) for each in chosen])
            assert digest not in seen, (seen[digest], chosen)
            seen[digest] = chosen


def test_an_inner_node_is_no_item_and_an_item_no_inner_node() -> None:
    four = leaves(4)
    digest, paths = digest_of(four), paths_of(four)
    # The sibling on the second level is an inner node: it stands for two items, and cannot be one of two.
    inner = from_base64url(paths[0][1], field="path")
    assert digest_by_path(inner, index=1, count=2, path=[to_base64url(inner)]) != digest
    with pytest.raises(InvalidInput, match="too long"):
        digest_by_path(four[0], index=0, count=2, path=paths[0])


@given(st.integers(2, 40), st.data())
def test_a_changed_item_or_path_gives_another_digest(count: int, data: st.DataObject) -> None:
    all_leaves = leaves(count)
    at = data.draw(st.integers(0, count - 1))
    path = paths_of(all_leaves)[at]
    place = data.draw(st.integers(0, len(path) - 1))
    other = to_base64url(
        bytes(each ^ (number == 7) for number, each in enumerate(from_base64url(path[place], field="p")))
    )
    digest = digest_of(all_leaves)
    changed = [*path[:place], other, *path[place + 1 :]]
    assert digest_by_path(all_leaves[at], index=at, count=count, path=changed) != digest
    assert digest_by_path(leaf(b"another"), index=at, count=count, path=path) != digest


@pytest.mark.parametrize("path", [["!"], ["AAAA"], [to_base64url(bytes(33))], [], [to_base64url(bytes(32))] * 2])
def test_a_malformed_path_is_refused(path: list[str]) -> None:
    with pytest.raises(InvalidInput):
        digest_by_path(leaf(b"x"), index=0, count=2, path=path)
    for index, count in ((-1, 2), (2, 2), (0, 0), (0, 2**33)):
        with pytest.raises(InvalidInput):
            digest_by_path(leaf(b"x"), index=index, count=count, path=[to_base64url(bytes(32))])
