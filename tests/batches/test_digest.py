"""The digest of rows: the vectors that others check against, and the ways to work it out, which agree."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import Frontier, Tree, digest_by_path, digest_of, leaf, paths_of

VECTORS = Path(__file__).parents[1] / "vectors" / "batch_digest.json"
CASES = json.loads(VECTORS.read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_the_vectors_are_what_the_program_says(case: Any) -> None:
    texts = [canonical(each) for each in case["items"]]
    leaves = [leaf(each) for each in texts]
    assert [each.decode() for each in texts] == case["canonical"]
    assert [each.hex() for each in leaves] == case["leaves"]
    assert digest_of(leaves) == case["digest"]


def test_a_program_in_javascript_says_the_same() -> None:
    node = shutil.which("node")
    assert node is not None
    script = Path(__file__).parent / "digest.mjs"
    ran = subprocess.run([node, str(script), str(VECTORS)], capture_output=True, text=True, check=True, timeout=60)
    names = ("canonical", "leaves", "digest")
    assert json.loads(ran.stdout) == [{name: each[name] for name in names} for each in CASES]


@given(count=st.integers(1, 300), broken=st.integers(0, 300))
def test_told_leaf_by_leaf_or_packed_it_is_the_same(count: int, broken: int) -> None:
    leaves = [leaf(b"%d" % at) for at in range(count)]
    expected = digest_of(leaves)
    frontier = Frontier()
    for at, each in enumerate(leaves):
        if at == broken:
            frontier = Frontier(json.loads(json.dumps(frontier.state)), frontier.count)  # it was stored in between
        frontier.add(each)
        assert len(frontier.state) == (at + 1).bit_count()
    assert (frontier.digest(), frontier.count) == (expected, count)
    tree = Tree(b"".join(leaves))
    assert tree.digest() == expected
    assert [tree.path(at) for at in range(count)] == paths_of(leaves)
    for at in {0, count // 2, count - 1}:
        assert digest_by_path(leaves[at], index=at, count=count, path=tree.path(at)) == expected
