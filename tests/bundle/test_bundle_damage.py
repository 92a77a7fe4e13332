"""A bundle that is not what was written is refused, by the name of the file."""

import os
import shutil

import bundle_samples
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matinee.bundle import verify
from matinee.bundle.attributes import ItemAttributes
from matinee.bundle.manifest import BUNDLE_FORMAT, MANIFEST, encode_manifest, list_bundles, read_manifest
from matinee.bundle.open import open_bundle
from matinee.core.errors import Corrupt, FormatTooNew

FILES = [
    MANIFEST,
    "items.txt",
    "item_minutes.npy",
    "popular.npy",
    "users.lmdb",
    "attributes.json",
    *(f"attribute-{name}.npy" for name in ItemAttributes.unknown(0).arrays()),
    *(f"fold_in-{name}.npy" for name in bundle_samples.fold_in_arrays(1)),
    *(f"rating-{name}.npy" for name in bundle_samples.rating_fold_in(np.ones((1, 1), np.float32)).to_arrays()),
]


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 0x20
    path.write_bytes(data)


def test_these_are_all_the_files(write):
    assert sorted(path.name for path in write().iterdir()) == sorted(FILES)


@pytest.mark.parametrize("known", [False, True], ids=["new to this host", "verified before"])
@pytest.mark.parametrize("name", FILES)
class TestEveryFile:
    @pytest.fixture
    def path(self, write, run, known):
        path = write()
        if known:
            open_bundle(path, run).close()
        return path

    @pytest.mark.parametrize("where", [0.0, 0.3, 0.5, 0.999])
    def test_a_flipped_bit(self, path, run, name, where):
        flip(path / name, int(where * (path / name).stat().st_size))
        with pytest.raises(Corrupt, match=name):
            open_bundle(path, run)

    def test_a_byte_short(self, path, run, name):
        os.truncate(path / name, (path / name).stat().st_size - 1)
        with pytest.raises(Corrupt, match=name):
            open_bundle(path, run)

    def test_emptied(self, path, run, name):
        os.truncate(path / name, 0)
        with pytest.raises(Corrupt, match=name):
            open_bundle(path, run)

    def test_longer(self, path, run, name):
        with (path / name).open("ab") as file:
            file.write(b"\0")
        with pytest.raises(Corrupt, match=name):
            open_bundle(path, run)

    def test_missing(self, path, run, name):
        (path / name).unlink()
        with pytest.raises(Corrupt, match=name):
            open_bundle(path, run)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_bit_of_the_manifest_counts(write, bundles, share, bit):
    path = next(bundles.iterdir()) if bundles.exists() else write()
    data = (path / MANIFEST).read_bytes()
    position = int(share * len(data))
    broken = bytearray(data)
    broken[position] ^= 1 << bit
    try:
        (path / MANIFEST).write_bytes(broken)
        with pytest.raises(Corrupt, match=MANIFEST):
            read_manifest(path)
    finally:
        (path / MANIFEST).write_bytes(data)


def test_a_folder_that_is_not_there(bundles, run):
    with pytest.raises(Corrupt, match=MANIFEST):
        open_bundle(bundles / "20261124T001530Z-als-1a2b3c4d", run)


def test_a_renamed_folder(write, run):
    path = write()
    with pytest.raises(Corrupt, match="renamed"):
        open_bundle(path.rename(path.with_name("20261124T001530Z-als-1a2b3c4d")), run)


def test_a_newer_format(write, run):
    path = write()
    newer = msgspec.structs.replace(read_manifest(path), format_version=BUNDLE_FORMAT + 1)
    (path / MANIFEST).write_bytes(encode_manifest(newer))
    with pytest.raises(FormatTooNew, match=MANIFEST):
        open_bundle(path, run)


def test_a_list_leaves_out_what_cannot_be_read(write, bundles, caplog):
    good, bad, newer = write(), write(), write()
    (bad / MANIFEST).unlink()
    later = msgspec.structs.replace(read_manifest(newer), format_version=BUNDLE_FORMAT + 1)
    (newer / MANIFEST).write_bytes(encode_manifest(later))
    (bundles / "notes").mkdir()
    assert [manifest.version for manifest in list_bundles(bundles)] == [good.name]


class TestOncePerHost:
    @pytest.fixture
    def hashed(self, monkeypatch):
        """The names of the files that were read and hashed."""
        names = []
        real = verify.file_sha256
        monkeypatch.setattr(verify, "file_sha256", lambda path: (names.append(path.name), real(path))[1])
        return names

    def test_the_second_time_nothing_is_read(self, write, run, hashed):
        path = write()
        open_bundle(path, run).close()
        assert sorted([*hashed, MANIFEST]) == sorted(FILES)
        hashed.clear()
        open_bundle(path, run).close()
        assert hashed == []

    @pytest.mark.parametrize("name", FILES)
    def test_another_time_of_change_has_all_read_again(self, write, run, hashed, name):
        path = write()
        open_bundle(path, run).close()
        hashed.clear()
        os.utime(path / name, ns=(0, 0))
        open_bundle(path, run).close()
        assert sorted([*hashed, MANIFEST]) == sorted(FILES)

    def test_a_change_whose_time_was_set_back_is_found(self, write, run):
        path = write()
        open_bundle(path, run).close()
        file = path / "popular.npy"
        before = file.stat()
        flip(file, -1)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(Corrupt, match=r"popular\.npy"):
            open_bundle(path, run)

    def test_a_copy_in_its_place_is_read_again(self, write, run, hashed):
        path = write()
        open_bundle(path, run).close()
        hashed.clear()
        shutil.copytree(path, path.parent / "copy")
        shutil.rmtree(path)
        (path.parent / "copy").rename(path)
        open_bundle(path, run).close()
        assert hashed

    @pytest.mark.parametrize("memory", [b"", b"{", b"[]", b'{"format_version": 9}', b'{"format_version": 1}'])
    def test_a_broken_memory_is_no_memory(self, write, run, hashed, memory):
        path = write()
        (run / "verified").mkdir(parents=True)
        (run / "verified" / f"{path.name}.json").write_bytes(memory)
        open_bundle(path, run).close()
        assert hashed

    def test_a_run_folder_that_cannot_be_written_costs_time_only(self, write, run):
        path = write()
        run.write_text("not a folder")
        with open_bundle(path, run) as bundle:
            assert bundle.user("u000") is not None
