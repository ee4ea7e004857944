// Elements made from plain text. What a text holds is never read as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(attribute, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function draw(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  return element;
}

export function say(element, sentence) {
  element.textContent = sentence ?? "";
  element.hidden = !sentence;
}

// Boxes to choose bundles with; the choice is hidden where there is one.
export function chooseBundles(field, bundles) {
  for (const { name } of bundles) {
    const box = make("input", { type: "checkbox", value: name, checked: true });
    field.append(make("label", { class: "check" }, box, name));
  }
  field.hidden = bundles.length < 2;
}

export const chosen = (field) => [...field.querySelectorAll("input:checked")].map((box) => box.value);
