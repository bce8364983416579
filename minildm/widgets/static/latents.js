import { box, floats, follow, node } from "./page.js";
import { hue, nearest } from "./plane.js";

const SIZE = 300;  // of the map, in its own units

function render({ model, el }) {
  const [extent, grid, labels, names] = ["extent", "grid", "labels", "names"].map((key) => model.get(key));
  const points = floats(model.get("points"));
  const widget = box(el, "minildm-latents");
  const stage = node("div", { class: "stage" }, widget);
  const half = SIZE / 2, at = (x, y) => [half * x / extent, -half * y / extent];
  const svg = node("svg:svg", { viewBox: [-half, -half, SIZE, SIZE], tabindex: 0, role: "application" }, stage);
  svg.setAttribute("aria-label", "A map of latents. Drag the ring, or move it with the arrow keys.");
  labels.forEach((label, i) => {
    const [cx, cy] = at(points[2 * i], points[2 * i + 1]);
    const text = node("svg:text", { x: cx, y: cy, fill: `hsl(${hue(label, names.length)} 75% 45%)` }, svg);
    text.textContent = names[label];
  });
  const ring = node("svg:circle", { r: 8 }, svg);
  const picture = node("div", { class: "picture", role: "img" }, stage);
  picture.style.backgroundImage = `url(${model.get("sheet")})`;
  picture.style.backgroundSize = `${100 * grid}%`;
  const exact = node("img", { alt: "", hidden: "" }, picture);
  const caption = node("div", { class: "caption", "aria-live": "polite" }, widget);

  const show = () => {
    const [x, y] = [model.get("x"), model.get("y")], [row, column] = nearest(x, y, extent, grid);
    const [drawn_x, drawn_y, drawn] = model.get("exact");
    const [cx, cy] = at(x, y);
    ring.setAttribute("cx", cx);
    ring.setAttribute("cy", cy);
    picture.style.backgroundPosition = `${100 * column / (grid - 1)}% ${100 * row / (grid - 1)}%`;
    exact.hidden = drawn_x !== x || drawn_y !== y;  // the kernel has drawn this very place, or another by now
    if (!exact.hidden) exact.src = drawn;
    caption.textContent = `at (${x.toFixed(1)}, ${y.toFixed(1)})`;
    picture.setAttribute("aria-label", `the picture decoded ${caption.textContent}`);
  };
  const move = (x, y) => {
    const within = (value) => Math.min(Math.max(value, -extent), extent);
    model.set({ x: within(x), y: within(y) });
    model.save_changes();
  };
  const aim = (event) => {
    const { left, top, width, height } = svg.getBoundingClientRect();
    move((2 * (event.clientX - left) / width - 1) * extent, (1 - 2 * (event.clientY - top) / height) * extent);
  };
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); aim(event); });
  svg.addEventListener("pointermove", (event) => { if (event.buttons) aim(event); });
  svg.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!direction) return;
    const step = extent / (grid - 1);
    move(model.get("x") + step * direction[0], model.get("y") + step * direction[1]);
    event.preventDefault();  // or the page scrolls
  });
  return follow(model, ["x", "y", "exact"], show);
}

export default { render };
