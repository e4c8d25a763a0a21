// The API key that a person gives: asked for in a dialog, kept for this tab's session, sent as a
// header. Never in an address, a cookie or the page's text.

const NAME = "headwater-key";
let asking = null;

/** The header that carries the key, or none. */
export function keyHeader() {
  const key = sessionStorage.getItem(NAME);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Forget the key that these headers held; another may have been given meanwhile. */
export function forgetKey(sent) {
  if (sent.Authorization && sent.Authorization === keyHeader().Authorization) {
    sessionStorage.removeItem(NAME);
  }
}

/** Ask for a key, unless there is one; whether there is one then. Who asks at once shares a dialog. */
export async function askForKey(why) {
  if (keyHeader().Authorization) return true;
  asking ??= new Promise((resolve) => open(why, resolve)).finally(() => (asking = null));
  return asking;
}

function open(why, resolve) {
  const dialog = element("dialog", "key");
  const form = element("form");
  const label = element("label");
  const input = element("input");
  const use = element("button", "primary", "Use it");
  const row = element("div", "row");
  input.type = "password";
  input.autocomplete = "off";
  input.required = true;
  dialog.setAttribute("aria-label", "API key");
  label.append("API key", input);
  row.append(use);
  form.append(element("p", "", why), label, row);
  dialog.append(form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!/^[\x21-\x7e]+$/.test(key)) return; // a header can carry nothing else
    sessionStorage.setItem(NAME, key);
    dialog.close();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(Boolean(keyHeader().Authorization));
  });
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}

function element(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}
