/* Comfort only: light or dark by choice, and tables that sort. Without this file the pages show everything. */
(function () {
  "use strict";
  var root = document.documentElement;

  function remembered() {
    try { return localStorage.getItem("carryover-theme"); } catch (error) { return null; }
  }
  function remember(theme) {
    try { localStorage.setItem("carryover-theme", theme); } catch (error) { /* private window: not remembered */ }
  }
  function dark() {
    var theme = root.getAttribute("data-theme");
    return theme ? theme === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  }
  var theme = remembered();
  if (theme === "light" || theme === "dark") root.setAttribute("data-theme", theme);

  function themeButton() {
    var button = document.createElement("button");
    button.type = "button";
    button.className = "theme";
    function label() { button.textContent = dark() ? "Light" : "Dark"; }
    button.setAttribute("aria-label", "Switch between light and dark");
    button.addEventListener("click", function () {
      var next = dark() ? "light" : "dark";
      root.setAttribute("data-theme", next);
      remember(next);
      label();
    });
    label();
    document.querySelector(".top nav").appendChild(button);
  }

  function key(row, column, kind) {
    var cell = row.cells[column], value = cell.getAttribute("data-value");
    if (value === null) value = cell.textContent;
    if (kind === "text") return value.toLowerCase();
    return value === "" ? null : parseFloat(value);
  }
  function compare(a, b) {
    return a < b ? -1 : a > b ? 1 : 0;
  }

  function sortable(table, status) {
    var body = table.tBodies[0], heads = table.tHead.rows[0].cells;
    var original = Array.prototype.slice.call(body.rows);
    Array.prototype.forEach.call(heads, function (head, column) {
      var kind = head.getAttribute("data-sort");
      if (!kind) return;
      var button = document.createElement("button"), name = head.firstChild.textContent.trim();
      button.type = "button";
      button.className = "sort";
      button.textContent = name;
      head.replaceChild(button, head.firstChild);
      button.addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending";
        var rows = original.map(function (row, place) { return [key(row, column, kind), place, row]; });
        rows.sort(function (a, b) {
          if (a[0] === null || b[0] === null) return compare(a[0] === null, b[0] === null) || a[1] - b[1];
          return (down ? compare(b[0], a[0]) : compare(a[0], b[0])) || a[1] - b[1];
        });
        Array.prototype.forEach.call(heads, function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        table.toggleAttribute("data-sorted", column !== 0 || down);
        rows.forEach(function (row) { body.appendChild(row[2]); });
        status.textContent = "Sorted by " + name + (down ? ", descending" : ", ascending");
      });
    });
  }

  document.addEventListener("DOMContentLoaded", function () {
    var status = document.createElement("p");
    status.className = "hidden";
    status.setAttribute("role", "status");
    document.body.appendChild(status);
    themeButton();
    document.querySelectorAll("table.sortable").forEach(function (table) { sortable(table, status); });
  });
})();
