import { bind, box, follow, menu, node, slider } from "./page.js";
import { promptForm } from "./ask.js";
import { inWords, stroke } from "./brush.js";

function render({ model, el }) {
  const side = model.get("side"), classes = model.get("classes"), colours = model.get("colours");
  const widget = box(el, "minildm-painter");
  const controls = node("div", { class: "controls" }, widget);
  const which = menu([], "strip of maps", controls);
  const where = slider(0, "map", controls);
  const stage = node("div", { class: "stage" }, widget);
  const [left, right] = ["the map", "the picture"].map((words) => {
    const figure = node("figure", {}, stage);
    node("figcaption", {}, figure).textContent = words;
    return figure;
  });
  const canvas = node("canvas", { width: side, height: side, role: "img" }, left);
  const image = node("img", {}, right);
  const caption = node("div", { class: "caption", "aria-live": "polite" }, widget);

  // The brush, which only a kernel can answer.
  const tools = node("div", { hidden: "" }, widget);
  const group = { class: "classes", role: "group", "aria-label": "what the brush paints" };
  const row = node("div", group, tools);
  let letter = "3", at = null, cursor = [side / 2, side / 2];
  const buttons = classes.map((name, k) => {
    const button = node("button", { type: "button" }, row);
    node("span", { class: "colour", style: `background: ${colours[k]}` }, button);
    node("span", {}, button).textContent = name;
    button.addEventListener("click", () => { letter = k.toString(16); press(); });
    return button;
  });
  const press = () => buttons.forEach((button, k) => {
    button.setAttribute("aria-pressed", k.toString(16) === letter);
  });
  const brush = menu(["fine brush", "middle brush", "broad brush"], "brush", row);
  brush.value = 1;
  const clear = node("button", { type: "button" }, row);
  clear.textContent = "Clear";
  press();
  const question = promptForm(model, tools);

  const paint = (map) => { model.set("painted", map); model.save_changes(); };
  const place = (event) => {
    const { left: x, top: y, width, height } = canvas.getBoundingClientRect();
    const within = (value) => Math.min(side - 1, Math.max(0, Math.floor(value * side)));
    return [within((event.clientX - x) / width), within((event.clientY - y) / height)];
  };
  const mark = (from, to) => {
    const size = Number(brush.value) + 1;
    paint(stroke(model.get("painted"), side, from, to, letter, size));
  };
  const ground = (classes.length - 1).toString(16);
  clear.addEventListener("click", () => paint(ground.repeat(side * side)));
  canvas.addEventListener("pointerdown", (event) => {
    if (tools.hidden) return;
    canvas.setPointerCapture(event.pointerId);
    cursor = at = place(event);
    mark(at, at);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!at) return;
    const next = place(event);
    mark(at, next);
    cursor = at = next;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => { at = null; });
  }
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (tools.hidden || (!step && event.key !== " ")) return;
    event.preventDefault();
    if (step) cursor = cursor.map((value, k) => Math.min(side - 1, Math.max(0, value + step[k])));
    else mark(cursor, cursor);
    show();
  });
  canvas.addEventListener("focus", () => show());
  canvas.addEventListener("blur", () => show());

  const show = () => {
    const map = model.get("painted"), pen = canvas.getContext("2d");
    [...map].forEach((value, i) => {
      pen.fillStyle = colours[parseInt(value, 16)];
      pen.fillRect(i % side, Math.floor(i / side), 1, 1);
    });
    if (!tools.hidden && document.activeElement === canvas) {
      pen.fillStyle = "#000000";
      pen.fillRect(...cursor, 1, 1);
    }
    const words = tools.hidden ? "" : "; the arrow keys move the brush, space paints";
    canvas.setAttribute("aria-label", inWords(map, classes) + words);
  };
  const turn = () => {
    const names = model.get("names"), choice = model.get("choice");
    const maps = model.get("maps")[choice];
    const i = Math.min(model.get("index"), maps.length - 1);
    if (which.childElementCount !== names.length) {
      which.replaceChildren();
      names.forEach((name, k) => { node("option", { value: k }, which).textContent = name; });
      which.hidden = names.length < 2;
    }
    which.value = choice;
    where.max = maps.length - 1;
    where.value = i;
    image.src = model.get("frames")[choice][i];
    image.alt = caption.textContent = model.get("captions")[choice][i];
    where.setAttribute("aria-valuetext", caption.textContent);
    if (model.get("painted") !== maps[i]) paint(maps[i]);
  };
  const welcome = (message) => {
    if (message.kind !== "here") return;
    tools.hidden = false;
    canvas.tabIndex = 0;
    show();
  };
  model.on("msg:custom", welcome);
  which.addEventListener("input", () => {
    const choice = Number(which.value), last = model.get("maps")[choice].length - 1;
    model.set("choice", choice);
    model.set("index", Math.min(model.get("index"), last));
    model.save_changes();
  });
  bind(where, model, "index");
  const endings = [
    follow(model, ["choice", "index", "names", "maps"], turn),
    follow(model, ["painted"], show),
    question.end,
  ];
  return () => { model.off("msg:custom", welcome); endings.forEach((end) => end()); };
}

export default { render };
