"use strict";
// A click on a heading sorts the rows of its table; another one turns them round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const place = heading.cellIndex;
    const body = heading.closest("table").tBodies[0];
    const isDown = heading.getAttribute("aria-sort") !== "descending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    const rows = Array.from(body.rows);
    rows.sort((a, b) => {
      const [one, two] = [a.cells[place], b.cells[place]];
      const isNumber = "key" in one.dataset && "key" in two.dataset;
      const by = isNumber
        ? (Number(one.dataset.key) > Number(two.dataset.key)) - (Number(one.dataset.key) < Number(two.dataset.key))
        : one.textContent.localeCompare(two.textContent);
      return isDown ? -by : by;
    });
    body.append(...rows);
  });
}
// Light or dark: as the reader's system has it, until the button says otherwise.
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
});
