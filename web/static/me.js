// Sharing and copying with one press, where the browser can. Without this file the links and the text field do it.
"use strict";
const able = (selector, can, act) => {
  for (const button of document.querySelectorAll(selector)) {
    if (!can) continue;
    button.hidden = false;
    button.addEventListener("click", () => act(button));
  }
};
able("[data-share]", "share" in navigator, (button) => {
  navigator.share({ title: button.dataset.title, text: button.dataset.share }).catch(() => {});
});
able("[data-copy]", navigator.clipboard !== undefined, async (button) => {
  await navigator.clipboard.writeText(button.dataset.copy);
  const before = button.textContent;
  button.textContent = "Copied";
  document.getElementById("said").textContent = "Copied.";
  setTimeout(() => {
    button.textContent = before;
    document.getElementById("said").textContent = "";
  }, 2000);
});
