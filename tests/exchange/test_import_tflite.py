"""TFLite files against LiteRT's reference kernels: every tensor, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tools import Cli, model_file, needs_modules, refused

from intaglio.errors import ModelError
from intaglio.fixed import TFLITE, IntType
from intaglio.host import Softmax, finished, softmax
from intaglio.ops import Input, Lookup, Output
from intaglio.program import Builder

needs_modules("ai_edge_litert", "flatbuffers")

from tflite_files import Net, Type, schema  # noqa: E402  # after the check

from intaglio.exchange.from_tflite.checked import check  # noqa: E402  # the same
from intaglio.exchange.from_tflite.importer import imported  # noqa: E402  # the same
from intaglio.exchange.from_tflite.kernels import run  # noqa: E402  # the same

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
OLD = ("LOGISTIC", "TANH", "LEAKY_RELU", "RELU", "RELU6")  # of uint8 too
FUNCTIONS = ("LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU", "QUANTIZE", "RELU", "RELU6")


def block(net: Net, x: int) -> int:
    """One more operator or two on a map, drawn by the network's own generator."""
    rng = net.rng
    _, h, w, c = net.shape(x)
    match int(rng.integers(0, 14)):
        case 0:
            activation = int(rng.choice([0, 1, 2, 3]))
            stride = int(rng.integers(1, 3))
            return net.conv(x, int(rng.integers(1, 9)), 3, stride=stride, activation=activation)
        case 1:
            return net.conv(x, int(rng.integers(1, 9)), 1, padding=VALID, activation=1)
        case 2:
            return net.conv(x, int(rng.integers(1, 3)), 3, deep=True, dilation=2)
        case 3:
            return net.conv(x, 1, 2, deep=True, stride=2, activation=3)
        case 4:
            return net.sum(x, net.conv(x, c, 3), activation=int(rng.choice([0, 1])))
        case 5:
            return net.pool(x, "MAX_POOL_2D", 2, 1, SAME)
        case 6 if min(h, w) > 2:
            return net.pool(x, "AVERAGE_POOL_2D", 2, 2, VALID)
        case 7:
            return net.pad(x, *(int(v) for v in rng.integers(0, 3, 4)))
        case 8 if max(h, w) < 12:
            return net.concat(x, net.nearest(net.pool(x, "MAX_POOL_2D", 1, 1, SAME), 1), x)
        case 9 if max(h, w) < 12:
            return net.nearest(x, 2, half=bool(rng.integers(0, 2)))
        case 11:
            gate = net.conv(x, int(rng.choice([1, c])), 3)
            return net.gate(x, gate, activation=int(rng.choice([0, 1])))
        case 12 if net.kind == Type.INT8:
            return net.gate(net.mean(x, keep=True), x)
        case 13 if net.kind != Type.INT16:
            return net.each(x, str(rng.choice(["PRELU", "PRELU", "ADD", "SUB", "MUL"])))
        case _ if net.kind != Type.UINT8:
            known = [name for name in FUNCTIONS if net.kind == Type.INT8 or name != "HARD_SWISH"]
            return net.function(x, str(rng.choice(known)))
    return net.conv(x, c, 1)


def network(seed: int) -> bytes:
    """A random network of int8, uint8 or int16, which may end in a dense layer."""
    rng = np.random.default_rng(seed)
    net = Net(rng, {3: Type.INT16, 4: Type.UINT8}.get(seed % 5, Type.INT8))
    x = net.input(1, *(int(v) for v in rng.integers(4, 9, 2)), int(rng.integers(1, 6)))
    for _ in range(int(rng.integers(1, 6))):
        x = block(net, x)
    if seed % 3 == 0 and net.kind == Type.INT8:
        x = net.mean(x, keep=bool(rng.integers(0, 2)))
        x = net.dense(x, int(rng.integers(1, 12)), int(rng.choice([0, 1])))
    elif seed % 3 == 1:
        x = net.dense(net.reshape(x, 1, int(np.prod(net.shape(x)))), 5)
    return net.content(x)


def equal(path: Path) -> int:
    """Integers compared: none may differ, and something must be compared."""
    made = imported(path)
    found = check(made, images=4)
    assert not found.reason, found.reason
    assert not found.wrong, found.places
    assert found.compared > 0
    return found.compared


