"""Write the folder with which the model draws in the book's page, without a server: `python
browser/build.py OUT`.

In OUT then lie the three networks as ONNX files, what the page must know of the model (model.json),
this folder's JavaScript and style, onnxruntime-web, which runs the networks, and snippet.html,
which goes into the page.

Exit status 3: npm, which brings onnxruntime-web, is missing or failed; OUT then holds a snippet
    that says so.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from minildm import StableDiffusionPipeline
from minildm.pipelines import shipped_models, timestep_cond

HERE = Path(__file__).resolve().parent
WIDGETS = HERE.parent / "minildm" / "widgets" / "static"
CACHE = HERE.parent / "_build" / "npm"
OWN = ("draw.js", "drawing.js", "noise.js", "scheduler.js", "tokenizer.js")
SHARED = ("page.js", "schedules.js")  # the widgets' own, used here too
STYLES = (WIDGETS / "page.css", HERE / "draw.css")
RUNTIME = {
    "onnxruntime.js": "ort.wasm.bundle.min.mjs",
    "onnxruntime.wasm.gzip": "ort-wasm-simd-threaded.wasm",
}
SNIPPET = """<div id="minildm-draw">
<p>The model draws here once the page is served: <code>make book-serve</code>, then open the
address that it prints. It needs JavaScript.</p>
</div>
<script type="module" src="_static/draw/draw.js"></script>
"""
NOTE = """<div id="minildm-draw">
<p>This copy of the book was built without npm, so the model does not draw here. Install Node.js,
which brings npm, and run <code>make book</code> again.</p>
</div>
"""


class NoRuntime(Exception):
    """onnxruntime-web is not to be had."""


class Decode(nn.Module):
    """The pipeline's `decode` as a network: latents of unit scale (B, C, h, w) -> images in [-1,
    1]."""

    def __init__(self, pipeline: StableDiffusionPipeline):
        super().__init__()
        self.vae = pipeline.vae

    def forward(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents / self.vae.config.scaling_factor).clamp(-1, 1)


class AtOnce(nn.Module):
    """A student's one step, the whole way from noise, as a network: noise (B, C, h, w), context
    (B, L, D) -> latents of unit scale (B, C, h, w)."""

    told: Tensor

    def __init__(self, student: StableDiffusionPipeline):
        super().__init__()
        scheduler = student.scheduler
        scheduler.set_timesteps(1)
        (self.timestep,) = scheduler.timesteps.float().tolist()
        self.sigma = float(scheduler.sigmas[0])
        self.unet = student.unet
        told = timestep_cond(
            student.unet, scheduler, student.card, scheduler.timesteps[0], guidance_scale=1, batch=1
        )
        self.register_buffer("told", told)

    def forward(self, sample: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        told = self.told.expand(len(sample), -1)
        u = self.unet(sample, self.timestep, encoder_hidden_states, timestep_cond=told)
        return sample - self.sigma * u


def networks(pipeline: StableDiffusionPipeline) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
    """Each network by the name of its file, with inputs of the shapes that it will get.

    All come in pairs, so no shape varies: for guidance (chapter 09) text encoder and U-Net are
    asked without the prompt and with it, and the page shows the noisy latent and the expected one.
    """
    text, unet = pipeline.text_encoder.config, pipeline.unet.config
    length = pipeline.tokenizer.model_max_length
    latents = torch.zeros(2, unet.in_channels, unet.sample_size, unet.sample_size)
    context = torch.zeros(2, length, text.hidden_size)
    return {
        "text_encoder": (
            pipeline.text_encoder,
            {"input_ids": torch.zeros(2, length, dtype=torch.int32)},
        ),
        "unet": (
            pipeline.unet,
            {"sample": latents, "timestep": torch.zeros(1), "encoder_hidden_states": context},
        ),
        "decoder": (Decode(pipeline), {"latents": latents}),
    }


def to_onnx(network: nn.Module, inputs: dict[str, Tensor]) -> onnx.ModelProto:
    """The network as an ONNX graph from `inputs` to "output", its weights in half precision."""
    network.eval().requires_grad_(False)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        network,
        tuple(inputs.values()),
        dynamo=True,
        verbose=False,
        input_names=list(inputs),
        output_names=["output"],
    )
    model = program.model_proto
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input):
        del part.metadata_props[:]  # where in the Python source each line came from
    halve(model)
    onnx.checker.check_model(model)
    return model


def halve(model: onnx.ModelProto) -> None:
    """Store in float16 each weight that float16 holds exactly, and turn it back before its use.

    The shipped checkpoints are in half precision, so that nothing is lost and the arithmetic stays
    in float32.
    """
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half, values):
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(
                onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT)
            )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def facts(pipeline: StableDiffusionPipeline) -> dict:
    """What the page must know of the model beside its networks."""
    tokenizer, unet = pipeline.tokenizer, pipeline.unet.config
    return {
        "tokenizer": {
            "vocab": list(tokenizer.vocab),  # a piece's place is its number
            "merges": [" ".join(merge) for merge in tokenizer.merges],
            "model_max_length": tokenizer.model_max_length,
            "special_tokens": tokenizer.special_tokens,
            "known_words": sorted(tokenizer.known_words),
        },
        "scheduler": dict(pipeline.scheduler.config, _class_name=type(pipeline.scheduler).__name__),
        "latents": [unet.in_channels, unet.sample_size, unet.sample_size],
        "num_inference_steps": pipeline.default("num_inference_steps"),
        "guidance_scale": pipeline.default("guidance_scale"),
        "guidance_start": pipeline.default("guidance_start"),
    }


def runtime() -> Path:
    """The folder of onnxruntime-web's files, brought by npm the first time; NoRuntime if that
    cannot be."""
    package, version = next(
        iter(json.loads((HERE / "package.json").read_text())["dependencies"].items())
    )
    folder = CACHE / f"{package}-{version}"
    if folder.exists():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise NoRuntime("npm, which comes with Node.js, is not there")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        command = [npm, "pack", f"{package}@{version}", "--silent", "--pack-destination", temporary]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing said why"]
            raise NoRuntime(f"npm could not bring {package} {version}: {said[-1]}")
        with tarfile.open(next(Path(temporary).glob("*.tgz"))) as archive:
            for file in RUNTIME.values():
                archive.extract(f"package/dist/{file}", temporary, filter="data")
        (Path(temporary) / "package" / "dist").rename(folder)
    return folder


def build(out: Path, model: str = "mnist") -> None:
    """Fill the folder `out`, which is made anew. Where a student of the model is shipped that draws
    in one step, with the model's text encoder and decoder, it is in it, too."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        source = runtime()
    except NoRuntime:
        (out / "snippet.html").write_text(NOTE, encoding="utf-8")
        raise
    shutil.copy(source / RUNTIME["onnxruntime.js"], out / "onnxruntime.js")
    wasm = (source / RUNTIME["onnxruntime.wasm.gzip"]).read_bytes()
    # compressed to a quarter, whatever the host does
    (out / "onnxruntime.wasm.gzip").write_bytes(gzip.compress(wasm, mtime=0))

    pipeline = StableDiffusionPipeline.from_pretrained(model)
    parts = networks(pipeline)
    for name, (network, inputs) in parts.items():
        (out / f"{name}.onnx").write_bytes(to_onnx(network, inputs).SerializeToString())
    heavy = [*out.glob("*.onnx"), *out.glob("onnxruntime.*")]
    # for the page to show how far it is
    contents = facts(pipeline) | {
        "bytes": {path.name: path.stat().st_size for path in sorted(heavy)}
    }
    if (student := f"{model}-one-step") in shipped_models():
        network = AtOnce(StableDiffusionPipeline.from_pretrained(student))
        _, inputs = parts["unet"]
        inputs = {name: part for name, part in inputs.items() if name != "timestep"}
        file = out / "at_once.onnx"
        file.write_bytes(to_onnx(network, inputs).SerializeToString())
        contents["at_once"] = {"bytes": file.stat().st_size}
    for name in OWN:
        shutil.copy(HERE / name, out)
    for name in SHARED:
        shutil.copy(WIDGETS / name, out)
    (out / "draw.css").write_text(
        "".join(sheet.read_text(encoding="utf-8") for sheet in STYLES), encoding="utf-8"
    )
    (out / "model.json").write_text(
        json.dumps(contents, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    (out / "snippet.html").write_text(SNIPPET, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="the folder to write, made anew")
    parser.add_argument(
        "--model", default="mnist", help="a shipped model's name, or a model's folder"
    )
    arguments = parser.parse_args()
    try:
        build(arguments.out, arguments.model)
    except NoRuntime as missing:
        print(
            f"browser/build.py: the book is built without drawing in the page: {missing}",
            file=sys.stderr,
        )
        return 3
    total = sum(path.stat().st_size for path in arguments.out.iterdir())
    size = f"{total / 1e6:.1f} MB in {arguments.out}"
    print(f"browser/build.py: {size}, of which a reader who draws loads all, once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
