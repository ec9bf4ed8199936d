"""Laws of Programs: the file, the digest, the text, proved ranges, and what `verify` refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from strategies import (
    U8,
    exact_arithmetics,
    int_types,
    narrow_arithmetics,
    programs,
    single_arithmetics,
)

from intaglio.errors import DataError, ProgramError
from intaglio.file import load, save
from intaglio.fixed import Arithmetic, IntType
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Input,
    Lookup,
    MaxPool2d,
    Op,
    Output,
    Pad,
    Requant,
    SumPool2d,
    Upsample,
)
from intaglio.program import Builder, Program
from intaglio.sim.reference import run
from intaglio.summary import summarise

ANY_ARITHMETIC = st.one_of(exact_arithmetics(), narrow_arithmetics(), single_arithmetics())
FILES = settings(max_examples=60, suppress_health_check=list(HealthCheck))


def same(a: Program, b: Program) -> bool:
    constants = a.constants.keys() == b.constants.keys() and all(
        np.array_equal(c.array, b.constants[n].array)
        and (c.type, c.odd) == (b.constants[n].type, b.constants[n].odd)
        for n, c in a.constants.items()
    )
    rest = (a.ops, a.tensors, a.arithmetic, a.meta) == (b.ops, b.tensors, b.arithmetic, b.meta)
    return constants and rest


# --- the file -----------------------------------------------------------------------------------


@given(programs(arithmetic=ANY_ARITHMETIC, raw_accumulators=True, input_types=int_types(16)))
@FILES
def test_a_saved_program_loads_as_it_was(tmp_path: Path, program: Program) -> None:
    program = replace(program, meta={"head": "{}", "list": [1, 2.5, None]})
    save(program, tmp_path / "a.intaglio")
    loaded = load(tmp_path / "a.intaglio")
    assert same(loaded, program)
    assert loaded.digest() == program.digest()
    assert loaded.to_text() == program.to_text()
    assert [p.name for p in tmp_path.iterdir()] == ["a.intaglio"]


@given(programs())
@FILES
def test_equal_programs_make_equal_files(tmp_path: Path, program: Program) -> None:
    for name in "ab":
        save(program, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def damage_words(path: Path) -> str:
    return f"{path} must be a whole .intaglio file, not a damaged or truncated one; quantise again."


@given(program=programs(max_blocks=2), data=st.data())
@FILES
def test_a_truncated_file_is_refused(tmp_path: Path, program: Program, data: st.DataObject) -> None:
    path = tmp_path / "a.intaglio"
    save(program, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ProgramError) as refused:
        load(path)
    assert str(refused.value) == damage_words(path)


@given(program=programs(max_blocks=2), data=st.data())
@settings(FILES, max_examples=300)
def test_a_damaged_file_is_refused_or_verified(
    tmp_path: Path, program: Program, data: st.DataObject
) -> None:
    """No byte can make anything but a Program that passes `verify`, or a ProgramError."""
    path = tmp_path / "a.intaglio"
    save(program, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(ProgramError):
        load(path).verify()


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the graph stored in a file."""
    with safe_open(path, framework="numpy") as stored:
        graph = json.loads(stored.metadata()["intaglio"])
        arrays = {name: stored.get_tensor(name) for name in list(stored.keys())}
    del graph["sha256"]  # as older files have none
    change(graph)
    save_file(arrays, path, metadata={"intaglio": json.dumps(graph)})


def test_a_newer_format_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.intaglio"
    save(network(), path)
    rewrite(path, lambda graph: graph.update(format=6))
    with pytest.raises(ProgramError) as refused:
        load(path)
    assert str(refused.value) == (
        f"{path} must have format 1 to 5, not 6; it was written by another version of intaglio:"
        " install that one, or quantise again."
    )