@pytest.mark.parametrize("seed", range(20))
def test_every_tensor_of_a_random_network(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(network(seed))
    equal(path)


@pytest.mark.slow
def test_every_tensor_of_many_random_networks(tmp_path: Path) -> None:
    total, path = 0, tmp_path / "net.tflite"
    for seed in range(20, 520):
        path.write_bytes(network(seed))
        total += equal(path)
    assert total > 1_000_000


def test_a_function_of_one_code_is_the_kernels_own_table(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    for name in FUNCTIONS:
        for kind in (Type.INT8, Type.UINT8) if name in OLD else (Type.INT8,):
            net = Net(np.random.default_rng(3), kind)
            path.write_bytes(net.content(net.function(net.input(1, 4, 4, 2), name)))
            equal(path)


def test_a_square_is_a_table(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(4))
    x = net.input(1, 4, 4, 2)
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(net.sum(x, x, "MUL")))
    equal(path)


def test_weights_of_four_bits(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    for seed in range(3):
        net = Net(np.random.default_rng(seed), four=True)
        x = net.conv(net.input(1, 6, 5, 3), 5, 3)
        path.write_bytes(net.content(net.dense(x, 3) if seed else net.conv(x, 4, 1)))
        equal(path)


def test_silu_is_one_table(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(1))
    x = net.conv(net.input(1, 6, 6, 3), 4, 3)
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(net.conv(net.sum(x, net.function(x, "LOGISTIC"), "MUL"), 2, 1)))
    made = imported(path)
    kinds = [type(op).__name__ for op in made.program.ops]
    assert kinds.count("Lookup") == 1
    equal(path)


def test_a_constant_of_one_value_beside_a_map(tmp_path: Path) -> None:
    for name in ("ADD", "SUB", "MUL"):
        net = Net(np.random.default_rng(2))
        x = net.input(1, 4, 4, 2)
        one = net.tensor((1,), Type.INT8, [0.05], [3], data=np.array([40], np.int8))
        path = tmp_path / "net.tflite"
        path.write_bytes(net.content(net.sum(x, one, name)))
        equal(path)


@pytest.mark.parametrize("kind", [Type.INT8, Type.UINT8])
@pytest.mark.parametrize("name", ["PRELU", "ADD", "SUB", "MUL"])
def test_a_constant_for_each_channel_beside_a_map(tmp_path: Path, kind: int, name: str) -> None:
    net = Net(np.random.default_rng(5), kind)
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(net.each(net.conv(net.input(1, 9, 8, 3), 5, 3), name)))
    equal(path)
    program = imported(path).program
    (table,) = (program.constants[op.table].array for op in program.of_kind(Lookup))
    assert table.shape == (5, 256)


def test_a_function_of_channels_and_of_all(tmp_path: Path) -> None:
    """PRELU(x) * LOGISTIC(x), one table for each channel; in channels first too."""
    for first in (False, True):
        net = Net(np.random.default_rng(6))
        x = net.input(1, 6, 6, 4)
        if first:
            x = net.transpose(net.transpose(x, 0, 3, 1, 2), 0, 2, 3, 1)
        y = net.sum(net.each(x, "PRELU"), net.function(x, "LOGISTIC"), "MUL")
        path = tmp_path / "net.tflite"
        path.write_bytes(net.content(net.conv(y, 2, 1)))
        equal(path)
        assert len(imported(path).program.of_kind(Lookup)) == 1


def test_constants_along_rows_are_refused(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(7))
    x = net.input(1, 4, 3, 2)
    constant = net.tensor((4, 1, 1), Type.INT8, [0.05], [3], data=np.arange(4, dtype=np.int8))
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(net.conv(net.sum(x, constant, "MUL"), 1, 1)))
    with pytest.raises(ModelError, match="must have one value, or one for each channel; fold it"):
        imported(path)


def test_what_is_behind_the_last_layer_is_cut_off(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(5))
    x = net.dense(net.input(1, 12), 6)
    y = net.tensor((1, 6), Type.INT8, [1 / 256], [-128])
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    net.add("SOFTMAX", [x], y, options, "SoftmaxOptions")
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(y))
    made = imported(path)
    assert [name for name, _ in made.cut] == [f"SOFTMAX of tensor {y}"]
    assert made.program.meta["cut"] == [f"SOFTMAX of tensor {y}"]
    assert y in made.tensors  # the host's step makes it
    assert equal(path) == 4 * (12 + 6 + 6)


@pytest.mark.parametrize("kind", [Type.INT8, Type.UINT8])
def test_a_last_softmax_is_litert_s(tmp_path: Path, kind: int) -> None:
    """Of many scales, of codes near each other and far apart, some all alike."""
    rng, files, ours = np.random.default_rng(15), {}, {}
    lowest = 0 if kind == Type.UINT8 else -128
    for n in range(24):
        net, channels = Net(rng, kind), int(rng.integers(1, 40))
        scale = float(np.float32(10 ** rng.uniform(-3, 0.3)))
        options = schema.SoftmaxOptionsT()
        options.beta = float(rng.choice([1.0, 0.5, 2.0]))
        x = net.tensor((1, channels), kind, [scale], [lowest])
        y = net.tensor((1, channels), kind, [1 / 256], [lowest])
        net.inputs.append(x)
        net.add("SOFTMAX", [x], y, options, "SoftmaxOptions")
        codes = rng.integers(lowest, lowest + 256, (100, channels))
        codes[::4] = lowest + (codes[::4] - lowest) // 16
        dtype = np.uint8 if kind == Type.UINT8 else np.int8
        files[str(n)] = net.content(y), [codes.astype(dtype)]
        step = Softmax("x", "y", scale, options.beta, lowest)
        ours[str(n)] = y, softmax(codes.astype(np.int64), step)
    for name, answer in run(files)[1].items():
        y, made = ours[name]
        np.testing.assert_array_equal(answer.tensors[y].reshape(made.shape), made)


