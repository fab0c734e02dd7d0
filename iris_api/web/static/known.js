// If this tab has a key, hides the form before the page is drawn.
try {
  document.documentElement.classList.toggle("known", sessionStorage.getItem("iris-api-key") !== null);
} catch {} // Storage is forbidden.
