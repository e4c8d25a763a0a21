// Documents with a text far from all others: do they belong? A verdict counts from the next build on.
// Document text is hostile: it is only ever put in as text.

import { listOutliers, sendVerdict } from "/pages/api.js";
import { listSources, showRelease } from "/pages/source.js";

const KEYS = { k: "keep", x: "leave_out", s: "skip" };
const SAID = {
  keep: "It belongs.",
  leave_out: "It is left out from the next build on.",
  withdraw: "Taken back.",
  skip: "Skipped.",
};
const byId = (id) => document.getElementById(id);
const skipped = new Set(); // for as long as the page is open
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
byId("again").addEventListener("click", () => {
  skipped.clear();
  load();
});

async function load() {
  current = null;
  try {
    const { asked, waiting, judged } = await listOutliers();
    listVerdicts(judged);
    const next = asked.find((each) => !skipped.has(each.id));
    if (next === undefined) {
      show("Nothing to judge", skipped.size ? "The rest was skipped." : "No outlier of the last index waits.", true);
      return;
    }
    current = next;
    byId("title").textContent = next.title || next.uri;
    byId("uri").textContent = next.uri;
    byId("text").textContent = next.text;
    byId("why").textContent =
      `Distance ${next.distance.toFixed(3)}; nearest is ${next.nearest}; ${waiting} wait.`;
    listSources(byId("passages"), [next]);
    byId("note").hidden = true;
    byId("outlier").hidden = byId("choices").hidden = false;
    window.scrollTo(0, 0);
    byId("title").focus();
  } catch (error) {
    show("The outliers could not be had", error.message, true);
  }
}

async function choose(choice) {
  if (current === null) return;
  const { id } = current;
  current = null; // one verdict a text, however fast the keys
  if (choice === "skip") {
    skipped.add(id);
    byId("status").textContent = SAID.skip;
    await load();
  } else {
    await say(id, choice);
  }
}

async function say(id, verdict) {
  try {
    await sendVerdict(id, verdict);
    byId("status").textContent = SAID[verdict];
  } catch (error) {
    byId("status").textContent = error.message;
  }
  await load();
}

function listVerdicts(judged) {
  byId("judged").hidden = judged.length === 0;
  byId("verdicts").replaceChildren(
    ...judged.map((each) => {
      const item = document.createElement("li");
      const what = document.createElement("span");
      const button = document.createElement("button");
      const verdict = each.verdict === "keep" ? "Belongs" : "Left out";
      what.textContent = `${verdict}: ${each.title || each.uri} (${each.uri}), ${each.time.slice(0, 10)}, ${each.by}`;
      button.type = "button";
      button.textContent = "Take back";
      button.setAttribute("aria-label", `Take back: ${each.title || each.uri}`);
      button.addEventListener("click", () => {
        button.disabled = true;
        say(each.id, "withdraw");
      });
      item.append(what, button);
      return item;
    }),
  );
}

function show(title, text, again = false) {
  byId("outlier").hidden = byId("choices").hidden = true;
  byId("note").hidden = false;
  byId("note-title").textContent = title;
  byId("note-text").textContent = text;
  byId("again").hidden = !again;
}

showRelease();
load();
