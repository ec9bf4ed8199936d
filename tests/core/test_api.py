"""intaglio in Python: its names, settings and defaults, names of models, and what it shows."""

import inspect
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import skip

import intaglio
from intaglio import api
from intaglio.detect.scenes import write_scenes
from intaglio.errors import DataError, IntaglioError, ModelError
from intaglio.fixed import preset
from intaglio.quant import QuantConfig
from intaglio.quant.train import TrainConfig

torch.set_num_threads(1)
DETECTOR = "every_command:detector"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small scenes of digits."""
    folder = tmp_path_factory.mktemp("scenes") / "data"
    write_scenes(folder, 4, 32, 1, "train")
    return folder


@pytest.fixture(scope="module")
def program(scenes: Path) -> intaglio.Program:
    """A small detector's."""
    return intaglio.quantize(DETECTOR, scenes / "images")


def test_every_name_is_listed_and_there() -> None:
    assert sorted(intaglio.__all__) == intaglio.__all__ == sorted(intaglio._HOMES)
    assert set(intaglio.__all__) < set(dir(intaglio))
    for name in intaglio.__all__:
        found = getattr(intaglio, name)
        assert found.__doc__, name
        assert found.__module__ == intaglio._HOMES[name]
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        intaglio.quantise  # noqa: B018  # the look-up is the test
    script = "import intaglio, sys; dir(intaglio); intaglio.api; print('torch' in sys.modules)"
    script = script.replace("intaglio.api;", "import intaglio.api;")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def defaults(kind: type) -> dict[str, Any]:
    """Of a dataclass' fields."""
    found = {}
    for f in fields(kind):
        found[f.name] = f.default if f.default is not MISSING else f.default_factory()  # type: ignore[misc]  # one of the two is there
    return found


def test_settings_are_named_typed_and_have_the_defaults_of_their_config() -> None:
    for name in ("quantize", "train", "evaluate", "run", "build", "verify", "bitstream"):
        signature = inspect.signature(getattr(intaglio, name))
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, (name, parameter)
            assert parameter.kind is not inspect.Parameter.VAR_KEYWORD, name
    given = inspect.signature(intaglio.quantize).parameters
    made = {"odol": None, "overrides": None, "widths": None, "arithmetic": "intaglio"}
    for name, value in (defaults(QuantConfig) | made).items():
        assert given[name].default == value, name
    assert preset(given["arithmetic"].default) == QuantConfig().arithmetic
    given = inspect.signature(intaglio.train).parameters
    for name, value in defaults(TrainConfig).items():
        assert name in ("decay", "faster", "average") or given[name].default == value, name


def test_names_stand_for_models_and_files(
    program: intaglio.Program, scenes: Path, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 96, 96), dtype=np.uint8)
    quick = {"method": "minmax", "compensate": False, "correct_bias": False}
    nano = intaglio.quantize("fcos-nano", pixels, arithmetic="tflite", **quick)
    assert nano.arithmetic == preset("tflite")
    again = intaglio.quantize(api.opened(DETECTOR), [scenes / "images"], limit=64)  # type: ignore[arg-type]  # a module
    assert again.digest() == program.digest()
    intaglio.save(program, tmp_path / "m.intaglio")
    by_name = intaglio.evaluate(tmp_path / "m.intaglio", scenes / "scenes.json", scenes / "images")
    assert by_name.images == 4
    floating = intaglio.evaluate(DETECTOR, str(scenes / "scenes.json"), str(scenes / "images"))
    assert floating.images == 4
    found = intaglio.run(tmp_path / "m.intaglio", scenes / "images", threshold=0.0)
    assert [seen.image for seen in found] == [f"00000{n}.png" for n in range(4)]
    assert found[0].png.startswith(b"\x89PNG")
    assert len(found[0].labels) == len(found[0].boxes) == len(found[0].scores)
    intaglio.save(skip(), tmp_path / "skip.intaglio")
    bundle = intaglio.build(str(tmp_path / "skip.intaglio"), target="generic", lanes=40)
    assert bundle.program.digest() == skip().digest()
    bundle.write(tmp_path / "build")
    assert api.opened(tmp_path / "build").digest() == skip().digest()


