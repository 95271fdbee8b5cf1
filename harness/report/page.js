"use strict";
// Without this script the page shows every view, one below the other, and tables in their own order.

function sortBy(button) {
  const heading = button.closest("th");
  const body = heading.closest("table").tBodies[0];
  const column = heading.cellIndex;
  const rows = [...body.rows];
  const numeric = heading.classList.contains("number");
  const now = heading.getAttribute("aria-sort");
  const order = now === "descending" ? "ascending" : now === "ascending" ? "descending" : numeric ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const number = (row) => row.cells[column].dataset.value;
  rows.sort((one, other) => {
    if (!numeric) return sign * one.cells[column].textContent.localeCompare(other.cells[column].textContent, "en", { numeric: true });
    if (number(one) === undefined || number(other) === undefined)
      return (number(one) === undefined) - (number(other) === undefined); // what has no number stays last
    return sign * (number(one) - number(other));
  });
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  body.append(...rows);
}

function offer(choices, index) {
  const views = [...choices.children];
  if (views.length < 2) return;
  const picker = document.createElement("div");
  const label = document.createElement("label");
  const select = document.createElement("select");
  picker.className = "picker";
  select.id = `choice-${index}`;
  label.htmlFor = select.id;
  label.textContent = choices.dataset.label;
  views.forEach((view, place) => select.add(new Option(view.dataset.title, place)));
  const show = () => views.forEach((view, place) => { view.hidden = place !== Number(select.value); });
  select.addEventListener("change", show);
  picker.append(label, select);
  choices.before(picker);
  choices.classList.add("picked");
  show();
}

function save(button) {
  const drawn = new XMLSerializer().serializeToString(button.closest("figure").querySelector("svg"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([drawn], { type: "image/svg+xml" }));
  link.download = button.dataset.name;
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const button of document.querySelectorAll("table.sortable button")) button.addEventListener("click", () => sortBy(button));
for (const button of document.querySelectorAll("button.save")) {
  button.hidden = false;
  button.addEventListener("click", () => save(button));
}
document.querySelectorAll(".choices").forEach(offer);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((fold) => { fold.open = true; }));
