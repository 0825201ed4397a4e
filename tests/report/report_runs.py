"""Run folders made by hand, and pages read back, for the tests of reports."""

import base64
import gzip
import json
from html.parser import HTMLParser

HOSTILE = {
    "script": "<script>document.documentElement.dataset.pwned = 'script'</script>",
    "end of block": "</script><img src=x onerror=\"document.documentElement.dataset.pwned='img'\">",
    "comment": "<!--<script>--></body></html>",
    "markup": '<b id="injected">bold</b> [red]rich[/red] {{ 7 * 7 }} {% raw %}',
    "terminal": "\x1b[2J\x1b]0;pwned\x07 \x00 \x9b31m",
    "right to left": "\u202egnol oot\u202c \u2066x\u2069 \u200b\u2028next\u2029",
    "no unicode": "\ud800 alone",
}


def answer(prompt_id, response, *, correct=True, source="rollout", status="ok", tokens=10, **more):
    """A line of `write_groups`."""
    verdict = {"correct": correct, "status": status, "tier": "string", "extracted": "7",
               "gold": "7", "ms": 0.1}  # fmt: skip
    return {
        "prompt_id": prompt_id,
        "prompt": f"What is {prompt_id}?",
        "source": source,
        "response": response,
        "tokens": tokens,
        "finish_reason": "stop",
        "reward": None if correct is None else float(correct),
        "verdict": verdict,
    } | more


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    # Lone surrogates as bytes, which write_groups spells out and other writers may not.
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def write_run(folder, *, benchmarks=("heldout",), avg=0.5, ablation=None):
    """A run of fit with two phases and an evaluation before and after."""
    metrics = [{"step": step, "on_off_metrics/on_score": step / 4, "entropy/rollout_nats": 0.5}
               for step in (1, 2)]  # fmt: skip
    if ablation:
        metrics.append({"hyperparameters": {"ablation": ablation}})
    write_lines(folder / "metrics.jsonl", metrics)
    rows = [{"phase": phase, "benchmark": name, "n": 4, "k": 1, "avg": avg, "low": avg - 0.1,
             "high": avg + 0.1} for phase in (0, 2) for name in benchmarks]  # fmt: skip
    write_lines(folder / "evaluation.jsonl", rows)
    (folder / "config.yaml").write_text("model: {policy: {path: some/model}}\n")
    return folder


def write_results(folder, benchmarks, *, model="m", checkpoint=None):
    """results.json of an evaluation; `benchmarks` as in its schema."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome = {"version": 1, "model": model, "checkpoint": checkpoint, "phase": 2}
    (folder / "results.json").write_text(json.dumps(outcome | {"benchmarks": benchmarks}))
    if not (folder / "validate.jsonl").exists():
        write_lines(folder / "validate.jsonl", [
            {"phase": 2, "benchmark": one["name"], "n": one["n"], "k": one["k"],
             **one["metrics"]["avg"], "avg": one["metrics"]["avg"]["value"]} for one in benchmarks
        ])  # fmt: skip
    return folder


def interval(value):
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


class Page(HTMLParser):
    """Elements of a page with their attributes, and their text up to the next tag."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._is_open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.append((tag, ""))
        self._is_open = True

    def handle_endtag(self, tag):
        self._is_open = False

    def handle_data(self, data):
        if self._is_open:
            tag, text = self.texts[-1]
            self.texts[-1] = (tag, text + data)

    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]

    def text_of(self, tag):
        return [text for name, text in self.texts if name == tag]

    def embedded(self, name):
        """The text of the element of this id; None if there is none."""
        where = [n for n, (_, attrs) in enumerate(self.elements) if attrs.get("id") == name]
        return self.texts[where[0]][1] if where else None

    def figures(self):
        """Title to the figures of the page, as its script gets them."""
        return {one["title"]: one for one in json.loads(self.embedded("figures"))["figures"]}

    def axes(self):
        """The measures that curves can be drawn over."""
        return json.loads(self.embedded("figures"))["axes"]

    def block(self, name):
        """What a block holds; None if there is no such block."""
        text = self.embedded(name)
        return None if text is None else json.loads(gzip.decompress(base64.b64decode(text)))

    def data(self):
        """The embedded answers, index and texts together."""
        sets = json.loads(self.embedded("index"))
        for group in (group for one in sets for group in one["groups"]):
            block, place = group.pop("at")
            texts = self.block(f"texts-{block}")[place]
            group["prompt"] = texts["prompt"]
            for answer, of_answer in zip(group["answers"], texts["answers"], strict=True):
                answer |= of_answer
        return sets
