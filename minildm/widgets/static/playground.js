import { box, follow, menu, node, slider } from "./page.js";
import { promptForm } from "./ask.js";
import { row } from "./rows.js";

const NAMES = ["prompt", "away from", "guidance", "steps", "seed"];

function render({ model, el }) {
  const options = model.get("options");
  const widget = box(el, "minildm-playground");
  const stage = node("div", { class: "stage" }, widget);
  const picture = node("div", { class: "picture", role: "img" }, stage);
  const own = node("img", { alt: "", hidden: "" }, picture);
  const controls = node("div", { class: "settings" }, stage);
  let mine = null;  // the reader's own prompt, while it is the one on show

  const inputs = options.map((values, k) => {
    const line = node("label", {}, controls);
    const name = node("span", {}, line);
    const words = values.map((value) => (value === "" ? "(nothing)" : String(value)));
    const input = k < 2 ? menu(words, NAMES[k], line) : slider(values.length - 1, NAMES[k], line);
    line.hidden = values.length < 2 && k > 0;
    input.hidden = false;
    input.addEventListener("input", () => {
      const place = [...model.get("place")];
      place[k] = Number(input.value);
      model.set("place", place);
      model.save_changes();
      if (k < 2) mine = null;
      if (mine !== null) question.ask(mine);
      show();
    });
    return { input, name, words };
  });

  const onPrompt = (prompt) => { mine = prompt; };
  // Where there is no menu of negative prompts, there is no field for one.
  const fields = options[1].length > 1 ? { away: "away from" } : {};
  const question = promptForm(model, controls, { fields, onPrompt });

  const show = () => {
    const place = model.get("place"), counts = options.map((values) => values.length);
    const drawn = mine === null ? [] : model.get("own");
    inputs.forEach(({ input, name, words }, k) => {
      input.value = place[k];
      name.textContent = k < 2 ? NAMES[k] : `${NAMES[k]} ${words[place[k]]}`;
      if (k > 1) input.setAttribute("aria-valuetext", words[place[k]]);
    });
    const [rows, columns] = [counts[1] * counts[2] * counts[3], counts[4]];
    const percent = (i, n) => (n > 1 ? 100 * i / (n - 1) : 0);
    picture.style.backgroundImage = `url(${model.get("sheets")[place[0]]})`;
    picture.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    const across = percent(place[4], columns), down = percent(row(place, counts), rows);
    picture.style.backgroundPosition = `${across}% ${down}%`;
    own.hidden = drawn.length === 0;
    if (!own.hidden) own.src = drawn[drawn.length - 1];
    const chosen = inputs.map((input, k) => input.words[place[k]]);
    const words = drawn.length ? drawn.slice(0, -1) : chosen;
    const settings = words.map((word, k) => `${NAMES[k]} ${word === "" ? "(nothing)" : word}`);
    const free = settings.filter((_, k) => k === 0 || counts[k] > 1);
    picture.setAttribute("aria-label", free.join(", "));
  };
  const end = follow(model, ["place", "own"], show);
  return () => { end(); question.end(); };
}

export default { render };