def test_a_host_s_step_that_is_none_is_refused() -> None:
    builder = Builder(TFLITE)
    builder.add(Input(output="x", shape=(2, 1, 1), type=IntType(8, True)))
    builder.add(Output(output="y", input="x"))
    for step in ({"kind": "softmax"}, {"kind": "sort", "input": "y"}, 3):
        program = builder.build({"host": [step]})
        with pytest.raises(ModelError, match="must hold steps as import writes them"):
            finished(program, {})


def test_the_mean_of_a_distribution_is_decoding(tmp_path: Path) -> None:
    """The last layer of a head that gives odds for every side of a box has weights, 0 to n - 1."""
    net = Net(np.random.default_rng(13))
    x = net.conv(net.input(1, 4, 5, 3), 16, 3)
    odds = net.tensor((1, 20, 4, 4), Type.INT8, [1 / 256], [-128])
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    net.add("SOFTMAX", [net.reshape(x, 1, 20, 4, 4)], odds, options, "SoftmaxOptions")
    y = net.conv(odds, 1, 1)
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(y))
    made = imported(path)
    assert [name.partition(" ")[0] for name, _ in made.cut] == ["SOFTMAX", "CONV_2D"]
    assert [t.shape for t in made.program.outputs] == [(16, 4, 5)]
    equal(path)


def test_scales_are_of_the_axis_that_has_as_many(tmp_path: Path) -> None:
    """Depthwise weights whose axis is said to be 0, as older converters wrote it; LiteRT itself
    wants it right, so that the right file is what the other is compared with."""
    codes = []
    for axis in (3, 0):
        net = Net(np.random.default_rng(14))
        y = net.conv(net.input(1, 5, 5, 6), 1, 3, deep=True)
        weight = net.operators[-1].inputs[1]
        net.tensors[weight].quantization.quantizedDimension = axis
        path = tmp_path / f"net{axis}.tflite"
        path.write_bytes(net.content(y))
        codes.append(imported(path).program)
    assert codes[0].digest() == codes[1].digest()
    equal(tmp_path / "net3.tflite")


def test_several_inputs_are_the_channels_of_one_image(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(16))
    parts = [net.input(1, 5, 4, channels) for channels in (3, 2, 1)]
    x = net.conv(parts[1], 3, 3)
    y = net.conv(net.sum(parts[0], x), 2, 1)
    z = net.conv(parts[2], 2, 1)
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(net.sum(y, z)))
    assert imported(path).program.inputs[0].shape == (6, 5, 4)
    equal(path)


def test_a_bias_is_of_the_type_that_its_layer_names(tmp_path: Path, cli: Cli) -> None:
    for named, code in ((0, 0), (Type.INT64, 0), (Type.INT32, 2)):
        net = Net(np.random.default_rng(18), Type.INT16)
        y = net.conv(net.input(1, 4, 4, 2), 2, 3)
        net.operators[-1].builtinOptions.quantizedBiasType = named
        path = tmp_path / "net.tflite"
        path.write_bytes(net.content(y))
        found = cli("import", path, "-o", tmp_path / "net.intaglio")
        assert found[0] == code
        if code:
            refused(found, "its quantized_bias_type must be int64, as its bias")


def test_inputs_of_several_sizes_are_refused(tmp_path: Path, cli: Cli) -> None:
    net = Net(np.random.default_rng(17))
    a, b = net.input(1, 5, 4, 3), net.input(1, 6, 4, 3)
    x, y = net.conv(a, 2, 1), net.conv(b, 2, 1)
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(x, y))
    refused(
        cli("import", path, "-o", tmp_path / "net.intaglio"),
        "the file's inputs must be of one type, height and width",
    )


def test_a_float_input_behind_quantize_is_read_as_codes(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(6))
    x = net.tensor((1, 5, 5, 2), Type.FLOAT32)
    net.inputs.append(x)
    q = net.add("QUANTIZE", [x], net.activation((1, 5, 5, 2)), schema.QuantizeOptionsT(),
                "QuantizeOptions")  # fmt: skip
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(net.conv(q, 3, 3)))
    equal(path)


