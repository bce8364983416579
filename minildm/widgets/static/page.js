// What all the widgets share.

const SVG = "http://www.w3.org/2000/svg";

/** Append a new element to `parent`; a tag of SVG is written "svg:line". */
export function node(tag, attributes, parent) {
  const made = tag.startsWith("svg:")
    ? document.createElementNS(SVG, tag.slice(4))
    : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

/** The widget's own box in `el`; keys pressed in it stay in it, or JupyterLab would move between
 * cells. */
export function box(el, name) {
  const made = node("div", { class: `minildm ${name}` }, el);
  made.addEventListener("keydown", (event) => event.stopPropagation());
  return made;
}

/** A menu of `names`; with fewer than two it is hidden. */
export function menu(names, label, parent) {
  const made = node("select", { "aria-label": label }, parent);
  names.forEach((name, i) => { node("option", { value: i }, made).textContent = name; });
  made.hidden = names.length < 2;
  return made;
}

/** A slider over 0 … last. */
export function slider(last, label, parent) {
  return node("input", { type: "range", min: 0, max: last, step: 1, "aria-label": label }, parent);
}

/** Moving `input` sets the trait, in the kernel too where there is one. */
export function bind(input, model, trait) {
  input.addEventListener("input", () => {
    model.set(trait, Number(input.value));
    model.save_changes();
  });
}

/** The values of several traits. */
export function getAll(model, ...traits) {
  return traits.map((trait) => model.get(trait));
}

/** Call `show` now and whenever one of the traits changes; returns what ends it. */
export function follow(model, traits, show) {
  for (const trait of traits) model.on(`change:${trait}`, show);
  show();
  return () => { for (const trait of traits) model.off(`change:${trait}`, show); };
}

/** The numbers of a trait that travelled as bytes, a DataView. */
export function floats(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}
