"""A bundle written again without some of its users."""

import tempfile
from pathlib import Path

import bundle_samples
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.bundle.manifest import list_versions, read_manifest, successor
from matinee.bundle.open import open_bundle
from matinee.bundle.users import USERS, Users, copy_users
from matinee.bundle.write import rewrite_bundle, write_bundle
from matinee.core.clock import ManualClock
from matinee.core.errors import InvalidInput

IDS = [f"viewer-{row:03d}" for row in range(40)]


def written(folder: Path, **changes) -> str:
    users = [bundle_samples.user_block(IDS)]
    return write_bundle(folder, contents=bundle_samples.contents(users, **changes), clock=ManualClock())


@given(gone=st.sets(st.sampled_from([*IDS, "stranger"])))
def test_all_is_as_before_but_for_those_left_out(gone: set[str]):
    with tempfile.TemporaryDirectory() as name:
        bundles = Path(name) / "bundles"
        before = written(bundles)
        manifest = read_manifest(bundles / before)
        if not gone & set(IDS):
            return
        after = rewrite_bundle(bundles / before, manifest, gone)
        with (
            open_bundle(bundles / before, bundles.parent) as old,
            open_bundle(bundles / after, bundles.parent) as new,
        ):
            assert new.users.ids() == [user for user in IDS if user not in gone]
            for user in IDS:
                entry, kept = old.user(user), new.user(user)
                assert entry is not None
                if user in gone:
                    assert kept is None
                else:
                    assert kept is not None
                    for field in ("top", "scores", "seen"):
                        assert getattr(kept, field).tolist() == getattr(entry, field).tolist()
                    assert (kept.segment, kept.age) == (entry.segment, entry.age)
            assert new.manifest.n_users == len(IDS) - len(gone & set(IDS))
        others = {file: record for file, record in manifest.files.items() if file != USERS}
        assert {file: read_manifest(bundles / after).files[file] for file in others} == others
        bytes_of = b"".join(path.read_bytes() for path in sorted((bundles / after).iterdir()))
        assert not any(user.encode() in bytes_of for user in gone)


def test_the_copy_stands_where_the_first_stood_and_says_so(tmp_path: Path):
    first = written(tmp_path)
    later = write_bundle(
        tmp_path, contents=bundle_samples.contents(), clock=ManualClock(ManualClock().now_us() + 10**7)
    )
    second = rewrite_bundle(tmp_path / first, read_manifest(tmp_path / first), {IDS[0]})
    third = rewrite_bundle(tmp_path / second, read_manifest(tmp_path / second), {IDS[1]})
    manifest = read_manifest(tmp_path / third)
    assert manifest.predecessors == (first, second)
    assert (manifest.created_us, manifest.format_version) == (
        read_manifest(tmp_path / first).created_us,
        read_manifest(tmp_path / first).format_version,
    )
    assert list_versions(tmp_path)[-1] == later
    assert successor(tmp_path, first) == first  # while it is there
    for version in (first, second):
        for path in (tmp_path / version).iterdir():
            path.unlink()
        (tmp_path / version).rmdir()
    assert [successor(tmp_path, version) for version in (first, second, third)] == [third] * 3
    assert successor(tmp_path, "20200101T000000Z-als-00000000") == "20200101T000000Z-als-00000000"


@pytest.mark.parametrize("at_once", [1, 7, 40, 1_000])
def test_users_are_copied_whole_however_many_at_once(tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch):
    version = written(tmp_path / "bundles")
    manifest = read_manifest(tmp_path / "bundles" / version)
    source = Users(tmp_path / "bundles" / version / USERS, manifest.index_type, manifest.format_version)
    monkeypatch.setattr("matinee.bundle.users._USERS_A_TRANSACTION", at_once)
    assert copy_users(source, tmp_path / USERS, {IDS[3]}) == len(IDS) - 1
    copy = Users(tmp_path / USERS, manifest.index_type, manifest.format_version)
    kept = [pair for pairs in source.pairs(1_000) for pair in pairs if pair[0] != IDS[3].encode()]
    assert [pair for pairs in copy.pairs(3) for pair in pairs] == kept
    source.close()
    copy.close()


def test_what_is_liked_of_late_is_kept_and_without_it_popularity_stands_for_it(tmp_path):
    order = np.array([3, 1, 0, 2, 5, 4], dtype=np.int32)
    version = written(tmp_path, trending=order)
    copy = rewrite_bundle(tmp_path / version, read_manifest(tmp_path / version), {IDS[0]})
    for name in (version, copy):
        with open_bundle(tmp_path / name, tmp_path / "run") as bundle:
            assert bundle.trending().tolist() == order.tolist()
    other = tmp_path / "other"
    with open_bundle(other / written(other), tmp_path / "run") as bundle:
        assert bundle.trending().tolist() == bundle.popular().tolist()
    with pytest.raises(InvalidInput, match="every item once"):
        written(tmp_path, trending=np.zeros(6, dtype=np.int32))