def test_training_gives_a_program(scenes: Path) -> None:
    said: list[str] = []
    made = intaglio.train(
        DETECTOR, scenes / "images", scenes / "scenes.json", epochs=1, batch=2,
        steps=intaglio.Steps(said.append),
    )  # fmt: skip
    assert made.meta["quantisation"]["method"] == "aqd"
    assert any("training" in line for line in said)


def test_refusals_are_those_of_the_command_line(
    program: intaglio.Program, scenes: Path, tmp_path: Path
) -> None:
    def refused(words: str, call: Any, *arguments: Any, **settings: Any) -> None:
        with pytest.raises(IntaglioError) as error:
            call(*arguments, **settings)
        assert words in str(error.value)

    pixels = np.zeros((1, 3, 32, 32), np.uint8)
    refused("MODEL must be one of", intaglio.quantize, "nothing", pixels)
    refused("MODEL must be a torch model, not a Program", intaglio.quantize, program, pixels)
    refused("Arithmetic must be one of", intaglio.quantize, DETECTOR, pixels, arithmetic="x87")
    refused("wbits must be 2 to 8 bits, not 1", intaglio.quantize, DETECTOR, pixels, wbits=1)
    refused("does not exist", intaglio.quantize, DETECTOR, tmp_path / "absent")
    refused("must be an existing", intaglio.build, tmp_path / "absent.intaglio")
    refused("images must be the folder", intaglio.evaluate, program, scenes / "scenes.json")
    refused("--engine rtl must have a folder", intaglio.evaluate, program,
            scenes / "scenes.json", scenes / "images", engine="rtl")  # fmt: skip
    refused("must carry a head description", intaglio.run, skip(), scenes / "images")
    refused("A budget must be", intaglio.quantize, DETECTOR, pixels, budgets=["bits=4"])
    assert issubclass(DataError, IntaglioError)
    assert issubclass(ModelError, IntaglioError)


def test_what_is_shown_is_short_and_whole(
    program: intaglio.Program, scenes: Path, tmp_path: Path
) -> None:
    from intaglio.chip.bitstream import BitstreamResult, Routed
    from intaglio.codegen.running.verify import VerifyResult

    intaglio.save(program, tmp_path / "<b>&.intaglio")
    bundle = intaglio.build(skip(), target="ice40-up5k", clock_mhz=12)
    result = intaglio.evaluate(program, scenes / "scenes.json", scenes / "images")
    verified = VerifyResult(12, 2, 100, 0, None, (), None, None, 12, 12, 40, 40, "predicted",
                            "icarus", False, 1, (), 1.0)  # fmt: skip
    used = {"luts": 1, "ffs": 2, "rams": 3, "multipliers": 4}
    made = BitstreamResult("ice40-up5k", None, 12.0, (Routed(1, 33.6, 1.0),), used, 12,
                           ("bitstream/top.bin",), None, 1.0)  # fmt: skip
    gallery = intaglio.run(program, scenes / "images")
    for thing in (program, intaglio.Simulator(program), bundle, result, verified, made, *gallery):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 420, repr(thing)
    assert "3x32x32 u8" in repr(program)
    assert "MMAC" in repr(program)
    assert "ice40-up5k" in repr(bundle)
    for thing, words in (
        (program, "operations"), (bundle, "multipliers, estimated"), (result, "AP50"),
        (verified, "all equal"), (made, "33.6 MHz"), (gallery, "data:image/png"),
        (gallery[0], "000000.png"),
    ):  # fmt: skip
        text = thing._repr_html_()
        ET.fromstring(text)  # well-formed
        assert words in text
        assert "<script" not in text
