"""`.intaglio` files spoilt at random: what was written, another Program that holds, or a sentence;
from `load` and from the commands, in bounded time and memory."""

import copy
import json
import resource
import time
from contextlib import suppress
from dataclasses import fields, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save, save_file
from spoilt import WILD, Count, change, spoil
from tools import Cli

from intaglio.detect.networks.spec import HeadSpec
from intaglio.errors import IntaglioError
from intaglio.file import load
from intaglio.file import save as write
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

HEAD = HeadSpec("fcos", ("cat", "dog"), (2,))
LARGE = 2**20  # values of all tensors: more are not run
SECONDS, BYTES = 10, 2**29  # of one file, and by which all of them may make the process grow
COMMANDS = ("info", "raw", "run", "compare", "trace", "export", "build", "diverge", "report")


def detector() -> Program:
    """Every kind of operation, and the three maps of a detector of two classes."""
    b = Builder(Arithmetic())
    rng = np.random.default_rng(9)
    x = b.add(Input(output="image", shape=(3, 8, 8), type=IntType(8, False)), scale=0.01)
    w = b.constant("w", rng.integers(-7, 8, (4, 3, 3, 3)), IntType(4, True))
    x = b.add(Conv2d(output="c", input=x, weight=w, padding=(1, 1, 1, 1)))
    m, add = b.constant("m", [900, 800, 700, 600]), b.constant("b", [5, -5, 90, 0])
    x = b.add(
        Requant(output="r", input=x, multiplier=m, bias=add, shift=(16,), lo=0, hi=15), scale=0.1
    )
    first = x
    x = b.add(MaxPool2d(output="p", input=x, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)))
    x = b.add(Upsample(output="u", input=x, size=(8, 8)))
    x = b.add(
        Add(output="a", a=x, b=first, multiplier_a=3, multiplier_b=5, bias=2, shift=3, lo=0, hi=15),
        scale=0.1,
    )
    x = b.add(Lookup(output="l", input=x, table=b.constant("t", np.arange(16)[::-1])), scale=0.1)
    x = b.add(Concat(output="j", parts=(x, first)))
    x = b.add(Pad(output="e", input=x, padding=(1, 0, 1, 0), value=0))
    x = b.add(SumPool2d(output="s", input=x, kernel=(3, 3), stride=(2, 2)))
    one, none = b.constant("one", [3]), b.constant("none", [0])
    x = b.add(
        Requant(output="q", input=x, multiplier=one, bias=none, shift=(5,), lo=0, hi=15), scale=0.2
    )
    for name, channels in (("cls", 2), ("reg", 4), ("ctr", 1)):
        heads = rng.integers(-7, 8, (channels, 8, 1, 1))
        weight = b.constant(f"w_{name}", heads, IntType(4, True))
        y = b.add(Conv2d(output=f"{name}_sum", input=x, weight=weight))
        y = Requant(
            output=f"{name}_map", input=y, multiplier=one, bias=none, shift=(2,), lo=-128, hi=127
        )
        b.add(Output(output=name, input=b.add(y, scale=0.05)))
    program = b.build()
    return replace(program, meta={"head": HEAD.to_json(), "quantisation": {"wbits": 4, "p": 2.4}})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "whole.intaglio"
    write(detector(), path)
    return path


def parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with safe_open(path, framework="numpy") as stored:
        graph = json.loads(stored.metadata()["intaglio"])
        return graph, {name: stored.get_tensor(name) for name in list(stored.keys())}


def bytes_changed(rng: np.random.Generator, path: Path) -> bytes:
    """Any bytes of the file, the digest left as it is."""
    return spoil(rng, path.read_bytes())


def graph_changed(rng: np.random.Generator, path: Path) -> bytes:
    """Values of the graph, as in an older file, which has no digest."""
    graph, arrays = parts(path)
    del graph["sha256"]
    for _ in range(int(rng.integers(1, 4))):
        change(rng, graph)
    if rng.random() < 0.3 and isinstance(graph.get("meta"), dict):
        with suppress(ValueError, TypeError, LookupError):
            head = json.loads(graph["meta"]["head"])
            change(rng, head)
            graph["meta"]["head"] = json.dumps(head)
    return save(arrays, {"intaglio": json.dumps(graph)})


def enlarged(rng: np.random.Generator, path: Path) -> bytes:
    """One number of an operation or tensor made huge, and all that is derived from it left."""
    graph, arrays = parts(path)
    del graph["sha256"]
    entries = graph["ops"] + graph["tensors"]
    entry = entries[int(rng.integers(len(entries)))]
    numbers = [(entry, k) for k, v in entry.items() if type(v) is int]
    lists = [v for v in entry.values() if isinstance(v, list)]
    numbers += [(v, i) for v in lists for i in range(len(v)) if type(v[i]) is int]
    if numbers:
        node, key = numbers[int(rng.integers(len(numbers)))]
        node[key] = int(rng.choice([2**16, 2**20, 2**31, 2**40, 2**62])) * int(rng.choice([-1, 1]))
    return save(arrays, {"intaglio": json.dumps(graph)})


