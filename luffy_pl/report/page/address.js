"use strict";
// The address keeps the view, so that it can be copied and sent: #SECTION&name=value&...
// SECTION is scrolled to; the values are the axis of the curves and the filters of the answers.

// Names and values of the address; an address without a section is one of answers.
function readAddress() {
  const parts = location.hash.slice(1).split("&").filter((part) => part);
  const section = parts.length && !parts[0].includes("=") ? parts.shift() : "";
  return { section: section || (parts.length ? "answers" : ""), params: new URLSearchParams(parts.join("&")) };
}

// Address of this view with other values; "" takes a value out.
function addressWith(changes, section = readAddress().section) {
  const params = readAddress().params;
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") params.delete(name);
    else params.set(name, value);
  }
  const text = params.toString();
  return "#" + section + (text ? "&" + text : "");
}

// Keep other values without a step in the history, and without scrolling.
function changeAddress(changes, section) {
  history.replaceState(null, "", addressWith(changes, section));
}

function scrollToSection() {
  document.getElementById(readAddress().section)?.scrollIntoView();
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
