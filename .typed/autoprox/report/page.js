"use strict";
// A click on the head of a column sorts the table by it: numbers by value, everything else as text.
const numberOf = (cell) => {
  const found = cell.replace("−", "-").replaceAll(",", "").match(/^[+-]?\d*\.?\d+(e[+-]?\d+)?/);
  return found ? Number(found[0]) : null;
};
const ordered = (a, b) => {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return x - y;
  if (x === null && y === null) return a.localeCompare(b);
  return x === null ? -1 : 1;
};
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const body = head.closest("table").tBodies[0];
    const descending = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentElement.children) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...body.rows].sort((a, b) =>
      ordered(a.cells[head.cellIndex].textContent, b.cells[head.cellIndex].textContent));
    body.append(...(descending ? rows.reverse() : rows));
  });
}
