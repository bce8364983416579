// As much of a browser's document as the widgets ask for, for V8 alone: elements that remember what
// was done to them.

class Element {
  constructor(tag) {
    Object.assign(this, { tag, attributes: {}, children: [], listeners: {}, style: {}, text: "" });
    Object.assign(this, { hidden: false, pixels: null, strokes: [] });
    this.style.setProperty = (name, value) => { this.style[name] = value; };
    this.classList = { toggle: (name, on) => { this.attributes.class = on ? name : ""; } };
  }

  setAttribute(name, value) {
    this.attributes[name] = String(value);
    if (name === "hidden") this.hidden = true;
  }
  append(...nodes) { this.children.push(...nodes); }
  before() {}
  replaceChildren(...nodes) { this.children = nodes; }
  addEventListener(name, call) { (this.listeners[name] ??= []).push(call); }
  setPointerCapture() {}
  get parentElement() { return this; }
  get childElementCount() { return this.children.length; }
  get textContent() { return this.text + this.children.map((child) => child.textContent ?? child).join(""); }
  set textContent(text) { this.text = String(text); this.children = []; }
  getBoundingClientRect() { return { left: 0, top: 0, width: 100, height: 100 }; }
  getContext() {
    return { putImageData: (image) => { this.pixels = [...image.data]; }, fillRect() {} };
  }

  /** This element and those in it, in the order in which they stand. */
  get all() { return [this, ...this.children.flatMap((child) => child.all ?? [])]; }
}

globalThis.ImageData = class {
  constructor(width, height) { this.data = new Uint8ClampedArray(4 * width * height); }
};
globalThis.document = {
  createElement: (tag) => new Element(tag),
  createElementNS: (_, tag) => new Element(tag),
};

/** A widget's traits as the page has them. */
class Model {
  constructor(traits) { Object.assign(this, { traits, told: [], saved: 0, listeners: {} }); }
  get(trait) { return this.traits[trait]; }
  set(trait, value) {
    this.traits[trait] = value;
    for (const call of this.listeners[`change:${trait}`] ?? []) call();
  }
  save_changes() { this.saved += 1; }
  on(name, call) { (this.listeners[name] ??= []).push(call); }
  off(name, call) { this.listeners[name] = this.listeners[name].filter((one) => one !== call); }
  send(message) { this.told.push(message); }
}

const root = new Element("div");
let model = null, end = null;

/** Show the widget; numbers that travel as bytes are lists here, under "floats". */
function open(traits, floats) {
  for (const [name, numbers] of Object.entries(floats)) {
    traits[name] = new DataView(Float32Array.from(numbers).buffer);
  }
  model = new Model(traits);
  end = widget.render({ model, el: root });
}

/** All elements with this tag: what is seen and heard of them. */
function seen(tag) {
  return root.all.filter((element) => element.tag === tag).map((element) => ({
    attributes: element.attributes, style: element.style, text: element.textContent,
    src: element.src, alt: element.alt, value: element.value, hidden: element.hidden,
    max: element.max, pixels: element.pixels,
  }));
}

/** Something happens to the element number `i` with this tag. */
function happen(tag, i, name, value) {
  const element = root.all.filter((one) => one.tag === tag)[i];
  if (value !== undefined) element.value = value;
  const event = { preventDefault() {}, stopPropagation() {} };
  for (const call of element.listeners[name] ?? []) call(event);
}
