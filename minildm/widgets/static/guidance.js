import { bind, box, follow, menu, node, slider } from "./page.js";
import { promptForm } from "./ask.js";
import { chart } from "./chart.js";

function render({ model, el }) {
  const scales = model.get("scales"), curves = Object.entries(model.get("curves"));
  const widget = box(el, "minildm-guidance");
  const controls = node("div", { class: "controls" }, widget);
  const which = menu([], "prompt", controls);
  const where = slider(scales.length - 1, "guidance scale", controls);
  const stop = node("output", {}, controls);
  const stage = node("div", { class: "stage" }, widget);
  const image = node("img", {}, stage);
  const charts = node("div", { class: "charts" }, stage);
  const marks = curves.map(([name, [xs, ys]]) => chart(name, xs, ys, scales, charts));
  const question = promptForm(model, widget);
  bind(which, model, "choice");
  bind(where, model, "index");
  const still = follow(model, ["choice", "index", "names"], () => {
    const names = model.get("names"), choice = model.get("choice"), i = model.get("index");
    if (which.childElementCount !== names.length) {
      which.replaceChildren();
      names.forEach((name, k) => { node("option", { value: k }, which).textContent = name; });
      which.hidden = names.length < 2;
    }
    which.value = choice;
    where.value = i;
    image.src = model.get("frames")[choice][i];
    image.alt = `${names[choice]}, guidance ${scales[i]}`;
    stop.textContent = `guidance ${scales[i]}`;
    const measured = marks.map((mark) => mark(scales[i]));
    where.setAttribute("aria-valuetext", [stop.textContent, ...measured].join(", "));
  });
  return () => { still(); question.end(); };
}

export default { render };
