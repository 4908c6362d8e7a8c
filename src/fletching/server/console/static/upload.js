// A file into a table: shows what it holds before anything is sent as a whole, then creates the table
// or appends, with how far that is. The bytes go from the browser to the service as they are.

const form = document.querySelector("[data-upload]");
const part = (name) => form.querySelector(`[data-${name}]`);
const field = form.elements;
let file = null;
let found = null;

function say(text, bad = false) {
  const status = part("status");
  status.textContent = text;
  status.className = bad ? "problem" : "";
}

async function piece() {
  if (!/\.(parquet|pq)$/i.test(file.name)) return file.slice(0, Number(form.dataset.head));
  // Parquet says at its end how long what describes it is.
  const tail = new DataView(await file.slice(-8).arrayBuffer());
  return file.slice(-(tail.getUint32(0, true) + 8));
}

function query(more = {}) {
  return new URLSearchParams({
    project: field.project.value, schema: field.schema.value, table: field.table.value,
    file: file.name, ...more,
  });
}

async function sent(address, body) {
  const reply = await fetch(address, {
    method: "POST", body,
    headers: {
      accept: "application/json", "content-type": "application/octet-stream",
      "x-fletching-form": form.dataset.csrf,
    },
  });
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.Message || answer.message || `status ${reply.status}`);
  return answer;
}

function show() {
  const rows = found.columns.map((column) => {
    const row = document.createElement("tr");
    for (const text of [column.name, column.type, column.arrow_type,
      column.problem || column.table_type || "-"]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  });
  part("found").querySelector("tbody").replaceChildren(...rows);
  const unknown = found.columns.filter((column) => column.problem).length;
  let verdict = `There is no table ${field.table.value} yet: it will be made.`;
  if (found.exists) {
    verdict = `Table ${field.table.value} has ${found.rows.toLocaleString("en")} rows; these are appended.`;
    if (unknown) verdict = `${unknown} columns of the file are not in table ${field.table.value}: `
      + "choose another table, or add them first.";
    else if (found.missing.length) verdict += ` Missing in the file: ${found.missing.join(", ")}.`;
  }
  part("verdict").textContent = verdict;
  part("partition").hidden = found.exists;
  part("go").textContent = found.exists ? "Append the rows" : "Create the table and fill it";
  part("go").disabled = found.exists && unknown > 0;
  part("found").hidden = false;
}

async function look() {
  if (!file) return;
  if (!field.table.value) {
    field.table.value = file.name.replace(/\.[^.]*$/, "").replace(/\W+/g, "_").toLowerCase();
  }
  part("found").hidden = true;
  say(`Looking at ${file.name}`);
  try {
    found = await sent(`${form.dataset.schema}?${query()}`, await piece());
    show();
    say(`${file.name}, ${file.size.toLocaleString("en")} bytes`);
  } catch (error) {
    say(error.message, true);
  }
}

function rows(address, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.setRequestHeader("accept", "application/json");
    request.setRequestHeader("content-type", "application/octet-stream");
    request.setRequestHeader("x-fletching-form", form.dataset.csrf);
    request.setRequestHeader("idempotency-key", crypto.getRandomValues(new BigUint64Array(2)).join("-"));
    request.upload.onprogress = (event) => { progress.value = event.loaded / event.total; };
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* said by the status */ }
      if (request.status < 300) resolve(answer);
      else reject(new Error(answer.Message || answer.message || `status ${request.status}`));
    };
    request.onerror = () => reject(new Error("the connection was lost; nothing of the file is visible"));
    request.onabort = () => reject(new Error("stopped; nothing of the file is visible"));
    part("stop").onclick = () => request.abort();
    request.send(file);
  });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!file || !found) return;
  const progress = form.querySelector("progress");
  progress.hidden = false;
  progress.value = 0;
  part("stop").hidden = false;
  part("go").disabled = true;
  try {
    let address = found.rows_address;
    if (!found.exists) {
      // A table of its own for these rows, which has its name once they are all there.
      const partition = field.partition.value;
      const made = await sent(`${form.dataset.table}?${query({ partition })}`, await piece());
      address = made.rows_address;
    }
    say(`Sending ${file.name}`);
    const answer = await rows(address, progress);
    say(`${answer.rows.toLocaleString("en")} rows are in ${answer.table}. `);
    const link = document.createElement("a");
    link.href = found.table_address;
    link.textContent = "Look at them";
    part("status").append(link);
    part("found").hidden = true;
    form.reset();
    file = found = null;
  } catch (error) {
    say(error.message, true);
  } finally {
    progress.hidden = part("stop").hidden = true;
    part("go").disabled = false;
  }
});

const drop = form.querySelector(".drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) {
      [file] = event.dataTransfer.files;
      look();
    }
  });
}
field.file.addEventListener("change", () => {
  [file] = field.file.files;
  look();
});
for (const name of ["project", "schema", "table"]) field[name].addEventListener("change", look);
