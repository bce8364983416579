import { descend, meanDistance } from "./flow.js";
import { bind, box, floats, follow, menu, node, slider } from "./page.js";

const SIZE = 400;  // of the plot, in its own units
const FALL = 3000;  // milliseconds from the first level to the last
const CLUSTER = 12, CROWD = 300;  // particles that one click drops, and the most there are

function render({ model, el }) {
  const [labels, extent, grid] = ["labels", "extent", "grid"].map((key) => model.get(key));
  const T = labels.length, size = T * grid * grid * 2;
  const all = floats(model.get("fields")), data = floats(model.get("points"));
  const chosen = () => all.subarray(size * model.get("choice"), size * (model.get("choice") + 1));
  const widget = box(el, "minildm-fields");
  const controls = node("div", { class: "controls" }, widget);
  const which = menu(model.get("names"), "field", controls);
  const where = slider(T, "noise level", controls);
  const caption = node("output", {}, controls);
  const plot = draw(widget, extent);
  plot.data(data);
  const below = node("div", { class: "controls" }, widget);
  const [everywhere, clear] = ["Drop particles everywhere", "Clear"].map((words) => {
    const button = node("button", { type: "button" }, below);
    button.textContent = words;
    return button;
  });
  const news = node("span", { class: "caption", "aria-live": "polite" }, below);

  // Of each particle the level where it was dropped and its path, a point for that level and every
  // later one.
  let particles = [];
  let aim = [0, 0];  // where Enter drops them
  let moment = 0;  // the level on show; between two while particles fall
  let frame = null;  // of the fall, while there is one

  const show = () => {
    if (frame === null) moment = model.get("index");
    const t = Math.floor(moment);
    which.value = model.get("choice");
    where.value = t;
    const longest = plot.arrows(chosen(), t, T, grid);
    caption.textContent =
      t < T ? `${labels[t]}; longest arrow: ${longest.toPrecision(2)}` : "all steps taken";
    where.setAttribute("aria-valuetext", caption.textContent);
    plot.particles(particles, moment);
  };

  const follows = ([level, [start]]) => [level, descend(chosen(), level, T, grid, extent, start)];

  const move = (level) => {  // the whole levels in between are what the kernel hears of
    moment = level;
    if (Math.floor(moment) !== model.get("index")) {
      model.set("index", Math.floor(moment));
      model.save_changes();
    } else show();
  };

  const halt = () => {
    cancelAnimationFrame(frame);
    frame = null;
    news.textContent = "";
  };

  const tell = () => {
    const ends = particles.map(([, path]) => path.at(-1));
    const off = () => meanDistance(ends, data).toPrecision(2);
    const distance = data.length ? `, on average ${off()} from the nearest point` : "";
    news.textContent = ends.length ? `${ends.length} particles end${distance}` : "";
  };

  const fall = () => {
    const from = moment, start = performance.now();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const next = (now) => {
      frame = requestAnimationFrame(next);
      move(still ? T : Math.min(from + Math.max(now - start, 0) / FALL * T, T));
      if (moment === T) { halt(); tell(); }
    };
    halt();
    frame = requestAnimationFrame(next);
  };

  const drop = (starts) => {
    if (moment >= T) moment = 0;  // there is no field below: from the top again
    const level = Math.floor(moment);
    particles = [...particles, ...starts.map((start) => follows([level, [start]]))].slice(-CROWD);
    fall();
  };

  const dropAtAim = () => {  // as the seeds of a sunflower
    const seed = (k) => {
      const radius = 0.08 * extent * Math.sqrt(k / CLUSTER), angle = 2.4 * k;
      return [aim[0] + radius * Math.cos(angle), aim[1] + radius * Math.sin(angle)];
    };
    drop(Array.from({ length: CLUSTER }, (_, k) => seed(k)));
  };

  const steer = (x, y) => {
    aim = [x, y].map((value) => Math.min(Math.max(value, -extent), extent));
    plot.cross(aim);
  };

  bind(which, model, "choice");
  bind(where, model, "index");
  where.addEventListener("input", () => { halt(); show(); });
  plot.svg.addEventListener("click", (event) => { steer(...plot.locate(event)); dropAtAim(); });
  plot.svg.addEventListener("keydown", (event) => {
    const directions =
      { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const direction = directions[event.key];
    if (direction) steer(aim[0] + direction[0] * extent / 20, aim[1] + direction[1] * extent / 20);
    else if (event.key === "Enter" || event.key === " ") dropAtAim();
    else return;
    event.preventDefault();  // or the page scrolls
  });
  everywhere.addEventListener("click", () => {
    const side = Array.from({ length: 15 }, (_, k) => extent * ((2 * k + 1) / 15 - 1));
    particles = [];
    drop(side.flatMap((x) => side.map((y) => [x, y])));
  });
  clear.addEventListener("click", () => { particles = []; halt(); show(); });
  steer(0, 0);
  const end = follow(model, ["index"], show);
  const other = () => { particles = particles.map(follows); if (frame === null) tell(); show(); };
  model.on("change:choice", other);
  return () => { cancelAnimationFrame(frame); end(); model.off("change:choice", other); };
}

/** The plot, y upwards, and what can be drawn in it. */
function draw(parent, extent) {
  const scale = SIZE / 2 / extent;
  const dot = (x, y) => `${(scale * x).toFixed(1)},${(-scale * y).toFixed(1)}`;
  const svg = node("svg:svg", { viewBox: [-SIZE / 2, -SIZE / 2, SIZE, SIZE], tabindex: 0 }, parent);
  svg.setAttribute("role", "application");
  const help = "The field as arrows. Arrow keys move the cross; Enter drops particles there.";
  svg.setAttribute("aria-label", help);
  node("svg:path", { class: "axes", d: `M${-SIZE / 2},0h${SIZE}M0,${-SIZE / 2}v${SIZE}` }, svg);
  const text = node("svg:text", { x: SIZE / 2 - 4, y: 14, "text-anchor": "end" }, svg);
  text.textContent = extent;
  const layers = ["data", "arrows", "trails", "particles", "cross"];
  const [data, shafts, trails, heads, cross] =
    layers.map((name) => node("svg:path", { class: name }, svg));
  return {
    svg,
    locate(event) {
      const { left, top, width, height } = svg.getBoundingClientRect();
      const across = 2 * (event.clientX - left) / width - 1;
      const up = 1 - 2 * (event.clientY - top) / height;
      return [across * extent, up * extent];
    },
    data(points) {
      let d = "";
      for (let k = 0; k < points.length; k += 2) d += `M${dot(points[k], points[k + 1])}h0`;
      data.setAttribute("d", d);
    },
    cross([x, y]) {
      cross.setAttribute("d", `M${dot(x, y)}m-8,0h16m-8,-8v16`);
    },
    /** The steps of level t; the longest fills its cell, and lengths go with the root, or the short
     * would vanish. */
    arrows(field, t, T, grid) {
      const every = Math.ceil(grid / 24), cell = 2 * extent / (grid - 1) * every, steps = [];
      for (let i = 0; t < T && i < grid; i += every) for (let j = 0; j < grid; j += every) {
        const k = ((t * grid + i) * grid + j) * 2, place = (n) => (2 * n / (grid - 1) - 1) * extent;
        steps.push([place(j), place(i), field[k], field[k + 1]]);
      }
      const longest = Math.max(1e-12, ...steps.map(([, , dx, dy]) => Math.hypot(dx, dy)));
      shafts.setAttribute("d", steps.map(([x, y, dx, dy]) => {
        const length = Math.hypot(dx, dy);
        const s = length ? 0.9 * cell / Math.sqrt(length * longest) : 0;
        const [u, v] = [s * dx, s * dy], tip = [x + u, y + v];
        const barb = (side) => dot(tip[0] - 0.3 * (u - side * v), tip[1] - 0.3 * (v + side * u));
        return `M${dot(x, y)}L${dot(...tip)}M${barb(-1)}L${dot(...tip)}L${barb(1)}`;
      }).join(""));
      return longest;
    },
    particles(particles, moment) {
      const paths = particles.map(([level, path]) => {
        const gone = Math.min(Math.max(moment - level, 0), path.length - 1);
        const k = Math.floor(gone), rest = gone - k;
        const [[x, y], [to_x, to_y]] = [path[k], path[Math.min(k + 1, path.length - 1)]];
        return [...path.slice(0, k + 1), [x + rest * (to_x - x), y + rest * (to_y - y)]];
      });
      const trail = (path) => `M${path.map((point) => dot(...point)).join("L")}`;
      trails.setAttribute("d", paths.map(trail).join(""));
      heads.setAttribute("d", paths.map((path) => `M${dot(...path.at(-1))}h0`).join(""));
    },
  };
}

export default { render };
