"""Pictures that move under the reader's hand, with a kernel or without one (anywidget: Manz et al. 2024). Chapter 02.

All frames are made beforehand and travel with the widget, so that it moves in the static book as it does in JupyterLab.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence

import anywidget
import traitlets
from PIL import Image

from minildm.plots import Images, mosaic

MOVE = """
const SVG = "http://www.w3.org/2000/svg";

function node(tag, attributes, parent, namespace) {
  const made = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function render({ model, el }) {
  const [names, frames, captions, curves] = ["names", "frames", "captions", "curves"].map((key) => model.get(key));
  const box = node("div", { class: "minildm-frames" }, el);
  const controls = node("div", { class: "controls" }, box);
  const select = node("select", { "aria-label": "which" }, controls);
  names.forEach((name, i) => { node("option", { value: i }, select).textContent = name; });
  select.hidden = names.length < 2;
  const slider = node("input", { type: "range", min: 0, max: frames[0].length - 1, "aria-label": "frame" }, controls);
  const stage = node("div", { class: "stage" }, box);
  const image = node("img", {}, stage);
  let lines = [], dot;
  if (curves.length) {
    const highest = Math.max(...curves.flat()), lowest = Math.min(...curves.flat());
    const x = (i) => 6 + 288 * i / Math.max(frames[0].length - 1, 1);
    const y = (value) => 6 + 168 * (highest - value) / (highest - lowest || 1);
    const svg = node("svg", { viewBox: "0 0 300 180", "aria-hidden": "true" }, stage, SVG);
    lines = curves.map((curve) =>
      node("polyline", { points: curve.map((value, i) => `${x(i)},${y(value)}`).join(" ") }, svg, SVG));
    dot = node("circle", { r: 5 }, svg, SVG);
    dot.place = (which, i) => { dot.setAttribute("cx", x(i)); dot.setAttribute("cy", y(curves[which][i])); };
  }
  const caption = node("div", { class: "caption", "aria-live": "polite" }, box);

  const show = () => {
    const which = model.get("choice"), i = model.get("index");
    select.value = which;
    slider.value = i;
    image.src = frames[which][i];
    image.alt = caption.textContent = captions[which][i];
    slider.setAttribute("aria-valuetext", captions[which][i]);
    lines.forEach((line, k) => line.classList.toggle("chosen", k === which));
    dot?.place(which, i);
  };
  for (const [input, trait] of [[slider, "index"], [select, "choice"]]) {
    input.addEventListener("input", () => { model.set(trait, Number(input.value)); model.save_changes(); });
    input.addEventListener("keydown", (event) => event.stopPropagation());  // or JupyterLab takes the arrow keys
  }
  model.on("change:index", show);
  model.on("change:choice", show);
  show();
  return () => { model.off("change:index", show); model.off("change:choice", show); };
}

export default { render };
"""

LOOK = """
.minildm-frames { width: min(100%, 34rem); font-size: 0.9rem; color: var(--jp-ui-font-color1, inherit); }
.minildm-frames .controls, .minildm-frames .stage { display: flex; gap: 1rem; align-items: center; }
.minildm-frames .controls { margin-bottom: 0.5rem; }
.minildm-frames select[hidden] { display: none; }
.minildm-frames input { flex: 1; }
.minildm-frames img { width: 14rem; max-width: 50%; image-rendering: pixelated; }
.minildm-frames svg { flex: 1; min-width: 0; border-left: 1px solid #6b6b6b; border-bottom: 1px solid #6b6b6b; }
.minildm-frames polyline { fill: none; stroke: #bbbbbb; stroke-width: 2; }
.minildm-frames polyline.chosen { stroke: #0072b2; stroke-width: 3; }
.minildm-frames circle { fill: #d55e00; }
.minildm-frames .caption { margin-top: 0.4rem; font-variant-numeric: tabular-nums; }
"""


class FrameSlider(anywidget.AnyWidget):
    """Strips of pictures, a menu that chooses the strip and a slider that moves along it: see `frame_slider`.

    `choice` and `index` say what is shown; setting them from Python moves the widget too.
    """

    _esm = MOVE
    _css = LOOK
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    frames = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)  # PNGs as data: addresses
    captions = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    curves = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    choice = traitlets.Int(0).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)

    @traitlets.validate("choice", "index")
    def _within(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        count = len(self.names) if name == "choice" else len(self.frames[0])
        if not 0 <= value < count:
            raise ValueError(f"expected {name} in 0 … {count - 1}, got {value}")
        return value


def frame_slider(
    frames: Mapping[str, Images],
    captions: Mapping[str, Sequence[str]],
    curves: Mapping[str, Sequence[float]] | None = None,
) -> FrameSlider:
    """A widget that moves along strips of pictures, all of the same length N.

    frames: name of the strip -> its N pictures, as for `plots.mosaic`, for example (N, 1, h, w) in [-1, 1].
    captions: name -> what stands beneath each picture. curves: name -> N finite numbers, drawn as a line beside the
    pictures, with a dot at the one that is shown.
    """
    if not frames:
        raise ValueError("expected at least one strip of frames, got none")
    count = len(next(iter(frames.values())))
    strips = {"frames": frames, "captions": captions} | ({"curves": curves} if curves else {})
    for what, strip in strips.items():
        if list(strip) != list(frames):
            raise ValueError(f"expected {what} for {', '.join(frames)}, got them for {', '.join(strip) or 'none'}")
        for name, values in strip.items():
            if len(values) != count or count == 0:
                raise ValueError(f"expected {max(count, 1)} {what} for {name!r}, got {len(values)}")
    lines = [[float(value) for value in curve] for curve in (curves or {}).values()]
    if not all(map(math.isfinite, sum(lines, []))):
        raise ValueError("expected finite curves, got one with infinity or NaN")
    return FrameSlider(
        names=list(frames),
        frames=[[as_address(strip[i : i + 1]) for i in range(count)] for strip in frames.values()],
        captions=[list(captions[name]) for name in frames],
        curves=lines,
    )


def as_address(images: Images) -> str:
    """The mosaic of some images as a PNG in a data: address, which an <img> shows without a file or a server."""
    file = io.BytesIO()
    Image.fromarray(mosaic(images)).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
