// Keeps the page up to date by server-sent events, and copies commands. The page works without it.
"use strict";

document.documentElement.classList.add("js");

const live = document.getElementById("live");
const said = document.getElementById("said");

/** Make one element equal to another, and touch only what differs: focus, selection and scrolling stay. */
function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
    from.replaceWith(document.importNode(to, true));
    return;
  }
  if (from.nodeType === Node.TEXT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name)) from.removeAttribute(name);
  }
  for (const { name, value } of [...to.attributes]) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  const olds = [...from.childNodes];
  const news = [...to.childNodes];
  news.forEach((node, index) => {
    if (index < olds.length) morph(olds[index], node);
    else from.append(document.importNode(node, true));
  });
  olds.slice(news.length).forEach((node) => node.remove());
}

function say(text) {
  if (said) said.textContent = text;
}

/** Put the new state of a section in the place of the old one. */
function update(html) {
  const section = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  const shown = section && document.getElementById(section.id);
  if (!shown) return;
  const before = shown.dataset.health;
  morph(shown, section);
  if (section.dataset.health && section.dataset.health !== before) {
    document.title = `${section.dataset.health} – ordermesh-sync`;
    say(section.querySelector("strong").textContent);
  }
}

function follow() {
  const updates = new EventSource("/updates");
  updates.addEventListener("section", (event) => update(JSON.parse(event.data)));
  updates.addEventListener("at", (event) => {
    live.textContent = `Live. As of ${JSON.parse(event.data)} UTC.`;
    live.classList.remove("lost");
  });
  updates.addEventListener("error", () => {
    live.textContent = "Not live: the connection to the worker is lost. Trying again.";
    live.classList.add("lost");
    if (updates.readyState === EventSource.CLOSED) setTimeout(follow, 10000);
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.firstChild.data = "Copied";
    say("The command is copied.");
    setTimeout(() => {
      button.firstChild.data = "Copy";
    }, 1500);
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    say("The command is selected.");
  }
});

if (live) follow();
