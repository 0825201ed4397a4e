"use strict";
// The browser of answers. Text of a model reaches the page through textContent alone. The filters and
// the page number are the fragment of the address, so that a view can be kept and sent on. Values of
// tokens are unpacked set by set, when they are first coloured; only the groups of one page are drawn.

const GROUPS_PER_PAGE = 20;
const PREVIEW_CHARACTERS = 280;
const PREVIEW_LINES = 5;
const LEGENDS = {
  p: "The darker a token, the less likely it was when the policy was trained on it: no colour at 1, full at 0.",
  w: "The darker a token, the more it weighs in the policy term, after shaping and clip: no colour at 0, full at 1 and above.",
  a: "Advantage × weight: green is made likelier, red less likely; full colour at 1 and beyond.",
};

const sets = JSON.parse(document.getElementById("answers").textContent);
const form = document.getElementById("filters");

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function fillSelect(name, values, none = "any") {
  const select = form.elements[name];
  const any = element("option", "", none);
  any.value = "";
  select.append(any, ...values.map((value) => element("option", "", value)));
}

function valuesOf(key) {
  const found = new Set();
  for (const set of sets) for (const group of set.groups) for (const answer of group.answers) found.add(answer[key]);
  found.delete(null);
  return [...found].sort();
}

function verdictOf(answer) {
  if (answer.correct === null) return "not graded";
  return answer.correct ? "correct" : "incorrect";
}

// Lower-case text to search in, made when it is first searched.
function searched(owner, parts) {
  if (owner.searched === undefined) owner.searched = parts.join("\n").toLowerCase();
  return owner.searched;
}

function inRange(reward, from, to) {
  if (!from && !to) return true;
  return reward !== null && (!from || reward >= Number(from)) && (!to || reward <= Number(to));
}

// Answers of a group that pass the filters, by their places.
function matching(group, wanted) {
  const inGroup = !wanted.text || searched(group, [group.id, group.prompt]).includes(wanted.text);
  return [...group.answers.keys()].filter((place) => {
    const answer = group.answers[place];
    return (!wanted.source || answer.source === wanted.source) &&
      (!wanted.status || answer.status === wanted.status) &&
      (!wanted.verdict || verdictOf(answer) === wanted.verdict) &&
      inRange(answer.reward, wanted.from, wanted.to) &&
      (inGroup || searched(answer, [answer.response, answer.extracted, answer.gold]).includes(wanted.text));
  });
}

// Groups of the set that is laid beside the others, by their ids.
function groupsBeside(label) {
  const place = sets.findIndex((set) => set.label === label);
  return place < 0 ? null : new Map(sets[place].groups.map((group, number) => [group.id, { place, number, group }]));
}

// The policy's own answers that are right, as a share of those that were graded.
function accuracy(group) {
  const graded = group.answers.filter((answer) => answer.source === "rollout" && answer.hint === undefined && answer.correct !== null);
  return graded.filter((answer) => answer.correct).length / graded.length;
}

function changeOf(group, before) {
  const difference = accuracy(group) - accuracy(before);
  if (difference > 0) return "better";
  if (difference < 0) return "worse";
  return difference === 0 ? "same" : "";
}

function found(wanted) {
  const groups = [];
  const others = groupsBeside(wanted.beside);
  for (const [place, set] of sets.entries()) {
    if (wanted.set ? set.label !== wanted.set : set.label === wanted.beside) continue;
    for (const [number, group] of set.groups.entries()) {
      const beside = others?.get(group.id);
      if (others && !beside) continue;
      if (beside && wanted.change && changeOf(group, beside.group) !== wanted.change) continue;
      const answers = matching(group, wanted);
      if (answers.length) groups.push({ place, number, group, answers, beside });
    }
  }
  return groups;
}