def float_network(net: Net) -> int:
    x = net.tensor((1, 4, 4, 2), Type.FLOAT32)
    net.inputs.append(x)
    weight = net.tensor((2, 1, 1, 2), Type.FLOAT32, data=np.ones((2, 1, 1, 2), np.float32))
    y = net.tensor((1, 4, 4, 2), Type.FLOAT32)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    return net.add("CONV_2D", [x, weight], y, options, "Conv2DOptions")


def unlike_concat(net: Net) -> int:
    x = net.input(1, 4, 4, 2)
    return net.conv(net.concat(x, net.conv(x, 2, 1)), 1, 1)


@pytest.mark.parametrize("kind", [Type.UINT8, Type.INT16])
def test_a_join_of_unlike_scales_is_what_the_kernel_makes(tmp_path: Path, kind: int) -> None:
    """Unsigned codes by tables, codes of 16 bits as they are."""
    net = Net(np.random.default_rng(8), kind)
    x = net.input(1, 5, 4, 2)
    joined = net.concat(x, net.conv(x, 3, 1), x)
    (tmp_path / "net.tflite").write_bytes(net.content(net.conv(joined, 2, 1)))
    equal(tmp_path / "net.tflite")
    tables = imported(tmp_path / "net.tflite").program.of_kind(Lookup)
    assert len(tables) == (kind == Type.UINT8)


def ragged_average(net: Net) -> int:
    x = net.pool(net.input(1, 5, 5, 2), "AVERAGE_POOL_2D", 3, 1, SAME)
    return net.conv(x, 1, 1)


def larger(net: Net) -> int:
    x = net.input(1, 4, 4, 2)
    sides, options = [net.conv(x, 2, 1), net.conv(x, 2, 1)], schema.MaximumMinimumOptionsT()
    y = net.add("MAXIMUM", sides, net.activation((1, 4, 4, 2)), options, "MaximumMinimumOptions")
    return net.conv(y, 1, 1)


def without_options(net: Net) -> int:
    y = net.conv(net.input(1, 4, 4, 2), 1, 1)
    net.operators[-1].builtinOptions = None
    net.operators[-1].builtinOptionsType = 0
    return y


def constant_output(net: Net) -> int:
    net.conv(net.input(1, 4, 4, 2), 1, 1)
    return net.ints([1, 2])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (without_options, "its inputs and options must be those of its kind; convert the model"),
        (constant_output, "must be made by an operator, not be a constant"),
        (float_network, "must be int8, uint8 or int16, not float32; convert the model with"),
        (unlike_concat, "must have one type, scale and zero point; convert the model anew."),
        (ragged_average, "its windows must lie within the image; pad before it, or use VALID."),
        (larger, "it must be a function of one 8-bit tensor; cut the model before it"),
    ],
)
def test_what_no_program_does_is_refused(
    tmp_path: Path, cli: Cli, made: Callable[[Net], int], words: str
) -> None:
    net = Net(np.random.default_rng(0))
    (tmp_path / "net.tflite").write_bytes(net.content(made(net)))
    refused(cli("import", "net.tflite", "-o", "net.intaglio"), "net.tflite: ", words)
    assert not (tmp_path / "net.intaglio").exists()


def test_the_command_says_what_was_compared(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "net.tflite").write_bytes(network(1))
    code, out, _ = cli("import", "net.tflite", "-o", "net.intaglio", "--check", 3)
    assert code == 0
    assert "reference kernels, 3 random images: 0 of " in out
    refused(
        cli("import", "net.tflite", "-o", "x.intaglio", "--arithmetic", "tosa"),
        "--arithmetic must be tflite for a .tflite file, not tosa",
    )


def refusal(path: Path) -> str | None:
    """The sentence of a file that is not imported."""
    try:
        imported(path)
    except ModelError as error:
        return str(error)
    return None


@pytest.mark.parametrize("cases", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_files_are_one_sentence(tmp_path: Path, cases: int) -> None:
    rng = np.random.default_rng(cases)
    net = Net(rng)
    x = net.sum(net.conv(net.input(1, 5, 5, 2), 2, 3), net.conv(net.inputs[0], 2, 1))
    whole, path = net.content(net.dense(net.mean(x), 3)), tmp_path / "net.tflite"
    refusals = 0
    for _ in range(cases):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(8, len(content)))] = int(rng.integers(0, 256))
        if rng.random() < 0.2:
            content = content[: int(rng.integers(8, len(content)))]
        path.write_bytes(content)
        said = refusal(path)
        if said is not None:
            refusals += 1
            assert said.startswith(str(path))
            assert "\n" not in said
    assert refusals > cases // 10


@pytest.mark.parametrize(
    "name", ["pretrainedResnet_quant", "vww_96_int8", "kws_ref_model", "ad01_int8"]
)
def test_trained_files_of_mlperf_tiny(name: str) -> None:
    made = imported(model_file(f"{name}.tflite"))
    result = check(made, images=100)
    assert not result.reason
    assert not result.wrong, result.places
