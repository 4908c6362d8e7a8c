// Renews the part of a page that carries data-refresh (seconds), for as long as it also carries
// data-more. The page is fetched anew and the part taken out of it: one template, no second rendering.

function fetched(address) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", address);
    request.responseType = "document";
    request.onload = () => (request.status === 200 || request.status === 400
      ? resolve(request.response) : reject(new Error(String(request.status))));
    request.onerror = () => reject(new Error("no answer"));
    request.send();
  });
}

let failures = 0;

async function renew() {
  const part = document.querySelector("[data-refresh][data-more]");
  if (!part) return;
  if (!document.hidden && !part.contains(document.activeElement) && getSelection().isCollapsed) {
    try {
      const page = await fetched(location.href);
      const found = page && page.querySelector("[data-refresh]");
      if (!found) {
        location.reload();
        return;
      }
      part.replaceWith(document.importNode(found, true));
      failures = 0;
    } catch {
      failures += 1;
    }
  }
  const now = document.querySelector("[data-refresh]");
  if (now) setTimeout(renew, Number(now.dataset.refresh) * 1000 * Math.min(2 ** failures, 16));
}

const first = document.querySelector("[data-refresh][data-more]");
if (first) setTimeout(renew, Number(first.dataset.refresh) * 1000);