def stored_graph(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as stored:
        return dict(json.loads(stored.metadata()["intaglio"]))


def test_a_file_states_the_oldest_format_that_can_say_it(tmp_path: Path) -> None:
    """Format 1 has no word for odd constants, and its readers refuse format 2."""
    path = tmp_path / "a.intaglio"
    save(network(), path)
    graph = stored_graph(path)
    assert graph["format"] == 1
    assert set(graph) == {"format", "arithmetic", "tensors", "constants", "ops", "meta", "sha256"}
    save(network(odd=True), path)
    graph = stored_graph(path)
    assert (graph["format"], graph["odd"]) == (2, ["w"])
    assert load(path).constants["w"].odd
    assert not load(path).constants["m"].odd


@pytest.mark.parametrize(("shape", "number"), [((256,), 1), ((2, 256), 5)])
def test_tables_of_channels_are_of_a_format_that_older_readers_refuse(
    tmp_path: Path, shape: tuple[int, ...], number: int
) -> None:
    b = Builder()
    b.add(Input(output="x", shape=(2, 4, 4), type=U8))
    b.add(
        Lookup(
            output="y",
            input="x",
            table=b.constant("t", np.arange(512)[-np.prod(shape) :].reshape(shape)),
        )
    )
    b.add(Output(output="out", input="y"))
    save(b.build(), tmp_path / "a.intaglio")
    assert stored_graph(tmp_path / "a.intaglio")["format"] == number
    assert same(load(tmp_path / "a.intaglio"), b.build())


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.pop("tensors"),
        lambda graph: graph.pop("format"),
        lambda graph: graph["ops"][0].update(op="Softmax"),
        lambda graph: graph["ops"][1].update(colour="red"),
        lambda graph: graph["ops"][1].update(stride=None),
        lambda graph: graph["ops"][1].update(stride=["a", "b"]),
        lambda graph: graph["ops"][1].update(stride=[1]),
        lambda graph: graph["constants"].update(ghost="u8"),
        lambda graph: graph.update(ops={"a": 1}),
        lambda graph: graph.update(arithmetic=[]),
        lambda graph: graph["arithmetic"].update(shift_range=[0]),
        lambda graph: graph.update(format=2),
        lambda graph: graph.update(format=2, odd=["ghost"]),
        lambda graph: graph.update(format=2, odd=[["w"]]),
        lambda graph: graph.update(format=2, odd=1),
    ],
)
def test_a_graph_that_is_not_one_is_damage(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = tmp_path / "a.intaglio"
    save(network(), path)
    rewrite(path, change)
    with pytest.raises(ProgramError) as refused:
        load(path)
    assert str(refused.value) == damage_words(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.intaglio"
    with pytest.raises(ProgramError) as refused:
        load(missing)
    assert str(refused.value) == (
        f"{missing} must be an existing .intaglio file; run `intaglio quantize`."
    )
    other = tmp_path / "weights.safetensors"
    save_file({"w": np.zeros(3)}, other)
    with pytest.raises(ProgramError) as refused:
        load(other)
    assert str(refused.value) == damage_words(other)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path, sentence in (
        (tmp_path / "folder", f"{tmp_path}/folder must be writable, not: Is a directory."),
        (
            tmp_path / "file" / "a.intaglio",
            f"{tmp_path}/file must be a folder that can be made, not: File exists.",
        ),
    ):
        with pytest.raises(DataError) as refused:
            save(network(), path)
        assert str(refused.value) == sentence
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


# --- digest, text, ranges -----------------------------------------------------------------------


@given(programs(), st.data())
def test_the_digest_changes_with_every_constant(program: Program, data: st.DataObject) -> None:
    assume(program.constants)
    name = data.draw(st.sampled_from(sorted(program.constants)))
    constant = program.constants[name]
    array = constant.array.copy()
    place = tuple(data.draw(st.integers(0, n - 1)) for n in array.shape)
    array[place] ^= 1 << data.draw(st.integers(0, 40))
    changed = {**program.constants, name: replace(constant, array=array)}
    assert replace(program, constants=changed).digest() != program.digest()
    assert replace(program, constants=dict(program.constants)).digest() == program.digest()


def test_the_digest_changes_with_every_field_that_changes_integers() -> None:
    per_channel = tuple(range(10))
    digests = set()
    for shift in (per_channel, (*per_channel[:5], 6, *per_channel[6:])):
        for overflow in ("wrap", "saturate"):
            for at in ("mac", "end"):
                profile = Arithmetic(
                    per_channel_shift=True, acc_bits=4, overflow=overflow, saturate_at=at
                )
                b = Builder(profile)
                b.add(Input(output="x", shape=(10, 1, 1), type=U8))
                b.constant("one", [1])
                b.add(requant(shift=shift))
                b.add(Output(output="out", input="y"))
                digests.add(b.build().digest())
    assert len(digests) == 8


@given(programs(arithmetic=ANY_ARITHMETIC))
def test_random_programs_verify_and_print_one_line_an_operation(program: Program) -> None:
    assert program.verify() is program
    lines = program.to_text().splitlines()
    assert len(lines) == 1 + len(program.ops) + len(program.constants)
    for line, op in zip(lines[1:], program.ops, strict=False):  # the constants follow
        assert line.startswith(f"{op.output}: ")


def test_odd_constants_are_part_of_the_digest_and_the_text() -> None:
    odd = network(odd=True)
    plain = with_constant(odd, "w", odd=False)
    assert plain.digest() != odd.digest()
    assert "const w: i6[1x2x3x3] odd\n" in odd.to_text()
    assert odd.to_text().replace(" odd", "") == plain.to_text()


def test_odd_constants_have_the_narrowest_signed_type_and_one_code_bit_less() -> None:
    b = Builder()
    for name, values, kind in (
        ("a", [-3, -1, 1, 3], "i3"),
        ("b", [1], "i2"),
        ("c", [-1, -1], "i2"),
        ("d", [255, 3], "i9"),
        ("e", [-9], "i5"),
    ):
        b.constant(name, values, odd=True)
        assert str(b.constants[name].type) == kind
        assert b.constants[name].code_bits == b.constants[name].type.bits - 1
    b.constant("plain", [-3, 3])
    assert b.constants["plain"].code_bits == 3


def test_weights_take_their_code_bits_of_memory() -> None:
    odd, plain = (
        summarise(network(odd=True)),
        summarise(with_constant(network(odd=True), "w", odd=False)),
    )
    assert (odd.weight_bits, plain.weight_bits) == (18 * 5, 18 * 6)
    assert odd.table_bits == plain.table_bits


def test_the_text_of_a_small_network(golden: Callable[[str, str], None]) -> None:
    golden("program.txt", network().to_text())


def interior(k: int, type: IntType, weight: Any) -> tuple[Program, Conv2d]:
    """One kernel-sized image and its convolution: each sum uses every weight once."""
    b = Builder()
    b.add(Input(output="x", shape=weight.shape[1:], type=type))
    b.constant("w", weight)
    op = Conv2d(output="acc", input="x", weight="w")
    b.add(op)
    b.add(Output(output="y", input="acc"))
    return b.build(), op


@given(int_types(12), st.tuples(*[st.integers(1, 3)] * 4), st.integers(0, 2**32 - 1), st.booleans())
def test_the_proved_accumulator_is_attained(
    type: IntType, shape: tuple[int, ...], seed: int, upper: bool
) -> None:
    """Adversarial images reach both ends of every channel's range; `test_sim_reference` shows that
    none passes them."""
    weight = np.random.default_rng(seed).integers(-128, 127, shape, endpoint=True)
    program, op = interior(shape[1], type, weight)
    for o, (lo, hi) in enumerate(zip(*program.proved_accumulator(op), strict=True)):
        towards = type.hi if upper else type.lo
        other = type.lo if upper else type.hi
        x = np.where(weight[o] > 0, towards, other)
        got = run(program, x[None]).tensors["acc"][0, o, 0, 0]
        assert got == (hi if upper else lo)


# --- refusals -----------------------------------------------------------------------------------


def network(*, odd: bool = False) -> Program:
    """Input, padded convolution with weights -9 to 8, or odd ones from -17 to 17, requant, pool,
    output."""
    b = Builder()
    b.add(Input(output="image", shape=(2, 5, 4), type=U8))
    weights = np.arange(-9, 9).reshape(1, 2, 3, 3)
    b.constant("w", 2 * weights + 1 if odd else weights, odd=odd)
    b.constant("m", [700])
    b.constant("b", [-3])
    conv = Conv2d(
        output="acc",
        input="image",
        weight="w",
        stride=(2, 1),
        padding=(1, 1, 0, 1),
        pad_value=(7, 9),
        origin="stem",
    )
    b.add(conv)
    requant = Requant(
        output="q",
        input="acc",
        multiplier="m",
        bias="b",
        shift=(15,),
        lo=0,
        hi=15,
        origin="stem",
    )
    b.add(requant, IntType(4, False), scale=0.25)
    b.add(MaxPool2d(output="p", input="q", kernel=(2, 2)))
    b.add(Output(output="y", input="p"))
    return b.build()


def grown(*ops: Op, arithmetic: Arithmetic | None = None) -> Builder:
    """`x` u8 (2, 4, 4), `n` i4 of the same size, some constants, then `ops`."""
    b = Builder(arithmetic)
    b.add(Input(output="x", shape=(2, 4, 4), type=U8))
    b.constant("w", np.ones((4, 2, 3, 3)))
    b.constant("flat", np.ones((4, 2)))
    b.constant("point", np.ones((4, 2, 1, 1)))
    b.constant("one", [1])
    b.constant("three", [1, 2, 3])
    b.constant("big", [1 << 17])
    b.constant("huge", [1 << 50])
    b.constant("table", np.zeros(16))
    b.constant("folded", np.zeros((2, 128)))
    narrow = Requant(output="n", input="x", multiplier="one", bias="one", shift=(4,), lo=-8, hi=7)
    b.add(narrow, IntType(4, True))
    for op in ops:
        b.add(op)
    return b


def conv(**fields: Any) -> Conv2d:
    return Conv2d(**{"output": "y", "input": "x", "weight": "w", "origin": "head.0"} | fields)


def requant(**fields: Any) -> Requant:
    plain: dict[str, Any] = {
        "output": "y",
        "input": "x",
        "multiplier": "one",
        "bias": "one",
        "shift": (3,),
        "lo": 0,
        "hi": 7,
    }
    return Requant(**plain | fields)


def add(**fields: Any) -> Add:
    plain: dict[str, Any] = {"multiplier_a": 1, "multiplier_b": 1, "bias": 0, "shift": 1}
    return Add(**{"output": "y", "a": "x", "b": "x", "lo": 0, "hi": 9} | plain | fields)


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (
            conv(weight="flat"),
            "Conv2d 'y' (from head.0): weight must have 4 dimensions, not 2.",
        ),
        (
            conv(groups=2),
            "Conv2d 'y' (from head.0): weight (4, 2, 3, 3) in 2 groups must match 2 input"
            " channels.",
        ),
        (
            conv(pad_value=(1, 2, 3)),
            "Conv2d 'y' (from head.0): pad_value must have 1 or 2 entries.",
        ),
        (
            conv(pad_value=(256,)),
            "Conv2d 'y' (from head.0): pad_value (256,) must be of type u8.",
        ),
        (
            conv(dilation=(2, 1)),
            "Conv2d 'y' (from head.0): the window (3, 3) must fit into the input (2, 4, 4).",
        ),
        (
            conv(stride=(0, 1)),
            "Conv2d 'y' (from head.0): kernel, stride and dilation must be at least 1 and padding"
            " 0.",
        ),
        (
            conv(weight="point", dilation=(1 << 62, 1)),
            "Conv2d 'y' (from head.0): stride, dilation and padding must be at most 1048576.",
        ),
        (
            requant(multiplier="three"),
            "Requant 'y': multiplier must have 1 or 2 entries, not 3.",
        ),
        (requant(bias="flat"), "Requant 'y': bias must have 1 dimension, not 2."),
        (requant(shift=(1, 2, 3)), "Requant 'y': shift must have 1 or 2 entries, not 3."),
        (requant(multiplier="big"), "Requant 'y': |M| must be at most 131071, not 131072."),
        (
            requant(bias="huge"),
            "Requant 'y': B must fit into i48, not 1125899906842624; use another arithmetic, or"
            " weights of fewer bits.",
        ),
        (requant(shift=(41,)), "Requant 'y': S must be 0 to 40, not 41 to 41."),
        (
            requant(shift=(1, 2)),
            "Requant 'y': S must be one value per layer in this arithmetic.",
        ),
        (requant(lo=1, hi=0), "Requant 'y': the clamp must have lo <= hi, not 1 > 0."),
        (
            add(b="n", a="up"),
            "Add 'y': operands must have one shape, not (2, 5, 5) and (2, 4, 4).",
        ),
        (
            MaxPool2d(output="y", input="x", kernel=(2, 2), padding=(2, 0, 0, 0)),
            "MaxPool2d 'y': every window must contain a pixel; use less padding.",
        ),
        (
            SumPool2d(output="y", input="x", kernel=(2, 2), pad_value=-1),
            "SumPool2d 'y': pad_value must be of type u8, not -1.",
        ),
        (
            Upsample(output="y", input="x", size=(4, 3)),
            "Upsample 'y': size (4, 3) must not be smaller than (4, 4).",
        ),
        (
            Concat(output="y", parts=("x", "n")),
            "Concat 'y': operands must share size and type, not (2, 4, 4) u8 and (2, 4, 4) i4.",
        ),
        (
            Pad(output="y", input="n", padding=(1, 0, 0, 0), value=8),
            "Pad 'y': padding must be >= 0 and its value of type i4.",
        ),
        (
            Lookup(output="y", input="x", table="table"),
            "Lookup 'y': the table must have the shape (2^8,) or (2, 2^8), of at most 16 bits, not"
            " (16,).",
        ),
        (
            Lookup(output="y", input="x", table="folded"),
            "Lookup 'y': the table must have the shape (2^8,) or (2, 2^8), of at most 16 bits, not"
            " (2, 128).",
        ),
        (Output(output="x", input="n"), "Output 'x': a tensor must be made only once."),
    ],
)
def test_operations_that_do_not_fit_are_refused(op: Op, words: str) -> None:
    with pytest.raises(ProgramError) as refused:
        grown(Upsample(output="up", input="x", size=(5, 5)), op)
    assert str(refused.value) == words


