import { addNoise, alphasCumprod, BETA_SCHEDULES } from "./schedules.js";
import { logSnr, rescaleZeroTerminalSnr } from "./schedules.js";
import { bind, box, floats, follow, menu, node, slider } from "./page.js";

const WIDTH = 300, HEIGHT = 180;  // of a chart, in its own units

function render({ model, el }) {
  const [T, names, shape] = ["num_train_timesteps", "names", "shape"].map((key) => model.get(key));
  const x0 = floats(model.get("image")), noise = floats(model.get("noise"));

  const widget = box(el, "minildm-schedule");
  const controls = node("div", { class: "controls" }, widget);
  const which = menu(names, "schedule", controls);
  const rescale = check("zero terminal SNR", controls);
  const rows = node("div", { class: "sliders" }, widget);
  const where = row("t", slider(T - 1, "timestep t", rows));
  const ends = ["beta_start", "beta_end"].map((name) => row(name, logarithmic(name, rows)));
  const stage = node("div", { class: "stage" }, widget);
  const picture = node("figure", {}, stage);
  const canvas = node("canvas", { width: shape[2], height: shape[1], role: "img" }, picture);
  const caption = node("figcaption", {}, picture);
  const share = chart("share of the picture, ᾱ", 0, 1, [0, 0.5, 1], T, stage);
  const ratio = chart("log SNR", -12, 12, [-10, 0, 10], T, stage);
  const facts = node("div", { class: "caption", "aria-live": "polite" }, widget);

  const set = (values) => {
    for (const [trait, value] of Object.entries(values)) model.set(trait, value);
    model.save_changes();
  };
  bind(where.input, model, "t");
  which.addEventListener("input", () => set({ beta_schedule: names[which.value] }));
  rescale.addEventListener("input", () => set({ rescale: rescale.checked }));
  ends.forEach(({ input }, k) => input.addEventListener("input", () => {
    const value = 10 ** input.value;  // the other end gives way: beta_start <= beta_end
    const [start, end] = [model.get("beta_start"), model.get("beta_end")];
    set(k === 0 ? { beta_start: value, beta_end: Math.max(value, end) }
      : { beta_start: Math.min(start, value), beta_end: value });
  }));
  for (const { svg, timestep } of [share, ratio]) {
    const point = (event) => { if (event.buttons === 1) set({ t: timestep(event) }); };
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointermove", point);
  }

  return follow(model, ["beta_schedule", "beta_start", "beta_end", "rescale", "t"], () => {
    const t = model.get("t"), choice = names.indexOf(model.get("beta_schedule"));
    const values = ["beta_start", "beta_end"].map((name) => model.get(name));
    const curves = names.map((name) => alphasCumprod(BETA_SCHEDULES[name](T, ...values)));
    const shown = model.get("rescale") ? curves.map(rescaleZeroTerminalSnr) : curves;
    const alphaProdT = shown[choice], logRatio = logSnr(alphaProdT);

    which.value = choice;
    rescale.checked = model.get("rescale");
    where.input.value = t;
    where.output.textContent = t;
    ends.forEach(({ input, output }, k) => {
      input.value = Math.log10(values[k]);
      input.disabled = names[choice] === "squaredcos_cap_v2";  // the cosine has no free ends
      output.textContent = input.disabled ? "not used" : short(values[k]);
      input.setAttribute("aria-valuetext", output.textContent);
    });
    paint(canvas, addNoise(x0, noise, alphaProdT[t]), shape);
    caption.textContent = `ᾱ = ${short(alphaProdT[t])}\nlog SNR ${signed(logRatio[t])}`;
    canvas.setAttribute("aria-label", `The picture at t = ${t}`);
    where.input.setAttribute("aria-valuetext", `t = ${t}, ${caption.textContent}`);
    share.draw(shown, choice, t);
    ratio.draw(shown.map(logSnr), choice, t);
    const tie = logRatio.filter((value) => value > 0).length;
    const lost = alphaProdT.filter((share) => share < 0.01).length;
    const balance = tie < T
      ? `Picture and noise tie at t = ${tie}`
      : "The picture outweighs the noise to the end";
    facts.textContent = `${balance}; ${Math.round(100 * lost / T)} % of the steps have ᾱ below `
      + `0.01; at the end ᾱ = ${short(alphaProdT[T - 1])}.`;
  });
}

