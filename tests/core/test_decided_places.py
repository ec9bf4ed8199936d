"""Where results go: what is refused before the work, and what stands after an interruption."""

import os
import signal
import stat
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from intaglio.errors import DataError
from intaglio.system import disk, interrupts, places
from intaglio.system.disk import whole_folder, write_bytes
from intaglio.system.interrupts import Stopped, raised
from intaglio.system.places import Kind, Result, Source, forget, settle

WATCHED = {module.__file__ for module in (disk, interrupts, places)}


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the contents of files, None of folders."""
    found = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found}


def interrupted_at(line: int, work: Callable[[], Any], number: int = signal.SIGINT) -> bool:
    """Do it, with a signal before the n-th line of ours that runs; whether there are so many."""
    left = line

    def watch(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                signal.raise_signal(number)
        return watch

    before = sys.gettrace()
    with suppress(Stopped), raised():
        sys.settrace(watch)
        try:
            work()
        finally:
            sys.settrace(before)
    return left <= 0


def new_file(root: Path) -> None:
    write_bytes(root / "made" / "file", b"new")


def new_folder(root: Path) -> None:
    with whole_folder(root / "made" / "folder") as part:
        (part / "a").write_bytes(b"new")
        (part / "b").mkdir()
        (part / "b" / "c").write_bytes(b"new")


def place_only(root: Path) -> None:
    settle([], [Result("-o", root / "made" / "deep" / "file")])


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("work", [new_file, new_folder, place_only])
def test_interrupted_before_any_line_the_old_stands_or_the_new(
    work: Callable[[Path], None], there: bool
) -> None:
    seen, lines, more = set(), 0, True
    while more:
        lines += 1
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            if there:
                (root / "made" / "folder" / "b").mkdir(parents=True)
                (root / "made" / "folder" / "b" / "old").write_bytes(b"old")
                (root / "made" / "file").write_bytes(b"old")
            old = tree(root)
            number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[lines % 3]
            more = interrupted_at(lines, lambda root=root: work(root), number)  # type: ignore[misc]
            forget()
            found = tree(root)
            new = old | {"made": None}
            if work is new_file:
                new |= {"made/file": b"new"}
            if work is new_folder:
                new = {k: v for k, v in new.items() if k != "made/folder/b/old"}
                new |= {"made/folder": None, "made/folder/a": b"new"}
                new |= {"made/folder/b": None, "made/folder/b/c": b"new"}
            if work is place_only:
                new = old
            assert found in (old, new), (lines, found)
            seen.add(found == new)
    assert lines > 20
    assert seen == ({True} if work is place_only else {False, True})


def test_a_signal_that_a_callback_swallows_comes_again() -> None:
    class Thing:
        pass

    def told(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    def work() -> None:
        thing = Thing()
        kept = weakref.ref(thing, told)
        del thing
        assert kept() is None
        time.sleep(5)

    hook = sys.unraisablehook
    with pytest.raises(Stopped) as stopped, raised():
        work()
    assert stopped.value.code == 143
    assert sys.unraisablehook is hook


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_new_has_the_umask_and_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a" / "file", b"new")
        with whole_folder(tmp_path / "a" / "folder") as part:
            (part / "file").write_bytes(b"new")
        os.chmod(tmp_path / "a" / "folder", 0o711)
        (tmp_path / "script").write_bytes(b"old")
        os.chmod(tmp_path / "script", 0o755)
        write_bytes(tmp_path / "script", b"new")
        with whole_folder(tmp_path / "a" / "folder") as part:
            (part / "file").write_bytes(b"newer")
    finally:
        os.umask(before)
    modes = {str(p.relative_to(tmp_path)): stat.S_IMODE(p.stat().st_mode)
             for p in tmp_path.rglob("*")}  # fmt: skip
    assert modes == {
        "a": 0o750, "a/file": 0o640, "a/folder": 0o711, "a/folder/file": 0o640, "script": 0o755,
    }  # fmt: skip


def test_the_folder_one_works_in_and_one_behind_a_link_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here")
    for path, name in ((Path("."), "first"), (tmp_path / "link", "second")):
        with whole_folder(path) as part:
            (part / name).write_bytes(b"new")
        assert os.listdir(".") == [name]
    assert (tmp_path / "link").is_symlink()


def test_standard_output_by_its_names(tmp_path: Path, capsysbinary: Any) -> None:
    for name in ("-", "/dev/stdout", "/dev/fd/1"):
        write_bytes(Path(name), b"bytes\xff")
    assert capsysbinary.readouterr().out == 3 * b"bytes\xff"
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        write_bytes(Path(f"/dev/fd/{writing}"), b"through")
        os.close(writing)
        assert pipe.read() == b"through"
    with pytest.raises(DataError, match=r"/dev/fd/999 must be writable, not: Bad file descriptor"):
        write_bytes(Path("/dev/fd/999"), b"")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: two inputs, one of them under three names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"picture")
    (tmp_path / "model").write_bytes(b"model")
    (tmp_path / "soft").symlink_to("model")
    os.link(tmp_path / "model", tmp_path / "hard")
    (tmp_path / "door").symlink_to("in")
    return tmp_path


PICTURES = Source(Path("in"), lambda name: name.suffix == ".png")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("model", "--x must be a file of its own, not model, which is read; give it another name."),
        ("in/../model", "not in/../model, which is read as model; give it another name."),
        ("soft", "not soft, which is read as model; give it another name."),
        ("hard", "not hard, which is read as model; give it another name."),
        ("in/a.png", "not in/a.png, which is read; give it another name."),
        ("door/a.png", "not door/a.png, which is read as in/a.png; give it another name."),
    ],
)
def test_a_result_never_takes_the_place_of_what_is_read(here: Path, path: str, words: str) -> None:
    before = tree(here)
    with pytest.raises(DataError) as error:
        settle([Source(Path("model")), PICTURES], [Result("--x", Path(path))], force=True)
    assert str(error.value).endswith(words)
    assert tree(here) == before


def test_what_is_beside_and_among_the_inputs_is_free(here: Path) -> None:
    (here / "in" / "old.json").write_bytes(b"old")
    names = ("other", "in/b.png", "in/old.json", "absent/../other2", "/dev/null", "/dev/null", "-")
    settle([PICTURES], [Result("-o", Path(name)) for name in names])
    assert places.MADE == []


@contextmanager
def refuses(sentence: str) -> Iterator[None]:
    """DataError with exactly these words."""
    with pytest.raises(DataError) as error:
        yield
    assert str(error.value) == sentence


def test_no_two_results_have_one_place(here: Path) -> None:
    with refuses(
        "--json must be a place of its own, not in/../x, where -o goes as x; give it another name."
    ):
        settle([], [Result("-o", Path("x")), Result("--json", Path("in/../x"))])
    with refuses(
        "--json must be a place of its own, not /dev/stdout, where -o goes as -; give it another"
        " name."
    ):
        settle([], [Result("-o", Path("-")), Result("--json", Path("/dev/stdout"))])


KIND = Kind(
    "an earlier one",
    lambda path: (path / "mark").exists() if path.is_dir() else path.read_bytes() != b"picture",
    lambda path: "hours/" if (path / "hours").exists() else "",
)


def test_a_folder_is_replaced_where_it_is_ours_and_nothing_in_it_took_long(here: Path) -> None:
    def decide(path: str, force: bool | None = None) -> list[str]:
        result = Result("-o", Path(path), KIND, folder=True)
        settle([Source(Path("model"))], [result], force=force)
        made = [str(path.relative_to(here)) for path in places.MADE]
        places.MADE.clear()
        return made

    assert decide("new/folder") == ["new/folder", "new"]
    assert decide("new/folder") == []
    for force in (None, True):
        for path in ("in", "door"):
            with refuses(
                f"-o {path} must be a new folder or an earlier one, not something else; choose"
                " another or remove it."
            ):
                decide(path, force)
        with refuses(
            "-o must be a folder from which nothing is read, as it is replaced, not in/..: model is"
            " in it; choose another folder."
        ):
            decide("in/..", force)
    (here / "new" / "folder" / "mark").mkdir()
    assert decide("new/folder") == []
    (here / "new" / "folder" / "hours").mkdir()
    for force, remedy in ((None, "or remove it"), (False, "or replace it with --force")):
        with refuses(
            "-o new/folder must be a folder that may be replaced, not an earlier one with hours/;"
            f" choose another, {remedy}."
        ):
            decide("new/folder", force)
    assert decide("new/folder", True) == []


def test_a_file_is_replaced_where_it_is_of_its_kind(here: Path) -> None:
    result = Result("-o", Path("in/a.png"), KIND)
    for force, remedy in ((None, "or remove it"), (False, "or replace it with --force")):
        with refuses(
            "-o must be a new file or an earlier one, not in/a.png, which is something else; choose"
            f" another, {remedy}."
        ):
            settle([], [result], force=force)
    settle([], [result], force=True)
    (here / "in" / "a.png").write_bytes(b"")
    settle([], [result])  # as mktemp makes it
    with refuses("-o must be a file, not in, which is a folder."):
        settle([], [Result("-o", Path("in"), KIND)])


def test_folders_are_made_before_the_work_and_none_where_it_is_refused(here: Path) -> None:
    before = tree(here)
    results = [Result("-o", Path("a/b/c")), Result("--json", Path("d/e")),
               Result("--more", Path("model/f"))]  # fmt: skip
    with pytest.raises(DataError, match="model must be a folder that can be made, not: File exist"):
        settle([], results)
    assert tree(here) == before
    settle([], results[:2])
    assert tree(here) == before | {"a": None, "a/b": None, "d": None}
    (here / "d" / "e").write_bytes(b"")
    forget()
    assert tree(here) == before | {"d": None, "d/e": b""}
