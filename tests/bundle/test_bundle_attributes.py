"""What a bundle says of its items and its users' ages; and bundles of format 1, which said neither."""

import hashlib
import os
import struct
import tempfile
from pathlib import Path

import bundle_samples
import lmdb
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from matinee.bundle.attributes import ATTRIBUTES, ItemAttributes, encode_texts, read_attributes
from matinee.bundle.manifest import MANIFEST, FileRecord, encode_manifest, read_manifest
from matinee.bundle.open import open_bundle
from matinee.bundle.write import write_bundle
from matinee.core.clock import ManualClock
from matinee.core.errors import Corrupt, InvalidInput


@st.composite
def attributes(draw: st.DrawFn) -> ItemAttributes:
    n_items = draw(st.integers(1, 6))
    genres = draw(st.lists(st.text(), unique=True, max_size=4).map(sorted))
    return ItemAttributes(
        titles=tuple(draw(st.lists(st.text(), min_size=n_items, max_size=n_items))),
        genres=tuple(genres),
        genre_mask=draw(arrays.arrays(np.bool_, (n_items, len(genres)))),
        year=draw(arrays.arrays(np.int16, n_items, elements=st.integers(0, 9_999))),
        age_limit=draw(arrays.arrays(np.uint8, n_items)),
        available_from_us=draw(arrays.arrays(np.int64, n_items)),
        available_until_us=draw(arrays.arrays(np.int64, n_items)),
        interactions=draw(arrays.arrays(np.int32, n_items, elements=st.integers(0, 2**31 - 1))),
    )


@given(written=attributes())
def test_attributes_come_back_as_written(written):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        contents = bundle_samples.contents(n_items=len(written.titles), attributes=written)
        version = write_bundle(root / "bundles", contents=contents, clock=ManualClock())
        with open_bundle(root / "bundles" / version, root / "run") as bundle:
            found = bundle.attributes
    assert (found.titles, found.genres) == (written.titles, written.genres)
    for name, array in written.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), array)
        assert getattr(found, name).dtype == array.dtype
        assert not getattr(found, name).flags.writeable


def test_nothing_is_known_where_nothing_was_said(write, run):
    with open_bundle(write(), run) as bundle:
        assert_unknown(bundle.attributes, 6)
        assert {bundle.user(user).age for user in bundle.users.ids()} == {-1}


def assert_unknown(attributes, n_items):
    assert attributes.titles == ("",) * n_items
    assert attributes.genres == ()
    assert attributes.genre_mask.shape == (n_items, 0)
    for name in ("year", "age_limit", "interactions"):
        assert getattr(attributes, name).tolist() == [0] * n_items
    assert attributes.available_from_us.tolist() == [-(2**63)] * n_items
    assert attributes.available_until_us.tolist() == [2**63 - 1] * n_items


WRONG = {
    "genres that descend": {"genres": ("b", "a")},
    "a genre twice": {"genres": ("a", "a")},
    "a mask of other genres": {"genre_mask": np.zeros((2, 3), np.bool_)},
    "a mask of numbers": {"genre_mask": np.zeros((2, 2), np.int8)},
    "too few years": {"year": np.zeros(1, np.int16)},
    "a year before all years": {"year": np.array([0, -1], np.int16)},
    "limits as int64": {"age_limit": np.zeros(2, np.int64)},
    "too many titles": {"titles": ("x",) * 3},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_attributes_that_do_not_fit_together_are_refused(changes):
    fields = {"titles": ("x", "y"), "genres": ("a", "b"), **ItemAttributes.unknown(2).arrays()}
    fields["genre_mask"] = np.ones((2, 2), np.bool_)
    ItemAttributes(**fields)
    with pytest.raises(InvalidInput):
        ItemAttributes(**(fields | changes))


def test_attributes_of_another_catalogue_are_refused(write):
    with pytest.raises(InvalidInput, match="attributes are of 5 items"):
        write(attributes=ItemAttributes.unknown(5))


@pytest.mark.parametrize(
    "texts", [b"", b"{}", b'{"titles": ["x"], "genres": [1]}', b'{"titles": [], "genres": []}']
)
def test_files_that_are_no_attributes_are_corrupt(tmp_path, texts):
    known = ItemAttributes.unknown(1)
    path = tmp_path / ATTRIBUTES
    path.write_bytes(encode_texts(known))
    assert read_attributes(path, known.arrays()).titles == ("",)
    path.write_bytes(texts)
    with pytest.raises(Corrupt, match=ATTRIBUTES):
        read_attributes(path, known.arrays())


def test_an_array_that_is_missing_is_corrupt(tmp_path):
    path = tmp_path / ATTRIBUTES
    path.write_bytes(encode_texts(ItemAttributes.unknown(1)))
    with pytest.raises(Corrupt, match="year"):
        read_attributes(path, {name: a for name, a in ItemAttributes.unknown(1).arrays().items() if name != "year"})


@pytest.mark.parametrize(
    "ages",
    [np.array([-2, 0], np.int16), np.array([0, 256], np.int16), np.zeros(3, np.int16), np.zeros(2, np.int32)],
)
def test_ages_that_are_none_are_refused(ages):
    with pytest.raises(InvalidInput, match="ages"):
        bundle_samples.user_block(["a", "b"], ages=ages)


# --- format 1 -------------------------------------------------------------------------------------------------


def value_of_format_1(segment, scores, top, seen):
    """As format 1 had it: segment, number of best items, scores, best items, seen items; nothing else."""
    return struct.pack(f"<hH{len(scores)}f{len(top)}H{len(seen)}H", segment, len(top), *scores, *top, *seen)


@pytest.fixture
def old(write):
    """A bundle as it was before there were attributes and ages."""
    path = write()
    for file in (*path.glob("attribute-*.npy"), path / ATTRIBUTES, path / "users.lmdb"):
        file.unlink()
    with lmdb.open(str(path / "users.lmdb"), subdir=False, lock=False) as users, users.begin(write=True) as to:
        to.put(b"alice", value_of_format_1(1, [0.75, 0.5], [4, 2], [0, 5, 1]))
        to.put(b"bob", value_of_format_1(-1, [], [], []))
    files = {
        file.name: FileRecord(bytes=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        for file in path.iterdir()
        if file.name != MANIFEST
    }
    manifest = msgspec.structs.replace(read_manifest(path), format_version=1, files=files, n_users=2)
    (path / MANIFEST).write_bytes(encode_manifest(manifest))
    return path


def test_a_bundle_of_format_1_is_read_as_knowing_neither(old, run):
    with open_bundle(old, run) as bundle:
        assert bundle.manifest.format_version == 1
        assert_unknown(bundle.attributes, 6)
        alice, bob = bundle.user("alice"), bundle.user("bob")
        assert (alice.top.tolist(), alice.scores.tolist(), alice.seen.tolist()) == ([4, 2], [0.75, 0.5], [0, 5, 1])
        assert (alice.segment, alice.age) == (1, -1)
        assert (bob.top.size, bob.scores.size, bob.seen.size, bob.segment, bob.age) == (0, 0, 0, -1, -1)
        assert bundle.items == tuple(bundle_samples.contents().items)
        assert bundle.fold_in is not None


@pytest.mark.parametrize("name", ["users.lmdb", "popular.npy"])
def test_a_bundle_of_format_1_is_still_verified(old, run, name):
    os.truncate(old / name, (old / name).stat().st_size - 1)
    with pytest.raises(Corrupt, match=name):
        open_bundle(old, run)
