// The page shows what its address says, at first and whenever the address is changed by hand or by a link.

async function showAddress() {
  drawAll();
  if (form) await renderAnswers();
  scrollToSection();
}

if (form) startAnswers();
window.addEventListener("hashchange", showAddress);
window.addEventListener("popstate", showAddress);
for (const link of document.querySelectorAll(".sections a")) {
  // The view is kept; the link itself is that of a page without a script.
  link.addEventListener("click", (event) => {
    event.preventDefault();
    history.pushState(null, "", addressWith({}, link.hash.slice(1)));
    scrollToSection();
  });
}
showAddress().then(() => {
  document.documentElement.dataset.readyMs = performance.now().toFixed(0);
});
