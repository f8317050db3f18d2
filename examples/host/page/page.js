"use strict";
// The page's side: sends pictures, and shows the state that the server tells. Pictures are shown from the visitor's own
// files; the server keeps none.
const at = (id) => document.getElementById(id);
const thumbnails = new Map(); // class name: addresses of its pictures

function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text; // never markup: names come from visitors
  element.append(...children);
  return element;
}

function picture(address, name) {
  const image = make("img");
  image.src = address;
  image.alt = name;
  return image;
}

function complain(text) {
  at("error").textContent = text;
  at("error").hidden = !text;
}

async function send(path, fields) {
  complain("");
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  const response = await fetch(path, { method: "POST", body: form });
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error);
  return reply;
}

const named = (files) => [...files].map((file) => ["picture", file]);

async function teach(files) {
  const name = at("name").value.trim();
  if (!name) {
    at("name").focus();
    return complain("Name the class first, then drop its pictures.");
  }
  const answers = await send("api/teach", [["class", name], ...named(files)]);
  const shown = thumbnails.get(name) ?? [];
  answers.forEach((answer, i) => answer.refused || shown.push(URL.createObjectURL(files[i])));
  thumbnails.set(name, shown);
  complain(answers.filter((a) => a.refused).map((a) => `${a.name}: ${a.refused}`).join("; "));
  at("name").value = "";
  at("name").focus();
  showClasses();
}

async function classify(files) {
  const answers = await send("api/classify", named(files));
  answers.forEach((answer, i) => {
    const list = make("ol");
    const best = [...(answer.probabilities ?? [])].sort((a, b) => b.value - a.value).slice(0, 3);
    for (const { class: name, value } of best) {
      const meter = make("meter");
      meter.value = value;
      list.append(make("li", "", make("span", name), meter, make("span", `${Math.round(100 * value)}%`)));
    }
    const what = answer.refused ? make("p", `${answer.name}: ${answer.refused}`) : list;
    if (answer.refused) what.className = "refused";
    const row = make("div", "", picture(URL.createObjectURL(files[i]), answer.name), what);
    row.className = "answer";
    at("answers").prepend(row);
  });
}

// Files come by a drop or by the chooser. One upload after the other: order is part of what is learned.
let last = Promise.resolve();
function accept(id, use) {
  const zone = at(`${id}-drop`), input = at(id);
  const take = (files) => {
    const own = [...files];
    if (own.length) last = last.then(() => use(own)).catch((error) => complain(error.message));
  };
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files);
    });
  }
}

let state = { classes: [], history: [] };

function showClasses() {
  at("classes").replaceChildren(...state.classes.map(({ name, pictures }) => {
    const forget = make("button", "forget");
    forget.type = "button";
    forget.setAttribute("aria-label", `forget ${name}`);
    forget.addEventListener("click", () => {
      thumbnails.delete(name);
      send("api/forget", [["class", name]]).catch((error) => complain(error.message));
    });
    const head = make("header", "", make("b", name), make("span", `${pictures} pictures`), forget);
    const album = make("div", "", ...(thumbnails.get(name) ?? []).slice(-12).map((address) => picture(address, name)));
    album.className = "pictures";
    const card = make("div", "", head, album);
    card.className = "class";
    return card;
  }));
}

function showHistory() {
  const points = state.history.filter((score) => score.others > 0);
  const x = (i) => 42 + (248 * i) / Math.max(1, points.length - 1), y = (share) => 110 - 100 * share;
  const node = (tag, values) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
    return element;
  };
  const share = (score) => score.right / score.others;
  const line = points.map((score, i) => `${x(i)},${y(share(score))}`).join(" ");
  const label = (share) => {
    const text = node("text", { x: 32, y: y(share) + 4, "font-size": 10, fill: "#62717a", "text-anchor": "end" });
    text.textContent = `${100 * share}%`;
    return text;
  };
  at("history").replaceChildren(label(1), label(0),
    node("polyline", { points: line, fill: "none", stroke: "#2a6f6b", "stroke-width": 2 }),
    ...points.map((score, i) => node("circle", { cx: x(i), cy: y(share(score)), r: 4, fill: "#2a6f6b" })));
  const now = points.at(-1);
  at("score").textContent = now
    ? `${now.right} of ${now.others} pictures that it did not learn from are right.`
    : "Every fourth picture of a class is kept from learning, to see how well it goes.";
}

function show() {
  const pictures = state.classes.reduce((sum, c) => sum + c.pictures, 0);
  at("status").textContent = `${state.classes.length} classes, ${pictures} pictures`;
  at("download").hidden = !state.ready;
  // From a gap of 1 to the tolerance of 1e-6, on a scale of powers of ten.
  const done = state.learning ? Math.min(1, -Math.log10(Math.max(1e-6, state.gap)) / 6) : state.ready ? 1 : 0;
  at("bar").firstElementChild.style.width = `${100 * done}%`;
  at("fit").textContent = state.error || (state.learning ? `Learning: iteration ${state.iteration}`
    : state.ready ? `Learned, in ${state.iteration} iterations.` : "Two classes make a beginning.");
  document.body.dataset.ready = state.ready && !state.learning;
  showHistory();
}

accept("teach", teach);
accept("classify", classify);
at("new").addEventListener("submit", (event) => event.preventDefault());
// A drop beside the zones must not lead away from the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
const events = new EventSource("api/events");
events.onmessage = (event) => {
  const before = JSON.stringify(state.classes);
  state = JSON.parse(event.data);
  show();
  if (JSON.stringify(state.classes) !== before) showClasses();
};
events.onerror = () => { at("status").textContent = "The program does not answer."; };
