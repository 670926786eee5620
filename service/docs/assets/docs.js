// Search, copy buttons and the address of this service in the examples. Without this script, every
// page can be read and reached all the same.
"use strict";

const MOST_SHOWN = 12;
const EXAMPLE_ADDRESS = "http://127.0.0.1:8080";
const { index } = document.currentScript.dataset;

/** The examples of `leadlog dev` get the address under which this page was loaded. */
function showOwnAddress() {
  if (!location.origin.startsWith("http")) return;
  for (const code of document.querySelectorAll("pre code")) {
    if (!code.textContent.includes(EXAMPLE_ADDRESS)) continue;
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      texts.currentNode.data = texts.currentNode.data.replaceAll(EXAMPLE_ADDRESS, location.origin);
    }
  }
}

function addCopyButtons() {
  if (!navigator.clipboard) return; // a page over plain http, other than of this machine
  for (const figure of document.querySelectorAll("figure.code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    const name = figure.querySelector("figcaption").textContent;
    button.setAttribute("aria-label", `Copy: ${name}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(figure.querySelector("code").textContent + "\n");
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    figure.append(button);
  }
}

/** How well an entry fits; 0: a word of the query is not in it. */
function rate(entry, words) {
  const [title, page, text] = [entry.title, entry.page, `${entry.text} ${entry.path}`]
    .map((part) => part.toLowerCase());
  let sum = 0;
  for (const word of words) {
    const points = (title === word ? 40 : 0) + (title.split(/[^\p{L}\p{N}_]+/u).includes(word) ? 20 : 0)
      + (title.includes(word) ? 20 : 0) + (page.includes(word) ? 6 : 0) + (text.includes(word) ? 4 : 0);
    if (!points) return 0;
    sum += points;
  }
  return sum - title.length / 100;
}

/** The part of a text around the first word that is found in it. */
function cutAround(text, words) {
  const at = Math.min(...words.map((word) => text.toLowerCase().indexOf(word)).filter((i) => i >= 0));
  const start = Number.isFinite(at) && at > 50 ? text.indexOf(" ", at - 40) + 1 : 0;
  return (start ? "… " : "") + text.slice(start, start + 160);
}

class Search {
  constructor(dialog, opener) {
    this.dialog = dialog;
    this.input = dialog.querySelector("input");
    this.list = dialog.querySelector("ul");
    this.state = dialog.querySelector(".state");
    this.entries = null;
    this.selected = -1;
    opener.hidden = false;
    opener.addEventListener("click", () => this.open());
    document.addEventListener("keydown", (event) => {
      const isTyping = event.target.closest("input, textarea, [contenteditable]");
      const isShortcut = (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey)
        || (event.key === "k" && (event.ctrlKey || event.metaKey));
      if (!isShortcut || dialog.open) return;
      event.preventDefault();
      this.open();
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    this.input.addEventListener("input", () => this.show());
    this.input.addEventListener("keydown", (event) => this.move(event));
  }

  async open() {
    this.dialog.showModal();
    this.input.select();
    if (this.entries) return;
    try {
      this.entries = await (await fetch(index)).json();
      this.show();
    } catch {
      this.state.textContent = "The index cannot be loaded now.";
    }
  }

  show() {
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const isLongEnough = words.join("").length >= 2;
    const found = !isLongEnough || !this.entries ? [] : this.entries
      .map((entry) => ({ entry, points: rate(entry, words) }))
      .filter(({ points }) => points > 0)
      .sort((one, other) => other.points - one.points);
    this.list.replaceChildren(...found.slice(0, MOST_SHOWN).map(({ entry }, i) => this.make(entry, i, words)));
    this.input.setAttribute("aria-expanded", String(found.length > 0));
    this.select(found.length ? 0 : -1);
    if (!isLongEnough) this.state.textContent = "Type two letters or more.";
    else if (!found.length) this.state.textContent = "Nothing found.";
    else this.state.textContent = `${found.length} found. ↑ ↓ choose, Enter opens.`;
  }

  make(entry, i, words) {
    const item = document.createElement("li");
    item.id = `result-${i}`;
    item.role = "option";
    item.dataset.path = entry.path;
    const detail = document.createElement("small");
    detail.textContent = `${entry.page}: ${cutAround(entry.text, words)}`;
    item.append(entry.title, detail);
    item.addEventListener("click", () => this.go(item));
    return item;
  }

  select(i) {
    this.selected = i;
    [...this.list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === i)));
    const item = this.list.children[i];
    if (item) this.input.setAttribute("aria-activedescendant", item.id);
    else this.input.removeAttribute("aria-activedescendant");
    item?.scrollIntoView({ block: "nearest" });
  }

  move(event) {
    const count = this.list.children.length;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && count) {
      event.preventDefault();
      this.select((this.selected + step + count) % count);
    } else if (event.key === "Enter" && count) {
      event.preventDefault();
      this.go(this.list.children[this.selected]);
    }
  }

  go(item) {
    this.dialog.close();
    location.assign(item.dataset.path);
  }
}

showOwnAddress();
addCopyButtons();
new Search(document.querySelector("dialog.search"), document.querySelector("button.find"));
