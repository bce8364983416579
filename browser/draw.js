// The front page's drawing: a prompt, a few settings, and the model at work. This file is the page's part; what it
// shows is done by tokenizer.js (chapter 08), scheduler.js (chapters 02 and 05) and drawing.js (chapters 06, 09, 11).

import { load, loadAtOnce, readFacts, totalBytes } from "./drawing.js";
import { normal } from "./noise.js";
import { box, node } from "./page.js";

const FOLDER = new URL(".", import.meta.url);
const STEPS = [1, 30], GUIDANCE = [1, 8];

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const quoted = (words) => words.map((word) => `“${word}”`).join(", ");
const percent = (share) => `${Math.round(100 * share)} %`;
const pause = () => new Promise((resume) => setTimeout(resume));  // for the page to be painted

/** A form's part: a label of these words and an input in it; `show` says its value beside a slider's words. */
function field(words, attributes, parent, show = null) {
  const label = node("label", {}, parent), name = node("span", {}, label), input = node("input", attributes, label);
  const tell = () => {
    name.textContent = show === null ? words : `${words} ${show(input.value)}`;
    if (show !== null) input.setAttribute("aria-valuetext", show(input.value));
  };
  input.addEventListener("input", tell);
  tell();
  return { input, tell };
}

/** A picture of C·H·W numbers in [-1, 1], one channel or three, on a canvas of its size. */
function paint(canvas, { shape: [channels, height, width], pixels }) {
  [canvas.width, canvas.height] = [width, height];
  const image = new ImageData(width, height), size = width * height;
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = 127.5 * (pixels[(k % channels) * size + i] + 1);
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function page(el, facts) {
  const { tokenizer, bytes } = facts;
  const widget = box(el, "minildm-draw");
  const form = node("form", {}, widget);
  const line = node("div", { class: "prompt" }, form);
  const prompt = field("prompt", { type: "text", value: "a handwritten seven", autocomplete: "off" }, line).input;
  const button = node("button", { type: "submit" }, line);
  const pieces = node("ol", { class: "pieces", "aria-label": "the pieces of the prompt and their numbers" }, form);
  const notes = node("div", { class: "notes", "aria-live": "polite" }, form);

  const settings = node("div", { class: "settings" }, form);
  const typing = facts.at_once === undefined ? null
    : field("draw at every key, in one step", { type: "checkbox" }, settings).input;
  const slider = (words, [min, max], step, value, show = (text) => text) =>
    field(words, { type: "range", min, max, step, value }, settings, show).input;
  const steps = slider("steps", STEPS, 1, facts.num_inference_steps);
  const scale = slider("guidance", GUIDANCE, 0.125, facts.guidance_scale,
    (text) => (Number(text) === 1 ? "1 (none)" : text));
  const whole = { type: "number", min: 0, max: 2 ** 32 - 1, step: 1, value: 0, required: "" };
  const seed = field("seed", whole, settings).input;
  const another = node("button", { type: "button" }, settings);
  another.textContent = "Draw another";

  const progress = node("progress", { max: 1, value: 0, "aria-label": "loading and drawing" }, widget);
  const status = node("div", { class: "caption", role: "status" }, widget);
  const trouble = node("div", { class: "trouble", role: "alert" }, widget);

  const stage = node("div", { class: "stage", hidden: "" }, widget);
  const canvases = ["the noisy latent, decoded", "the picture expected of it"].map((words) => {
    const figure = node("figure", {}, stage), canvas = node("canvas", { role: "img" }, figure);
    node("figcaption", {}, figure).textContent = words;
    return { canvas, words };
  });
  node("p", { class: "caption" }, widget).textContent = "All this happens in the page: what you type is sent nowhere. "
    + "The noise comes from a generator of the page's own, so that seed 0 here is not seed 0 in Python.";
  let frames = [];
  const look = field("shown:", { type: "range", min: 0, max: 0, step: 1, value: 0 }, stage,
    (text) => (frames.length > 0 ? place(frames[Number(text)]) : ""));
  const place = ({ index, timestep }) => {
    if (timestep !== null) return `before step ${index + 1}, t = ${timestep}`;
    return index === 0 ? "noise, and the one step's picture" : "the end, without noise";
  };
  const show = () => {
    const frame = frames[Number(look.input.value)];
    [frame.noisy, frame.expected].forEach((picture, i) => {
      paint(canvases[i].canvas, picture);
      canvases[i].canvas.setAttribute("aria-label", `${canvases[i].words}, ${place(frame)}`);
    });
  };
  look.input.addEventListener("input", show);

  /** Chapter 08: what becomes of the prompt, told while it is typed. */
  const read = () => {
    const { pieces: found, needed, ids, unknown, cut } = tokenizer.read(prompt.value);
    const room = tokenizer.length - 2, special = tokenizer.special;
    const all = [special.bos_token, ...found.slice(0, room), special.eos_token];
    pieces.replaceChildren();
    all.forEach((piece, i) => {
      const item = node("li", {}, pieces);
      item.append(piece.replace("</w>", ""), " ");
      node("small", {}, item).textContent = ids[i];
    });
    const lines = [];
    if (unknown.length > 0) lines.push(`Training never saw ${quoted(unknown)}: the picture may show anything.`);
    if (cut) lines.push(`The prompt takes ${needed} tokens, ${tokenizer.length} fit: cut off “${cut}”.`);
    if (notes.textContent !== lines.join("")) {  // or it would be read aloud at every letter
      notes.replaceChildren(...lines.map((text) => Object.assign(document.createElement("p"), { textContent: text })));
    }
  };
  prompt.addEventListener("input", read);
  read();

  let model = null, busy = false;
  const offer = () => { button.textContent = model ? "Draw" : `Draw (loads ${megabytes(totalBytes(facts))} once)`; };
  const fetchModel = async () => {
    const total = totalBytes(facts);
    model = await load(FOLDER, facts, (bytes) => {
      const share = bytes / total;
      progress.value = share;
      status.textContent = share === 1 ? "making the networks ready"
        : `loading: ${megabytes(bytes)} of ${megabytes(total)}, ${percent(share)}`;
    });
  };

  const noiseOf = (number) => normal(number, facts.latents.reduce((product, size) => product * size));
  const draw = async () => {
    const asked = { prompt: prompt.value, steps: Number(steps.value), guidance: Number(scale.value) };
    const from = Number(seed.value), noise = noiseOf(from);
    const start = performance.now();
    for await (const frame of model.draw({ ...asked, noise })) {
      frames = frame.index === 0 ? [frame] : [...frames, frame];  // till then one may look back at the last drawing
      look.input.max = frame.index;  // before the value, which may not be beyond it
      look.input.value = frame.index;
      look.tell();
      show();
      stage.hidden = false;
      progress.value = frame.index / asked.steps;
      status.textContent = `step ${frame.index} of ${asked.steps}`;
      await pause();
    }
    const seconds = (performance.now() - start) / 1000;
    status.textContent = `“${asked.prompt}”, seed ${from}: ${asked.steps} steps in ${seconds.toFixed(1)} s`;
  };

  /** By the student, in one step; again as long as the reader has typed on meanwhile. */
  const drawAtOnce = async () => {
    if (model.sessions.at_once === undefined) {
      const total = facts.at_once.bytes;
      await loadAtOnce(FOLDER, model, (bytes) => {
        progress.value = bytes / total;
        status.textContent = `loading the student: ${megabytes(bytes)} of ${megabytes(total)}`;
      });
    }
    let asked;
    do {
      asked = { prompt: prompt.value, seed: Number(seed.value) };
      const start = performance.now();
      const frame = await model.drawAtOnce({ prompt: asked.prompt, noise: noiseOf(asked.seed) });
      const milliseconds = Math.round(performance.now() - start);
      frames = [frame];
      look.input.max = look.input.value = 0;
      look.tell();
      show();
      stage.hidden = false;
      progress.value = 1;
      status.textContent = `“${asked.prompt}”, seed ${asked.seed}: one step in ${milliseconds} ms`;
      await pause();
    } while (asked.prompt !== prompt.value || asked.seed !== Number(seed.value));
  };

  /** One thing after the other, and an error where the reader sees it. */
  const work = async () => {
    if (busy) return;
    busy = true;
    trouble.textContent = "";
    widget.setAttribute("aria-busy", "true");
    try {
      if (model === null) await fetchModel();
      offer();
      await (typing?.checked ? drawAtOnce() : draw());
    } catch (error) {
      status.textContent = "";
      trouble.textContent = `That did not work: ${error.message ?? error}`;
    } finally {
      busy = false;
      widget.removeAttribute("aria-busy");
      offer();
    }
  };
  if (typing !== null) {
    typing.addEventListener("change", () => {
      [steps, scale].forEach((input) => { input.disabled = typing.checked; });
      if (typing.checked) work();
    });
    [prompt, seed].forEach((input) => input.addEventListener("input", () => { if (typing.checked) work(); }));
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); work(); });
  another.addEventListener("click", () => {
    if (busy || !form.reportValidity()) return;
    seed.value = (Number(seed.value) + 1) % 2 ** 32;
    work();
  });
  offer();
}

const el = document.getElementById("minildm-draw");
if (el !== null) {
  node("link", { rel: "stylesheet", href: new URL("draw.css", FOLDER) }, document.head);
  const old = [...el.childNodes];
  try {
    page(el, await readFacts(FOLDER));
    old.forEach((child) => child.remove());
  } catch (error) {
    el.textContent = `The drawing could not be set up: ${error.message ?? error}`;
  }
}
