"""Options of several commands, each with one name, one type and one help everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli.choices import completing

MODEL_HELP = (
    "Bundled or torchvision's name, .intaglio, float .onnx or .pt2, BUILD folder, module:factory."
)
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
PROGRAM_HELP = "File that quantize, train or import wrote."
ProgramArgument = Annotated[Path, typer.Argument(metavar="MODEL.intaglio", help=PROGRAM_HELP)]
PicturesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")
]
BuildArgument = Annotated[Path, typer.Argument(metavar="BUILD", help="Folder that build wrote.")]

OUTPUT = ("-o", "--output")
WRITTEN = "Where the result is written."
ProgramOutput = Annotated[Path, typer.Option(*OUTPUT, metavar="MODEL.intaglio", help=WRITTEN)]
FolderOutput = Annotated[Path, typer.Option(*OUTPUT, metavar="DIR", help=WRITTEN)]
ScenesOutput = Annotated[Path | None, typer.Option(*OUTPUT, metavar="DIR", help=WRITTEN)]
BuildOutput = Annotated[Path, typer.Option(*OUTPUT, metavar="BUILD", help=WRITTEN)]
PageOutput = Annotated[Path, typer.Option(*OUTPUT, metavar="FILE.html", help=WRITTEN)]
ExportOutput = Annotated[
    Path, typer.Option(*OUTPUT, metavar="FILE.onnx|FILE.tosa|FILE.tflite", help=WRITTEN)
]  # fmt: skip
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")
]

IMAGES = typer.Option(
    "--images", metavar="DIR|IMAGE", help="Folder of images, or one image; repeatable."
)
ImagesOption = Annotated[list[Path], IMAGES]
SomeImagesOption = Annotated[list[Path] | None, IMAGES]
LIMIT = typer.Option("--limit", metavar="N", help="At most so many of the images.")
LimitOption = Annotated[int | None, LIMIT]
DATA = typer.Option("--data", metavar="FILE.json", help="COCO annotations of the images.")
DataOption = Annotated[Path, DATA]
SomeDataOption = Annotated[Path | None, DATA]
ResizeOption = Annotated[
    bool,
    typer.Option("--resize", help="Scale images of another size to fit, with grey margins."),
]
HeadOption = Annotated[
    Path | None,
    typer.Option("--head", metavar="FILE.json", help="What the outputs mean: HeadSpec.to_json."),
]
DecodeOption = Annotated[
    str | None,
    typer.Option("--decode", metavar="MODULE:FUNCTION", help="Of your own, from maps to boxes."),
]
SizeOption = Annotated[str | None, typer.Option("--size", metavar="HxW", help="Input size.")]
OutputsOption = Annotated[
    str | None,
    typer.Option("--outputs", metavar="NAMES", help="Where the network ends: a,b. Default: its"
    " last layers."),
]  # fmt: skip
MeanOption = Annotated[
    str | None, typer.Option("--mean", metavar="R,G,B", help="Of pixel / 255.")
]  # fmt: skip
StdOption = Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="Of the same.")]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed, the same result.")]
ThresholdOption = Annotated[float, typer.Option("--threshold", help="Lowest score shown.")]

BitsOption = Annotated[int, typer.Option("--bits", help="Of weights and activations, 2 to 8.")]
WbitsOption = Annotated[
    int | None, typer.Option("--wbits", help="Of the weights, if others, 2 to 8.")
]
AbitsOption = Annotated[
    int | None, typer.Option("--abits", help="Of the activations, if others, 2 to 16.")
]
LastWbitsOption = Annotated[
    int | None, typer.Option("--last-wbits", help="Of the predictors' weights, if others.")
]
SumBitsOption = Annotated[
    int | None, typer.Option("--sum-bits", help="Of tensors that only sums read, if others.")
]
ARITHMETIC = typer.Option(
    "--arithmetic", metavar="PRESET", help="Whose integer arithmetic.",
    autocompletion=completing("--arithmetic"),
)  # fmt: skip
ArithmeticOption = Annotated[str, ARITHMETIC]
BoardOption = Annotated[
    str | None,
    typer.Option(
        "--board",
        help="Its device, clock, pins and serial line; default: of a build its own, or none.",
        autocompletion=completing("--board"),
    ),
]
MultiplierBitsOption = Annotated[
    int | None,
    typer.Option("--multiplier-bits", help="Of the scales' M; 16 is one multiplier of an iCE40."),
]
ArithmeticsOption = Annotated[list[str] | None, ARITHMETIC]
PowerOption = Annotated[float, typer.Option("--p", help="Of --method lp; detptq's start.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="State dict, .pth or .safetensors."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="Of torch, like cpu or cuda:0.")]
CheckOption = Annotated[
    int | None,
    typer.Option("--check", metavar="N", help="Random images to compare on."),
]
GATES_HELP = "Simulate the netlist that synthesis makes, gate by gate."
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="Threads. Default: by the size of the network.")
]
JobsOption = Annotated[int, typer.Option("--jobs", help="Processes to spread the work over.")]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster to spread it over."),
]
