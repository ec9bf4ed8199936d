"""The page that `intaglio report` writes: what is in it, and how a browser lays it out."""

import base64
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Layers, pyramid, skip
from PIL import Image
from tools import Cli, chromium, needs, refused

import intaglio
from intaglio.codegen.bundle import build
from intaglio.codegen.folder.manifest import made_since
from intaglio.codegen.folder.record import keep, kept
from intaglio.codegen.schedule.queues import most_held
from intaglio.file import load, save
from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Tensor
from intaglio.program import Program
from intaglio.report.layers import layers_of, margin
from intaglio.report.layout import apart, arrange
from intaglio.report.page import Picture, Subject, page, subject
from intaglio.report.svg import LETTER, wrapped


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build of the pyramid, with one multiplier in every place."""
    folder = tmp_path_factory.mktemp("built") / "pyramid"
    build(pyramid(), fps=2_000, clock_mhz=50).write(folder)
    return folder


def parsed(text: str) -> ET.Element:
    """The page as XML: it must be well-formed."""
    return ET.fromstring(text)


def texts(root: ET.Element) -> str:
    """All text of the page."""
    return "\n".join(root.itertext())


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Boxes and edges from earlier to later ones."""
    count = draw(st.integers(1, 12))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return count, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=16)) if pairs else []


@given(graphs())
def test_layouts_flow_downwards_and_boxes_stand_apart(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    count, edges = graph
    found = arrange([100.0] * count, edges, 20.0)
    for (a, b), bends in zip(edges, found.bends, strict=True):
        assert [row for row, _ in bends] == list(range(found.rows[a] + 1, found.rows[b]))
        assert found.rows[a] < found.rows[b]
    for row in set(found.rows):
        places = [x for x, r in zip(found.middles, found.rows, strict=True) if r == row]
        lines = [x for bends in found.bends for r, x in bends if r == row]
        for n, x in enumerate(places):
            assert 49.8 <= x <= found.width - 49.8
            assert all(abs(x - y) >= 119.8 for y in places[n + 1 :])
            assert all(abs(x - line) >= 50 + 20 - 0.2 for line in lines)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=6), st.data())
