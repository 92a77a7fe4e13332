"""What is written is what is read."""

import os
import tempfile
from pathlib import Path

import bundle_samples
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from matinee.bundle.contents import UserBlock
from matinee.bundle.manifest import Gate, list_bundles, read_manifest, source_ends
from matinee.bundle.open import open_bundle
from matinee.bundle.provenance import code_version, library_versions
from matinee.bundle.users import index_type, pack_users, unpack_user
from matinee.bundle.write import write_bundle
from matinee.core.clock import ManualClock
from matinee.core.errors import InvalidId, InvalidInput, StoreUnavailable
from matinee.core.ids import ID_PATTERN
from matinee.events.offsets import Source

IDS = st.from_regex(ID_PATTERN, fullmatch=True)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[list[UserBlock], int]:
    """Some blocks of users in any order, and the size of their catalogue."""
    n_items = draw(st.integers(1, 8))
    width = draw(st.integers(0, 4))
    ids = draw(st.lists(IDS, unique=True, max_size=12))
    cut = draw(st.integers(0, len(ids)))
    item = st.integers(0, n_items - 1)
    made = []
    for part in (ids[:cut], ids[cut:]):
        seen = [draw(st.lists(item, unique=True)) for _ in part]
        tops = [[i for i in draw(st.lists(item, max_size=width)) if i not in met] for met in seen]
        rows = [row + [-1] * (width - len(row)) for row in tops]
        scores = [
            draw(st.lists(st.floats(width=32, allow_nan=False), min_size=width, max_size=width)) for _ in part
        ]
        made.append(
            UserBlock(
                ids=part,
                top=np.array(rows, dtype=np.int32).reshape(len(part), width),
                scores=np.array(scores, dtype=np.float32).reshape(len(part), width),
                seen_indptr=np.cumsum([0, *map(len, seen)], dtype=np.int64),
                seen_indices=np.array([index for row in seen for index in row], dtype=np.int32),
                segments=np.array([draw(st.integers(-1, 1)) for _ in part], dtype=np.int16),
                ages=draw(st.none() | arrays.arrays(np.int16, len(part), elements=st.integers(-1, 255))),
            )
        )
    return made, n_items


@given(drawn=blocks())
def test_every_user_comes_back_as_written(drawn):
    users, n_items = drawn
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        contents = bundle_samples.contents(users, n_items=n_items)
        version = write_bundle(root / "bundles", contents=contents, clock=ManualClock())
        with open_bundle(root / "bundles" / version, root / "run") as bundle:
            for block in users:
                for row, user in enumerate(block.ids):
                    entry = bundle.user(user)
                    n = int((block.top[row] >= 0).sum())
                    np.testing.assert_array_equal(entry.top, block.top[row, :n])
                    np.testing.assert_array_equal(entry.scores, block.scores[row, :n])
                    seen = block.seen_indices[block.seen_indptr[row] : block.seen_indptr[row + 1]]
                    np.testing.assert_array_equal(entry.seen, seen)
                    assert entry.segment == block.segments[row]
                    assert entry.age == (-1 if block.ages is None else block.ages[row])
                    assert (entry.top.dtype, entry.scores.dtype, entry.seen.dtype) == ("int32", "float32", "int32")
            assert bundle.users.ids() == sorted(user for block in users for user in block.ids)
            assert bundle.manifest.n_users == sum(len(block.ids) for block in users)


@pytest.mark.parametrize(("n_items", "expected"), [(65_536, "<u2"), (65_537, "<i4")])
def test_the_last_index_of_a_catalogue_fits(n_items, expected):
    assert index_type(n_items) == expected
    last = np.array([[n_items - 1, -1]], dtype=np.int32)
    block = UserBlock(
        ["u"], last, np.ones((1, 2), np.float32), np.array([0, 1]), last[0, :1], np.zeros(1, np.int16)
    )
    [(_, value)] = pack_users(block, expected)
    entry = unpack_user(value, np.dtype(expected))
    assert (entry.top.tolist(), entry.seen.tolist()) == ([n_items - 1], [n_items - 1])


def test_the_rest_comes_back_as_written(write, run):
    path = write()
    contents = bundle_samples.contents()
    with open_bundle(path, run) as bundle:
        assert bundle.version == path.name == bundle.manifest.version
        assert bundle.items == tuple(contents.items)
        assert [bundle.item_index(item) for item in (*contents.items, "none")] == [0, 1, 2, 3, 4, 5, None]
        np.testing.assert_array_equal(bundle.item_minutes, contents.item_minutes)
        for segment in (None, -1, 2, 99):
            np.testing.assert_array_equal(bundle.popular(segment), contents.popular)
        for segment in (0, 1):
            np.testing.assert_array_equal(bundle.popular(segment), contents.popular_by_segment[segment])
        for name, array in bundle_samples.fold_in_arrays(6).items():
            np.testing.assert_array_equal(bundle.fold_in.to_arrays()[name], array)
        for name in msgspec.structs.fields(contents.provenance):
            assert getattr(bundle.manifest, name.name) == getattr(contents.provenance, name.name)
        assert bundle.touch() == sum(record.bytes for record in bundle.manifest.files.values())


