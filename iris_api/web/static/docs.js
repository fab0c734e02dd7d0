// Swagger UI on this service's own document. The key stays in this page.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
follow();
dark.addEventListener("change", follow);

const page = document.getElementById("docs");
const NAMES = {
  "textarea.body-param__text": "Request body",
  ".examples-select-element": "Example",
  ".close-modal": "Close",
  ".json-schema-2020-12-accordion:not(:has(.json-schema-2020-12__title))": "Schema",
};

// What Swagger UI leaves without a name, out of reach of the keyboard, or one in the other.
function mend() {
  for (const [selector, name] of Object.entries(NAMES))
    for (const found of page.querySelectorAll(`${selector}:not([aria-label])`)) found.ariaLabel = name;
  for (const heading of page.querySelectorAll(":is(h3, h4, h5):not([aria-level])"))
    heading.ariaLevel = heading.tagName[1] - 1;
  for (const block of page.querySelectorAll(".opblock pre:not([tabindex])")) block.tabIndex = 0;
  for (const link of page.querySelectorAll("button a[href]")) link.removeAttribute("href");
}

// Every operation can be refused in front of it, and in the same ways: these are told together.
function gather(contract) {
  for (const inner of page.querySelectorAll(".responses-inner:not(:has(.anywhere))")) {
    const block = inner.closest(".opblock");
    const { path } = block.querySelector(".opblock-summary-path").dataset;
    const method = block.querySelector(".opblock-summary-method").textContent.toLowerCase();
    const told = contract.paths[path][method].responses;
    const shared = Object.keys(told).filter((status) => told[status].$ref);
    for (const status of shared) {
      const row = inner.querySelector(`tr[data-code="${status}"]`);
      if (row) row.hidden = true;
    }
    inner.append(anywhere(shared, contract.components.responses));
  }
}

function anywhere(statuses, responses) {
  const details = document.createElement("details");
  details.className = "anywhere";
  const summary = document.createElement("summary");
  summary.textContent = `May also be answered, as every operation: ${statuses.join(", ")}`;
  const list = document.createElement("ul");
  for (const status of statuses) {
    const item = document.createElement("li");
    item.textContent = `${status}: ${responses[`Refused${status}`].description}`;
    list.append(item);
  }
  details.append(summary, list);
  return details;
}

const shown = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  syntaxHighlight: { activated: false },
  validatorUrl: null,
  onComplete() {
    const contract = shown.getState().getIn(["spec", "json"]).toJS();
    const look = () => { mend(); gather(contract); };
    new MutationObserver(look).observe(page, { childList: true, subtree: true });
    look();
  },
});
