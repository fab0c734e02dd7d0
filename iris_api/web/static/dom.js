// Elements, made so that data is always text and never markup.

export const part = (id) => document.getElementById(id);

export const element = (name, attributes, ...children) => made(document.createElement(name), attributes, children);

export const shape = (name, attributes, ...children) =>
  made(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function made(node, attributes = {}, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A name from the model, as it is; its direction is its own affair. */
export const named = (name) => element("bdi", {}, name);

export const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
