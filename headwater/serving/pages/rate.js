// Side by side: which of two answers is better? The endpoint shuffles the sides and keeps which is which.

import { nextPair, sendRating } from "/pages/api.js";
import { listSources, showRelease } from "/pages/source.js";

const KEYS = { 1: "a", 2: "b", "=": "same", s: "skip" };
const SAID = { a: "A is better.", b: "B is better.", same: "Equal.", skip: "Skipped." };
const byId = (id) => document.getElementById(id);
let current = null;

for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => choose(button.dataset.choice));
}
document.addEventListener("keydown", (event) => {
  const choice = KEYS[event.key.toLowerCase()];
  const elsewhere = event.target.closest("textarea, input, dialog");
  if (!choice || elsewhere || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  event.preventDefault();
  choose(choice);
});
byId("again").addEventListener("click", load);

async function load() {
  current = null;
  show("Looking for a question…", "A second answer is being written; this takes a few seconds.");
  try {
    const pair = await nextPair();
    if (pair === null) {
      show("Nothing to rate", "No answer of today or yesterday is left to compare. Ask something, then look again.", true);
      return;
    }
    current = pair;
    byId("question").textContent = pair.question;
    byId("a").textContent = pair.a;
    byId("b").textContent = pair.b;
    listSources(byId("passages"), pair.passages);
    byId("note").hidden = true;
    byId("pair").hidden = byId("choices").hidden = false;
    window.scrollTo(0, 0);
    byId("question").focus();
  } catch (error) {
    show("No pair could be had", error.message, true);
  }
}

async function choose(choice) {
  if (current === null) return;
  const { id, waiting } = current;
  current = null; // one choice a pair, however fast the keys
  try {
    await sendRating(id, choice);
    byId("status").textContent = `${SAID[choice]} ${waiting === 1 ? "1 question waits." : `${waiting} questions wait.`}`;
  } catch (error) {
    byId("status").textContent = error.message;
  }
  await load();
}

function show(title, text, again = false) {
  byId("pair").hidden = byId("choices").hidden = true;
  byId("note").hidden = false;
  byId("note-title").textContent = title;
  byId("note-text").textContent = text;
  byId("again").hidden = !again;
}

showRelease();
load();
