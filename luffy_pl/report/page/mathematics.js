// Formulas in answers, built by KaTeX element by element. What could hide, move, colour or link text, or
// define commands, is shown as it was written: a formula must not say other things than its source.

const MAX_FORMULAS = 300;
const FORMULA = new RegExp([
  String.raw`\$\$([^$]{1,2000})\$\$`,
  String.raw`\\\[([\s\S]{1,2000}?)\\\]`,
  String.raw`\\\(([\s\S]{1,2000}?)\\\)`,
  String.raw`\$(?![\s$])((?:\\.|[^$\\\n]){1,1000}?)(?<!\s)\$(?!\d)`,
  String.raw`(\\begin\{((?:align|equation|gather|cases|[bpvV]?matrix)\*?)\}[\s\S]{1,2000}?\\end\{\6\})`,
  String.raw`(\\boxed\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]{0,200}\}){0,200}\}){0,200}\}){0,400}\})`,
].join("|"), "g");
const REFUSED = new RegExp(String.raw`(?<!\\)%|(?:\\!\s*){4}|\\(?:neg(?:thin|med|thick)space|[hv]?phantom|smash|(?:math)?[lrc]lap|text(?:color)|color\w*|f?colorbox|[hm]?skip|m?kern|hspace|raisebox|rule|href|url|html\w*|includegraphics|def|[gex]def|let|futurelet|global|long|(?:re|provide)?newcommand|providecommand|char|verb)(?![a-zA-Z])`);

function formula(tex, source, isDisplay) {
  if (REFUSED.test(tex)) return source;
  const node = element("span", isDisplay ? "formula display" : "formula");
  try {
    katex.render(tex, node, {
      displayMode: isDisplay, output: "html", trust: false, strict: "ignore", maxExpand: 200, maxSize: 10,
    });
  } catch {
    return source;
  }
  if (!/[^\s\u200b]/.test(node.textContent)) return source; // nothing to be seen
  node.title = source;
  node.setAttribute("role", "math");
  node.setAttribute("aria-label", source);
  return node;
}

// Nodes of a text with its formulas.
function withFormulas(text) {
  if (typeof katex === "undefined") return [text];
  const nodes = [];
  let start = 0;
  for (const match of text.matchAll(FORMULA)) {
    if (nodes.length > 2 * MAX_FORMULAS) break;
    const [source, dollars, brackets, parentheses, dollar, environment, , box] = match;
    const tex = dollars ?? brackets ?? parentheses ?? dollar ?? environment ?? box;
    nodes.push(text.slice(start, match.index), formula(tex, source, (dollars ?? brackets ?? environment) !== undefined));
    start = match.index + source.length;
  }
  return [...nodes, text.slice(start)];
}

// A short answer, which is mathematics without a mark of it.
function shortAnswer(text) {
  if (text === null || typeof katex === "undefined" || !/[\\^_]/.test(text)) return String(text);
  return formula(text, text, false);
}
