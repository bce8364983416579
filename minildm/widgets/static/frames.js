import { bind, box, follow, getAll, menu, node, slider } from "./page.js";

function render({ model, el }) {
  const [names, frames, captions, curves] = getAll(model, "names", "frames", "captions", "curves");
  const last = frames[0].length - 1;
  const widget = box(el, "minildm-frames");
  const controls = node("div", { class: "controls" }, widget);
  const which = menu(names, "which", controls);
  const where = slider(last, "frame", controls);
  const stage = node("div", { class: "stage" }, widget);
  const image = node("img", {}, stage);
  const place = curves.length ? plot(curves, last, stage) : () => {};
  const caption = node("div", { class: "caption", "aria-live": "polite" }, widget);
  bind(which, model, "choice");
  bind(where, model, "index");
  return follow(model, ["index", "choice"], () => {
    const choice = model.get("choice"), i = model.get("index");
    which.value = choice;
    where.value = i;
    image.src = frames[choice][i];
    image.alt = caption.textContent = captions[choice][i];
    where.setAttribute("aria-valuetext", captions[choice][i]);
    place(choice, i);
  });
}

/** All curves as lines; what comes back puts the dot on one of them. */
function plot(curves, last, parent) {
  const highest = Math.max(...curves.flat()), lowest = Math.min(...curves.flat());
  const x = (i) => 6 + 288 * i / Math.max(last, 1);
  const y = (value) => 6 + 168 * (highest - value) / (highest - lowest || 1);
  const svg = node("svg:svg", { viewBox: "0 0 300 180", "aria-hidden": "true" }, parent);
  const lines = curves.map((curve) => {
    const points = curve.map((value, i) => `${x(i)},${y(value)}`).join(" ");
    return node("svg:polyline", { points }, svg);
  });
  const dot = node("svg:circle", { r: 5 }, svg);
  return (choice, i) => {
    lines.forEach((line, k) => line.classList.toggle("chosen", k === choice));
    dot.setAttribute("cx", x(i));
    dot.setAttribute("cy", y(curves[choice][i]));
  };
}

export default { render };