def test_what_is_mapped_cannot_be_written(write, run):
    with open_bundle(write(), run) as bundle:
        for array in (
            bundle.item_minutes,
            bundle.popular(),
            bundle.fold_in.item_factors,
            bundle.user("u000").scores,
        ):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


def test_a_model_that_does_not_fold_in(write, run):
    with open_bundle(write(fold_in={}), run) as bundle:
        assert bundle.fold_in is None


@pytest.mark.parametrize("folds_in", [True, False])
def test_what_predicts_ratings_comes_back_and_its_vectors_are_stored_once(write, run, folds_in):
    wanted = bundle_samples.rating_fold_in(bundle_samples.fold_in_arrays(6)["item_factors"])
    rated = np.array([1, 4], dtype=np.int32), np.array([2.0, 5.0], dtype=np.float32)
    path = write() if folds_in else write(fold_in={}, ratings=wanted)
    assert (path / "rating-item_vectors.npy").exists() is not folds_in
    with open_bundle(path, run) as bundle:
        assert (
            bundle.ratings.ratings(*rated, np.arange(6)).tolist() == wanted.ratings(*rated, np.arange(6)).tolist()
        )
        if folds_in:
            assert bundle.ratings.item_vectors is bundle.fold_in.item_factors
            os.truncate(path / "fold_in-item_factors.npy", 1)
            assert bundle.ratings is None
    with open_bundle(write(ratings=None), run) as bundle:
        assert bundle.ratings is None


@pytest.mark.parametrize("stranger", ["", "nobody", "x" * 600, "u\ud800", "u000\0"])
def test_strangers_are_nobody(write, run, stranger):
    with open_bundle(write(), run) as bundle:
        assert bundle.user(stranger) is None


def test_user_ids_are_walked_in_pages(write, run):
    with open_bundle(write(), run) as bundle:
        first = bundle.users.ids(limit=25)
        assert first + bundle.users.ids(after=first[-1]) == [f"u{row:03d}" for row in range(40)]
        assert bundle.users.ids(after="zzz") == []


def test_the_same_contents_are_the_same_bytes(write):
    first, second = write(), write()
    assert first != second
    assert first.name[-8:] == second.name[-8:]
    assert read_manifest(first).files == read_manifest(second).files


@pytest.mark.parametrize(
    "changes",
    [
        {"provenance": bundle_samples.provenance(seed=8)},
        {"provenance": bundle_samples.provenance(params={"n_factors": 3})},
        {"items": [f"other+{index}" for index in range(6)]},
        {"users": [bundle_samples.user_block(["u1"])]},
    ],
)
def test_other_contents_have_another_name(write, changes):
    assert write().name[-8:] != write(**changes).name[-8:]


def test_names_say_when_and_what_and_sort_by_age(write):
    paths = [write() for _ in range(3)]
    assert paths[0].name.startswith("20231114T221321Z-als-")  # a second after 1,700,000,000
    assert [manifest.version for manifest in list_bundles(paths[0].parent)] == [path.name for path in paths]


def test_a_bundle_is_never_overwritten(bundles):
    clock = ManualClock()
    version = write_bundle(bundles, contents=bundle_samples.contents(), clock=clock)
    before = read_manifest(bundles / version)
    with pytest.raises(InvalidInput, match="never overwritten"):
        write_bundle(bundles, contents=bundle_samples.contents(), clock=clock)
    assert read_manifest(bundles / version) == before
    assert [path.name for path in bundles.iterdir()] == [version]


def test_figures_that_are_no_numbers_become_null(write):
    metrics = {"all": {"ndcg@10": np.float64(0.25), "rmse": float("nan")}}
    gate = Gate(passed=np.bool_(True), evidence={"n": np.int64(3)})
    manifest = read_manifest(write(provenance=bundle_samples.provenance(metrics=metrics, gate=gate)))
    assert manifest.metrics == {"all": {"ndcg@10": 0.25, "rmse": None}}
    assert manifest.gate == Gate(passed=True, evidence={"n": 3})


