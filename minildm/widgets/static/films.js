import { bind, box, follow, getAll, node, slider } from "./page.js";

function render({ model, el }) {
  const [names, frames, captions, stops] = getAll(model, "names", "frames", "captions", "stops");
  const widget = box(el, "minildm-films");
  const controls = node("div", { class: "controls" }, widget);
  const where = slider(stops.length - 1, model.get("what"), controls);
  const stop = node("output", {}, controls);
  const stage = node("div", { class: `stage ${model.get("arrangement")}` }, widget);
  stage.style.setProperty("--columns", model.get("columns"));
  const rows = names.map((name) => {
    const row = node("figure", {}, stage);
    const words = node("figcaption", {}, row);
    node("b", {}, words).textContent = name;
    return { caption: node("span", {}, words), image: node("img", {}, row) };
  });
  bind(where, model, "index");
  return follow(model, ["index"], () => {
    const i = model.get("index");
    where.value = i;
    stop.textContent = stops[i];
    where.setAttribute("aria-valuetext", stops[i]);
    rows.forEach((row, k) => {
      row.image.src = frames[k][i];
      row.image.alt = [names[k], stops[i], captions[k][i]].filter(Boolean).join(", ");
      row.caption.textContent = captions[k][i];
    });
  });
}

export default { render };
