// Goes on with the next page of rows where the grid's end comes into view, and keeps the address of
// what is seen. Rows far above are taken out again, so that a page stays light however far it goes.

const MOST_ROWS = 600;
const grid = document.querySelector("[data-grid]");
const body = grid && grid.querySelector("tbody");

function next() {
  return document.querySelector("nav.pager a[rel=next]");
}

function fetched(address) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", address);
    request.responseType = "document";
    request.onload = () => (request.status === 200
      ? resolve(request.response) : reject(new Error(String(request.status))));
    request.onerror = () => reject(new Error("no answer"));
    request.send();
  });
}

let busy = false;

async function more() {
  const link = next();
  if (busy || !link) return;
  busy = true;
  try {
    const address = link.href;
    const page = await fetched(address);
    const rows = page.querySelectorAll("[data-grid] tbody tr");
    for (const row of rows) body.append(document.importNode(row, true));
    const pager = page.querySelector("nav.pager");
    document.querySelector("nav.pager").replaceWith(document.importNode(pager, true));
    let surplus = body.rows.length - MOST_ROWS;
    if (surplus > 0) {
      const before = grid.scrollHeight;
      while (surplus-- > 0) body.rows[0].remove();
      grid.scrollTop -= before - grid.scrollHeight;
    }
    history.replaceState(null, "", address);
  } catch {
    // The link is still there to be followed.
  } finally {
    busy = false;
  }
}

if (grid && body) {
  grid.classList.add("scrolls");
  grid.addEventListener("scroll", () => {
    if (grid.scrollTop + grid.clientHeight > grid.scrollHeight - 300) more();
  }, { passive: true });
}