def test_many_users_in_many_blocks_outgrow_the_first_map(write, run):
    """70 MB of seen items: more than the map begins with."""
    n_items, rows = 50_000, 100
    everything = np.tile(np.arange(n_items, dtype=np.int32), rows)
    blocks = [
        UserBlock(
            ids=[f"{number:02d}-{row:03d}" for row in range(rows)],
            top=np.full((rows, 1), -1, np.int32),
            scores=np.zeros((rows, 1), np.float32),
            seen_indptr=np.arange(rows + 1, dtype=np.int64) * n_items,
            seen_indices=everything,
            segments=np.zeros(rows, np.int16),
        )
        for number in range(7)
    ]
    with open_bundle(write(blocks, n_items=n_items), run) as bundle:
        for user in ("00-000", "03-050", "06-099"):
            np.testing.assert_array_equal(bundle.user(user).seen, everything[:n_items])


def test_newer_means_at_or_beyond_the_snapshots_end(write, run):
    offsets = source_ends({Source("g", 0): 10, Source("g", 1): 0})
    with open_bundle(write(provenance=bundle_samples.provenance(offsets=offsets)), run) as bundle:
        assert not bundle.is_newer({})
        assert not bundle.is_newer({Source("g", 0): 9})
        assert bundle.is_newer({Source("g", 0): 10})
        assert bundle.is_newer({Source("g", 0): 9, Source("g", 1): 0})
        assert bundle.is_newer({Source("h", 0): 0})


def test_one_process_may_hold_a_bundle_twice(write, run):
    path = write()
    first, second = open_bundle(path, run), open_bundle(path, run)
    first.close()
    first.close()
    assert second.user("u000") is not None
    second.close()
    with open_bundle(path, run) as third:
        assert third.user("u000") is not None


def test_after_closing_users_are_refused_and_arrays_stay(write, run):
    bundle = open_bundle(write(), run)
    entry, popular = bundle.user("u000"), bundle.popular()
    bundle.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        bundle.user("u000")
    assert popular.tolist() == [5, 4, 3, 2, 1, 0]
    assert len(entry.top) == 3


WRONG = {
    "an id twice": {"items": ["a", "a", "b", "c", "d", "e"]},
    "a segment twice": {"segments": ["x", "x"]},
    "minutes too short": {"item_minutes": np.ones(5, np.float32)},
    "minutes as float64": {"item_minutes": np.ones(6)},
    "an item missing in popularity": {"popular": np.array([0, 1, 2, 3, 4, 4], np.int32)},
    "fold-in without its arrays": {"fold_in": {"item_factors": np.ones((6, 2), np.float32)}},
    "fold-in of another catalogue": {"fold_in": bundle_samples.fold_in_arrays(7)},
    "ratings by other vectors": {"ratings": bundle_samples.rating_fold_in(np.ones((6, 2), np.float32))},
    "ratings of another catalogue": {"ratings": bundle_samples.rating_fold_in(np.ones((5, 2), np.float32))},
    "fold-in that leaves the folder": {"fold_in": {"../x": np.ones(1)}},
    "fold-in of objects": {"fold_in": {"x": np.array([object()])}},
    "a model that is no name": {"provenance": bundle_samples.provenance(model="../als")},
    "an item beyond the catalogue": {"users": [bundle_samples.user_block(["u1", "u2", "u3"], n_items=60)]},
    "a user twice in a block": {"users": [bundle_samples.user_block(["u1", "u1"])]},
    "a user twice in two blocks": {"users": [bundle_samples.user_block(["u1", "u2"])] * 2},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused_and_leaves_nothing(write, bundles, changes):
    with pytest.raises(InvalidInput):
        write(**changes)
    assert not bundles.exists() or list(bundles.iterdir()) == []


@pytest.mark.parametrize("changes", [{"items": ["a,b", *"cdefg"]}, {"users": [bundle_samples.user_block(["a b"])]}])
def test_ids_have_the_form_of_ids(write, changes):
    with pytest.raises(InvalidId):
        write(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": np.ones((2, 3))},
        {"scores": np.ones((2, 2), np.float32)},
        {"segments": np.zeros(3, np.int16)},
        {"seen_indptr": np.array([0, 2])},
        {"seen_indptr": np.array([0, 2, 1])},
        {"top": np.zeros(6, np.int32)},
    ],
)
def test_a_block_whose_shapes_differ_is_refused(changes):
    fields = {
        "ids": ["a", "b"],
        "top": np.zeros((2, 3), np.int32),
        "scores": np.ones((2, 3), np.float32),
        "seen_indptr": np.array([0, 1, 1]),
        "seen_indices": np.zeros(1, np.int32),
        "segments": np.zeros(2, np.int16),
    }
    UserBlock(**fields)
    with pytest.raises(InvalidInput):
        UserBlock(**(fields | changes))


def test_the_program_knows_its_own_version_and_libraries():
    import matinee

    assert code_version().package == matinee.__version__
    assert library_versions()["numpy"] == np.__version__
    assert "pytest" not in library_versions()
