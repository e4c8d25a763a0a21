// Citations as a list, and the dialog that shows one in its document.
// Document text is hostile: it is only ever put in as text.

import { ApiError, currentRelease, sourceText } from "/pages/api.js";

const dialog = document.getElementById("source");
const title = document.getElementById("source-title");
const uri = dialog.querySelector(".uri");
const note = dialog.querySelector(".note");
const text = dialog.querySelector(".text");

dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // the backdrop
});

/** Fill an ordered list with buttons that open the passages. */
export function listSources(list, citations) {
  list.replaceChildren(
    ...citations.map((citation) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(
        line("heading", citation.heading || citation.title || citation.uri),
        line("snippet", citation.text),
        line("uri", citation.uri),
      );
      button.addEventListener("click", () => open(citation));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

/** Show which release answers, in the page's header. */
export async function showRelease() {
  try {
    const release = await currentRelease();
    document.getElementById("release").textContent = release
      ? `release ${release.slice(0, 12)}`
      : release === undefined ? "no key" : "no release yet";
  } catch {
    document.getElementById("release").textContent = "not reachable";
  }
}

async function open(citation) {
  title.textContent = citation.heading || citation.title;
  uri.textContent = citation.uri;
  note.hidden = true;
  text.replaceChildren();
  text.setAttribute("aria-busy", "true");
  dialog.showModal();
  try {
    const found = await sourceText(citation);
    if (found.span.trim() !== citation.text.trim()) {
      cited(citation, "The document has changed since it was indexed. This is the passage as it was cited.");
    } else {
      show(
        (found.more_before ? "… " : "") + found.before,
        found.span,
        found.after + (found.more_after ? " …" : ""),
      );
    }
  } catch (error) {
    const gone = error instanceof ApiError && error.status === 404;
    const why = gone ? "The document is no longer in the collection." : error.message;
    cited(citation, `${why} This is the passage as it was cited.`);
  }
  text.removeAttribute("aria-busy");
  text.querySelector("mark").scrollIntoView({ block: "center" });
}

function cited(citation, why) {
  note.textContent = why;
  note.hidden = false;
  show("", citation.text, "");
}

function show(before, span, after) {
  const mark = document.createElement("mark");
  mark.textContent = span.trim();
  const [lead, trail] = [span.match(/^\s*/)[0], span.match(/\s*$/)[0]];
  text.replaceChildren(before + lead, mark, trail + after);
}

function line(name, value) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = value;
  return span;
}
