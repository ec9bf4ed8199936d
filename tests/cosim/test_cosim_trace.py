"""Traces: what is written comes back, whatever the form; and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import pyramid, skip
from strategies import images_for, programs, random_images
from tools import Cli, refused

from intaglio.cosim import Trace, tensor_port, write_trace
from intaglio.errors import DataError, ProgramError
from intaglio.file import save
from intaglio.fixed import IntType
from intaglio.ops import Add, Conv2d, Interpolate, Lookup, Multiply, Requant, SumPool2d
from intaglio.program import Program
from intaglio.sim import reference


@settings(max_examples=12)
@given(st.data(), programs(), st.sampled_from(("npy", "hex", "beats")), st.integers(1, 7))
def test_a_trace_holds_the_integers_of_the_reference(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, program, format: str, lanes: int
) -> None:
    images = data.draw(images_for(program))
    folder = tmp_path_factory.mktemp("trace") / "t"
    lanes = lanes if format == "beats" else 1
    write_trace(program, images, folder, format=format, lanes=lanes)
    trace, expected = Trace.open(folder), reference.run(program, images).tensors
    assert trace.tensors == tuple(program.tensors)
    for name, codes in expected.items():
        np.testing.assert_array_equal(trace.codes(name), codes)
        assert trace.port(name) == tensor_port(program, name, lanes)
        assert (trace.entry(name)["scale"], trace.entry(name)["zero_point"]) == meant(program, name)


def meant(program: Program, name: str) -> tuple[float | None, list[int] | None]:
    """A tensor's scale and zero point: none behind a convolution or a product, n times the zero of
    n codes, and of a mean by weights in whose steps it is counted."""
    op, t = program.producer[name], program.tensors[name]
    if isinstance(op, (Conv2d, Multiply)):
        return None, None
    if not op.inputs or isinstance(op, (Requant, Add, Lookup)):
        return t.scale, list(t.zero_point)
    scale, zeros = meant(program, op.inputs[0])
    if scale is None or zeros is None:
        return scale, zeros
    unit = 1
    if isinstance(op, Interpolate):
        unit = sum(op.rows[0][1:]) * sum(op.columns[0][1:])
    times = op.kernel[0] * op.kernel[1] if isinstance(op, SumPool2d) else unit
    return scale / unit, [times * zero for zero in zeros]


def test_words_are_twos_complement_channels_innermost_and_little_endian(tmp_path: Path) -> None:
    program = skip()
    images = random_images(program, 2, seed=1)
    expected = reference.run(program, images).tensors["branch.acc"]
    bits = program.tensors["branch.acc"].type.bits
    texts = {}
    for format, lanes in (("hex", 1), ("beats", 2)):
        folder = tmp_path / format
        write_trace(program, images, folder, format=format, lanes=lanes, tensors=["branch.acc"])
        (entry,) = json.loads((folder / "index.json").read_text())["tensors"]
        assert {f.name for f in folder.iterdir()} == {"index.json", "tables", entry["file"]}
        texts[format] = (folder / entry["file"]).read_text().split()
        assert len(texts[format]) == 2 * entry["words"]
    order = expected.transpose(0, 2, 3, 1).ravel()
    assert [int(word, 16) for word in texts["hex"]] == [int(v) % (1 << bits) for v in order]
    assert {len(word) for word in texts["hex"]} == {-(-bits // 4)}
    first, second, third = (int(v) % (1 << bits) for v in expected[0, [0, 1, 4], 0, 0])
    assert int(texts["beats"][0], 16) == first | second << bits
    assert int(texts["beats"][2], 16) == third
    assert {len(word) for word in texts["beats"]} == {-(-2 * bits // 8) * 2}


def test_a_trace_replaces_a_trace_and_nothing_else(tmp_path: Path) -> None:
    program, images = skip(), random_images(skip(), 1, seed=2)
    folder = tmp_path / "t"
    write_trace(program, images, folder)
    with pytest.raises(DataError) as error:
        write_trace(program, images, folder, tensors=["sum"])
    assert str(error.value) == (
        f"{folder} must be a folder that may be replaced, not an earlier trace with 7 tensors of 1"
        " images; choose another, or replace it with --force."
    )
    write_trace(program, images, folder, tensors=["sum"], force=True)
    assert Trace.open(folder).tensors == ("sum",)
    (folder / "index.json").write_text('{"format": "a web site"}')
    with pytest.raises(DataError) as error:
        write_trace(program, images, folder)
    assert str(error.value) == (
        f"{folder} must be a new folder or an earlier trace, not something else; choose another or"
        " remove it."
    )
    assert [f.name for f in tmp_path.iterdir()] == ["t"]


def test_what_traces_refuse(tmp_path: Path) -> None:
    program, images = skip(), random_images(skip(), 1, seed=2)
    with pytest.raises(
        ProgramError, match=r"^The tensor must be one of image, .*, not 'absent'\.$"
    ):
        write_trace(program, images, tmp_path / "t", tensors=["absent"])
    with pytest.raises(DataError, match=r"^The format must be npy, hex or beats, not 'csv'\.$"):
        write_trace(program, images, tmp_path / "t", format="csv")  # type: ignore[arg-type]  # refused
    with pytest.raises(DataError, match=r"^lanes must go with the format beats, not with hex\.$"):
        write_trace(program, images, tmp_path / "t", format="hex", lanes=2)
    with pytest.raises(ProgramError, match=r"^lanes must be 1 to 65,536, not 0\.$"):
        write_trace(program, images, tmp_path / "t", format="beats", lanes=0)
    with pytest.raises(DataError, match=r"at least one image, not none\.$"):
        write_trace(program, images[:0], tmp_path / "t")
    with pytest.raises(DataError, match=r"must have the shape \(N, 3, 9, 11\)"):
        write_trace(program, images[:, :2], tmp_path / "t")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError) as error:
        Trace.open(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} must be a folder written by `intaglio trace`, not one without a readable"
        " index.json."
    )
    trace = write_trace(program, images, tmp_path / "t", format="hex")
    with pytest.raises(DataError, match=r"must be one of those in .*, image, .*, not 'absent'\.$"):
        trace.codes("absent")
    path = tmp_path / "t" / trace.entry("sum")["file"]
    path.write_text(path.read_text()[:-4])
    with pytest.raises(DataError, match=r"must be a whole file of a trace, but: "):
        trace.codes("sum")


def test_a_port_may_be_wider_than_the_tensor_and_not_narrower(tmp_path: Path) -> None:
    program = skip()
    trace = write_trace(program, random_images(program, 1, seed=2), tmp_path / "t")
    own = trace.port("branch.acc")
    wide = trace.port("branch.acc", lanes=2, type=IntType(32, True))
    assert (wide.data_width, wide.lanes, wide.shape) == (64, 2, own.shape)
    assert wide.frames(wide.pack(trace.codes("branch.acc"))).tolist() == [
        trace.codes("branch.acc")[0].tolist()
    ]
    with pytest.raises(DataError) as error:
        trace.port("branch.acc", type=IntType(own.type.bits, False))
    assert str(error.value) == (
        f"The type of 'branch.acc' must hold {own.type}, not be u{own.type.bits}."
    )


def test_the_command_writes_what_python_writes(cli: Cli, tmp_path: Path) -> None:
    program = pyramid()
    save(program, tmp_path / "net.intaglio")
    images = random_images(program, 2, seed=5)
    for n, image in enumerate(images):
        np.save(tmp_path / f"{n}.npy", image.astype(np.uint8))
    asked = ("net.intaglio", "0.npy", "1.npy", "-o", "out")
    more = ("--format", "beats", "--lanes", "3", "--tensor", "p4", "--tensor", "out2")
    code, out, err = cli("trace", *asked, *more, "--json", "made.json")
    assert code == 0, err
    assert "2 tensors of 2 images in out" in out
    write_trace(program, images, tmp_path / "own", format="beats", lanes=3, tensors=["out2", "p4"])
    for path in (tmp_path / "own").rglob("*.*"):
        assert (
            path.read_bytes()
            == (tmp_path / "out" / path.relative_to(tmp_path / "own")).read_bytes()
        )
    assert json.loads((tmp_path / "made.json").read_text())["images"] == 2
    asked = (*asked, "--force")
    refused(cli("trace", *asked, "--tensor", "absent"), "must be one of image", "not 'absent'")
    refused(cli("trace", *asked, "--lanes", "2"), "lanes must go with the format beats")
    refused(cli("trace", *asked[:3], "-o", "."), "-o must be a folder from which nothing is read")
