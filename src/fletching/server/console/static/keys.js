// Keys: "/" goes to the field that a page is about, Ctrl+Enter sends the form that one is in,
// Alt+Right and Alt+Left are the browser's own; "n" and "p" follow the links to the next and previous page.

const typing = (target) => target.closest("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const form = target.closest("form");
    const main = form && form.querySelector("button.main");
    if (main) {
      event.preventDefault();
      main.click();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(target)) return;
  if (event.key === "/") {
    const field = document.querySelector("[data-focus='/']");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  } else if (event.key === "n" || event.key === "p") {
    const link = document.querySelector(`a[rel=${event.key === "n" ? "next" : "prev"}]`);
    if (link) link.click();
  }
});
