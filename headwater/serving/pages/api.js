// Calls of the endpoint's API. Knows routes and errors, nothing of the pages.

import { askForKey, keyHeader, forgetKey } from "/pages/key.js";

/** An answer that says no; `message` is for people. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The response to a request, if it is good; asks for a key where one is needed. */
async function call(path, { body, signal } = {}) {
  for (;;) {
    const sent = keyHeader();
    let response;
    try {
      response = await fetch(path, {
        method: body === undefined ? "GET" : "POST",
        headers: { ...sent, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "The endpoint cannot be reached.");
    }
    if (response.ok) return response;
    let message = `The endpoint answered ${response.status}.`;
    try {
      message = (await response.json()).error.message;
    } catch {
      // No JSON: the status says what there is to say.
    }
    if (response.status !== 401) throw new ApiError(response.status, message);
    forgetKey(sent);
    if (!(await askForKey(message))) throw new ApiError(401, message);
  }
}

/** Ask a question. Calls `begun` with the trace and release, then `piece` with each text; gives the citations. */
export async function ask(question, { signal, begun, piece }) {
  const response = await call("/v1/chat/completions", {
    body: { model: "headwater", stream: true, messages: [{ role: "user", content: question }] },
    signal,
  });
  begun(response.headers.get("X-Headwater-Trace"), response.headers.get("X-Headwater-Release"));
  for await (const data of events(response)) {
    if (data.error) throw new ApiError(500, data.error.message);
    const text = data.choices?.[0]?.delta?.content;
    if (text) piece(text);
    if (data.citations) return data.citations;
  }
  throw new ApiError(0, "The answer was cut off.");
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const whole = held.split("\n\n");
    held = whole.pop();
    for (const event of whole) {
      const data = event.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

/** Say something of a trace: `{trace, thumb, correction, tags}`. */
export const sendFeedback = (feedback) => call("/v1/feedback", { body: feedback });

/** The next pair to rate, or null. */
export async function nextPair() {
  const response = await call("/v1/rating/next");
  return response.status === 204 ? null : response.json();
}

/** Record a choice ("a", "b", "same", "skip") for a pair. */
export const sendRating = (id, choice) => call("/v1/rating", { body: { id, choice } });

/** Outlying documents: `{asked, waiting, judged}`. */
export const listOutliers = async () => (await call("/v1/outliers")).json();

/** Say of an outlying document "keep", "leave_out" or "withdraw". */
export const sendVerdict = (id, verdict) => call("/v1/outliers", { body: { id, verdict } });

/** The text around a citation. */
export async function sourceText({ uri, start, end }) {
  return (await call(`/v1/documents?${new URLSearchParams({ uri, start, end })}`)).json();
}

/** Id of the release that answers, or null; undefined where nobody gives the key that it takes. */
export async function currentRelease() {
  for (;;) {
    const sent = keyHeader();
    const ready = await (await fetch("/readyz", { headers: sent })).json();
    if (!ready.needs_key) return ready.release;
    forgetKey(sent);
    const why = sent.Authorization ? "This endpoint does not take that key." : "This endpoint needs an API key.";
    if (!(await askForKey(why))) return undefined;
  }
}
