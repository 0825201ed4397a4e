// Texts and values of tokens, unpacked block by block when they are looked at, and the colours of tokens.

const KEPT_BLOCKS = 12;
const COLOURS = {
  w: { name: "weight", class: "weight", ends: ["0", "1 and above"],
    says: "How much a token counts in the loss of the policy, after shaping and clip. An expert's unlikely token is pale. " +
      "Answers whose tokens all have one weight are not coloured." },
  p: { name: "probability", class: "less-likely", ends: ["1", "0"],
    says: "Probability under the policy when the token was trained on: on an expert's trace, the dark tokens are what there is to learn." },
  a: { name: "advantage × weight", class: "up", ends: ["0", "1 and beyond"], negative: "down",
    says: "How strongly training pulls: green tokens are made likelier, red ones less likely." },
};

// A block is whole when something follows it, or when the page has been read.
async function blockText(id) {
  for (;;) {
    const block = document.getElementById(id);
    if (block && (block.nextElementSibling || document.readyState !== "loading")) return block.textContent;
    if (!block && document.readyState !== "loading") return null;
    await new Promise((resume) => setTimeout(resume, 30));
  }
}

async function unpack(id) {
  const text = await blockText(id);
  if (text === null) return null;
  const bytes = Uint8Array.from(atob(text), (unit) => unit.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

// Texts or values of the groups of a block; null where the run kept none. The latest ones are kept.
const unpacked = new Map();
function block(kind, number) {
  const id = `${kind}-${number}`;
  const found = unpacked.get(id) ?? unpack(id);
  unpacked.delete(id);
  unpacked.set(id, found);
  if (unpacked.size > 2 * KEPT_BLOCKS) unpacked.delete(unpacked.keys().next().value);
  return found;
}

function level(share) {
  return Math.round(10 * Math.min(1, Math.max(0, share)));
}

// Class of a token's colour in one of COLOURS; "" where the token has no such value.
function colourClass(colour, logprob, weight, advantage) {
  if (colour === "p") return logprob === null ? "" : `token less-likely l${level(1 - Math.exp(logprob))}`;
  if (weight === null || advantage === null) return "";
  if (colour === "w") return `token weight l${level(weight)}`;
  const pull = weight * advantage;
  return `token ${pull > 0 ? "up" : "down"} l${level(Math.abs(pull))}`;
}

function number(value) {
  return String(Math.round(value * 1000) / 1000);
}

function says(logprob, weight, advantage) {
  const facts = [];
  if (logprob !== null) facts.push(`p ${Math.exp(logprob).toPrecision(3)}`);
  if (weight !== null) facts.push(`weight ${number(weight)}`);
  if (weight !== null && advantage !== null) facts.push(`advantage × weight ${number(weight * advantage)}`);
  return facts.join(", ");
}

// The weight that all tokens have, or null.
function onlyWeight(values) {
  const weights = values.w.filter((weight) => weight !== null);
  return weights.length && weights.every((weight) => weight === weights[0]) ? weights[0] : null;
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

// A scale from one end of a colour to the other, with what it says.
function scaleOf(colour) {
  const { name, class: heat, ends, negative, says: text } = COLOURS[colour];
  const steps = (of, order) => order.map((step) => element("i", `token ${of} l${step}`, "\u00a0"));
  const up = [...Array(11).keys()];
  const scale = element("span", "scale");
  if (negative) scale.append(`-${ends[1]} `, ...steps(negative, up.toReversed()));
  scale.append(negative ? "" : `${ends[0]} `, ...steps(heat, up), ` ${ends[1]}`);
  return [element("b", "", `Colour: ${name} `), scale, ` ${text}`];
}