// Values of the tokens of a set; [] where the run kept none. Unpacked once.
const unpacked = new Map();
async function unpack(place) {
  const block = document.getElementById("tokens-" + place);
  if (!block) return [];
  const bytes = Uint8Array.from(atob(block.textContent), (unit) => unit.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function valuesOfSet(place) {
  if (!unpacked.has(place)) unpacked.set(place, unpack(place));
  return unpacked.get(place);
}

function preview(text) {
  const lines = text.split("\n", PREVIEW_LINES).join("\n");
  return lines.slice(0, PREVIEW_CHARACTERS);
}

function level(share) {
  return Math.round(10 * Math.min(1, Math.max(0, share)));
}

// Class of a token's colour in one of the LEGENDS; "" where the token has no such value.
function colourClass(colour, logprob, weight, advantage) {
  if (colour === "p") return logprob === null ? "" : `token less-likely l${level(1 - Math.exp(logprob))}`;
  if (weight === null || advantage === null) return "";
  if (colour === "w") return `token weight l${level(weight)}`;
  const pull = weight * advantage;
  return `token ${pull > 0 ? "up" : "down"} l${level(Math.abs(pull))}`;
}

function says(logprob, weight, advantage) {
  const facts = [];
  if (logprob !== null) facts.push(`p ${Math.exp(logprob).toPrecision(3)}`);
  if (weight !== null) facts.push(`weight ${number(weight)}`);
  if (weight !== null && advantage !== null) facts.push(`advantage × weight ${number(weight * advantage)}`);
  return facts.join(", ");
}

// The first characters of an answer, a span for each token.
function colouredText(text, numCharacters, { colour, values, advantage }) {
  const spans = [];
  let start = 0;
  for (let token = 0; token < values.n.length && start < numCharacters; token += 1) {
    const end = start + values.n[token];
    const [logprob, weight] = [values.p[token], values.w[token]];
    const span = element("span", colourClass(colour, logprob, weight, advantage), text.slice(start, end));
    span.title = says(logprob, weight, advantage);
    if (end > start) spans.push(span);
    start = end;
  }
  return spans;
}

// The text with the part marked in which it differs from another one, by whole words.
function markedText(text, numCharacters, other) {
  const longest = Math.min(text.length, other.length);
  let start = 0;
  while (start < longest && text[start] === other[start]) start += 1;
  let end = 0;
  while (end < longest - start && text.at(-1 - end) === other.at(-1 - end)) end += 1;
  const isWord = (character) => /[\p{L}\p{N}]/u.test(character);
  while (start > 0 && isWord(text[start - 1])) start -= 1;
  while (end > 0 && isWord(text.at(-end))) end -= 1;
  const shown = text.slice(0, numCharacters);
  const stop = Math.max(start, text.length - end);
  return [shown.slice(0, start), element("mark", "", shown.slice(start, stop)), shown.slice(stop)];
}

// `draw` gives the nodes of the first characters of the text.
function textBlock(text, draw = (numCharacters) => [text.slice(0, numCharacters)]) {
  const block = element("div");
  const short = preview(text);
  const pre = element("pre");
  pre.dir = "auto";
  block.append(pre);
  if (short.length === text.length) {
    pre.append(...draw(text.length));
    return block;
  }
  const button = element("button", "", "Show less");
  button.type = "button";
  function toggle() {
    const opens = button.textContent === "Show all";
    pre.replaceChildren(...(opens ? draw(text.length) : [...draw(short.length), " …"]));
    button.textContent = opens ? "Show less" : "Show all";
  }
  button.addEventListener("click", toggle);
  toggle();
  block.append(button);
  return block;
}

function responseBlock(answer, { colour, values, other }) {
  const text = answer.response;
  if (colour && values) {
    return textBlock(text, (count) => colouredText(text, count, { colour, values, advantage: answer.advantage }));
  }
  if (!colour && other !== undefined && other !== text) return textBlock(text, (count) => markedText(text, count, other));
  return textBlock(text);
}

function number(value) {
  return String(Math.round(value * 1000) / 1000);
}

// `view`: the colour asked for, values of the answer's tokens, and the text to mark differences from.
function answerCard(answer, view) {
  const verdict = verdictOf(answer);
  const kind = answer.source === "expert" ? " expert" : "";
  const card = element("div", "answer " + verdict.replace(" ", "-") + kind);
  const facts = element("p", "facts");
  facts.append(element("b", "", verdict), ` ${answer.source}, ${answer.tokens} tokens`);
  if (answer.hint !== undefined) facts.append(`, under a hint of ${number(100 * answer.hint)}%`);
  if (answer.finish_reason === "length") facts.append(", cut off");
  if (answer.status !== "ok") facts.append(`, ${answer.status}`);
  if (answer.reward !== null) facts.append(`, reward ${number(answer.reward)}`);
  if (answer.advantage !== null) facts.append(`, advantage ${number(answer.advantage)}`);
  const compared = element("p", "facts");
  compared.append(`answer ${answer.extracted ?? "none"}, gold ${answer.gold}` + (answer.tier ? `, compared by ${answer.tier}` : ""));
  card.append(facts, responseBlock(answer, view), compared);
  return card;
}

async function answerCards({ place, number: row, group }, answers, colour, other) {
  const values = colour ? (await valuesOfSet(place))[row] : undefined;
  const cards = element("div", "answers");
  cards.append(...answers.map((number) =>
    answerCard(group.answers[number], { colour, values: values?.[number], other: other?.answers[number]?.response })));
  return cards;
}

async function groupCard(shown, colour) {
  const { place, group, answers, beside } = shown;
  const card = element("article", "group");
  const label = sets[place].label;
  card.append(element("h3", "", `${group.id} in ${label}`), textBlock(group.prompt));
  card.append(await answerCards(shown, answers, colour, beside?.group));
  if (beside) {
    card.append(element("h4", "", `in ${sets[beside.place].label}`));
    card.append(await answerCards(beside, [...beside.group.answers.keys()], colour, group));
  }
  return card;
}

function state() {
  return new URLSearchParams(location.hash.slice(1));
}

let rendering = 0;
async function render() {
  const turn = ++rendering;
  const wanted = {};
  for (const field of form.elements) {
    const value = state().get(field.name) ?? "";
    if (field.value !== value) field.value = value;
    wanted[field.name] = field.name === "text" ? value.toLowerCase() : value;
  }
  const groups = found(wanted);
  const numPages = Math.max(1, Math.ceil(groups.length / GROUPS_PER_PAGE));
  const page = Math.min(Math.max(1, Number.parseInt(state().get("page") ?? "1", 10) || 1), numPages);
  const shown = groups.slice((page - 1) * GROUPS_PER_PAGE, page * GROUPS_PER_PAGE);
  const cards = await Promise.all(shown.map((one) => groupCard(one, wanted.colour)));
  if (turn !== rendering) return; // another change came while values were unpacked
  const none = wanted.beside ? "No prompt that passes the filters is in both sets." : "No answer passes the filters.";
  document.getElementById("groups").replaceChildren(...(cards.length ? cards : [element("p", "note", none)]));
  const legend = document.getElementById("legend");
  legend.hidden = !wanted.colour;
  legend.textContent = LEGENDS[wanted.colour] ?? "";
  const numAnswers = groups.reduce((sum, { answers }) => sum + answers.length, 0);
  const place = document.getElementById("place");
  place.textContent = `${numAnswers} answers to ${groups.length} prompts, page ${page} of ${numPages}`;
  place.dataset.answers = numAnswers;
  const back = document.getElementById("back");
  const forward = document.getElementById("forward");
  back.disabled = page === 1;
  forward.disabled = page === numPages;
  back.onclick = () => go({ page: page - 1 });
  forward.onclick = () => go({ page: page + 1 });
}

// Every change goes through the address; its change renders.
function go(changes) {
  const next = state();
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") next.delete(name);
    else next.set(name, value);
  }
  location.replace("#" + next);
}

let typing;
function changed() {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const values = [...form.elements].map((field) => [field.name, field.value]);
    go({ ...Object.fromEntries(values), page: "" });
  }, 150);
}

fillSelect("set", sets.map((set) => set.label), "all");
fillSelect("beside", sets.map((set) => set.label), "nothing");
fillSelect("source", valuesOf("source"));
fillSelect("status", valuesOf("status"));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", changed);
window.addEventListener("hashchange", render);
render().then(() => {
  document.documentElement.dataset.readyMs = performance.now().toFixed(0);
});
