"""An earlier bitstream stands until a new one is complete, whatever becomes of that."""

import signal
from pathlib import Path

import pytest
from networks import tiny

from intaglio.chip.aside import made_aside
from intaglio.codegen.bundle import Bundle, build
from intaglio.errors import BuildError, KeptWarning, ToolError
from intaglio.system.disk import write_text
from intaglio.system.interrupts import Stopped, raised


@made_aside
def make(folder: Path, outcome: str, *, force: bool = False) -> str:
    """What `bitstream` does to a folder, in each way that it can end."""
    write_text(folder / "bitstream" / "seed1.log", outcome)
    write_text(folder / "sim" / "gates.log", outcome)
    assert (folder / "rtl" / "top.v").is_file()
    if outcome == "met":
        write_text(folder / "bitstream" / "shell.bit", "new")
    if outcome == "failed":
        raise ToolError(f"see {folder / 'bitstream' / 'seed1.log'}, {folder / 'sim/gates.log'}")
    if outcome == "stopped":
        signal.raise_signal(signal.SIGINT)
    return outcome


def tree(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build(tiny(), target="generic", lanes=8)


@pytest.mark.parametrize("earlier", ["nothing", "an attempt", "a bitstream"])
@pytest.mark.parametrize("outcome", ["met", "missed", "failed", "stopped"])
def test_a_bitstream_is_replaced_by_a_bitstream_alone(
    tmp_path: Path, bundle: Bundle, outcome: str, earlier: str
) -> None:
    folder = tmp_path / "b"
    bundle.write(folder)
    plain = tree(folder)
    old = {}
    if earlier != "nothing":
        old["bitstream/old.log"] = b"old"
    if earlier == "a bitstream":
        old |= {"bitstream/shell.bit": b"hours", "bitstream/host.py": b"mine"}
    for name, data in old.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    if earlier == "a bitstream":
        with pytest.raises(BuildError) as error:
            make(folder, outcome)
        assert str(error.value) == (
            f"{folder}/bitstream must be a folder that may be replaced, not one with the bitstream"
            " shell.bit; move it away, or replace it with --force."
        )
        assert tree(folder) == plain | old
        with pytest.raises(BuildError, match=r"an earlier build with bitstream/; choose another"):
            bundle.write(folder)
    aside = earlier == "a bitstream" and outcome in ("missed", "failed")
    goal = "bitstream.failed" if aside else "bitstream"
    new = {f"{goal}/{name}": outcome.encode() for name in ("seed1.log", "gates.log")}
    if outcome == "met":
        new["bitstream/shell.bit"] = b"new"

    def run() -> None:
        if outcome == "stopped":
            with pytest.raises(Stopped), raised():
                make(folder, outcome, force=True)
        elif outcome == "failed":
            with pytest.raises(ToolError) as failed:
                make(folder, outcome, force=True)
            logs = (f"{folder}/{goal}/seed1.log", f"{folder}/{goal}/gates.log")
            assert str(failed.value) == "see {}, {}".format(*logs)
        else:
            assert make(folder, outcome, force=True) == outcome

    if aside:
        with pytest.warns(KeptWarning, match="bitstream stays as it was; what was tried now is in"):
            run()
    else:
        run()
    stays = old if aside or outcome == "stopped" else {}
    assert tree(folder) == plain | stays | ({} if outcome == "stopped" else new)
    assert not list(folder.glob(".new.*"))


def test_a_build_with_an_attempt_alone_may_be_built_again(tmp_path: Path, bundle: Bundle) -> None:
    bundle.write(tmp_path / "b")
    before = tree(tmp_path / "b")
    with pytest.raises(ToolError):
        make(tmp_path / "b", "failed")
    bundle.write(tmp_path / "b")
    assert tree(tmp_path / "b") == before
