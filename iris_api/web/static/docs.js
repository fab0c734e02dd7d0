// Swagger UI for the document of this service. A key that is entered stays in this page.
const dark = matchMedia("(prefers-color-scheme: dark)");
const applyTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
applyTheme();
dark.addEventListener("change", applyTheme);

const page = document.getElementById("docs");
const LABELS = {
  "textarea.body-param__text": "Request body",
  ".examples-select-element": "Example",
  ".close-modal": "Close",
  ".json-schema-2020-12-accordion:not(:has(.json-schema-2020-12__title))": "Schema",
};

// Repair what Swagger UI leaves without a label, out of reach of the keyboard, or as a link in a button.
function repairAccessibility() {
  for (const [selector, label] of Object.entries(LABELS))
    for (const control of page.querySelectorAll(`${selector}:not([aria-label])`)) control.ariaLabel = label;
  for (const heading of page.querySelectorAll(":is(h3, h4, h5):not([aria-level])"))
    heading.ariaLevel = heading.tagName[1] - 1;
  for (const block of page.querySelectorAll(".opblock pre:not([tabindex])")) block.tabIndex = 0;
  for (const link of page.querySelectorAll("button a[href]")) link.removeAttribute("href");
}

// Replace the responses that every operation shares by one list, which is closed at first.
function groupSharedResponses(contract) {
  for (const inner of page.querySelectorAll(".responses-inner:not(:has(.anywhere))")) {
    const block = inner.closest(".opblock");
    const { path } = block.querySelector(".opblock-summary-path").dataset;
    const method = block.querySelector(".opblock-summary-method").textContent.toLowerCase();
    const { responses } = contract.paths[path][method];
    const shared = Object.keys(responses).filter((status) => responses[status].$ref);
    for (const status of shared) {
      const row = inner.querySelector(`tr[data-code="${status}"]`);
      if (row) row.hidden = true;
    }
    inner.append(sharedResponses(shared, contract.components.responses));
  }
}

function sharedResponses(statuses, responses) {
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

const ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  syntaxHighlight: { activated: false },
  validatorUrl: null,
  onComplete() {
    const contract = ui.getState().getIn(["spec", "json"]).toJS();
    const update = () => { repairAccessibility(); groupSharedResponses(contract); };
    new MutationObserver(update).observe(page, { childList: true, subtree: true });
    update();
  },
});
