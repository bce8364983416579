import { node } from "./page.js";

/** A field in which the reader types a prompt. It shows itself once a kernel has said that it is there. */
export function asking(model, parent) {
  const form = node("form", { class: "controls", hidden: "" }, parent);
  const input = node("input", { type: "text", "aria-label": "your own prompt", placeholder: "your own prompt" }, form);
  const button = node("button", { type: "submit" }, form);
  button.textContent = "Draw";
  const news = node("span", { class: "caption", "aria-live": "polite" }, form);
  const hear = (message) => {
    if (message.kind === "here") form.hidden = false;
    if (message.kind === "done") { button.disabled = false; news.textContent = message.text; }
  };
  model.on("msg:custom", hear);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    button.disabled = true;
    news.textContent = "drawing …";
    model.send({ kind: "ask", prompt: input.value });
  });
  try { model.send({ kind: "hello" }); } catch { /* a page without a kernel */ }
  return () => model.off("msg:custom", hear);
}
