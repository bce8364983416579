import { node } from "./page.js";

/** A form in which the reader types a prompt, and one more text for each trait that `fields` gives
 * a name to. It shows itself once a kernel has said that it is there, and calls `onPrompt` with
 * every prompt that is sent. Gives `ask`, which sends a prompt without the button, and `end`. */
export function promptForm(model, parent, { fields = {}, onPrompt = () => {} } = {}) {
  const form = node("form", { class: "controls", hidden: "" }, parent);
  const field = (words) =>
    node("input", { type: "text", "aria-label": words, placeholder: words }, form);
  const prompt = field("your own prompt");
  const others = Object.entries(fields).map(([trait, words]) => [trait, field(words)]);
  const button = node("button", { type: "submit" }, form);
  button.textContent = "Draw";
  const news = node("span", { class: "caption", "aria-live": "polite" }, form);

  const ask = (text) => {
    button.disabled = true;
    news.textContent = "drawing …";
    for (const [trait, other] of others) model.set(trait, other.value);
    if (others.length) model.save_changes();
    model.send({ kind: "ask", prompt: text });
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onPrompt(prompt.value);
    ask(prompt.value);
  });
  const onMessage = (message) => {
    if (message.kind === "here") form.hidden = false;
    if (message.kind === "done") { button.disabled = false; news.textContent = message.text; }
  };
  model.on("msg:custom", onMessage);
  try { model.send({ kind: "hello" }); } catch { /* a page without a kernel */ }
  return { ask, end: () => model.off("msg:custom", onMessage) };
}
