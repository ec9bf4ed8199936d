"""Files and folders appear whole or not at all, whatever the disk refuses."""

import os
import stat
import tempfile
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools import smallest_files

from intaglio.errors import DataError
from intaglio.system.disk import (
    empty_folder,
    private_folder,
    whole_file,
    whole_folder,
    without_files,
    write_bytes,
)

FULL = r"must be writable, not: File too large\.$"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the contents of files, None of folders."""
    found = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found}


@given(st.integers(0, 40), st.lists(st.integers(0, 40), min_size=1, max_size=4), st.booleans())
def test_what_fits_is_written_and_what_does_not_leaves_no_trace(
    most: int, sizes: list[int], there: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if there:
            write_bytes(root / "file", b"old")
            (root / "deep" / "folder").mkdir(parents=True)
            (root / "deep" / "folder" / "0").write_bytes(b"old")
        before, after = tree(root), tree(root)
        after |= {"file": bytes(sizes[0]), "deep": None, "deep/folder": None}
        after |= {f"deep/folder/{k}": bytes(size) for k, size in enumerate(sizes)}
        refusal = pytest.raises(DataError, match=FULL) if max(sizes) > most else nullcontext()
        with (
            refusal,
            smallest_files(most),
            whole_folder(root / "deep" / "folder") as part,
        ):
            for k, size in enumerate(sizes):
                (part / str(k)).write_bytes(bytes(size))
            write_bytes(root / "file", bytes(sizes[0]))
        assert tree(root) == (before if max(sizes) > most else after)


@given(st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_a_folder_is_replaced_whole_or_not_at_all(most: int, size: int, there: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if there:
            (root / "a" / "b").mkdir(parents=True)
            (root / "a" / "b" / "old").write_bytes(b"old")
        before = tree(root)
        refusal = pytest.raises(DataError, match=f"b {FULL}") if size > most else nullcontext()
        with (
            refusal,
            smallest_files(most),
            whole_folder(root / "a" / "b") as part,
        ):
            (part / "new").write_bytes(bytes(size))
        after = {"a": None, "a/b": None, "a/b/new": bytes(size)}
        assert tree(root) == (before if size > most else after)


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("there/real.json")
    write_bytes(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "there" / "real.json").read_bytes() == b"new"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"loop must be a folder that can be made, not: "):
        write_bytes(tmp_path / "loop" / "x", b"")


def test_a_pipe_and_a_device_get_the_bytes_and_stay_what_they_are(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"through the pipe")
    reader.join()
    assert got == [b"through the pipe"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_bytes(Path(os.devnull), b"lost")
    with pytest.raises(DataError) as error:
        write_bytes(Path("/dev/full"), b"x")
    assert str(error.value) == "/dev/full must be writable, not: No space left on device."
    assert all(stat.S_ISCHR(Path(name).stat().st_mode) for name in (os.devnull, "/dev/full"))


def test_two_threads_may_write_the_same_file(tmp_path: Path) -> None:
    path, met = tmp_path / "file", threading.Barrier(2)

    def write() -> None:
        with whole_file(path) as part:
            part.write_bytes(b"same")
            met.wait(10)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tree(tmp_path) == {"file": b"same"}


def test_a_name_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("n" * 250 + ".json"), b"")
    with whole_folder(tmp_path / ("f" * 255)):
        pass
    with pytest.raises(DataError, match=r" must be writable, not: File name too long\."):
        write_bytes(tmp_path / ("n" * 256), b"")


def test_a_folder_without_some_files_and_without_any(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("")
    assert without_files(tmp_path, ("a.txt", "absent")) == tmp_path
    assert tree(tmp_path) == {"keep": None, "b.txt": b""}
    assert empty_folder(tmp_path) == tmp_path
    assert tree(tmp_path) == {}
    (tmp_path / "file").write_text("")
    for refused in (lambda: empty_folder(tmp_path / "file"),
                    lambda: without_files(tmp_path / "file", ())):  # fmt: skip
        with pytest.raises(DataError, match="file must be writable, not: File exists"):
            refused()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"intaglio-{os.getuid()}"


def test_a_temporary_folder_is_not_shared_with_others(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        private_folder(make=False)
    assert private_folder(make=True) == private_folder(make=False) == shared
    shared.chmod(0o770)
    with pytest.raises(PermissionError, match="somebody else may write there"):
        private_folder(make=True)
    shared.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    shared.symlink_to("elsewhere")
    with pytest.raises(PermissionError, match="somebody else may write there"):
        private_folder(make=True)
