import { bind, box, follow, menu, node, slider } from "./page.js";
import { promptForm } from "./ask.js";

function render({ model, el }) {
  const widget = box(el, "minildm-words");
  const controls = node("div", { class: "controls" }, widget);
  const which = menu([], "prompt", controls);
  const where = slider(0, "step of the sampler", controls);
  const stop = node("output", {}, controls);
  const group = { class: "words", role: "group", "aria-label": "words of the prompt" };
  const row = node("div", group, widget);
  const stage = node("div", { class: "stage" }, widget);
  const views = ["what this step expects", "where it looks for the word"].map((words) => {
    const figure = node("figure", {}, stage);
    node("figcaption", {}, figure).textContent = words;
    return node("img", {}, figure);
  });
  const caption = node("div", { class: "caption", "aria-live": "polite" }, widget);
  const question = promptForm(model, widget);

  const set = (values) => {
    for (const [trait, value] of Object.entries(values)) model.set(trait, value);
    model.save_changes();
  };
  which.addEventListener("input", () => {
    const choice = Number(which.value), last = model.get("stops")[choice].length - 1;
    set({ choice, word: 0, index: Math.min(model.get("index"), last) });
  });
  bind(where, model, "index");

  let shown = -1, buttons = [];
  const still = follow(model, ["choice", "word", "index", "prompts"], () => {
    const [prompts, choice] = [model.get("prompts"), model.get("choice")];
    const words = model.get("words")[choice], stops = model.get("stops")[choice];
    const word = Math.min(model.get("word"), words.length - 1);
    const i = Math.min(model.get("index"), stops.length - 1);
    if (shown !== `${choice} of ${prompts.length}`) {
      shown = `${choice} of ${prompts.length}`;
      which.replaceChildren();
      prompts.forEach((prompt, k) => { node("option", { value: k }, which).textContent = prompt; });
      which.hidden = prompts.length < 2;
      row.replaceChildren();
      buttons = words.map((text, k) => {
        const button = node("button", { type: "button" }, row);
        button.textContent = text;
        button.addEventListener("click", () => set({ word: k }));
        return button;
      });
    }
    which.value = choice;
    where.max = stops.length - 1;
    where.value = i;
    stop.textContent = stops[i];
    where.setAttribute("aria-valuetext", stops[i]);
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === word));
    views[0].src = model.get("pictures")[choice][i];
    views[0].alt = `${prompts[choice]}, ${stops[i]}`;
    views[1].src = model.get("overlays")[choice][i][word];
    const share = model.get("shares")[choice][i][word];
    views[1].alt = caption.textContent = `“${words[word]}”, ${stops[i]}: ${share}`;
  });
  return () => { still(); question.end(); };
}

export default { render };
