// The browser of answers. Text of a model reaches the page through textContent, or as a formula. The index
// has what filters need; texts are unpacked for the groups of one page, and block by block for a search.

const GROUPS_PER_PAGE = 20;
const PREVIEW_CHARACTERS = 280;
const PREVIEW_LINES = 5;
const DEFAULTS = { colour: "w", formulas: "on" };

const sets = JSON.parse(document.getElementById("index")?.textContent ?? "[]");
const form = document.getElementById("filters");

function fillSelect(name, values, none) {
  const any = element("option", "", none);
  any.value = "";
  form.elements[name].append(any, ...values.map((value) => element("option", "", value)));
}

// Phases and benchmarks under headings of their own.
function fillSets(name, none) {
  fillSelect(name, [], none);
  for (const [heading, ofKind] of Object.entries(Object.groupBy(sets, (set) => (set.phase === null ? "evaluations" : "training")))) {
    const group = element("optgroup");
    group.label = heading;
    group.append(...ofKind.map((set) => element("option", "", set.label)));
    form.elements[name].append(group);
  }
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

function inRange(reward, from, to) {
  if (!from && !to) return true;
  return reward !== null && (!from || reward >= Number(from)) && (!to || reward <= Number(to));
}

// Answers of a group that pass the filters, by their places; of a text search later.
function matching(group, wanted) {
  return [...group.answers.keys()].filter((place) => {
    const answer = group.answers[place];
    return (!wanted.source || answer.source === wanted.source) &&
      (!wanted.status || answer.status === wanted.status) &&
      (!wanted.verdict || verdictOf(answer) === wanted.verdict) &&
      inRange(answer.reward, wanted.from, wanted.to);
  });
}

// Groups of the set that is laid beside the others, by their ids.
function groupsBeside(label) {
  const set = sets.find((one) => one.label === label);
  return set ? new Map(set.groups.map((group) => [group.id, { set, group }])) : null;
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

function candidates(wanted) {
  const found = [];
  const others = groupsBeside(wanted.beside);
  for (const set of sets) {
    if (wanted.set ? set.label !== wanted.set : set.label === wanted.beside) continue;
    for (const group of set.groups) {
      const beside = others?.get(group.id);
      if ((others && !beside) || (wanted.id && group.id !== wanted.id)) continue;
      if (beside && wanted.change && changeOf(group, beside.group) !== wanted.change) continue;
      const answers = matching(group, wanted);
      if (answers.length) found.push({ set, group, answers, beside });
    }
  }
  return found;
}

// The groups and answers that hold a text. A search goes through all blocks, and a later one ends it.
async function search(groups, text, isCurrent, report) {
  const byBlock = Map.groupBy(groups, ({ group }) => group.at[0]);
  const kept = new Map();
  let numRead = 0;
  for (const [number, ofBlock] of byBlock) {
    if (!isCurrent()) return [];
    report(`searching: ${numRead += 1} of ${byBlock.size}`);
    const texts = await (byBlock.size > KEPT_BLOCKS ? unpack(`texts-${number}`) : block("texts", number));
    for (const one of ofBlock) {
      const { prompt, answers } = texts[one.group.at[1]];
      const holds = (...parts) => parts.some((part) => part && String(part).toLowerCase().includes(text));
      const inGroup = holds(one.group.id, prompt);
      kept.set(one, one.answers.filter((place) => inGroup || holds(...Object.values(answers[place]))));
    }
  }
  return groups.map((one) => ({ ...one, answers: kept.get(one) })).filter((one) => one.answers.length);
}

let lastSearch = { key: "", groups: [] };
async function found(wanted, isCurrent, report) {
  const groups = candidates(wanted);
  if (!wanted.text) return groups;
  const key = JSON.stringify({ ...wanted, colour: "", formulas: "" });
  if (lastSearch.key !== key) {
    const passed = await search(groups, wanted.text, isCurrent, report);
    if (!isCurrent()) return [];
    lastSearch = { key, groups: passed };
  }
  return lastSearch.groups;
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

function preview(text) {
  return text.split("\n", PREVIEW_LINES).join("\n").slice(0, PREVIEW_CHARACTERS);
}

// `nodesOf` gives the nodes of the first characters of the text.
function textBlock(text, nodesOf) {
  const made = element("div");
  const short = preview(text);
  const pre = element("pre");
  pre.dir = "auto";
  made.append(pre);
  if (short.length === text.length) {
    pre.append(...nodesOf(text.length));
    return made;
  }
  const button = element("button", "", "Show less");
  button.type = "button";
  function toggle() {
    const opens = button.textContent === "Show all";
    pre.replaceChildren(...(opens ? nodesOf(text.length) : [...nodesOf(short.length), " …"]));
    button.textContent = opens ? "Show less" : "Show all";
  }
  button.addEventListener("click", toggle);
  toggle();
  made.append(button);
  return made;
}

function plainText(text, wanted) {
  return textBlock(text, (count) => (wanted.formulas === "on" ? withFormulas(text.slice(0, count)) : [text.slice(0, count)]));
}

function responseBlock(text, advantage, { wanted, values, other }) {
  const { colour } = wanted;
  if (values && COLOURS[colour] && !(colour === "w" && onlyWeight(values) !== null)) {
    return textBlock(text, (count) => colouredText(text, count, { colour, values, advantage }));
  }
  if (other !== undefined && other !== text) return textBlock(text, (count) => markedText(text, count, other));
  return plainText(text, wanted);
}

// `view`: what is asked for, values of the answer's tokens, and the text to mark differences from.
function answerCard(facts, texts, view) {
  const verdict = verdictOf(facts);
  const card = element("div", "answer " + verdict.replace(" ", "-") + (facts.source === "expert" ? " expert" : ""));
  const line = element("p", "facts");
  const parts = [`${facts.tokens} tokens`];
  if (facts.hint !== undefined) parts.push(`under a hint of ${number(100 * facts.hint)}%`);
  if (facts.finish_reason === "length") parts.push("cut off");
  if (facts.status !== "ok") parts.push(facts.status);
  if (facts.reward !== null) parts.push(`reward ${number(facts.reward)}`);
  if (facts.advantage !== null) parts.push(`advantage ${number(facts.advantage)}`);
  const weight = view.values ? onlyWeight(view.values) : null;
  if (weight !== null) parts.push(`each token weighs ${number(weight)}`);
  line.append(element("span", "source", facts.source ?? "answer"), " ", element("b", "", verdict), ` ${parts.join(", ")}`);
  const compared = element("p", "facts");
  const shown = (text) => (view.wanted.formulas === "on" ? shortAnswer(text) : String(text));
  compared.append("answer ", texts.extracted === null ? "none" : shown(texts.extracted), ", gold ", shown(texts.gold));
  if (facts.tier) compared.append(`, compared by ${facts.tier}`);
  card.append(line, responseBlock(texts.response, facts.advantage, view), compared);
  return card;
}

async function answerCards(group, texts, places, wanted, other) {
  const values = COLOURS[wanted.colour] ? (await block("values", group.at[0]))?.[group.at[1]] : null;
  const cards = element("div", "answers");
  cards.append(...places.map((place) => answerCard(group.answers[place], texts.answers[place],
    { wanted, values: values?.[place], other: other?.answers[place]?.response })));
  return cards;
}

async function textsOf(group) {
  return (await block("texts", group.at[0]))[group.at[1]];
}

async function groupCard({ set, group, answers, beside }, wanted) {
  const card = element("article", "group");
  const texts = await textsOf(group);
  const others = beside ? await textsOf(beside.group) : undefined;
  const heading = element("h3", "", `${set.label}: `);
  const link = element("a", "", group.id);
  link.href = addressWith({ set: set.label, id: group.id, page: "" }, "answers");
  link.title = "an address of this group alone";
  heading.append(link);
  card.append(heading, plainText(texts.prompt, wanted));
  card.append(await answerCards(group, texts, answers, wanted, others));
  if (beside) {
    card.append(element("h4", "", `in ${beside.set.label}`));
    card.append(await answerCards(beside.group, others, [...beside.group.answers.keys()], wanted, texts));
  }
  return card;
}

// What the address asks for, in the form as well.
function wantedAnswers() {
  const { params } = readAddress();
  const wanted = {};
  for (const field of form.elements) {
    if (!field.name) continue;
    const value = params.get(field.name) ?? DEFAULTS[field.name] ?? "";
    if (field.value !== value) field.value = value;
    wanted[field.name] = field.name === "text" ? value.toLowerCase() : value;
  }
  const more = form.querySelector("details");
  if ([...more.querySelectorAll("[name]")].some((field) => wanted[field.name] !== (DEFAULTS[field.name] ?? ""))) more.open = true;
  return wanted;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

let rendering = 0;
async function renderAnswers() {
  const turn = ++rendering;
  const isCurrent = () => turn === rendering;
  const wanted = wantedAnswers();
  const place = document.getElementById("place");
  const groups = await found(wanted, isCurrent, (text) => { place.textContent = text; });
  if (!isCurrent()) return;
  const numPages = Math.max(1, Math.ceil(groups.length / GROUPS_PER_PAGE));
  const asked = Number.parseInt(readAddress().params.get("page") ?? "1", 10) || 1;
  const page = Math.min(Math.max(1, asked), numPages);
  const shown = groups.slice((page - 1) * GROUPS_PER_PAGE, page * GROUPS_PER_PAGE);
  const cards = await Promise.all(shown.map((one) => groupCard(one, wanted)));
  if (!isCurrent()) return; // another change came while texts were unpacked
  const none = wanted.beside ? "No prompt that passes the filters is in both sets." : "No answer passes the filters.";
  document.getElementById("groups").replaceChildren(...(cards.length ? cards : [element("p", "note", none)]));
  const legend = document.getElementById("legend");
  legend.hidden = !COLOURS[wanted.colour];
  legend.replaceChildren(...(COLOURS[wanted.colour] ? scaleOf(wanted.colour) : []));
  const numAnswers = groups.reduce((sum, { answers }) => sum + answers.length, 0);
  place.textContent = `${plural(numAnswers, "answer")} to ${plural(groups.length, "prompt")}, page ${page} of ${numPages}`;
  place.dataset.answers = numAnswers;
  const back = document.getElementById("back"), forward = document.getElementById("forward");
  [back.disabled, forward.disabled] = [page === 1, page === numPages];
  back.onclick = () => turnTo(page - 1);
  forward.onclick = () => turnTo(page + 1);
}

async function turnTo(page) {
  changeAddress({ page: page === 1 ? "" : page }, "answers");
  await renderAnswers();
  scrollToSection();
}

// Every change goes through the address; a text is searched when its typing rests.
let typing;
function changeFilters() {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const fields = [...form.elements].filter((field) => field.name);
    const changes = fields.map(({ name, value }) => [name, value === (DEFAULTS[name] ?? "") ? "" : value]);
    changeAddress({ ...Object.fromEntries(changes), page: "" }, "answers");
    renderAnswers();
  }, 150);
}

function startAnswers() {
  fillSets("set", "all");
  fillSets("beside", "nothing");
  fillSelect("source", valuesOf("source"), "any");
  fillSelect("status", valuesOf("status"), "any");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", changeFilters);
  document.getElementById("clear").addEventListener("click", () => {
    const names = [...form.elements].map((field) => field.name).filter((name) => name);
    changeAddress({ ...Object.fromEntries(names.map((name) => [name, ""])), page: "" }, "answers");
    renderAnswers();
  });
}
