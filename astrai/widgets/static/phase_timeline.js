// The steps of the loop as stacked bars of time and, below them on the same axis, the requests from arrival to end.
// In playback the timeline holds the whole run. What lies after the view's own moment is not drawn: it is not known yet.
//
// makePhaseTimeline(host, {onStep(step)}) -> {draw({state, timeline, after, animate}), destroy()}
//
// onStep is what a click on a step, or Enter, asks for; without it nothing can be asked. `after` names the phase that
// ended last, for a moment within a step; without it the step is shown as far as the timeline knows it.

const makePhaseTimeline = (() => {
  const PHASES = Object.keys(PALETTE.phases);
  const BARS = 96; // height of the bars
  const ABOVE = 18; // for the figures of bars that are cut
  const AXIS = 24; // for the numbers of the steps
  const BASE = ABOVE + BARS;
  const GANTT = BASE + AXIS; // where the requests begin
  const ROW = 20; // of a request
  const ROWS = 14; // requests that are shown while the others are folded
  const TALLEST = 480; // of all requests, unfolded
  const BAR = 12; // height of a request's bar
  const ROOMY = 16; // from this height on, a row has words in it
  const RIGHT = 14;
  const STEPS = 240; // most columns
  const NARROWEST = 3; // width of a column
  const plural = (n, word) => `${comma(n)} ${word}${n === 1 ? "" : "s"}`;

  const STYLE = `
.phase-timeline .stage { position: relative; }
.phase-timeline canvas { display: block; }
.phase-timeline [hidden] { display: none; }
.phase-timeline .band { position: absolute; top: 0; pointer-events: none; background: var(--ai-text); opacity: 0.12; }
.phase-timeline .steps { position: absolute; }
.phase-timeline .head {
  position: absolute; left: 0; padding-right: 8px; border-radius: 3px; font-size: 12px; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; cursor: default; outline-offset: -1px;
}
.phase-timeline .head.bare { font-size: 0; }
.phase-timeline .head.over { background: color-mix(in srgb, var(--ai-focus) 14%, transparent); }
.phase-timeline .tip { width: max-content; font-size: 12px; }
.phase-timeline .tip b { display: block; font-size: 13px; }
.phase-timeline .tip .phase { display: flex; gap: 6px; margin: 2px 0; }
.phase-timeline .tip .phase span:last-child { margin-left: auto; padding-left: 16px; font-variant-numeric: tabular-nums; }
.phase-timeline .legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin-top: 6px; font-size: 12px; }
.phase-timeline .legend > span { display: inline-flex; gap: 5px; align-items: center; }
.phase-timeline .mark { width: 16px; border-radius: 2px; font: bold 11px/15px system-ui, sans-serif; text-align: center; }
.phase-timeline .waits { width: 20px; height: 6px; background: repeating-linear-gradient(-45deg, var(--ai-faint) 0 3px, var(--ai-line) 3px 4px); }
.phase-timeline .waits.held { background: radial-gradient(circle, var(--ai-line) 1.2px, var(--ai-faint) 1.6px) 0 0 / 6px 6px; }
.phase-timeline .fold { margin-top: 4px; font-size: 12px; }
.phase-timeline .status { margin-top: 4px; }
`;

  // --- what is known at this moment ----------------------------------------------------------------------------------

  // The steps and requests of a view, without what lies after its moment: as many as fit `most` columns.
  function whatIsKnown({ state, timeline, after }, most) {
    const scripted = Boolean(timeline.scripted);
    const listed = timeline.steps.length;
    const columns = [40, 80, 160].find((n) => n <= most && n >= listed) ?? most;
    const past = Math.max(0, Math.min(listed, state.step - timeline.first + 1));
    const first = timeline.first + Math.max(0, past - columns);
    const last = timeline.first + past - 1; // below `first` when there is no step yet
    const done = after ? PHASES.indexOf(after) + 1 : PHASES.length; // phases of the newest step
    const rows = timeline.steps.slice(first - timeline.first, past);
    const steps = rows.map((row, index) => stepOf(row, scripted, first + index === state.step ? done : PHASES.length));
    const lived = (request) => request.arrived <= state.step && (request.ended === null || request.ended >= first);
    const requests = timeline.requests.filter(lived).map((request) => requestAt(request, state, done));
    return { scripted, columns, first, last, steps, requests };
  }

  // A step with its parts from below, in milliseconds; in a scripted run, where times mean nothing, in tokens.
  function stepOf(row, scripted, done) {
    const prefilled = done > 2 ? row[4] : 0;
    const [decoded, groups] = done > 3 ? [row[5], row[6]] : [0, 0];
    const times = PHASES.map((phase, index) => ({ phase, value: index < done ? row[index] / 1000 : 0 }));
    const tokens = [{ phase: "prefill", value: prefilled }, { phase: "decode", value: decoded }];
    const parts = scripted ? tokens : times;
    return { parts, prefilled, decoded, groups, total: parts.reduce((sum, part) => sum + part.value, 0) };
  }

  // A request without what lies after this moment. Requests are admitted or held in the second phase of a step, and get
  // their first token in the third; whether one has ended by now, the state says.
  function requestAt(request, state, done) {
    const alive = state.requests[request.id];
    const known = (step, phase) => (step !== null && (step < state.step || (step === state.step && phase <= done)) ? step : null);
    const admitted = known(request.admitted, 2);
    const first = known(request.first, 3);
    const ended = alive && alive.status !== "done" ? null : request.ended;
    return {
      ...request,
      ...(admitted === null ? { slot: null, cached: 0, origin: null } : {}),
      admitted,
      first,
      ended,
      held: known(request.held, 2),
      t_first: first === null ? null : request.t_first,
      out: ended === null ? (alive?.out ?? 0) : request.out,
      reason: ended === null ? null : request.reason,
      leader: alive?.status === "held" ? alive.leader : null,
      until: ended ?? state.step,
    };
  }

  // The oldest of those that have not ended, then those that ended last; in order of their number.
  function mostWanted(requests) {
    const alive = requests.filter((request) => request.ended === null);
    const ended = requests.filter((request) => request.ended !== null).sort((a, b) => b.ended - a.ended || b.id - a.id);
    return [...alive, ...ended].slice(0, ROWS).sort((a, b) => a.id - b.id);
  }

  // What the full height of the bars should stand for. Few steps that tower above all others are cut, so that they do
  // not flatten these.
  function topFor(totals) {
    const sorted = [...totals].sort((a, b) => a - b);
    const usual = sorted[Math.floor(0.95 * (sorted.length - 1))] ?? 0;
    const highest = sorted.at(-1) ?? 0;
    return roundUp(usual > 0 && highest > 3 * usual ? 1.5 * usual : highest);
  }

  function roundUp(value) {
    if (value <= 0) return 1;
    const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
    return [1, 2, 3, 4, 6, 8, 10].map((n) => n * power).find((top) => top >= value * (1 - 1e-9));
  }

  // --- words ---------------------------------------------------------------------------------------------------------

  const milliseconds = (value) => `${value < 100 ? value.toFixed(value < 10 ? 2 : 1) : comma(Math.round(value))} ms`;
  const amount = (value, scripted) => (scripted ? plural(value, "token") : milliseconds(value));

  // `phase` is the one that a step is in, null once it is over. What a step takes is known when it is over.
  function stepWords({ total, prefilled, decoded, groups }, number, scripted, phase) {
    const work = [
      prefilled ? `${plural(prefilled, "prompt token")} prefilled` : null,
      decoded ? `${plural(decoded, "row")} decoded in ${plural(groups, "forward")}` : null,
    ].filter(Boolean);
    const head = `step ${comma(number)}${phase ? `, still in ${phase}` : `: ${amount(total, scripted)}`}`;
    return { head, work: work.length ? work : [`nothing computed${phase ? " yet" : ""}`] };
  }

  function requestWords(request, scripted) {
    const { arrived, slot, admitted, first, t_first, t_arrived, out, ended, reason } = request;
    const timed = !scripted && t_first !== null && t_arrived !== null;
    return [
      `arrived in step ${comma(arrived)}, ${queueWords(request)}`,
      admitted === null ? null : `in slot ${slot} from step ${comma(admitted)}`,
      admitted === null ? null : cacheWords(request),
      first === null ? null : `first token in step ${comma(first)}${timed ? `, after ${milliseconds(t_first - t_arrived)}` : ""}`,
      first === null ? null : `${plural(out, "token")}${ended === null ? " so far" : ""}`,
      ended === null ? null : `ended in step ${comma(ended)}: ${reason}`,
    ].filter(Boolean);
  }

  function queueWords({ arrived, held, held_to, admitted, ended, until, leader }) {
    if (admitted === null && ended === null) return leader === null ? "waits for a slot" : `held: request ${leader} writes what both share`;
    const waited = plural((admitted ?? until) - arrived, "step");
    if (admitted === null) return `never ran, waited ${waited}`;
    if (admitted === arrived) return "did not wait";
    return `waited ${waited}${held === null ? "" : `, held ${heldWords(held, held_to)}`}`;
  }

  // `to` is null where it was admitted before its leader's prefill had ended.
  function heldWords(from, to) {
    return to === from ? `in step ${comma(from)}` : `from step ${comma(from)}${to === null ? "" : ` to ${comma(to)}`}`;
  }

  function cacheWords({ cached, prompt, origin }) {
    const way = { "zero-copy": "zero-copy, kept in place", copy: "copied from another slot", miss: "a miss" }[origin];
    return `${comma(cached)} of ${plural(prompt, "prompt token")} cached${way ? `: ${way}` : ""}`;
  }

  // The same for the picture, from the longest form to the shortest.
  function foundWords({ admitted, cached, prompt, origin }) {
    if (admitted === null) return [];
    if (!cached) return ["nothing cached"];
    const share = `${comma(cached)} of ${comma(prompt)}`;
    const way = { "zero-copy": "zero-copy", copy: "copied" }[origin];
    return way ? [`${share} cached, ${way}`, `${share} ${way}`] : [`${share} cached`];
  }

  // What stands behind a request's bar: why it ended or what it waits for, and what the bar itself had no room for.
  function endWords(request, untold) {
    const { admitted, ended, reason, out, leader } = request;
    const why = `${isBad(request) ? "× " : ""}${reason}`;
    const waits = leader === null ? ["waits for a slot", "waits"] : [`held behind request ${leader}`, "held"];
    const words = ended !== null ? [`${why}, ${plural(out, "token")}`, why] : admitted === null ? waits : [];
    if (!untold) return words;
    return words.length ? [`${words[0]}; ${untold}`, ...words] : [untold];
  }

  const isBad = (request) => request.ended !== null && !["stop", "length"].includes(request.reason);

  // --- the canvas ----------------------------------------------------------------------------------------------------

  // Simple shapes on a canvas, in CSS pixels whatever the screen's own are. `colors` are those of the theme.
  function makePen(canvas) {
    const ctx = canvas.getContext("2d");
    const measured = new Map(); // width of a text
    const hatches = new Map();
    let ratio = 1;

    function fit(width, height) {
      ratio = window.devicePixelRatio || 1;
      const size = { width: Math.round(width * ratio), height: Math.round(height * ratio) };
      if (canvas.width !== size.width || canvas.height !== size.height) {
        Object.assign(canvas, size);
        Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
      }
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      ctx.clearRect(0, 0, width, height);
    }

    function fill(paint, path) {
      ctx.fillStyle = paint;
      ctx.fill(path);
    }

    function box(paint, x, y, width, height, radius = 0) {
      if (width > 0) fill(paint, boxPath(x, y, width, height, radius));
    }

    // In the colour of a role, with its hatch.
    function role(kind, path) {
      fill(roleOf(kind).color, path);
      const pattern = hatchPattern(ctx, kind, hatches, { scale: ratio });
      if (pattern) fill(unscaled(pattern), path);
    }

    // Waiting has no role in the palette: slanted lines on grey, dots while the request is held.
    function grey(held, { faint, line }, path) {
      const key = `${held} ${line} ${ratio}`;
      if (!hatches.has(key)) {
        const edge = Math.round(6 * ratio);
        const tile = Object.assign(document.createElement("canvas"), { width: edge, height: edge });
        drawHatch(tile.getContext("2d"), held ? "." : "/", edge, line);
        hatches.set(key, ctx.createPattern(tile, "repeat"));
      }
      fill(faint, path);
      fill(unscaled(hatches.get(key)), path);
    }

    function unscaled(pattern) {
      pattern.setTransform(new DOMMatrix().scale(1 / ratio));
      return pattern;
    }

    function line(paint, from, to, alpha = 1) {
      ctx.globalAlpha = alpha;
      ctx.strokeStyle = paint;
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.moveTo(...from);
      ctx.lineTo(...to);
      ctx.stroke();
      ctx.globalAlpha = 1;
    }

    const fontOf = (bold) => `${bold ? "bold " : ""}11px system-ui, sans-serif`;

    function text(words, x, y, paint, { align = "left", bold = false } = {}) {
      Object.assign(ctx, { font: fontOf(bold), textAlign: align, textBaseline: "middle", fillStyle: paint });
      ctx.fillText(words, x, y + 0.5);
    }

    function widthOf(words, bold = false) {
      const key = `${bold} ${words}`;
      if (measured.size > 2000) measured.clear();
      if (!measured.has(key)) {
        ctx.font = fontOf(bold);
        measured.set(key, ctx.measureText(words).width);
      }
      return measured.get(key);
    }

    const sharp = (value) => Math.round(value * ratio) / ratio; // the nearest border of a pixel of the screen
    return { fit, fill, box, role, grey, line, text, widthOf, sharp };
  }

  function boxPath(x, y, width, height, radius = 0) {
    const path = new Path2D();
    if (width > 0) path.roundRect(x, y, width, height, radius);
    return path;
  }

  // Draws `now`, which is what is known and where it stands.
  function paint(pen, now, colors) {
    const end = now.width - RIGHT;
    const left = (step) => pen.sharp(now.gutter + (step - now.first) * now.column); // of a step's column
    const rowTop = (index) => GANTT + index * now.rowHeight;

    paintScale();
    paintSteps();
    paintNumbers();
    if (now.steps.length) paintNow();
    paintRequests();

    function paintScale() {
      for (const share of [1, 0.5, 0]) {
        const y = pen.sharp(BASE - share * BARS) + 0.5;
        pen.line(share ? colors.faint : colors.line, [now.gutter, y], [end, y]);
        const unit = share === 1 ? (now.scripted ? " tokens" : " ms") : "";
        pen.text(`${+(share * now.top).toPrecision(3)}${unit}`, now.gutter - 6, y - 0.5, colors.soft, { align: "right" });
      }
    }

    // One path for each phase, so that a few fills draw all bars.
    function paintSteps() {
      const paths = Object.fromEntries(PHASES.map((phase) => [phase, new Path2D()]));
      const gap = now.column >= 12 ? 2 : now.column >= 4 ? 1 : 0;
      now.steps.forEach(({ parts }, index) => {
        const x = left(now.first + index);
        const width = left(now.first + index + 1) - x - gap;
        let [sum, from] = [0, BASE];
        for (const { phase, value } of parts) {
          sum += value;
          const to = pen.sharp(BASE - (Math.min(now.top, sum) / now.top) * BARS);
          if (to < from) paths[phase].rect(x, to, width, from - to);
          from = to;
        }
      });
      for (const phase of PHASES) pen.role(PALETTE.phases[phase], paths[phase]);
      let free = now.gutter;
      now.steps.forEach(({ total }, index) => {
        if (total > now.top) free = paintCut(left(now.first + index), left(now.first + index + 1), total, free);
      });
    }

    // A bar that is higher than the scale has a slanted gap below its top and, where it fits, its height in figures.
    function paintCut(x, right, total, free) {
      const y = BASE - BARS + 7;
      const gap = new Path2D();
      for (const point of [[x, y + 2], [right, y - 2], [right, y + 1], [x, y + 5]]) gap.lineTo(...point);
      pen.fill(colors.bg, gap);
      const figure = amount(total, now.scripted);
      const half = pen.widthOf(figure) / 2;
      const middle = Math.max(now.gutter + half, Math.min(now.width - half, (x + right) / 2));
      if (middle - half < free) return free;
      pen.text(figure, middle, ABOVE - 9, colors.soft, { align: "center" });
      return middle + half + 6;
    }

    // Numbers below some of the steps, and always below the newest.
    function paintNumbers() {
      const y = BASE + 13;
      pen.text("step", now.gutter - 6, y, colors.soft, { align: "right" });
      const every = [1, 2, 5, 10, 20, 50, 100].find((n) => n * now.column >= 52) ?? 200;
      const middle = (step) => left(step) + now.column / 2;
      const newest = now.steps.length ? middle(now.last) : -Infinity;
      for (let step = Math.ceil(Math.max(1, now.first) / every) * every; step < now.first + now.columns; step += every) {
        const x = middle(step);
        if (x < now.gutter + 6 || Math.abs(x - newest) < 40) continue;
        pen.text(comma(step), Math.min(x, now.width - pen.widthOf(comma(step)) / 2), y, colors.soft, { align: "center" });
      }
      if (!now.steps.length) return;
      const half = pen.widthOf(comma(now.last), true) / 2 + 4;
      const x = Math.max(now.gutter + half, Math.min(now.width - half, newest));
      pen.box(colors.focus, x - half, y - 8, 2 * half, 16, 3);
      pen.text(comma(now.last), x, y, colors.bg, { align: "center", bold: true });
    }

    function paintNow() {
      const x = left(now.last + 1) + 0.5;
      pen.line(colors.focus, [x, ABOVE], [x, BASE], 0.6);
      pen.line(colors.focus, [x, GANTT - 2], [x, now.height], 0.6);
    }

    // As with the bars, one path for all boxes of a kind; the words come last.
    function paintRequests() {
      const kinds = ["prefill", "hit", "decode", "waits", "held", "end", "badEnd"];
      const paths = Object.fromEntries(kinds.map((kind) => [kind, new Path2D()]));
      const box = (kind, x, y, right, height) => right > x && paths[kind].rect(x, y, right - x, height);
      const rows = now.rows.map((request, index) => placeRequest(request, index, box));
      for (const kind of ["prefill", "hit", "decode"]) pen.role(kind, paths[kind]);
      pen.grey(false, colors, paths.waits);
      pen.grey(true, colors, paths.held);
      pen.fill(colors.text, paths.end);
      pen.fill(roleOf("evicted").color, paths.badEnd);
      if (now.rowHeight < ROOMY) return;
      rows.forEach(({ decode, stop, y }, index) => {
        pen.line(colors.faint, [now.gutter, rowTop(index + 1) - 0.5], [end, rowTop(index + 1) - 0.5]);
        paintWords(now.rows[index], decode, stop, y + BAR / 2);
      });
    }

    function placeRequest(request, index, box) {
      const roomy = now.rowHeight >= ROOMY;
      const height = roomy ? BAR : Math.max(2, now.rowHeight - (now.rowHeight > 4 ? 2 : 1));
      const y = Math.round(rowTop(index) + (now.rowHeight - height) / 2);
      const edge = (step) => left(Math.max(step, now.first));
      const stop = edge(request.until + 1);
      const prefill = request.admitted === null ? stop : edge(request.admitted);
      const decode = request.first === null ? stop : edge(request.first + 1);
      // Waiting is a thin band, with other marks where the request is held.
      const thin = Math.max(1, Math.round(height / 2));
      const middle = y + (height - thin) / 2;
      const since = request.held === null ? prefill : Math.min(prefill, edge(request.held));
      const heldTo = request.held_to === null ? prefill : Math.min(prefill, edge(request.held_to + 1));
      box("waits", edge(request.arrived), middle, since, thin);
      box("held", since, middle, heldTo, thin);
      box("waits", heldTo, middle, prefill, thin);
      box("prefill", prefill, y, decode, height);
      // From below: the share of the prompt that was found, within the part in which the rest is computed. There is
      // always a rest.
      const found = Math.min(height - 1, pen.sharp((height * request.cached) / request.prompt));
      if (found > 0) box("hit", prefill, y + height - found, decode, found);
      box("decode", decode, y, stop, height);
      if (request.ended !== null) box(isBad(request) ? "badEnd" : "end", stop - 2, roomy ? y - 2 : y, stop, roomy ? height + 4 : height);
      return { decode, stop, y };
    }

    // Within the part of decode, as far as there is room: how much was found. Behind the bar: the rest.
    function paintWords(request, from, to, y) {
      const { color, ink, letter } = roleOf(request.cached ? "hit" : "miss");
      const found = foundWords(request);
      const chip = found.length && to - from >= 18 ? 14 : 0;
      const inside = found.find((words) => chip && to - from >= chip + 16 + pen.widthOf(words));
      if (chip) {
        pen.box(color, from, y - BAR / 2, chip, BAR);
        pen.text(letter, from + chip / 2, y, ink, { align: "center", bold: true });
      }
      if (inside) pen.text(inside, from + chip + 5, y, roleOf("decode").ink);
      const words = endWords(request, inside ? null : found.at(-1));
      const behind = words.find((text) => to + 6 + pen.widthOf(text) < now.width);
      if (behind) {
        pen.box(colors.bg, to + 3, y - BAR / 2, pen.widthOf(behind) + 6, BAR); // over the line of the newest step
        return pen.text(behind, to + 6, y, request.ended === null ? colors.soft : colors.text);
      }
      const free = from + chip + (inside ? pen.widthOf(inside) + 10 : 4);
      const within = endWords(request, null).find((text) => request.ended !== null && to - 7 - pen.widthOf(text) > free);
      if (within) pen.text(within, to - 7, y, roleOf("decode").ink, { align: "right" });
    }
  }

  // --- the picture ---------------------------------------------------------------------------------------------------

  function make(host, { onStep = null } = {}) {
    let view = null;
    let now = null; // what the last draw showed and where, for pointers, keys and tips
    let colors = {};
    let width = null; // of the host; kept, since asking the page for it would make it lay itself out
    let open = false; // whether all requests are shown, however low their rows
    let over = null; // {step, request} under the pointer or the focus, null for what is not
    let active = null; // the request whose head is in the tab order
    let drawing = false; // a head that goes takes the focus with it: what is pointed at is then shown at the end

    const canvas = h("canvas", { "aria-hidden": "true" });
    const pen = makePen(canvas);
    const band = h("div", { class: "band", hidden: true });
    const steps = h("div", { class: "steps", role: "slider", tabindex: 0, "aria-label": "Steps" });
    const heads = h("div", { class: "heads", role: "listbox", "aria-label": "Requests" });
    const tip = h("div", { class: "tip", role: "tooltip", hidden: true });
    const stage = h("div", { class: "stage" }, canvas, band, heads, steps, tip);
    const fold = h("button", { type: "button", class: "fold", hidden: true, onclick: () => ((open = !open), redraw()) });
    const legend = h("div", { class: "legend" });
    const status = makeStatus();
    if (onStep) stage.style.cursor = "pointer";
    host.classList.add("astrai", "phase-timeline");
    host.replaceChildren(h("style", {}, STYLE), stage, fold, legend, status.element);
    const stopTheme = onTheme(host, () => {
      const style = getComputedStyle(host);
      for (const name of ["bg", "text", "line", "soft", "faint", "focus"]) colors[name] = style.getPropertyValue(`--ai-${name}`).trim();
      redraw();
    });
    const resized = new ResizeObserver(() => {
      width = Math.floor(host.clientWidth);
      if (width !== now?.width) redraw();
    });
    resized.observe(host);

    function redraw() {
      if (view) draw(view);
    }

    function draw(next) {
      view = next;
      width ??= Math.floor(host.clientWidth);
      now = width < 200 ? null : layOut(width);
      if (!now) return; // not on the screen: the observer draws it when it is
      pen.fit(now.width, now.height);
      paint(pen, now, colors);
      drawing = true;
      const hadFocus = heads.contains(document.activeElement);
      placeSteps();
      placeHeads();
      drawing = false;
      if (hadFocus && !heads.contains(document.activeElement)) heads.querySelector("[tabindex='0']")?.focus();
      placeFold();
      placeLegend();
      showOver();
      status.say(statusWords());
    }

    function layOut(width) {
      const gutter = width < 520 ? 76 : 88;
      const room = width - gutter - RIGHT;
      const known = whatIsKnown(view, Math.min(STEPS, Math.floor(room / NARROWEST)));
      const rows = open ? known.requests : mostWanted(known.requests);
      const rowHeight = Math.max(3, Math.min(ROW, Math.floor(TALLEST / Math.max(1, rows.length))));
      const height = GANTT + rowHeight * Math.max(rows.length, 3) + 2;
      return { ...known, width, height, gutter, column: room / known.columns, rows, rowHeight, top: newTop(known) };
    }

    // Live, the scale grows at once, and shrinks only when less than two fifths of it are used.
    function newTop({ steps, scripted }) {
      const wanted = topFor(steps.map((step) => step.total));
      const keeps = view.animate && now && now.scripted === scripted && now.top > wanted && wanted > 0.4 * now.top;
      return keeps ? now.top : wanted;
    }

    // --- the elements over the canvas --------------------------------------------------------------------------------

    function placeSteps() {
      const { gutter, column, columns, first, last, top } = now;
      Object.assign(stage.style, { height: `${now.height}px` });
      Object.assign(steps.style, { left: `${gutter}px`, top: `${ABOVE}px`, width: `${column * columns}px`, height: `${BARS}px` });
      Object.assign(steps.dataset, { first, last, columns, top });
      set(steps, "aria-valuemin", first);
      set(steps, "aria-valuemax", Math.max(first, last));
      set(steps, "aria-valuenow", pointedStep() ?? Math.max(first, last));
      set(steps, "aria-valuetext", now.steps.length ? wordsOfStep(pointedStep() ?? last).join(", ") : "no step yet");
    }

    function placeHeads() {
      const wanted = new Set(now.rows.map(({ id }) => String(id)));
      for (const head of [...heads.children]) if (!wanted.has(head.dataset.request)) head.remove();
      const there = new Map([...heads.children].map((head) => [head.dataset.request, head]));
      const every = Math.ceil(13 / now.rowHeight); // rows from one name to the next
      if (!now.rows.some(({ id }) => id === active)) active = now.rows[0]?.id ?? null;
      now.rows.forEach((request, index) => {
        const head = there.get(String(request.id)) ?? newHead(request.id);
        if (heads.children[index] !== head) heads.insertBefore(head, heads.children[index] ?? null);
        placeHead(head, request, GANTT + index * now.rowHeight, index % every === 0);
      });
    }

    function newHead(id) {
      const pointed = { onfocus: () => ((active = id), point({ step: null, request: id })), onblur: () => point(null) };
      return h("div", { class: "head", role: "option", "data-request": id, ...pointed }, `request ${comma(id)}`);
    }

    function placeHead(head, request, top, named) {
      const size = { top: `${top}px`, width: `${now.gutter}px`, height: `${now.rowHeight}px`, lineHeight: `${Math.max(13, now.rowHeight)}px` };
      Object.assign(head.style, size);
      head.classList.toggle("bare", !named || top + 12 > now.height);
      head.classList.toggle("over", over?.request === request.id);
      for (const name of ["arrived", "held", "admitted", "first", "ended", "cached", "reason"]) set(head, `data-${name}`, request[name]);
      set(head, "tabindex", request.id === active ? 0 : -1);
      set(head, "aria-selected", over?.request === request.id);
      set(head, "aria-label", [`request ${request.id}`, ...requestWords(request, now.scripted)].join(", "));
    }

    function placeFold() {
      const hidden = now.requests.filter((request) => !now.rows.includes(request));
      const count = (is) => hidden.filter(is).length;
      const kinds = [
        [count(({ admitted, ended }) => ended === null && admitted !== null), "running"],
        [count(({ admitted, ended }) => ended === null && admitted === null), "waiting"],
        [count(({ ended }) => ended !== null), "ended"],
      ];
      const words = kinds.filter(([n]) => n).map(([n, kind]) => `${comma(n)} ${kind}`);
      fold.hidden = now.requests.length <= ROWS;
      setText(fold, open ? "Show fewer requests" : `… ${comma(hidden.length)} more: ${words.join(", ")}`);
      set(fold, "aria-expanded", open);
    }

    function placeLegend() {
      if (legend.dataset.scripted === String(now.scripted)) return;
      legend.dataset.scripted = now.scripted;
      const entry = (sign, words) => h("span", {}, sign, words);
      const words = { cleanup: "cleanup", refill: "refill, or found in the cache", prefill: "prefill", decode: "decode" };
      if (now.scripted) Object.assign(words, { cleanup: null, refill: "found in the cache" });
      legend.replaceChildren(
        ...PHASES.filter((phase) => words[phase]).map((phase) => entry(mark(PALETTE.phases[phase]), words[phase])),
        entry(mark("miss"), "nothing cached"),
        entry(h("span", { class: "waits" }), "waits"),
        entry(h("span", { class: "waits held" }), "held for a shared prefix"),
        ...(now.scripted ? [h("span", { class: "soft" }, "no timings: bars count tokens")] : []),
      );
    }

    function mark(kind) {
      const { color, ink, letter } = roleOf(kind);
      return h("span", { class: "mark", style: { background: color, color: ink } }, letter);
    }

    function set(element, name, value) {
      if (value === null) element.removeAttribute(name);
      else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
    }

    function setText(element, text) {
      if (element.textContent !== text) element.textContent = text;
    }

    // --- what is pointed at ------------------------------------------------------------------------------------------

    const inView = (step) => Math.max(now.first, Math.min(now.last, step));
    const pointedStep = () => (over && over.step !== null && over.step === inView(over.step) ? over.step : null);

    const phaseOf = (number) => (number === view.state.step ? view.state.phase : null);

    function wordsOfStep(number) {
      const { head, work } = stepWords(now.steps[number - now.first], number, now.scripted, phaseOf(number));
      return [head, ...work];
    }

    function showOver() {
      const request = now.rows.find(({ id }) => id === over?.request);
      const step = now.steps.length ? pointedStep() : null;
      const x = step === null ? now.gutter : now.gutter + (step - now.first) * now.column;
      band.hidden = step === null;
      Object.assign(band.style, { left: `${x}px`, width: `${now.column}px`, height: `${now.height}px` });
      tip.hidden = !request && step === null;
      if (tip.hidden) return;
      tip.replaceChildren(...(request ? requestTip(request) : stepTip(step)));
      const right = x + (step === null ? 0 : now.column) + 12;
      const fits = right + tip.offsetWidth <= now.width;
      const top = request ? GANTT + (now.rows.indexOf(request) + 1) * now.rowHeight + 4 : GANTT + 2; // never over what it tells of
      Object.assign(tip.style, { left: `${Math.max(0, fits ? right : Math.min(x - 12, now.width) - tip.offsetWidth)}px`, top: `${top}px` });
    }

    function stepTip(number) {
      const [head, ...work] = wordsOfStep(number);
      const line = ({ phase, value }) =>
        h("div", { class: "phase" }, mark(PALETTE.phases[phase]), h("span", {}, phase), h("span", {}, amount(value, now.scripted)));
      const { parts } = now.steps[number - now.first];
      const done = phaseOf(number) === null ? parts : parts.slice(0, now.scripted ? 0 : PHASES.indexOf(phaseOf(number)));
      return [h("b", {}, head), ...done.map(line), ...work.map((words) => h("div", {}, words))];
    }

    function requestTip(request) {
      return [h("b", {}, `request ${comma(request.id)}`), ...requestWords(request, now.scripted).map((words) => h("div", {}, words))];
    }

    function point(to) {
      if (to?.step === over?.step && to?.request === over?.request) return;
      over = to;
      if (!now || drawing) return;
      placeSteps();
      placeHeads();
      showOver();
    }

    function pick(event) {
      const box = stage.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const step = now.first + Math.floor((x - now.gutter) / now.column);
      const known = x >= now.gutter && step <= now.last ? step : null;
      const request = y >= GANTT ? (now.rows[Math.floor((y - GANTT) / now.rowHeight)]?.id ?? null) : null;
      if (request !== null && (known !== null || x < now.gutter)) return { step: known, request };
      return known === null ? null : { step: known, request: null };
    }

    stage.addEventListener("pointermove", (event) => now && point(pick(event)));
    stage.addEventListener("pointerleave", () => point(null));
    stage.addEventListener("click", (event) => {
      const step = now && pick(event)?.step;
      if (typeof step === "number") onStep?.(step);
    });
    steps.addEventListener("focus", () => now?.steps.length && point({ step: pointedStep() ?? now.last, request: null }));
    steps.addEventListener("blur", () => point(null));
    onKeys(steps, (key) => {
      if (!now?.steps.length) return null;
      const at = pointedStep() ?? now.last;
      const to = (by) => () => point({ step: inView(at + by), request: null });
      const moves = { ArrowLeft: to(-1), ArrowDown: to(-1), ArrowRight: to(1), ArrowUp: to(1), PageDown: to(-10), PageUp: to(10) };
      return { ...moves, Home: to(-Infinity), End: to(Infinity), Enter: () => onStep?.(at), Escape: () => steps.blur() }[key];
    });
    onKeys(heads, (key) => {
      const all = [...heads.children];
      const at = all.indexOf(document.activeElement);
      const to = (index) => () => all[Math.max(0, Math.min(all.length - 1, index))]?.focus();
      const moves = { ArrowDown: to(at + 1), ArrowUp: to(at - 1), Home: to(0), End: to(all.length - 1) };
      return { ...moves, Escape: () => document.activeElement.blur() }[key];
    });

    function onKeys(element, actOf) {
      element.addEventListener("keydown", (event) => {
        const act = event.altKey || event.ctrlKey || event.metaKey ? null : actOf(event.key);
        if (!act) return;
        act();
        event.preventDefault();
        event.stopPropagation();
      });
    }

    // --- what just happened, in words --------------------------------------------------------------------------------

    function statusWords() {
      const { running, waiting } = view.state;
      const queues = `${comma(running.length)} running, ${comma(waiting.length)} waiting`;
      if (!now.steps.length) return `no step yet; ${queues}`;
      // The newest step that is over: of one under way there is little to say yet.
      const step = phaseOf(now.last) !== null && now.steps.length > 1 ? now.last - 1 : now.last;
      const ended = now.requests.filter((request) => request.ended === step);
      const ends = ended.slice(0, 3).map(({ id, reason }) => `request ${id} ended: ${reason}`);
      const more = ended.length > 3 ? [`${ended.length - 3} more ended`] : [];
      return [...wordsOfStep(step), ...ends, ...more, queues].join("; ");
    }

    // It changes at most once a second, so that a screen reader can follow.
    function makeStatus() {
      const element = h("div", { class: "status", role: "status", "aria-live": "polite" });
      let [timer, latest] = [null, ""];
      const write = () => {
        const changed = element.textContent !== latest;
        if (changed) element.textContent = latest;
        timer = changed ? setTimeout(write, 1000) : null;
      };
      return { element, say: (words) => ((latest = words), timer ?? write()), stop: () => clearTimeout(timer) };
    }

    return {
      draw,
      destroy() {
        status.stop();
        stopTheme();
        resized.disconnect();
        host.replaceChildren();
      },
    };
  }

  return make;
})();
