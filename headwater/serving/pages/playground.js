// The playground: ask, read, open sources, judge, correct.

import { ask, sendFeedback } from "/pages/api.js";
import { listSources, showRelease } from "/pages/source.js";

const form = document.getElementById("ask");
const question = document.getElementById("question");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
const status = document.getElementById("status");
let running = null;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (text && !running) answer(text);
});
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
stop.addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("textarea, input, dialog");
  if (event.key === "Escape" && !event.target.closest("dialog")) running?.abort();
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    question.focus();
  }
});

async function answer(text) {
  const exchange = new Exchange(text);
  running = new AbortController();
  question.value = "";
  working(true);
  try {
    const citations = await ask(text, {
      signal: running.signal,
      begun: (trace, release) => exchange.begin(trace, release),
      piece: (piece) => exchange.add(piece),
    });
    exchange.finish(citations);
    status.textContent = "The answer is complete.";
  } catch (error) {
    exchange.fail(error.name === "AbortError" ? "Stopped." : error.message);
  } finally {
    running = null;
    working(false);
  }
}

function working(yes) {
  send.hidden = yes;
  stop.hidden = !yes;
  if (yes) status.textContent = "Answering.";
}

/** One question with its answer, and what its reader says of it. */
class Exchange {
  constructor(text) {
    document.getElementById("empty").hidden = true;
    this.element = document.getElementById("exchange").content.cloneNode(true).firstElementChild;
    this.find(".question").textContent = text;
    this.text = document.createTextNode("");
    this.find(".answer").append(this.text);
    document.getElementById("thread").append(this.element);
    this.element.scrollIntoView({ block: "end" });
    this.thumb = null;
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  begin(trace, release) {
    this.trace = trace;
    this.find(".meta").textContent = `release ${release.slice(0, 8)} · trace ${trace.slice(0, 8)}`;
  }

  add(piece) {
    this.text.appendData(piece);
    const { scrollHeight, scrollTop, clientHeight } = document.documentElement;
    if (scrollHeight - scrollTop - clientHeight < 160) window.scrollTo(0, scrollHeight);
  }

  finish(citations) {
    this.find(".answer").setAttribute("aria-busy", "false");
    this.find(".sources").hidden = citations.length === 0;
    listSources(this.find(".sources ol"), citations);
    this.find(".actions").hidden = false;
    for (const button of this.element.querySelectorAll(".thumb")) {
      button.addEventListener("click", () => this.judge(button.dataset.thumb));
    }
    this.find(".correct").addEventListener("click", () => this.toggle(this.find(".correction").hidden));
    this.find(".cancel").addEventListener("click", () => this.toggle(false));
    this.find(".correction").addEventListener("submit", (event) => {
      event.preventDefault();
      this.correct();
    });
    this.find(".correction textarea").value = this.text.data;
    this.element.scrollIntoView({ block: "nearest" });
  }

  fail(message) {
    this.find(".answer").setAttribute("aria-busy", "false");
    this.find(".error").textContent = message;
    this.find(".error").hidden = false;
  }

  toggle(open) {
    this.find(".correction").hidden = !open;
    this.find(".correct").setAttribute("aria-expanded", String(open));
    this.find(open ? ".correction textarea" : ".correct").focus();
    if (open) this.find(".correction").scrollIntoView({ block: "nearest" });
  }

  async judge(thumb) {
    if (await this.send({ thumb }, "Thank you. It is noted.")) {
      this.thumb = thumb;
      for (const button of this.element.querySelectorAll(".thumb")) {
        button.setAttribute("aria-pressed", String(button.dataset.thumb === thumb));
      }
    }
  }

  async correct() {
    const written = this.find(".correction textarea").value.trim();
    const correction = written === this.text.data.trim() ? null : written || null;
    const tags = [...this.element.querySelectorAll("input:checked")].map((box) => box.value);
    if (!correction && tags.length === 0) {
      this.find(".said").textContent = "Change the answer, or say what is wrong with it.";
      return;
    }
    const said = correction
      ? "Thank you. The correction is noted for the next training."
      : "Thank you. It is noted.";
    if (await this.send({ thumb: this.thumb, correction, tags }, said)) this.toggle(false);
  }

  /** Send feedback on this trace; says how it went, and tells whether it went well. */
  async send(feedback, thanks) {
    try {
      await sendFeedback({ trace: this.trace, ...feedback });
      this.find(".said").textContent = thanks;
      return true;
    } catch (error) {
      this.find(".said").textContent = error.message;
      return false;
    }
  }
}

showRelease();
