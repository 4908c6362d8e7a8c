// Completes names in the statement's field: Ctrl+Space asks, arrows choose, Enter or Tab takes, Escape
// leaves. Names come from the service once per table that the statement mentions.

const WORDS = ["SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "JOIN", "LEFT JOIN", "ON",
  "HAVING", "COUNT(*)", "SUM(", "MIN(", "MAX(", "AVG(", "DISTINCT", "INSERT INTO", "CREATE TABLE",
  "DROP TABLE", "EXPLAIN", "BETWEEN", "IS NULL", "IS NOT NULL", "CASE WHEN"];
const MOST = 12;
const form = document.querySelector("[data-complete]");
const field = form && form.querySelector("textarea");

if (field) {
  const list = document.createElement("ul");
  list.id = "names";
  list.className = "names";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Names");
  list.hidden = true;
  field.parentElement.after(list);
  field.setAttribute("aria-controls", list.id);
  let chosen = 0;

  const word = () => {
    const before = field.value.slice(0, field.selectionStart);
    return /[\p{L}\p{N}_]*$/u.exec(before)[0];
  };

  const leave = () => {
    list.hidden = true;
    field.removeAttribute("aria-activedescendant");
  };

  const mark = (place) => {
    const options = [...list.children];
    chosen = (place + options.length) % options.length;
    options.forEach((option, number) => {
      option.setAttribute("aria-selected", String(number === chosen));
    });
    field.setAttribute("aria-activedescendant", options[chosen].id);
    options[chosen].scrollIntoView({ block: "nearest" });
  };

  const take = () => {
    const option = list.children[chosen];
    if (!option) return;
    const end = field.selectionStart;
    field.setRangeText(option.dataset.name, end - word().length, end, "end");
    leave();
    field.focus();
  };

  const ask = async () => {
    const query = new URLSearchParams({
      project: form.elements.project.value, text: field.value.slice(0, 4000),
    });
    const reply = await fetch(`${form.dataset.complete}?${query}`, {
      headers: { accept: "application/json" },
    });
    if (!reply.ok) return;
    const found = await reply.json();
    const columns = Object.entries(found.columns).flatMap(
      ([table, names]) => names.map((name) => [name, `column of ${table}`]),
    );
    const all = [...columns, ...found.tables.map((name) => [name, "table"]),
      ...WORDS.map((name) => [name, ""])];
    const start = word().toLowerCase();
    const seen = new Set();
    const fitting = all.filter(([name]) => {
      const fits = name.toLowerCase().startsWith(start) && !seen.has(name);
      seen.add(name);
      return fits;
    }).slice(0, MOST);
    list.replaceChildren(...fitting.map(([name, note], number) => {
      const option = document.createElement("li");
      option.id = `name-${number}`;
      option.setAttribute("role", "option");
      option.dataset.name = /^[A-Za-z_]\w*$/.test(name) || !note ? name : `\`${name}\``;
      option.textContent = note ? `${name}  ${note}` : name;
      option.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        chosen = number;
        take();
      });
      return option;
    }));
    list.hidden = !fitting.length;
    if (fitting.length) mark(0);
  };

  field.addEventListener("keydown", (event) => {
    if (event.key === " " && event.ctrlKey) {
      event.preventDefault();
      ask();
    } else if (!list.hidden && !event.ctrlKey) {
      const keys = {
        ArrowDown: () => mark(chosen + 1),
        ArrowUp: () => mark(chosen - 1),
        Enter: take,
        Tab: take,
        Escape: leave,
      };
      if (keys[event.key]) {
        event.preventDefault();
        keys[event.key]();
      }
    }
  });
  field.addEventListener("input", () => { if (!list.hidden) ask(); });
  field.addEventListener("blur", leave);
}
