"use strict";
(function () {
  const root = document.documentElement;

  // theme: system, light or dark; kept where the browser lets a file keep anything
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  let theme = "system";
  try { theme = localStorage.getItem("raybench-theme") || theme; } catch (refused) { /* no storage */ }
  function show() {
    if (!themes.includes(theme)) theme = "system";
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = "Theme: " + theme;
  }
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try { localStorage.setItem("raybench-theme", theme); } catch (refused) { /* no storage */ }
    show();
  });
  button.hidden = false;
  show();

  // tables: sorting by any column; unknown values stay at the end either way
  function key(cell, numeric) {
    if (!numeric) return cell.textContent.trim().toLowerCase() || null;
    const value = parseFloat(cell.textContent.replace(/,/g, ""));
    return Number.isNaN(value) ? null : value;
  }
  function compare(a, b, numeric) {
    return numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
  }
  function sort(table, head) {
    const falling = head.getAttribute("aria-sort") === "ascending";
    const at = head.cellIndex;
    const numeric = head.matches(".n, .c");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row.cells[at], numeric), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return falling ? compare(b, a, numeric) : compare(a, b, numeric);
    });
    body.append(...rows.map(([, row]) => row));
    for (const other of head.parentNode.cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  }
  function makeSortable(table) {
    for (const head of table.tHead.rows[0].cells) {
      if (head.matches(".d, .i")) continue;
      const control = document.createElement("button");
      control.type = "button";
      control.append(...head.childNodes);
      head.append(control);
      head.setAttribute("aria-sort", "none");
      control.addEventListener("click", () => sort(table, head));
    }
  }

  // filters: words that must all occur, and a choice for every factor with few values
  function choices(table, at) {
    const values = [...table.tBodies[0].rows].map((row) => row.cells[at].textContent.trim());
    return [...new Set(values)].sort((a, b) => compare(a, b, false));
  }
  function makeFilters(box, table) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 2) return;
    const words = document.createElement("input");
    words.type = "search";
    words.placeholder = "Filter rows, e.g. int8 stable";
    words.setAttribute("aria-label", "Filter rows");
    const count = document.createElement("output");
    const selects = [];
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      if (!head.matches(".f, .c, .w")) return;
      const values = choices(table, at);
      if (values.length < 2 || values.length > 24) return;
      const name = head.textContent.trim();
      const select = document.createElement("select");
      select.setAttribute("aria-label", name);
      select.append(new Option(name + ": all", ""), ...values.map((v) => new Option(v, "=" + v)));
      selects.push([select, at]);
    });
    function apply() {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const content = row.textContent.toLowerCase();
        const fits = wanted.every((word) => content.includes(word)) && selects.every(([select, at]) =>
          !select.value || "=" + row.cells[at].textContent.trim() === select.value);
        row.hidden = !fits;
        shown += fits;
      }
      count.textContent = shown === rows.length ? rows.length + " rows" : shown + " of " + rows.length + " rows";
    }
    box.append(words, ...selects.map(([select]) => select), count);
    box.addEventListener("input", apply);
    box.hidden = false;
    apply();
  }
  for (const frame of document.querySelectorAll(".table")) {
    const table = frame.querySelector("table");
    makeSortable(table);
    makeFilters(frame.querySelector(".tools"), table);
  }
})();
