"""One HTML page on a Program or a build: it holds its drawings and pictures, and loads nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intaglio.codegen.area.devices import DEVICES
from intaglio.codegen.folder.manifest import BITSTREAM, read_manifest
from intaglio.codegen.folder.record import Record, kept
from intaglio.codegen.schedule.queues import QUEUES, read_queues
from intaglio.codegen.structure.graph import sharing_text
from intaglio.errors import DataError
from intaglio.file import load
from intaglio.program import Program
from intaglio.report import svg
from intaglio.report.findings import findings, measured
from intaglio.report.layers import Layer, Quality, layers_of, read_quality
from intaglio.report.shares import shares
from intaglio.report.svg import ROUTING, WORDS
from intaglio.summary import Summary, summarise
from intaglio.system.html import cards, tag, text_of

SHALLOW = 2  # queues of so few places are counted, not drawn
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #ffffff; --ink: #1c2024;
  --faint: #646b73; --line: #d9dce0; --rail: #e6e8eb; --fill: #2f6f9f; --over: #b3432b;
  --held: #8fb8d4;
  --conv: #2f6f9f; --add: #8a6a16; --pool: #5b7f3a; --route: #8d949c; --edge: #9aa3ac; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e6e8ea;
  --faint: #9aa3ac; --line: #343a41; --rail: #30363d; --fill: #5aa2d6; --over: #e2795f;
  --held: #3f6f92; --conv: #5aa2d6; --add: #d0a640; --pool: #8dbb66; --route: #7d858e;
  --edge: #66707a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 8px; }
p { margin: 8px 0 12px; max-width: 76ch; overflow-wrap: anywhere; }
.faint, footer { color: var(--faint); }
footer { margin-top: 36px; font-size: 13px; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); gap: 12px;
  margin: 18px 0 0; padding: 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 14px; min-width: 0; }
dt { color: var(--faint); font-size: 13px; }
dd { margin: 0; font-size: 19px; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 14px; }
.scroll svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
svg text { font: 10.5px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  fill: var(--ink); white-space: pre; }
svg .name { font-size: 11.5px; font-weight: 600; }
svg .faint, svg .share { fill: var(--faint); }
code, .wrap { white-space: normal; overflow-wrap: anywhere; } code { font-size: 12px; }
td.wrap { min-width: 260px; vertical-align: top; }
.box { fill: var(--page); stroke: var(--line); }
.kind { fill: var(--route); } .conv { fill: var(--conv); }
.add, .scale, .lookup { fill: var(--add); } .sum, .max, .upsample { fill: var(--pool); }
.edge { fill: none; stroke: var(--edge); stroke-width: 1.3; }
.rail, .plot { fill: var(--rail); } .fill { fill: var(--fill); background: var(--fill); }
.codes { fill: none; stroke: var(--over); stroke-width: 1.4; }
.held { fill: var(--held); } .tick { stroke: var(--faint); stroke-dasharray: 2 3; }
.bars { display: grid; grid-template-columns: max-content minmax(80px, 1fr) max-content;
  gap: 8px 14px; align-items: center; }
.track { background: var(--rail); border-radius: 4px; height: 12px; overflow: hidden; }
.track i { display: block; height: 100%; background: var(--fill); }
.track i.over { background: var(--over); } .track i.measured { background: var(--pool); }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child, .left { text-align: left; }
tr:last-child td { border-bottom: 0; }
td:first-child { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 12.5px; }
th:first-child, td:first-child { position: sticky; left: -14px; background: var(--card); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(384px, max-content));
  gap: 14px; }
figure { margin: 0; min-width: 0; } figure img { max-width: 100%; height: auto; display: block;
  border-radius: 6px; }
figcaption { font-size: 13px; color: var(--faint); overflow-wrap: anywhere; margin-top: 4px; }
@media print { .scroll { overflow: visible; } }
"""


