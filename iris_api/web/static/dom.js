// Creates elements. Data always becomes text and never markup.

export const byId = (id) => document.getElementById(id);

export const element = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

export const shape = (name, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function fill(node, attributes = {}, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A name with a text direction of its own. */
export const isolated = (name) => element("bdi", {}, name);

export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
