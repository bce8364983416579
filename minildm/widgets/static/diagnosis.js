import { bind, box, follow, getAll, menu, node } from "./page.js";
import { judge } from "./verdict.js";

function render({ model, el }) {
  const [names, pictures] = getAll(model, "names", "pictures");
  const [stories, choices] = getAll(model, "stories", "choices");
  const widget = box(el, "minildm-diagnosis");
  const who = node("div", { class: "controls" }, widget);
  const patient = menu(names, "patient", who);
  const score = node("output", { class: "caption" }, who);
  const image = node("img", {}, widget);
  const story = node("p", {}, widget);
  const ask = node("form", { class: "controls" }, widget);
  const choice = menu(["what is wrong?", ...choices], "what is wrong", ask);
  const button = node("button", { type: "submit" }, ask);
  button.textContent = "Check";
  const reply = node("div", { class: "caption", "aria-live": "polite" }, widget);
  bind(patient, model, "patient");
  patient.addEventListener("input", () => { model.set("choice", -1); model.save_changes(); });
  choice.addEventListener("input", () => {
    model.set("choice", Number(choice.value) - 1);
    model.save_changes();
  });
  ask.addEventListener("submit", (event) => {
    event.preventDefault();
    const [which, chosen, answers] = getAll(model, "patient", "choice", "answers");
    const verdict = judge(which, chosen, answers, model.get("replies"), model.get("solved"));
    model.set("solved", verdict.solved);
    model.save_changes();
    reply.textContent = verdict.text;
  });
  return follow(model, ["patient", "choice", "solved"], () => {
    const which = model.get("patient"), solved = model.get("solved");
    patient.value = which;
    choice.value = model.get("choice") + 1;
    image.src = pictures[which];
    image.alt = `What patient ${names[which]} draws: ${stories[which]}`;
    story.textContent = stories[which];
    reply.textContent = "";
    score.textContent = `${solved.length} of ${names.length} diagnosed`;
  });
}

export default { render };
