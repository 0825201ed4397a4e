"""A checkpoint that has its name is whole, whenever the process that wrote it was killed."""

import os

import pytest

from luffy_pl.errors import StorageError
from luffy_pl.run_dir import checkpoints as files


@pytest.fixture(autouse=True)
def synced(monkeypatch):
    """Inodes that were forced to the disk, which is not asked to: it may be busy for seconds."""
    found = []
    monkeypatch.setattr(os, "fsync", lambda number: found.append(os.fstat(number).st_ino))
    return found


def save(folder, phase, *, text="weights"):
    """One file and a shard below a folder, as a strategy would write them."""
    files.begin(folder, phase, num_bytes=1)
    partial = files.partial_path(folder, phase)
    files.die_if_asked(0)
    (partial / "state.ckpt").mkdir()
    for name in ("meta.pt", "__0_0.distcp"):
        (partial / "state.ckpt" / name).write_text(f"{text} {phase} {name}")
    hashed = files.sync_and_hash(partial, files.files_of(partial))
    return files.publish(folder, phase, hashed, {"world_size": 2})


def test_a_saved_checkpoint_is_found_and_described(tmp_path):
    save(tmp_path, 2)
    saved = save(tmp_path, 10)
    assert files.newest(tmp_path) == (saved, [])
    assert (saved.phase, saved.state) == (10, tmp_path / "phase-000010" / "state.ckpt")
    manifest = files.read_manifest(saved.path)
    assert (manifest["phase"], manifest["world_size"]) == (10, 2)
    assert manifest["versions"].keys() == set(files.PACKAGES)
    # echo -n "weights 10 meta.pt" | sha256sum
    assert manifest["files"]["state.ckpt/meta.pt"] == {
        "bytes": 18,
        "sha256": "cf2f8123f4f87f9003a25694c038bfd127ba9a65f3d715b0e6f86309ba533ae6",
    }
    assert (tmp_path / "last").readlink().name == "phase-000010"
    assert (tmp_path / "last.ckpt" / "meta.pt").read_text() == "weights 10 meta.pt"
    assert files.state_of(str(saved.path)) == str(saved.state)
    assert files.state_of(str(saved.state)) == str(saved.state)


def test_files_and_the_folders_that_name_them_are_synced(tmp_path, synced):
    saved = save(tmp_path, 1)
    wanted = [tmp_path, saved.path, *saved.path.rglob("*")]
    assert {path.stat().st_ino for path in wanted} <= set(synced)


@pytest.mark.case(45)
def test_what_is_not_whole_is_skipped_by_name(tmp_path):
    first = save(tmp_path, 1)
    for phase in (2, 3, 4, 5):
        save(tmp_path, phase)
    (tmp_path / "phase-000002" / "state.ckpt" / "meta.pt").write_text("later")
    (tmp_path / "phase-000003" / "state.ckpt" / "meta.pt").unlink()
    (tmp_path / "phase-000004" / "manifest.json").unlink()
    (tmp_path / "phase-000005" / "manifest.json").write_text('{"files": ')
    found, skipped = files.newest(tmp_path)
    assert found == first
    assert skipped == [
        "phase-000005: it has no readable manifest.json",
        "phase-000004: it has no readable manifest.json",
        "phase-000003: state.ckpt/meta.pt is missing",
        "phase-000002: state.ckpt/meta.pt has 5 bytes instead of 17",
    ]


@pytest.mark.case(45)
def test_a_flipped_byte_is_found_by_its_hash(tmp_path):
    saved = save(tmp_path, 7)
    files.check_hashes(saved.path)
    shard = saved.state / "__0_0.distcp"
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    assert files.newest(tmp_path)[0] == saved  # of the same size
    with pytest.raises(StorageError, match=r"__0_0.distcp: .* sha256 differs .* remove .*phase-0"):
        files.check_hashes(saved.path)


def test_a_phase_that_is_saved_again_replaces_the_old_one(tmp_path):
    save(tmp_path, 3, text="old")
    (tmp_path / "phase-000003" / "left.txt").touch()
    saved = save(tmp_path, 3, text="new")
    assert (saved.state / "meta.pt").read_text() == "new 3 meta.pt"
    assert not (saved.path / "left.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"phase-000003", "last", "last.ckpt"}


def test_the_newest_and_the_best_are_kept(tmp_path):
    for phase in (1, 2, 3, 4, 9):
        save(tmp_path, phase)
    files.link(tmp_path / "best", "phase-000001")
    # Phase 9 is from before the run went back to 2: it says nothing about what may go now.
    files.prune(tmp_path, keep=2, up_to=4)
    assert [path.name for path in files.checkpoint_folders(tmp_path)] == [
        "phase-000001", "phase-000003", "phase-000004", "phase-000009",
    ]  # fmt: skip


def test_a_full_disk_is_known_before_anything_is_written(tmp_path):
    first = save(tmp_path, 1)
    with pytest.raises(OSError, match=r"GB free, 1000000000\.0 GB are needed"):
        files.begin(tmp_path, 2, num_bytes=10**18)
    assert files.newest(tmp_path) == (first, [])


@pytest.mark.case(43)
@pytest.mark.parametrize("number", range(4))
def test_killed_within_a_save(tmp_path, monkeypatch, number):
    """Before the state, the manifest, the name, and the links."""
    first = save(tmp_path, 1)
    monkeypatch.setenv("LUFFY_FAULT", f"die_in_save@file={number}")
    if (child := os.fork()) == 0:
        save(tmp_path, 2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9
    monkeypatch.delenv("LUFFY_FAULT")
    found, skipped = files.newest(tmp_path)
    assert skipped == []
    assert found == first if number < 3 else found.phase == 2
    # The next save cleans up.
    save(tmp_path, 3)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.case(43)
@pytest.mark.parametrize("number", range(4))
def test_killed_while_a_phase_is_saved_again(tmp_path, monkeypatch, number):
    first = save(tmp_path, 1)
    save(tmp_path, 2, text="old")
    monkeypatch.setenv("LUFFY_FAULT", f"die_in_save@file={number}")
    if (child := os.fork()) == 0:
        save(tmp_path, 2, text="new")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9
    found, skipped = files.newest(tmp_path)
    assert skipped == []
    text = (found.state / "meta.pt").read_text()
    expected = {0: "old 2", 1: "old 2", 2: "weights 1", 3: "new 2"}[number]
    assert text == f"{expected} meta.pt"
    assert first.path.exists()
