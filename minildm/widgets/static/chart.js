import { node } from "./page.js";

const WIDTH = 220, HEIGHT = 100;  // of a chart, in its own units

/** The value at `x` on the line through the points (xs, ys), xs rising; beyond them, that of the
 * nearest. */
export function between(xs, ys, x) {
  const k = xs.findIndex((value) => value >= x);
  if (k === 0) return ys[0];
  if (k < 0) return ys[ys.length - 1];
  return ys[k - 1] + (ys[k] - ys[k - 1]) * (x - xs[k - 1]) / (xs[k] - xs[k - 1]);
}

/** One measured curve over the guidance scale; what comes back puts the dot on it and says the
 * value. */
export function chart(name, xs, ys, scales, parent) {
  const figure = node("figure", {}, parent);
  const caption = node("figcaption", {}, figure);
  const viewBox = `-6 -6 ${WIDTH + 12} ${HEIGHT + 12}`;
  const svg = node("svg:svg", { viewBox, "aria-hidden": "true" }, figure);
  const first = Math.min(scales[0], xs[0]);
  const last = Math.max(scales[scales.length - 1], xs[xs.length - 1]);
  const low = Math.min(...ys), high = Math.max(...ys);
  const x = (value) => WIDTH * (value - first) / (last - first || 1);
  const y = (value) => HEIGHT * (high - value) / (high - low || 1);
  node("svg:polyline", { points: xs.map((value, i) => `${x(value)},${y(ys[i])}`).join(" ") }, svg);
  const dot = node("svg:circle", { r: 5 }, svg);
  return (scale) => {
    const value = between(xs, ys, scale);
    dot.setAttribute("cx", x(scale));
    dot.setAttribute("cy", y(value));
    caption.textContent = `${name}: ${Number(value.toPrecision(3))}`;
    return caption.textContent;
  };
}
