// The figures of a run in a row: how fast, how soon, how much was found in the cache, who runs and who waits.
// All of them are as of the view's own step; in a scripted run, where times mean nothing, there are no times.

const shortFigures = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 }); // made once: making one is slow

function makeCounters(host) {
  const sheet = `
.counters { container-type: inline-size; }
.counters dl { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px 16px; margin: 0; }
@container (min-width: 1080px) { .counters dl { grid-template-columns: repeat(8, 1fr); } }
@container (max-width: 540px) { .counters dl { grid-template-columns: repeat(2, 1fr); } }
.astrai.counters :is(dt, dd) { float: none; width: auto; margin: 0; padding: 0; } /* JupyterLab floats them */
.counters dt { font-size: 12px; font-weight: normal; color: var(--ai-soft); white-space: nowrap; }
.counters .figure { font-size: 20px; line-height: 1.25; font-variant-numeric: tabular-nums; white-space: nowrap; }
.counters .note { font-size: 11px; color: var(--ai-soft); font-variant-numeric: tabular-nums; }
.astrai.counters .shares { display: flex; height: 4px; margin: 2px 0; background: var(--ai-faint); }
.counters .shares span { flex: 0 0 auto; }
`;
  const labels = {
    speed: "tokens a second",
    first: "time to first token",
    found: "found in the cache",
    prompt: "computed / found",
    queues: "running / waiting",
    slots: "slots in use",
    steps: "steps",
    ended: "requests ended",
  };
  const cells = {};
  const list = h("dl", {});
  for (const [name, label] of Object.entries(labels)) {
    cells[name] = { figure: h("dd", { class: "figure" }), note: h("dd", { class: "note" }) };
    list.append(h("div", { "data-figure": name }, h("dt", {}, label), cells[name].figure, cells[name].note));
  }
  const share = h("span", { style: { background: roleOf("hit").color } });
  cells.found.figure.after(h("dd", { class: "shares", "aria-hidden": "true" }, share));
  host.classList.add("astrai", "counters");
  host.replaceChildren(h("style", {}, sheet), list);
  const stopTheme = onTheme(host, () => {});

  function draw(view) {
    putTimes(view);
    putPrompts(view.state.counters);
    putRequests(view.state);
  }

  function putTimes(view) {
    const speed = tokensASecond(view);
    const firsts = lastFirsts(view);
    const isIdle = view.state.running.length + view.state.waiting.length === 0;
    const notes = [
      isIdle ? "last second of work" : "over the last second",
      ["no first token yet", "of one request"][firsts.length] ?? `median of the last ${firsts.length}`,
    ];
    if (view.timeline.scripted) notes.fill("scripted: no timings");
    put("speed", speed === null ? "–" : comma(Math.round(speed)), notes[0]);
    put("first", firsts.length ? milliseconds(median(firsts)) : "–", notes[1]);
  }

  function putPrompts({ cached_tokens: cached, prefilled_tokens: computed }) {
    const percent = cached + computed ? (100 * cached) / (cached + computed) : null;
    put("found", percent === null ? "–" : `${Math.round(percent)} %`, "of all prompt tokens");
    share.style.width = `${percent ?? 0}%`;
    put("prompt", `${short(computed)} / ${short(cached)}`, "prompt tokens");
  }

  function putRequests({ running, waiting, slots, counters }) {
    const inUse = slots.filter((slot) => slot.owner !== null).length;
    const reasons = Object.entries(counters.finished).filter(([, count]) => count);
    const ends = reasons.map(([reason, count]) => `${comma(count)} ${reason}`);
    if (counters.rejected) ends.push(`${comma(counters.rejected)} rejected`);
    put("queues", `${comma(running.length)} / ${comma(waiting.length)}`, running.length + waiting.length ? "requests" : "nothing to do");
    put("slots", `${comma(inUse)} of ${comma(slots.length)}`, "free slots stay cached");
    put("steps", comma(counters.steps), "turns of the loop");
    put("ended", comma(reasons.reduce((sum, [, count]) => sum + count, 0)), ends.join(", ") || "none yet");
  }

  function put(name, figure, note) {
    if (cells[name].figure.textContent !== figure) cells[name].figure.textContent = figure;
    if (cells[name].note.textContent !== note) cells[name].note.textContent = note;
  }

  // Output tokens of the steps that ended within the last second, up to the end of the newest that is over. The first token of
  // a request comes from its prefill and is not among those that a step decoded.
  function tokensASecond({ state, timeline, after }) {
    const steps = timeline.steps.slice(0, Math.max(0, state.step - timeline.first + 1));
    if (state.phase !== null) steps.pop(); // how long it takes is not known yet
    if (timeline.scripted || !steps.length) return null;
    const done = phasesDone(after);
    steps.push(steps.pop().map((value, index) => (index < done || index === 7 || done === 4 ? value : 0)));
    const end = ([cleanup, refill, prefill, decode, , , , started]) => started + (cleanup + refill + prefill + decode) / 1000;
    const now = end(steps.at(-1));
    let [from, tokens] = [steps.length, 0];
    while (from > 0 && end(steps[from - 1]) > now - 1000) tokens += steps[--from][5];
    const isCounted = (step) => step >= timeline.first + from && step < timeline.first + steps.length;
    tokens += timeline.requests.filter((request) => knowsFirst(request, state, done) && isCounted(request.first)).length;
    const span = Math.min(1000, now - steps[0][7]);
    return span > 0 ? (1000 * tokens) / span : null;
  }

  // How many phases of the newest step have ended: all, unless the view names the last one.
  const phasesDone = (after) => Object.keys(PALETTE.phases).indexOf(after ?? "decode") + 1;

  // Whether a request has its first token by now. It comes in the third phase of a step.
  function knowsFirst({ first }, { step }, done) {
    return first !== null && (first < step || (first === step && done >= 3));
  }

  // How long the requests that came to their first token last had waited for it, in milliseconds.
  function lastFirsts({ state, timeline, after }) {
    if (timeline.scripted) return [];
    const known = timeline.requests.filter((request) => knowsFirst(request, state, phasesDone(after)));
    const timed = known.filter((request) => request.t_first !== null && request.t_arrived !== null);
    timed.sort((a, b) => b.t_first - a.t_first || b.id - a.id);
    return timed.slice(0, 20).map((request) => request.t_first - request.t_arrived);
  }

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  const short = (n) => (n < 100_000 ? comma(n) : shortFigures.format(n));

  function milliseconds(value) {
    return value < 10000 ? `${value < 100 ? value.toFixed(1) : comma(Math.round(value))} ms` : `${(value / 1000).toFixed(1)} s`;
  }

  return {
    draw,
    destroy() {
      stopTheme();
      host.replaceChildren();
    },
  };
}