def arrays_changed(rng: np.random.Generator, path: Path) -> bytes:
    """An array lost, added, renamed, of another dtype, shape or values."""
    graph, arrays = parts(path)
    del graph["sha256"]
    for _ in range(int(rng.integers(1, 3))):
        if not arrays:
            break
        name = sorted(arrays)[int(rng.integers(len(arrays)))]
        kind, array = int(rng.integers(7)), arrays[name]
        if kind == 0:
            del arrays[name]
        elif kind == 1:
            arrays[f"{name}x"] = array
        elif kind == 2:
            dtypes = (np.uint8, np.uint64, np.float32, np.bool_, np.int16, np.float16)
            arrays[name] = array.astype(dtypes[int(rng.integers(6))])
        elif kind == 3:
            shapes = (array.size,), (1, array.size), (array.size, 1), array.shape[::-1]
            arrays[name] = np.ascontiguousarray(array.reshape(shapes[int(rng.integers(4))]))
        elif kind == 4:
            arrays[name] = rng.integers(-128, 128, array.shape).astype(np.int8)
        elif kind == 5:
            arrays[name] = array[:0]
        elif kind == 6:
            arrays[name] = np.concatenate([array, array])
    return save(arrays, {"intaglio": json.dumps(graph)})


def header_changed(rng: np.random.Generator, path: Path) -> bytes:
    """Names, dtypes, shapes and places of the arrays, as the header says them."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.5:
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        entry = entries[int(rng.integers(len(entries)))]
        dtypes = ("BF16", "F8_E4M3", "U64", "F64", "BOOL", "I4", "C64", "")
        entry["dtype"] = str(rng.choice(dtypes))
    else:
        change(rng, header)
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
        text = text[:-1] + b',"w":' + json.dumps(header.get("m")).encode() + b"}"
    sizes = [len(text)] * 40 + [0, 1, 2**20, 2**62, 2**64 - 1]
    size = sizes[int(rng.integers(len(sizes)))]
    return size.to_bytes(8, "little") + text + rest


def rebuilt(rng: np.random.Generator, path: Path) -> bytes:
    """Another Program that holds: fields changed, and all that follows from them derived anew."""
    program = load(path)
    b = Builder(program.arithmetic)
    b.constants = dict(program.constants)
    chosen = program.ops[int(rng.integers(len(program.ops)))]
    for op in program.ops:
        tensor = program.tensors[op.output]
        if op is chosen and rng.random() < 0.5:
            op = altered(rng, op)
        scale, zero = tensor.scale, tensor.zero_point
        if rng.random() < 0.1:
            scale *= float(rng.choice([1e-300, 1e-30, 1e-3, 1e3, 1e16, 1e30]))
        if rng.random() < 0.1:
            count = 1 if rng.random() < 0.5 else tensor.shape[0]
            zero = tuple(rng.integers(-9, 10, count).tolist())
        try:
            b.add(op, scale=scale, zero_point=zero)
        except IntaglioError:
            return path.read_bytes()
    meta = dict(program.meta) | {"quantisation": copy.deepcopy(WILD[int(rng.integers(len(WILD)))])}
    target = path.with_name("rebuilt.intaglio")
    try:
        write(b.build(meta), target)
    except IntaglioError:
        return path.read_bytes()
    return target.read_bytes()


def altered(rng: np.random.Generator, op: Op) -> Op:
    """An operation with one of its numbers changed."""
    numbers = {
        f.name: getattr(op, f.name)
        for f in fields(op)
        if isinstance(getattr(op, f.name), int) or (
            isinstance(getattr(op, f.name), tuple)
            and all(isinstance(v, int) for v in getattr(op, f.name))
        )
    }  # fmt: skip
    if not numbers:
        return op
    name = sorted(numbers)[int(rng.integers(len(numbers)))]
    value, new = numbers[name], int(rng.choice([-1, 0, 1, 2, 3, 7, 64, 4096, 2**19]))
    if isinstance(value, tuple) and value:
        at = int(rng.integers(len(value)))
        return replace(op, **{name: (*value[:at], new, *value[at + 1 :])})
    return replace(op, **{name: new if isinstance(value, int) else (new,)})


KINDS = (bytes_changed, graph_changed, enlarged, arrays_changed, header_changed, rebuilt, rebuilt)


def sentence(text: str) -> None:
    assert text.count("\n") <= 1, text
    assert " must " in text, text


def check(seed: int, whole: Path, folder: Path) -> tuple[str, Path]:
    """One file: "as written", "another Program" or "refused"; and where it is."""
    rng = np.random.default_rng((22, seed))
    make = KINDS[seed % len(KINDS)]
    path = folder / "mutant.intaglio"
    path.write_bytes(make(rng, whole))
    started = time.process_time()
    try:
        found = load(path)
    except IntaglioError as error:
        sentence(str(error).removeprefix(str(path)))
        kind = "refused"
    else:
        known = load(whole)
        same = found.digest() == known.digest() and found.tensors == known.tensors
        same &= json.dumps(found.meta, sort_keys=True) == json.dumps(known.meta, sort_keys=True)
        assert same or make is not bytes_changed, "a damaged file is another Program, unsaid"
        kind = "as written" if same else "another Program"
    assert time.process_time() - started < SECONDS
    return kind, path


def command(cli: Cli, name: str, model: Path, folder: Path) -> tuple[int, str, str]:
    """A command on a file, with a picture for it."""
    picture, other = folder / "picture.npy", folder / "whole.intaglio"
    arguments: dict[str, list[Any]] = {
        "info": ["info", model],
        "raw": ["run", model, picture, "--raw", "-o", folder / "runs"],
        "run": ["run", model, picture, "-o", folder / "runs"],
        "compare": ["compare", other, model],
        "trace": ["trace", model, picture, "-o", folder / "trace"],
        "export": ["export", model, "-o", folder / "x.onnx", "--check", "0"],
        "build": ["build", model, "-o", folder / "build"],
        "diverge": ["diverge", model, "--images", folder / "pictures", "--rounding", "TRN"],
        "report": ["report", model, "--image", picture, "-o", folder / "report.html"],
    }
    return cli(*arguments[name])


def prepared(folder: Path, whole: Path) -> None:
    (folder / "pictures").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    np.save(folder / "picture.npy", pixels)
    np.save(folder / "pictures" / "picture.npy", pixels)
    (folder / "whole.intaglio").write_bytes(whole.read_bytes())


def commanded(cli: Cli, name: str, path: Path, folder: Path) -> str:
    started = time.process_time()
    code, _, told = command(cli, name, path, folder)
    assert code in (0, 1, 2), told
    if code == 2:
        sentence(told)
    assert time.process_time() - started < SECONDS, name
    return f"{name} {code}"


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_every_command_runs_on_the_whole_file(whole: Path, tmp_path: Path, cli: Cli) -> None:
    prepared(tmp_path, whole)
    for name in COMMANDS:
        code, out, told = command(cli, name, whole, tmp_path)
        assert code == 0, (name, out, told)


def run(count: Count, first: int, whole: Path, folder: Path, cli: Cli, every: int) -> None:
    """Files, and a command on every so many of them that load."""
    prepared(folder, whole)
    for name in COMMANDS:  # what is imported and compiled once
        command(cli, name, whole, folder)
    before, loaded = peak(), 0
    for seed in range(first, first + count.total):
        try:
            kind, path = check(seed, whole, folder)
            count(kind)
            loaded += kind == "another Program"
            if loaded % every == 0 and kind == "another Program":
                small = sum(prod(t.shape) for t in load(path).tensors.values()) < LARGE
                name = COMMANDS[loaded // every % len(COMMANDS)] if small else "info"
                commanded(cli, name, path, folder)
            elif seed % (40 * every) == 0:
                commanded(cli, "info", path, folder)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, {KINDS[seed % len(KINDS)].__name__}") from error
    assert peak() - before < BYTES
    assert len(count.seen) == 3


def test_spoilt_files_load_as_they_were_or_are_refused(
    whole: Path, tmp_path: Path, cli: Cli, pytestconfig: pytest.Config
) -> None:
    run(Count(600, pytestconfig), 0, whole, tmp_path, cli, every=4)


@pytest.mark.slow
def test_many_spoilt_files_load_as_they_were_or_are_refused(
    whole: Path, tmp_path: Path, cli: Cli, pytestconfig: pytest.Config
) -> None:
    run(Count(20_000, pytestconfig), 1_000_000, whole, tmp_path, cli, every=8)


def test_each_byte_of_the_arrays_is_minded(whole: Path, tmp_path: Path) -> None:
    """A changed weight is a damaged file, not another network."""
    data = whole.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    path = tmp_path / "a.intaglio"
    for at in range(start, len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(IntaglioError, match=r"must be a whole \.intaglio file"):
            load(path)


def test_a_name_that_comes_twice_is_damage(whole: Path, tmp_path: Path) -> None:
    graph, arrays = parts(whole)
    del graph["sha256"]
    path = tmp_path / "a.intaglio"
    text = json.dumps(graph)
    save_file(arrays, path, {"intaglio": text})
    assert load(path).digest() == load(whole).digest()
    save_file(arrays, path, {"intaglio": text.replace('"lo": 0', '"lo": 1, "lo": 0')})
    with pytest.raises(IntaglioError, match=r"must be a whole \.intaglio file"):
        load(path)
    twice = copy.deepcopy(graph)
    twice["tensors"].append(twice["tensors"][0])
    save_file(arrays, path, {"intaglio": json.dumps(twice)})
    with pytest.raises(IntaglioError, match=r"must be a whole \.intaglio file"):
        load(path)
