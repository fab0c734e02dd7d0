// Whether there is a key, before the page is drawn.
try {
  document.documentElement.classList.toggle("known", sessionStorage.getItem("iris-api-key") !== null);
} catch {} // Nothing may be stored.