const short = (value) => {
  const small = value > 0 && value < 0.001;
  return small ? value.toExponential(1).replace("-", "−") : `${+value.toPrecision(4)}`;
};
const signed = (value) => {
  const size = Number.isFinite(value) ? Math.abs(value).toFixed(1) : "∞";
  return (value < 0 ? "−" : "+") + size;
};

/** A check box with its words. */
function check(words, parent) {
  const label = node("label", {}, parent), input = node("input", { type: "checkbox" }, label);
  label.append(` ${words}`);
  return input;
}

/** A slider over powers of ten. */
function logarithmic(name, parent) {
  const input = slider(-0.3, name, parent);
  for (const [key, value] of [["min", -5], ["step", 0.01]]) input.setAttribute(key, value);
  return input;
}

/** A slider between its name and its value. */
function row(name, input) {
  const label = document.createElement("span");
  label.textContent = name;
  input.before(label);
  return { input, output: node("output", {}, input.parentElement) };
}

/** Values in -1 … 1 as grey or colours. values: (channels, height, width), row after row. */
function paint(canvas, values, [channels, height, width]) {
  const pixels = new ImageData(width, height), size = width * height;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) {
      const channel = channels === 3 ? c : 0;
      pixels.data[4 * i + c] = 127.5 * (values[channel * size + i] + 1);
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** Curves over the timesteps, cut off at low and high, and a mark at one of them. */
function chart(title, low, high, ticks, T, parent) {
  const figure = node("figure", {}, parent);
  const viewBox = `-30 -8 ${WIDTH + 38} ${HEIGHT + 28}`;
  const svg = node("svg:svg", { viewBox, "aria-hidden": "true" }, figure);
  node("figcaption", {}, figure).textContent = title;
  const x = (t) => WIDTH * t / Math.max(T - 1, 1);
  const y = (value) => HEIGHT * (high - Math.min(Math.max(value, low), high)) / (high - low);
  const write = (words, x, y, anchor) => {
    node("svg:text", { x, y, "text-anchor": anchor }, svg).textContent = words;
  };
  for (const tick of ticks) {
    node("svg:path", { class: "grid", d: `M0,${y(tick)}h${WIDTH}` }, svg);
    write(tick, -5, y(tick) + 4, "end");
  }
  write("t = 0", 0, HEIGHT + 16, "start");
  write(T - 1, WIDTH, HEIGHT + 16, "end");
  const mark = node("svg:path", { class: "mark" }, svg);
  const group = node("svg:g", {}, svg), dot = node("svg:circle", { r: 5 }, svg);
  const every = Math.ceil(T / 250);
  return {
    svg,
    timestep(event) {
      const { left, width } = svg.getBoundingClientRect();
      const along = ((event.clientX - left) / width * (WIDTH + 38) - 30) / WIDTH;
      return Math.min(Math.max(Math.round(along * (T - 1)), 0), T - 1);
    },
    draw(curves, choice, t) {
      group.replaceChildren();
      for (const k of [...curves.keys()].filter((k) => k !== choice).concat(choice)) {
        const points = curves[k].map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
        const some = points.filter((_, i) => i % every === 0 || i === T - 1).join(" ");
        node("svg:polyline", { points: some, class: k === choice ? "chosen" : "other" }, group);
      }
      mark.setAttribute("d", `M${x(t)},0v${HEIGHT}`);
      dot.setAttribute("cx", x(t));
      dot.setAttribute("cy", y(curves[choice][t]));
    },
  };
}

export default { render };