@dataclass(frozen=True)
class Picture:
    """A picture with what was found drawn in it: PNG bytes and a caption."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Subject:
    """What the page is about.

    build   a manifest of this Program; None for the Program alone.
    queues  a build's queues.json; builds before there was one have None.
    quality by tensor: what quantisation measured.
    records what was found of the build, by name.
    made    how the page came to be, for its foot.
    """

    name: str
    program: Program
    build: Mapping[str, Any] | None = None
    queues: Mapping[str, Any] | None = None
    quality: Mapping[str, Quality] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)
    made: str = ""


def subject(path: str | Path, quantization: str | Path | None = None) -> Subject:
    """Read a .intaglio file or the folder of a build, and what `quantize --json` wrote.

    Raises DataError, ModelError or BuildError for files that are none.
    """
    path = Path(path)
    build = queues = None
    program_file, records = path, {}
    if path.is_dir():
        records = kept(path)
        build, program_file = read_manifest(path), path / "program.intaglio"
        if QUEUES in build["files"]:
            queues = read_queues((path / QUEUES).read_text(encoding="utf-8"), str(path / QUEUES))
    program = load(program_file)
    quality = {}
    if quantization is not None:
        try:
            record = json.loads(Path(quantization).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{quantization} must be a JSON file that can be read.") from error
        quality = read_quality(record, program, str(quantization))
    name = path.resolve().name.removesuffix(".intaglio")
    return Subject(name, program, build, queues, quality, records)


def page(about: Subject, pictures: Sequence[Picture] = ()) -> str:
    """The page. Equal arguments give equal text; it is well-formed XML too.

    Raises BuildError when the build is not of the Program.
    """
    layers = layers_of(about.program, about.build, about.quality)
    summary = summarise(about.program)
    cycles = about.build["cycles_per_frame"] if about.build else None
    parts = [
        *header(about, summary),
        *section("Record", *record_parts(about)),
        *section("Detections", gallery(pictures)),
        *section("Network", box(svg.network(layers, cycles)), network_note(about)),
        *section("Resources", resources(about.build, about.records.get(BITSTREAM))),
        *section("Queues", *queue_parts(about, layers)),
        *section("Layers", box(table(layers, cycles)), table_note(about)),
        *section("Distributions", *share_parts(layers)),
        tag("footer", text_of(". ".join(filter(None, (summary.footer(), about.made))))),
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", text_of(about.name)),
        tag("style", STYLE),
    )
    return (
        "<!DOCTYPE html>\n" + tag("html", head, tag("body", tag("main", *parts)), lang="en") + "\n"
    )


def section(title: str, *parts: str) -> list[str]:
    """A heading and its parts; nothing without any."""
    parts = tuple(filter(None, parts))
    return [tag("h2", text_of(title)), *parts] if parts else []


def box(part: str) -> str:
    """Something that may be wider than the page: it scrolls by itself."""
    return tag("div", part, class_="scroll", tabindex=0)


def para(text: str, style: str | None = None) -> str:
    """A paragraph."""
    return tag("p", text_of(text), class_=style)


def header(about: Subject, summary: Summary) -> list[str]:
    """The name, how it was quantised, and the figures that people ask for first."""
    _, height, width = about.program.inputs[0].shape
    facts = [("Input", f"{height}x{width}"), ("MMAC a frame", f"{summary.macs / 1e6:.2f}"),
             ("Weights", f"{summary.weight_bits / 8192:.1f} KiB")]  # fmt: skip
    b = about.build
    if b is not None:
        latency = b["latency_cycles"] / b["clock_mhz"] / 1e3
        facts = [
            ("Target", b["target"]), ("Clock", f"{b['clock_mhz']:g} MHz"),
            ("Frames/s, predicted", f"{b['fps']:.1f}"),
            ("Cycles a frame, predicted", f"{b['cycles_per_frame']:,}"),
            *measured(about.records).items(),
            ("First frame after", f"{latency:.2f} ms"), *facts,
        ]  # fmt: skip
    return [tag("h1", text_of(about.name)), para(origin(about), "faint"),
            cards(dict(facts), "cards")]  # fmt: skip


def origin(about: Subject) -> str:
    """How the Program was made, from its own record."""
    record = about.program.meta.get("quantisation")
    text = f"An integer network of {len(about.program.ops)} operations"
    if isinstance(record, Mapping) and {"wbits", "abits", "method"} <= record.keys():
        text += f", W{record['wbits']}A{record['abits']}, ranges by {record['method']}"
        if record["method"] == "lp" and isinstance(record.get("p"), int | float):
            text += f" with p = {record['p']:g}"
    if about.build is not None:
        text += f"; the layer {about.build['bottleneck']} sets the rate"
    return f"{text}."


def gallery(pictures: Sequence[Picture]) -> str:
    """Pictures beside each other."""
    figures = []
    for picture in pictures:
        data = base64.b64encode(picture.png).decode("ascii")
        image = tag("img", src=f"data:image/png;base64,{data}", alt=picture.caption)
        figures.append(tag("figure", image, tag("figcaption", text_of(picture.caption))))
    return tag("div", *figures, class_="pictures") if figures else ""


def network_note(about: Subject) -> str:
    """What the boxes show."""
    if about.build is None:
        return ""
    text = "A bar is the share of a frame's cycles in which the layer works."
    if "sharing" in about.build:  # older builds say nothing of it
        text = f"{text} {sharing_text(about.build['sharing'])}".rstrip()
    return para(text, "faint")


def record_parts(about: Subject) -> list[str]:
    """What was proved, routed and scored; what is still to be."""
    if about.build is None:
        return []
    seen = findings(about.records)
    missing = [text for name, text in (
        ("verify", "the RTL has not been simulated (intaglio verify)"),
        (BITSTREAM, "it has not been placed and routed (intaglio bitstream)"),
    ) if not any(kind.startswith(name) for kind in about.records)]  # fmt: skip
    if not any(kind.startswith("eval-") for kind in about.records):
        missing.append("its AP has not been measured (intaglio eval BUILD)")
    note = para(f"Of this build: {'; '.join(missing)}.", "faint") if missing else ""
    return [box(seen) if seen else "", note]


def share_parts(layers: Sequence[Layer]) -> list[str]:
    """How often values and codes are seen, where quantisation measured it."""
    rows = [
        (k.name, k.quality.shares) for k in layers if k.quality is not None and k.quality.shares
    ]
    if not rows:
        return []
    note = (
        "Areas: real values on the calibration images, in codes, before rounding (of results"
        " without zeros, of which a ReLU makes many). Lines: codes after it. Dashed: the last codes"
        " there are, beyond which values are clipped. Heights are square roots of the share of each"
        " code, of which the top is written."
    )
    return [box(shares(rows)), para(note, "faint")]


def resources(build: Mapping[str, Any] | None, routed: Record | None) -> str:
    """Bars of what the build is estimated to take of its target, and of what its netlist takes."""
    if build is None:
        return ""
    chip, need = DEVICES.get(build["target"]), build["resources"]
    made = routed.result.get("resources", {}) if routed is not None else {}
    rows = []
    for label, key in (("LUTs", "luts"), ("Flip-flops", "ffs"), ("Block RAMs", "rams"),
                       ("Multipliers", "multipliers")):  # fmt: skip
        has = 0 if chip is None or chip.family == "generic" else getattr(chip, key, 0)
        rows += bar(f"{label}, estimated", need[key], has, None)
        if key in made:
            rows += bar(f"{label}, synthesised", made[key], has, "measured")
    note = (
        f"Estimated before synthesis; {need['rom_bits']:,} bits of ROM and"
        f" {need['buffer_bits']:,} bits of buffers and queues."
    )
    if made:
        note += " Synthesised: of the netlist that was routed, with its link or board around it."
    return tag("div", *rows, class_="bars") + para(note, "faint")


def bar(label: str, used: float, has: float, style: str | None) -> list[str]:
    """A label, a bar and a figure."""
    text = f"{used:,.10g}" + (f" of {has:,} ({100 * used / has:.1f} %)" if has else "")
    share = used / has if has else 0.0
    drawn = tag("i", "", class_="over" if share > 1 else style,
                style=f"width:{100 * min(1.0, share):.1f}%")  # fmt: skip
    return [tag("span", text_of(label)), tag("div", drawn, class_="track"),
            tag("span", text_of(text))]  # fmt: skip


def queue_parts(about: Subject, layers: Sequence[Layer]) -> list[str]:
    """The queues over time, or their depths where the build did not keep that."""
    if about.build is None:
        return []
    if about.queues is not None:
        queues = [q["places"] for q in about.queues["queues"]]
        note = "Beats held, by the cycle model: input offered at once, outputs taken at once."
        drawn = any(n > SHALLOW for n in queues)
        picture = svg.fillings(about.queues, SHALLOW) if drawn else ""
    else:
        rows = [(k.name, n) for k in layers for n in (k.hardware or {}).get("fifo_depths", ())]
        queues, note = [n for _, n in rows], "Places of each queue."
        deep = sorted((row for row in rows if row[1] > SHALLOW), key=lambda row: -row[1])
        picture = svg.depths(deep) if deep else ""
    if not queues:
        return []
    shallow = sum(n <= SHALLOW for n in queues)
    if shallow:
        note += f" Not drawn: {shallow} of {len(queues)}, which have at most {SHALLOW} places."
    return [box(picture) if picture else "", para(note, "faint")]


def table(layers: Sequence[Layer], cycles: int | None) -> str:
    """A row for each layer: what it computes, what quantisation measured, its folding and cost."""
    heads = ["layer", "kind", "shape", "codes", "weights", "acc bits", "proved", "margin", "MMAC"]
    built = any(layer.hardware is not None for layer in layers)
    measured = any(layer.quality is not None for layer in layers)
    heads += ["SQNR dB", "clip %", "p (w a)"] * measured
    heads += ["PE", "SIMD", "pixels", "cycles", "busy %", "mult.", "ROM bits", "queues"] * built
    left = {0, 1}
    rows = [tag("tr", *(tag("th", text_of(h), class_="left" if n in left else None)
                        for n, h in enumerate(heads)))]  # fmt: skip
    for layer in layers:
        cells = [*plain_cells(layer), *(quality_cells(layer.quality) if measured else ()),
                 *(hardware_cells(layer, cycles) if built else ())]  # fmt: skip
        row = [tag("td", text_of(c), class_="left" if n in left else None)
               for n, c in enumerate(cells)]  # fmt: skip
        rows.append(tag("tr", *row))
    return tag("table", tag("thead", rows[0]), tag("tbody", *rows[1:]))


def plain_cells(layer: Layer) -> list[str]:
    """What every layer has."""
    kind = " ".join(filter(None, (WORDS.get(layer.kind, layer.kind), layer.window)))
    proved = "-"
    if layer.proved is not None:
        least, most = layer.proved
        proved = str(most) if least == most else f"{least}-{most}"
    return [
        layer.name, kind, layer.shape, layer.type, layer.weights or "-",
        "-" if layer.acc_bits is None else str(layer.acc_bits), proved,
        "-" if layer.margin is None else f"{layer.margin:.2f}",
        f"{layer.macs / 1e6:.3f}" if layer.macs else "-",
    ]  # fmt: skip


def hardware_cells(layer: Layer, cycles: int | None) -> list[str]:
    """Folding and what it costs."""
    row = layer.hardware
    if row is None:
        return ["-"] * 8
    works = layer.kind not in ROUTING
    busy = f"{100 * row['cycles'] / cycles:.1f}" if works and cycles else "-"
    conv = layer.kind == "conv"
    return [
        f"{row['pe']}" if conv else "-", f"{row['simd']}" if works else "-",
        f"{row['pixels']}" if conv else "-",
        f"{row['cycles']:,}" if works else "-", busy,
        f"{row['multipliers']:,}" if row["multipliers"] else "-",
        f"{row['rom_bits']:,}" if row["rom_bits"] else "-",
        " ".join(map(str, row["fifo_depths"])) or "-",
    ]  # fmt: skip


def quality_cells(quality: Quality | None) -> list[str]:
    """SQNR, clipped share and p."""
    if quality is None:
        return ["-"] * 3
    powers = ["-" if p is None else f"{p:g}" for p in (quality.weight_p, quality.p)]
    text = "-" if powers == ["-", "-"] else " ".join(powers)
    return [f"{quality.sqnr:.1f}", f"{100 * quality.clipped:.2f}", text]


def table_note(about: Subject) -> str:
    """What the columns mean."""
    text = (
        "Proved: bits that the channels' accumulators can need at most, from the weights and the"
        " input's range. Margin: by how many bits the widest stays below its type."
    )
    if about.build is not None:
        text += " Queues: places of those behind the layer."
    if about.quality:
        text += " SQNR, clip: of the worst level."
    return para(text, "faint")
