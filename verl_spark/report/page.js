"use strict";
// Tables: a click on a head, or the keyboard on its button, sorts by that column; empty cells stay last.
for (const head of document.querySelectorAll("thead th")) {
  head.querySelector("button").addEventListener("click", () => {
    const place = head.cellIndex, body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const order = (row) => row.cells[place].dataset.order;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [order(a), order(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const by = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -by : by;
    });
    body.append(...rows);
  });
}

// Charts: an arm that is unticked in a legend leaves the charts beneath it.
for (const box of document.querySelectorAll("[data-series]")) {
  box.addEventListener("change", () => {
    const drawn = ["series", "band"].map((part) => `svg [id$="-${part}${box.dataset.series}"]`).join();
    for (const one of box.closest(".comparison").querySelectorAll(drawn)) one.classList.toggle("hidden", !box.checked);
  });
}

// On paper everything is open.
addEventListener("beforeprint", () => document.querySelectorAll("details.arm").forEach((one) => { one.open = true; }));

// Rollouts: texts of a model go into text nodes and nowhere else.
const PAGE = 20;
const rollouts = JSON.parse(document.getElementById("rollouts").textContent);
const STATES = { yes: "✓ Yes", no: "✗ No", missing: "? missing", gated: "⊘ gated", none: "no verdict asked" };

function stateOf(one) {
  if (one.missing !== null) return "missing";
  if (one.verdict !== null) return one.verdict ? "yes" : "no";
  return one.gate !== null && one.reward <= 0 ? "gated" : "none"; // with the gate off a finding refuses nothing
}

function make(name, className, ...inside) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}

// A text with every character that nobody sees, or that moves others about, shown by its code.
function words(text) {
  const box = make("div", "words");
  let end = 0;
  for (const found of text.matchAll(/(?![\n\t])[\p{C}\p{Zl}\p{Zp}]/gu)) {
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    box.append(text.slice(end, found.index), make("span", "code", `U+${code}`));
    end = found.index + found[0].length;
  }
  box.append(text.slice(end));
  return box;
}

function piece([text, mark]) {
  if (mark === null) return words(text.replace(/^\n+|\n+$/g, ""));
  const sign = make("span", "sign", mark ? "✓" : "✗");
  sign.setAttribute("role", "img");
  sign.setAttribute("aria-label", mark ? "marked correct" : "marked incorrect");
  return make("div", mark ? "step right" : "step wrong", sign, words(text));
}

function opened(one) {
  const response = make("div", "", make("h4", "", "Response, steps by their marks"));
  response.append(...one.response.filter(([text, mark]) => mark !== null || text.trim()).map(piece));
  const reply = one.verification === null
    ? make("p", "none", stateOf(one) === "gated" ? "Not asked." : "Not stored.") : words(one.verification);
  return make("div", "pair",
    make("div", "problem", make("h4", "", "Problem"), words(one.problem)),
    response,
    make("div", "verification", make("h4", "", "Verification"), reply));
}

function line(one) {
  const state = stateOf(one), start = one.problem.slice(0, 160).replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ");
  const tags = [one.missing, one.gate, ...one.flags].filter((name) => name !== null);
  const reward = one.reward === null ? "no reward" : `reward ${Number(one.reward.toPrecision(3))}`;
  const summary = make("summary", "",
    make("span", `state ${state}`, STATES[state]), make("span", "", `step ${one.step}`), make("span", "", reward),
    make("span", "start", start), ...tags.map((name) => make("span", "tag", name.replaceAll("_", " "))));
  if (several) summary.insertBefore(make("span", "", one.run), summary.children[1]);
  const made = make("details", "rollout", summary);
  made.addEventListener("toggle", () => { if (made.open && made.children.length < 2) made.append(opened(one)); });
  return made;
}

const several = new Set(rollouts.map((one) => one.run)).size > 1;
const form = document.querySelector(".filters");
if (form) {
  const list = document.getElementById("list"), more = document.getElementById("more");
  const choices = {
    run: [(one) => [one.run], (name) => name],
    step: [(one) => [String(one.step)], (name) => name],
    state: [(one) => [stateOf(one)], (name) => STATES[name]],
    flag: [(one) => one.flags, (name) => name.replaceAll("_", " ")],
  };
  for (const [name, [values, label]] of Object.entries(choices)) {
    const options = [...new Set(rollouts.flatMap(values))];
    options.sort(name === "step" ? (a, b) => a - b : undefined);
    form[name].append(new Option("all", ""), ...options.map((value) => new Option(label(value), value)));
  }
  let found = [];
  const show = () => {
    const shown = list.children.length;
    list.append(...found.slice(shown, shown + PAGE).map(line));
    more.hidden = list.children.length >= found.length;
  };
  const filter = () => {
    found = rollouts.filter((one) => Object.entries(choices).every(
      ([name, [values]]) => form[name].value === "" || values(one).includes(form[name].value)));
    form.querySelector("output").textContent = `${found.length} of ${rollouts.length}`;
    list.replaceChildren();
    show();
  };
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", show);
  filter();
}
