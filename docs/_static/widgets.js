// Moves the chapters' widgets in the book, where there is no kernel: a host for anywidget's front-end modules, whose
// state myst-nb leaves in the page. Of other widgets it shows the picture that they showed last.

const STATE = "application/vnd.jupyter.widget-state+json";
const VIEW = "application/vnd.jupyter.widget-view+json";
const read = (script) => JSON.parse(script.textContent);

function bytes(base64) {
  const text = atob(base64);
  return new DataView(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
}

/** The traits of one widget as its script knows them: numbers, texts, and bytes as DataViews. */
function traits({ state, buffers = [] }) {
  const values = structuredClone(state);
  for (const { path, data } of buffers) {
    path.slice(0, -1).reduce((place, key) => place[key], values)[path.at(-1)] = bytes(data);
  }
  return values;
}

/** What anywidget gives to `render`: traits that are read, set and listened to. Nobody answers messages. */
class Model {
  #values;
  #listeners = new Map();

  constructor(values) { this.#values = values; }
  get(name) { return this.#values[name]; }
  set(name, value) {
    if (typeof name === "object") return Object.entries(name).forEach(([key, each]) => this.set(key, each));
    if (this.#values[name] === value) return;
    this.#values[name] = value;
    for (const event of [`change:${name}`, "change"]) this.#listeners.get(event)?.forEach((listener) => listener());
  }
  on(event, listener) { this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]); }
  off(event, listener) {
    this.#listeners.set(event, (this.#listeners.get(event) ?? []).filter((each) => listener && each !== listener));
  }
  save_changes() {}
  send() {}
}

/** The widget's own module, from its text. */
async function load(source) {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  try { return (await import(address)).default; } finally { URL.revokeObjectURL(address); }
}

function styled(text) {
  const style = document.createElement("style");
  style.textContent = text;
  document.head.append(style);
}

/** Every output that this widget, or one inside it, showed last. */
function outputs(id, widgets) {
  const { state } = widgets[id];
  if (state.outputs) return state.outputs;
  return (state.children ?? []).flatMap((child) => outputs(child.replace("IPY_MODEL_", ""), widgets));
}

function still(place, shown) {
  if (!shown.length) return;
  for (const { text, data = {} } of shown) {
    if (text) place.append(Object.assign(document.createElement("pre"), { textContent: text }));
    if (data["image/png"]) {
      place.append(Object.assign(new Image(), {
        src: `data:image/png;base64,${data["image/png"]}`,
        alt: "The figure at the controls' first position",
      }));
    }
  }
  place.append(Object.assign(document.createElement("p"), {
    className: "caption", textContent: "Its sliders need a kernel: they move in JupyterLab.",
  }));
}

async function show(script, widgets) {
  const id = read(script).model_id, widget = widgets[id];
  if (!widget) return;
  const place = document.createElement("div");
  place.className = "minildm-widget";
  script.after(place);
  if (!widget.state._esm) return still(place, outputs(id, widgets));
  if (widget.state._css) styled(widget.state._css);
  const module = await load(widget.state._esm);
  await (typeof module === "function" ? await module() : module).render({ model: new Model(traits(widget)), el: place });
}

(async () => {  // a plain script, no module: those do not load from file://, where an unpacked book is opened
  const states = [...document.querySelectorAll(`script[type="${STATE}"]`)].map((script) => read(script).state);
  const widgets = Object.assign({}, ...states);
  for (const script of document.querySelectorAll(`script[type="${VIEW}"]`)) await show(script, widgets);
  document.documentElement.dataset.widgets = "ready";
})();