def test_what_some_profiles_refuse() -> None:
    shifter = Arithmetic(power_of_two=True)
    with pytest.raises(ProgramError) as refused:
        grown(add(multiplier_a=3), arithmetic=shifter)
    assert str(refused.value) == (
        "Add 'y': M must be 0 or a power of two in this arithmetic, not 3."
    )
    wide = Arithmetic(bias_bits=63, multiplier_bits=33, shift_range=(0, 62))
    with pytest.raises(ProgramError) as refused:
        grown(add(bias=1 << 61, shift=62), arithmetic=wide)
    assert str(refused.value) == (
        "Add 'y': x * M + B must stay below 2^62; use a narrower multiplier or shift."
    )


def test_sums_that_int64_cannot_hold_are_refused() -> None:
    b = Builder()
    b.add(Input(output="x", shape=(4, 1, 1), type=IntType(40, False)))
    b.constant("w", np.full((1, 4, 1, 1), -(1 << 21)))
    with pytest.raises(ProgramError) as refused:
        b.add(conv())
    assert str(refused.value) == (
        "Conv2d 'y' (from head.0): its sums must stay below 2^62; use narrower weights or inputs."
    )


def changed(program: Program, **tensors: Any) -> Program:
    """`program` with fields of its tensor `q` replaced."""
    return replace(
        program, tensors={**program.tensors, "q": replace(program.tensors["q"], **tensors)}
    )


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda p: replace(p, ops=p.ops[1:]),
            "Conv2d 'acc' (from stem): input 'image' must be made before it is read.",
        ),
        (
            lambda p: replace(p, constants=without(p.constants, "m")),
            "Requant 'q' (from stem): constant 'm' must be part of the Program.",
        ),
        (
            lambda p: replace(p, ops=(*p.ops, p.ops[-1])),
            "Output 'y': a tensor must be made only once.",
        ),
        (
            lambda p: replace(p, tensors=without(p.tensors, "y")),
            "Output 'y': its output must be one of the Program's tensors.",
        ),
        (
            lambda p: replace(p, ops=p.ops[:-1]),
            "Tensor 'y' must be made by an operation.",
        ),
        (
            lambda p: replace(p, ops=p.ops[:-1], tensors=without(p.tensors, "y")),
            "A Program must have one Input and at least one Output, not 1 and 0.",
        ),
        (
            lambda p: changed(p, hi=14),
            "Requant 'q' (from stem): its output must be (1, 3, 3) in [0, 15], not (1, 3, 3) in"
            " [0, 14].",
        ),
        (
            lambda p: changed(p, type=IntType(3, False)),
            "Requant 'q' (from stem): u3 must hold [0, 15].",
        ),
        (
            lambda p: changed(p, zero_point=(1, 2)),
            "Requant 'q' (from stem): zero_point must have 1 or 1 entries.",
        ),
        (
            lambda p: with_constant(p, "w", type=IntType(4, True)),
            "Constant 'w' must fit into i4, not [-9, 8].",
        ),
        (
            lambda p: with_constant(p, "b", array=np.array([-3], dtype=np.int32)),
            "Constant 'b' must be int64, not int32.",
        ),
        (
            lambda p: with_constant(p, "w", odd=True),
            "Constant 'w' must hold odd values only, not -8; or do not declare it odd.",
        ),
        (
            lambda p: with_constant(p, "m", odd=True),
            "Constant 'm' must be of a signed type of 2 bits or more, not u10; odd values have both"
            " signs.",
        ),
    ],
)
def test_verify_names_what_is_wrong(edit: Callable[[Program], Program], words: str) -> None:
    with pytest.raises(ProgramError) as refused:
        edit(network()).verify()
    assert str(refused.value) == words


def without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {n: value for n, value in mapping.items() if n != name}


def with_constant(program: Program, name: str, **fields: Any) -> Program:
    constant = replace(program.constants[name], **fields)
    return replace(program, constants={**program.constants, name: constant})


def test_a_constant_has_one_definition() -> None:
    b = grown()
    with pytest.raises(ProgramError, match=r"^Constant 'w' must be defined only once\.$"):
        b.constant("w", [1])
