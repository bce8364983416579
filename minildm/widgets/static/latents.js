import { box, floats, follow, getAll, node } from "./page.js";
import { hue, nearest } from "./plane.js";

const SIZE = 300;  // of the map, in its own units

function render({ model, el }) {
  const [extent, grid, labels, names] = getAll(model, "extent", "grid", "labels", "names");
  const points = floats(model.get("points"));
  const widget = box(el, "minildm-latents");
  const stage = node("div", { class: "stage" }, widget);
  const half = SIZE / 2, at = (x, y) => [half * x / extent, -half * y / extent];
  const viewBox = [-half, -half, SIZE, SIZE];
  const svg = node("svg:svg", { viewBox, tabindex: 0, role: "application" }, stage);
  const help = "A map of latents. Drag the ring, or move it with the arrow keys.";
  svg.setAttribute("aria-label", help);
  labels.forEach((label, i) => {
    const [cx, cy] = at(points[2 * i], points[2 * i + 1]);
    const fill = `hsl(${hue(label, names.length)} 75% 45%)`;
    const text = node("svg:text", { x: cx, y: cy, fill }, svg);
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
    // Has the kernel drawn this very place, or another by now?
    exact.hidden = drawn_x !== x || drawn_y !== y;
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
    const across = 2 * (event.clientX - left) / width - 1;
    const up = 1 - 2 * (event.clientY - top) / height;
    move(across * extent, up * extent);
  };
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    aim(event);
  });
  svg.addEventListener("pointermove", (event) => { if (event.buttons) aim(event); });
  svg.addEventListener("keydown", (event) => {
    const directions =
      { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const direction = directions[event.key];
    if (!direction) return;
    const step = extent / (grid - 1);
    move(model.get("x") + step * direction[0], model.get("y") + step * direction[1]);
    event.preventDefault();  // or the page scrolls
  });
  return follow(model, ["x", "y", "exact"], show);
}

export default { render };