def test_places_are_the_nearest_that_keep_the_distance(
    wanted: list[float], data: st.DataObject
) -> None:
    sizes = [10.0] * len(wanted)
    found = apart(wanted, sizes, [1.0] * len(wanted), 5.0)
    assert all(b - a >= 15 - 1e-6 for a, b in pairwise(found))
    gaps = data.draw(st.lists(st.floats(0, 50), min_size=len(wanted), max_size=len(wanted)))
    other = list(np.cumsum([data.draw(st.floats(-150, 100)), *(15 + g for g in gaps[1:])]))

    def cost(places: list[float]) -> float:
        return sum((a - b) ** 2 for a, b in zip(places, wanted, strict=True))

    assert cost(found) <= cost(other) + 1e-6


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=30), st.integers(1, 9))
def test_queue_curves_hold_every_peak(steps: list[tuple[int, int]], parts: int) -> None:
    entered = np.cumsum([wait for wait, _ in steps], dtype=np.int64)
    left = np.maximum.accumulate(entered + [1 + stay for _, stay in steps]).astype(np.int64)
    end = int(left[-1]) + 1 if steps else parts
    cycles = np.arange(end)
    held = [int((entered <= t).sum() - (left <= t).sum()) for t in cycles]
    found = most_held(entered, left, end, parts)
    bounds = [n * end // parts for n in range(parts)] + [end]
    for n, (a, b) in enumerate(pairwise(bounds)):
        if a < b:
            assert found[n] == max(held[a:b])


def test_the_margin_is_the_room_of_the_accumulator() -> None:
    i8 = IntType(8, True)
    assert margin(Tensor("a", (1, 1, 1), i8, -64, 0)) == 1.0
    assert margin(Tensor("a", (1, 1, 1), i8, -128, 5)) == 0.0
    program = pyramid()
    for layer in layers_of(program):
        if layer.kind == "conv":
            assert layer.margin is not None
            assert 0 <= layer.margin < 1
            assert layer.proved is not None
            assert layer.proved[1] <= (layer.acc_bits or 0)


def test_a_program_without_hardware_is_drawn_by_its_operations() -> None:
    net = Layers((3, 8, 8))
    name = net.builder.add(
        Conv2d(output="acc", input="image", weight=net.weights("w", 2, 3, 1))
    )  # an accumulator that is an output itself
    root = parsed(page(Subject("raw", net.finish([name]))))
    assert "acc" in texts(root)


def test_the_page_of_a_build_has_every_layer_and_figure(built: Path) -> None:
    about = subject(built)
    text = page(about)
    assert text == page(subject(built))
    root = parsed(text)
    seen = texts(root)
    assert about.build is not None
    for layer in layers_of(about.program, about.build):
        assert layer.name in seen
    for row in about.build["layers"]:
        assert f"{row['cycles']:,}" in seen or row["op"] in ("source", "sink", "mux", "demux")
    for figure in ("ecp5-85k", "50 MHz", f"{about.build['cycles_per_frame']:,}",
                   f"{about.build['fps']:.1f}", about.program.digest()[:12]):  # fmt: skip
        assert figure in seen
    assert about.queues is not None
    for queue in about.queues["queues"]:
        assert max(queue["held"]) <= queue["places"]
    drawn = [path for path in root.iter("path") if path.get("class") == "held"]
    assert len(drawn) == sum(q["places"] > 2 for q in about.queues["queues"]) > 0
    for address in re.findall(r"(?:src|href)=\"([^\"]*)", text):
        assert address.startswith("data:")
    assert "url(" not in text
    assert "<script" not in text
    assert "@import" not in text


def test_builds_without_a_trace_show_the_depths(built: Path) -> None:
    about = subject(built)
    bare = Subject(about.name, about.program, about.build)
    rows = [q for row in about.build["layers"] for q in row["fifo_depths"]] if about.build else []
    root = parsed(page(bare))
    drawn = [rect for rect in root.iter("rect") if rect.get("class") == "held"]
    assert len(drawn) == sum(places > 2 for places in rows) > 0


def test_names_and_captions_are_escaped() -> None:
    net = Layers((3, 8, 8))
    name = '<b>&"\x01'
    net.conv(name, "image", net.weights("w", 2, 3, 1))
    png = b"\x89PNG"
    text = page(Subject("<i>", net.finish([name])), [Picture(png, "a<b.png")])
    assert "<b>" not in text
    assert "<i>&" not in text
    assert "\x01" not in text
    seen = texts(parsed(text))
    assert '<b>&"\ufffd' in seen
    assert "a<b.png" in seen
    assert "<i>" in seen


def test_the_command_draws_what_quantisation_measured(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(7)
    for n in range(4):
        Image.fromarray(rng.integers(0, 256, (27, 41, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    own = "examples.own_network:skyline"
    out = ("-o", "own.intaglio", "--json", "own.json")
    assert cli("quantize", own, "--images", folder, *out)[0] == 0
    code, printed, err = cli("report", "own.intaglio", "-o", "a.html", "--quantization", "own.json")
    assert (code, printed.strip()) == (0, "wrote a.html"), err
    seen = texts(parsed((tmp_path / "a.html").read_text()))
    rows = {r["layer"]: r for r in json.loads((tmp_path / "own.json").read_text())["layers"]}
    for layer in layers_of(load(tmp_path / "own.intaglio")):
        levels = [rows.pop(t.name) for t in layer.tensors if t.name in rows]
        if levels:  # the worst of them
            assert f"{min(row['sqnr'] for row in levels):.1f}" in seen
            assert f"{100 * max(row['clipped'] for row in levels):.2f}" in seen
    assert not rows
    refused(cli("report", "own.intaglio", "--image", folder / "0.png"), "head description")
    refused(cli("report", "absent.intaglio"), "absent.intaglio must be an existing")
    refused(cli("report", folder), "must be a folder written by `intaglio build`")
    refused(cli("report", "own.intaglio", "--quantization", "no.json"), "no.json must be a JSON")
    (tmp_path / "list.json").write_text("[1]")
    refused(cli("report", "own.intaglio", "--quantization", "list.json"), "--json` writes")
    other = {"layers": [{"layer": "elsewhere", "sqnr": 1, "clipped": 0}]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    refused(cli("report", "own.intaglio", "--quantization", "other.json"), "not 'elsewhere'")
    (tmp_path / "file").write_text("in the way")
    refused(cli("report", "own.intaglio", "-o", "file/a.html"), "file must be a folder")
    assert not (tmp_path / "report.html").exists()


def test_a_manifest_of_another_network_is_refused(cli: Cli, built: Path, tmp_path: Path) -> None:
    save(skip(), tmp_path / "skip.intaglio")
    (built / "program.intaglio").rename(tmp_path / "kept")
    try:
        (tmp_path / "skip.intaglio").rename(built / "program.intaglio")
        refused(cli("report", built), "layers of its Program; build again")
    finally:
        (tmp_path / "kept").rename(built / "program.intaglio")


MEASURE = """
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const inside = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top - 1
  && a.bottom <= b.bottom + 1;
const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3
  && b.top < a.bottom - 3;
const place = node => node.getBoundingClientRect();
const layers = [...document.querySelectorAll("g.layer")];
const spilled = layers.filter(g => [...g.querySelectorAll("text")].some(
  t => !inside(place(t), place(g.querySelector("rect.box"))))).map(g => g.textContent);
const covered = [];
for (const set of ["rect.box", "svg text", "dd", "h1, h2, p, .scroll, figure, .bars, dl"]) {
  const all = [...document.querySelectorAll(set)];
  all.forEach((a, n) => all.slice(n + 1).forEach(b => {
    if (meet(place(a), place(b))) covered.push([a.textContent, b.textContent]); }));
}
const found = {wide, spilled, covered, layers: layers.length,
  drawn: [...document.querySelectorAll("svg")].every(s => place(s).width > 100),
  cut: [...document.querySelectorAll("svg text")].filter(t => {
    const a = place(t), b = place(t.ownerSVGElement);
    return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1
      || a.bottom > b.bottom + 1; }).map(t => t.textContent),
  least: Math.min(...[...document.querySelectorAll("svg text")].map(t =>
    parseFloat(getComputedStyle(t).fontSize) * place(t.ownerSVGElement).width
      / t.ownerSVGElement.viewBox.baseVal.width))};
document.body.textContent = "measured:" + btoa(unescape(encodeURIComponent(JSON.stringify(found))));
"""


def measured(file: Path, width: int, scratch: Path) -> dict[str, Any]:
    """How a browser window of this width lays the page out."""
    text, count = re.subn("<meta http-equiv[^>]*>", "", file.read_text())  # it allows no script
    assert count == 1
    probe = scratch / "probe.html"
    probe.write_text(text.replace("</body>", f"<script>{MEASURE}</script></body>"))
    done = subprocess.run(
        [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-quic", f"--user-data-dir={scratch / 'profile'}",
         f"--window-size={width},2000", "--dump-dom", probe.as_uri()],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    data = re.search(r"measured:([A-Za-z0-9+/=]+)", done.stdout)
    assert data is not None, done.stdout[-500:] + done.stderr[-500:]
    found: dict[str, Any] = json.loads(base64.b64decode(data[1]))
    return found


def found_of(folder: Path) -> None:
    """Records of a build, as the commands keep them."""
    differs = {"frames": 1, "beats": 5_000, "mismatches": 7, "cells": "ecp5"}
    for name, result in {
        "verify": {"frames": 3, "beats": 17_010, "mismatches": 0, "simulator": "verilator",
                   "cycles_per_frame": 20_736, "predicted_cycles_per_frame": 20_736},
        "gates": differs,
        "eval-rtl": {"ap": 0.5776, "ap50": 0.81, "ap75": 0.62, "images": 1_000, "data": "s.json"},
        "bitstream": {"target": "ecp5-85k", "board": "ulx3s", "clock_mhz": 50.0, "met": True,
                      "fmax_mhz": 61.25, "seeds": [{"fmax_mhz": 61.25}, {"fmax_mhz": 58.0}],
                      "resources": {"luts": 2_519, "ffs": 1_801, "rams": 12, "multipliers": 9},
                      "gate": None},
    }.items():  # fmt: skip
        keep(folder, name, result, command=f"intaglio {name} 'a b'", version="7.8.9")


@pytest.fixture
def recorded(built: Path, tmp_path: Path) -> Path:
    """A build that was verified, routed and scored."""
    folder = tmp_path / "recorded"
    shutil.copytree(built, folder)
    (folder / "bitstream").mkdir()
    found_of(folder)
    return folder


def test_the_page_says_what_was_proved_routed_and_scored(recorded: Path, built: Path) -> None:
    seen = texts(parsed(page(subject(recorded))))
    for words in ("3 frames in verilator, 17,010 beats compared, all equal",
                  "20,736 cycles a frame measured, 20,736 predicted", "5,000 beats, 7 differ",
                  "for the board ulx3s: 50 MHz met, Fmax of the seeds 61.2, 58.0 MHz",
                  "AP 0.5776, AP50 0.8100", "intaglio verify 'a b'", "intaglio 7.8.9, 20",
                  "2,519 of 83,640", "LUTs, estimated", "LUTs, synthesised",
                  "Cycles a frame, predicted"):  # fmt: skip
        assert words in seen, words
    bare = texts(parsed(page(subject(built))))
    for words in ("has not been simulated", "not been placed and routed", "AP has not been"):
        assert words in bare
        assert words not in seen
    assert "synthesised" not in bare


def test_records_of_another_build_are_not_shown(recorded: Path) -> None:
    assert set(kept(recorded)) == {"verify", "gates", "eval-rtl", "bitstream"}
    (recorded / "records" / "damaged.json").write_text("{")
    (recorded / "records" / "list.json").write_text("[1]")
    assert len(kept(recorded)) == 4
    manifest = recorded / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    assert kept(recorded) == {}
    assert made_since(recorded) == ""


def test_commands_keep_what_they_found(cli: Cli, tmp_path: Path) -> None:
    needs("icarus")
    save(skip(), tmp_path / "net.intaglio")
    small = ("--target", "ice40-up5k", "--clock", 12)
    assert cli("build", "net.intaglio", *small, "-o", "b")[0] == 0
    assert cli("verify", "b", "--simulator", "icarus", "--frames", 1)[0] == 0
    found = kept(tmp_path / "b")
    assert set(found) == {"build", "verify"}
    assert found["verify"].command == "intaglio verify b --simulator icarus --frames 1"
    assert found["verify"].version == intaglio.__version__
    assert cli("report", "b", "-o", "b.html")[0] == 0
    seen = texts(parsed((tmp_path / "b.html").read_text()))
    assert "1 frames in icarus" in seen
    assert "Made by intaglio" in seen
    assert "intaglio report b -o b.html" in seen
    assert cli("build", "net.intaglio", *small, "-o", "c")[0] == 0
    assert cli("build", "net.intaglio", *small, "-o", "c")[0] == 0  # a record costs nothing


LONG = "a_rather.long-module/path of several.words." * 3


@given(st.text(min_size=1, max_size=120) | st.just(LONG), st.integers(3, 40))
def test_names_are_broken_and_never_cut(text: str, letters: int) -> None:
    lines = wrapped(text, letters * 10.5 * LETTER + 0.01, 10.5)
    assert all(len(line) <= letters for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_distributions_add_up_and_show_the_codes(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(7)
    for n in range(3):
        Image.fromarray(rng.integers(0, 256, (27, 41, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    own = "examples.own_network:skyline"
    out = ("-o", "own.intaglio", "--json", "own.json")
    assert cli("quantize", own, "--images", folder, *out)[0] == 0
    program = load(tmp_path / "own.intaglio")
    weights = 0
    for row in json.loads((tmp_path / "own.json").read_text())["layers"]:
        tensor = program.tensors[row["layer"]]
        of_tensor = row["shares"]["tensor"]
        assert (of_tensor["lo"], of_tensor["hi"]) == (tensor.type.lo, tensor.type.hi)
        assert sum(of_tensor["codes"]["counts"]) == 3 * np.prod(tensor.shape)
        assert of_tensor["codes"]["lo"] >= tensor.lo - 0.5
        if "weights" in row["shares"]:
            weights += 1
            found = row["shares"]["weights"]
            conv = program.producer[f"{row['layer']}.acc"]
            array = program.constants[conv.weight].array
            for side in ("real", "codes"):
                assert sum(found[side]["counts"]) == array.size
            assert found["codes"]["lo"] == array.min() - 0.5
    assert weights == len(program.of_kind(Conv2d))
    about = subject(tmp_path / "own.intaglio", tmp_path / "own.json")
    text = page(about)
    assert "Distributions" in texts(parsed(text))
    chromium()
    (tmp_path / "page.html").write_text(text)
    found = measured(tmp_path / "page.html", 1280, tmp_path)
    assert found["covered"] == []
    assert found["cut"] == []
    assert found["least"] >= 9


def test_a_browser_shows_nothing_twice_in_one_place(recorded: Path, tmp_path: Path) -> None:
    chromium()
    about = subject(recorded)
    file = tmp_path / "page.html"
    file.write_text(page(about))
    for width in (1280, 800):
        found = measured(file, width, tmp_path)
        assert found["wide"] <= 0, width
        assert found["spilled"] == []
        assert found["covered"] == []
        assert found["cut"] == []
        assert found["least"] >= 9
        assert found["drawn"]
        assert found["layers"] > 15


def test_programs_of_every_kind_have_a_page() -> None:
    programs: list[Program] = [skip(), pyramid(odd=(2, 3))]
    for program in programs:
        seen = texts(parsed(page(Subject("x", program))))
        assert all(t.name in seen for t in program.outputs)
        assert "MMAC" in seen
