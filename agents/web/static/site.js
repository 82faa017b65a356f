// Every page works without this file; it adds live updates, countdowns, copying and a guard against double clicks.
"use strict";

(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  document.documentElement.classList.add("js");

  /** Says a sentence to those who listen to the page: it is not seen. */
  function say(text) {
    const place = document.getElementById("said");
    if (place) place.textContent = text;
  }

  // ---- form[data-once]: sent once; its buttons show their data-busy text meanwhile

  const busy = new Map(); // button -> its label

  function rest(button) {
    if (button.disabled) return;
    busy.set(button, [...button.childNodes]);
    button.disabled = true;
    if (button.dataset.busy) button.replaceChildren(button.dataset.busy);
  }

  function wake() {
    for (const [button, label] of busy) {
      button.replaceChildren(...label);
      button.disabled = false;
    }
    busy.clear();
    for (const form of all("form[data-sent]")) form.removeAttribute("data-sent");
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || !form.matches("form[data-once]")) return;
    if (form.hasAttribute("data-sent")) {
      event.preventDefault();
      return;
    }
    form.setAttribute("data-sent", "");
    if (event.submitter?.dataset.busy) say(event.submitter.dataset.busy);
    // Later, because a disabled button's own name and value would not be sent.
    setTimeout(() => [...form.elements].filter((one) => one.type === "submit").forEach(rest));
  });

  // ---- button[data-copy=ID]: copies the text of that element

  const copied = new WeakMap(); // button -> what puts its label back

  async function copy(source) {
    const text = source.value ?? source.textContent;
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Without a secure context or the permission the selection is left for the reader's own copy key.
      if (source.select) source.select();
      else getSelection().selectAllChildren(source);
      return document.execCommand("copy");
    }
  }

  async function copyFrom(button) {
    const source = document.getElementById(button.dataset.copy);
    if (!source) return;
    const said = (await copy(source)) ? "Copied" : "Press Ctrl+C";
    say(said);
    copied.get(button)?.();
    const label = [...button.childNodes];
    button.replaceChildren(said);
    const back = () => {
      clearTimeout(timer);
      button.replaceChildren(...label);
      copied.delete(button);
    };
    const timer = setTimeout(back, 2000);
    copied.set(button, back);
  }

  // ---- time[data-countdown=SECONDS]: mm:ss until then, and "countdown:over" at the end

  const deadlines = new WeakMap(); // element -> ms since the epoch

  function clock(seconds) {
    const two = (number) => String(number).padStart(2, "0");
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
  }

  function deadline(time) {
    // The server counts the seconds, so that a wrong clock here does not matter; else datetime is the moment.
    const seconds = time.dataset.countdown;
    return seconds ? Date.now() + Number(seconds) * 1000 : Date.parse(time.dateTime);
  }

  function tick() {
    for (const time of all("time[data-countdown]:not(.over)")) {
      if (!deadlines.has(time)) deadlines.set(time, deadline(time));
      const left = Math.max(0, Math.ceil((deadlines.get(time) - Date.now()) / 1000));
      if (Number.isNaN(left)) continue;
      time.textContent = clock(left);
      if (left > 0) continue;
      time.classList.add("over");
      time.dispatchEvent(new CustomEvent("countdown:over", { bubbles: true }));
    }
  }

  // ---- [data-events=URL]: fragments of the page as the server sends them

  const RETRY = 5000; // ms until a stream that the browser gave up is asked for again
  const streams = new Map(); // element -> its open EventSource
  const shown = new Map(); // id -> the fragment that is in it

  function place(id, html) {
    const target = document.getElementById(id);
    if (!target || shown.get(id) === html) return;
    shown.set(id, html);
    const focused = target.contains(document.activeElement) ? document.activeElement.id : "";
    target.innerHTML = html;
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  function update(region, { html = {}, title, done }) {
    for (const [id, fragment] of Object.entries(html)) place(id, fragment);
    if (title) document.title = title;
    register();
    tick();
    if (done) end(region, "done");
  }

  function end(region, state) {
    streams.get(region)?.close();
    streams.delete(region);
    region.dataset.live = state;
  }

  function listen(region) {
    if (streams.has(region) || region.dataset.live === "done") return;
    const stream = new EventSource(region.dataset.events);
    streams.set(region, stream);
    stream.addEventListener("open", () => (region.dataset.live = "open"));
    stream.addEventListener("update", (event) => update(region, JSON.parse(event.data)));
    stream.addEventListener("reload", () => {
      end(region, "done");
      location.reload();
    });
    stream.addEventListener("error", () => {
      region.dataset.live = "lost";
      if (stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      end(region, "lost");
      setTimeout(() => region.isConnected && listen(region), RETRY);
    });
  }

  function listenAll() {
    if ("EventSource" in window) all("[data-events]").forEach(listen);
  }

  // ---- button[data-register=ID]: this site opens payment links; what happened is said in that element

  const SCHEME = "web+ecash";
  const canRegister = "registerProtocolHandler" in navigator;

  const UNABLE = "Copy the shop’s link and paste it here instead.";

  function tell(button, text) {
    const output = document.getElementById(button.dataset.register);
    if (output) output.textContent = text;
  }

  function register() {
    if (canRegister) return;
    for (const button of all("button[data-register]:not([hidden])")) {
      button.hidden = true;
      tell(button, `This browser cannot open payment links in the wallet. ${UNABLE}`);
    }
  }

  function registerFrom(button) {
    try {
      navigator.registerProtocolHandler(SCHEME, `${location.origin}/pay?link=%s`);
      tell(button, "Your browser may now ask whether this page may open payment links. Choose Allow, then try a link.");
    } catch (error) {
      tell(button, `Your browser refused (${error.name}). ${UNABLE}`);
    }
  }

  // ---- all together; clicks are heard at the top, so that new fragments need nothing

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (button?.hasAttribute("data-copy")) copyFrom(button);
    if (button?.hasAttribute("data-register")) registerFrom(button);
  });

  // A page that is left gives its streams back, and gets them again when the reader comes back to it.
  addEventListener("pagehide", () => [...streams.keys()].forEach((region) => end(region, "left")));
  addEventListener("pageshow", () => {
    wake();
    listenAll();
  });

  register();
  tick();
  setInterval(tick, 1000);
})();
