// SlotMap: each slot is a row and each position a cell, in the colour of how the token came there. It draws states.
//
// The map is a canvas. Over it lie the rows as elements that the keyboard reaches, their heads, the marks of hand-outs
// (an arrow for a copy, a ring around what stays in place, a flag for a miss) and the tip.
//
// makeSlotMap(host, {onFocus(slot or null)}) -> {draw({state, vocab, animate}), destroy()}

const makeSlotMap = (() => {
  const KINDS = ["prefill", "decode", "reused", "copied", "kept"];
  const PALE = 0.35; // opacity of what a free row still remembers
  const AFTERGLOW = 8; // steps for which the mark of a hand-out stays
  const FRESH_MS = 600; // for which it stays at least, however fast the steps are
  const AXIS = 20; // height of the ruler
  const TALLEST = 512; // of all rows together
  const NICE = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768];

  const STYLE = `
.slot-map { padding: 2px 6px; }
.slot-map .caption { margin-bottom: 2px; }
.slot-map .board { position: relative; }
.slot-map .map, .slot-map .marks { position: absolute; left: 0; top: 0; pointer-events: none; overflow: visible; }
.slot-map .row { position: absolute; display: flex; align-items: center; border-radius: 3px; outline-offset: -1px; }
.slot-map .row.on { background: color-mix(in srgb, var(--ai-focus) 10%, transparent); }
.slot-map .head { overflow: hidden; font-size: 12px; line-height: 15px; white-space: nowrap; }
.slot-map[data-tier="line"] .who { flex: none; }
.slot-map .who, .slot-map .how { overflow: hidden; text-overflow: ellipsis; }
.slot-map .how { font-size: 11px; }
.slot-map.narrow .head { font-size: 11px; }
.slot-map .row.free .head { color: var(--ai-soft); }
.slot-map .row.free .who b { font-weight: normal; }
.slot-map .badge {
  display: inline-block;
  width: 14px;
  margin-right: 4px;
  border-radius: 3px;
  font: bold 11px/13px system-ui, sans-serif;
  text-align: center;
}
.slot-map .badge[hidden] { display: none; }
.slot-map[data-tier="line"] .head { display: flex; justify-content: space-between; gap: 8px; }
.slot-map[data-tier="dense"] .head { font-size: 11px; text-align: right; line-height: 1; color: var(--ai-soft); }
.slot-map[data-tier="dense"] .row:not(.numbered, .on) .head { visibility: hidden; }
.slot-map[data-tier="dense"] .row { outline-offset: 1px; }
.slot-map[data-tier="dense"] .row.on { z-index: 1; }
.slot-map[data-tier="dense"] .row.on .who { font-weight: bold; background: var(--ai-bg); color: var(--ai-text); }
.slot-map .cursor {
  position: absolute;
  border: 2px solid var(--ai-text);
  border-radius: 3px;
  box-shadow: 0 0 0 1px var(--ai-bg);
  pointer-events: none;
}
.slot-map .cursor[hidden], .slot-map .tip[hidden], .slot-map .flag[hidden] { display: none; }
.slot-map .tip { font-size: 12px; width: max-content; }
.slot-map .token { font-size: 14px; margin-bottom: 2px; }
.slot-map .flag {
  position: absolute;
  left: 0;
  top: 0;
  padding: 0 6px;
  border-radius: 8px;
  font: 11px/16px system-ui, sans-serif;
  white-space: nowrap;
  pointer-events: none;
}
.slot-map .marks path, .slot-map .marks rect { fill: none; stroke-linecap: round; }
.slot-map .marks .halo { stroke: var(--ai-bg); stroke-width: 6; }
.slot-map .marks .ring { stroke: var(--ai-reused); stroke-width: 2.5; }
.slot-map .marks .piece { stroke: var(--ai-copied); stroke-width: 2; }
.slot-map .marks .arrow { stroke: var(--ai-copied); stroke-width: 3; }
.slot-map .marks .head { fill: var(--ai-copied); stroke: var(--ai-bg); stroke-width: 1; }
.slot-map[data-tier="dense"] .marks rect { stroke-width: 1.5; }
.slot-map[data-tier="dense"] .marks rect.halo { display: none; }
.slot-map[data-tier="dense"] .marks .ring { stroke: var(--ai-text); }
.slot-map .marks .loop { stroke: var(--ai-reused); stroke-width: 2.5; }
.slot-map .marks .tip-of-loop { fill: var(--ai-reused); }
.slot-map .marks .empty { fill: var(--ai-bg); stroke: var(--ai-text); stroke-width: 1.5; }
.slot-map .marks .stroke { stroke: var(--ai-text); stroke-width: 1.5; }
.slot-map .legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin-top: 6px; font-size: 12px; }
.slot-map .item { display: inline-flex; align-items: center; gap: 5px; }
.slot-map:not(.began-late) .item.kept { display: none; }
.slot-map .swatch { width: 22px; height: 16px; border-radius: 3px; }
.slot-map .swatch.pale { background: color-mix(in srgb, var(--ai-prefill) 35%, var(--ai-bg)); }
.slot-map .swatch.newest { background: var(--ai-decode); border: 1px solid var(--ai-text); border-right-width: 3px; }
.slot-map .status { margin-top: 4px; }
@keyframes astrai-slot-map-go { from { stroke-dashoffset: 1; } to { stroke-dashoffset: 0; } }
@keyframes astrai-slot-map-pulse { 0% { opacity: 0; } 35% { stroke-width: 7; } }
@keyframes astrai-slot-map-appear { from { opacity: 0; } 60% { opacity: 0; } }
.slot-map .fresh .arrow { stroke-dasharray: 1; animation: astrai-slot-map-go 0.45s ease-in-out; }
.slot-map .fresh .head { animation: astrai-slot-map-appear 0.5s; }
.slot-map .fresh .ring, .slot-map .fresh .empty { animation: astrai-slot-map-pulse 0.6s ease-out; }
`;

  // --- where things are ----------------------------------------------------------------------------------------------

  // The smallest round number of positions that shows all that is used, at most what a row holds.
  function columnsFor(state) {
    const used = Math.max(1, ...state.slots.map((slot) => slot.len));
    const nice = NICE.find((n) => n >= used) ?? 256 * Math.ceil(used / 256);
    return Math.max(used, state.row_len ? Math.min(nice, state.row_len) : nice);
  }

  // Two panels side by side where there are more than 128 rows; heads of two lines, of one, or only numbers.
  function layoutFor(state, width) {
    const count = state.slots.length;
    const panels = count > 128 ? 2 : 1;
    const perPanel = Math.ceil(count / panels);
    const pitch = Math.max(3, Math.min(34, Math.floor(TALLEST / perPanel)));
    const tier = pitch >= 30 ? "full" : pitch >= 14 ? "line" : "dense";
    const bar = pitch - (tier === "full" ? 10 : tier === "line" ? 4 : pitch >= 8 ? 2 : 1);
    const narrow = width < 560;
    const lane = narrow ? 20 : 32; // for arrows, between the heads and the cells
    const heads = { full: narrow ? 136 : 160, line: narrow ? 136 : Math.min(280, width * 0.3), dense: 26 };
    const gutter = lane + heads[tier];
    const panelWidth = Math.floor((width - 14 * (panels - 1)) / panels);
    const plot = panelWidth - gutter - (tier === "dense" ? 12 : 44);
    const columns = columnsFor(state);
    const rows = { count, panels, perPanel, pitch, tier, bar, height: AXIS + perPanel * pitch + 4 };
    return { ...rows, width, narrow, lane, gutter, panelWidth, plot, columns, cell: plot / columns };
  }

  const panelLeft = (lay, slot) => Math.floor(slot / lay.perPanel) * (lay.panelWidth + 14);
  const rowTop = (lay, slot) => AXIS + (slot % lay.perPanel) * lay.pitch;
  const barTop = (lay, slot) => rowTop(lay, slot) + (lay.pitch - lay.bar) / 2;
  const middle = (lay, slot) => rowTop(lay, slot) + lay.pitch / 2;
  const xOf = (lay, slot, position) => panelLeft(lay, slot) + lay.gutter + position * lay.cell;

  // The slot and position below a point of the board, or null. Left of the cells the position is -1.
  function under(lay, state, x, y) {
    const panel = Math.min(lay.panels - 1, Math.max(0, Math.floor(x / (lay.panelWidth + 14))));
    const row = Math.floor((y - AXIS) / lay.pitch);
    const slot = panel * lay.perPanel + row;
    if (y < AXIS || row >= lay.perPanel || slot >= state.slots.length) return null;
    const position = Math.floor((x - panelLeft(lay, slot) - lay.gutter) / lay.cell);
    return { slot, position: Math.max(-1, Math.min(position, lay.columns - 1)) };
  }

  // --- words ---------------------------------------------------------------------------------------------------------

  const isFree = (slot) => slot.owner === null;

  function who(slot, index) {
    const owner = !isFree(slot) ? `request ${slot.owner}` : slot.len ? "free" : "blank";
    return `slot ${index} · v${slot.version} · ${owner}`;
  }

  // How the owner got its row: the role that says it, and words.
  function how(slot) {
    if (isFree(slot)) return slot.len ? ["free", `remembers ${plural(slot.len, "token")}`] : [null, ""];
    const origin = slot.origin;
    if (!origin) return ["kept", "there before the watching"];
    if (origin.kind === "zero-copy") return ["reused", `zero-copy ${comma(origin.len)}`];
    if (origin.kind === "copy") return ["copied", `copied ${comma(origin.len)} from slot ${origin.src}`];
    return ["miss", "miss"];
  }

  // Labels of a run, the longest first: the first that fits is drawn.
  function labels(kind, count, slot) {
    const n = comma(count);
    const source = slot.origin?.kind === "copy" && !isFree(slot) ? ` from slot ${slot.origin.src}` : "";
    const words = {
      prefill: [`${n} prefilled`, `P ${n}`],
      decode: [`${n} decoded`, `D ${n}`],
      reused: [`${n} reused in place`, `${n} reused`, `R ${n}`],
      copied: [`${n} copied${source}`, `${n} copied`, `C ${n}`],
      kept: [`${n} there before`, `K ${n}`],
    }[kind];
    return [...words, roleOf(kind).letter];
  }

  function cameBy([kind, , request, step], start, position, slot) {
    const by = request === null ? "" : ` for request ${request}`;
    if (kind === "prefill") return `prefilled: computed from the prompt${by} in step ${step}`;
    if (kind === "decode") return `decoded${by} in step ${step + position - start}`;
    if (kind === "reused") return `reused in place (zero-copy)${by} in step ${step}`;
    if (kind === "kept") return "there before the watching began";
    const origin = slot.origin;
    const source = origin?.kind === "copy" && origin.request === request ? `slot ${origin.src}` : "another slot";
    return `copied from ${source}${by} in step ${step}`;
  }

  function runAt(slot, position) {
    const at = slot.runs.findIndex((run) => position < run[1]);
    return at < 0 ? null : { run: slot.runs[at], start: at ? slot.runs[at - 1][1] : 0 };
  }

  // The start of the next run, or of the one that the position lies in or, at its start already, of the one before.
  function nearRun(slot, position, direction) {
    const starts = slot.runs.map((_, at) => (at ? slot.runs[at - 1][1] : 0));
    if (direction > 0) return starts.find((start) => start > position) ?? slot.len - 1;
    return starts.findLast((start) => start < position) ?? 0;
  }

  // What the tip says of a position: its token (null where there is none) and lines of words.
  function facts(state, vocab, { slot: index, position }) {
    const slot = state.slots[index];
    const [, got] = how(slot);
    const lines = [got ? `${who(slot, index)}: ${got}` : who(slot, index)];
    const found = position < 0 ? null : runAt(slot, position);
    if (position >= 0)
      lines.push(`position ${comma(position)}: ${found ? cameBy(found.run, found.start, position, slot) : "empty"}`);
    lines.push(`${comma(slot.len)}${state.row_len ? ` of ${comma(state.row_len)}` : ""} positions are valid`);
    if (slot.len || !isFree(slot))
      lines.push(slot.locked ? "locked: may not be forgotten now" : "not locked: may be forgotten");
    return { token: found ? tokenText(slot, vocab, position) : null, lines };
  }

  function tokenText(slot, vocab, position) {
    const id = slot.ids?.[position];
    if (id === undefined) return "…";
    const text = vocab?.[id];
    return text === undefined ? `token ${id}` : `“${visible(text)}”`;
  }

  function happened({ kind, request, slot, src, dst, len, reason }) {
    switch (kind) {
      case "zero-copy":
        return `Request ${request} took slot ${slot} as it is: ${plural(len, "token")} kept, nothing copied.`;
      case "copy":
        return `Request ${request}: ${plural(len, "token")} copied from slot ${src} to slot ${dst}.`;
      case "miss":
        return `Request ${request} found nothing in the cache: slot ${slot} starts empty.`;
      case "finished":
        return `Request ${request} ended: ${reason}.`;
      case "freed":
        return `Slot ${slot} is free and remembers ${plural(len, "token")}.`;
      case "cut":
        return `Slot ${slot} was cut to ${plural(len, "token")} to make room.`;
    }
    return null;
  }

  function caption(state, lay) {
    const used = state.slots.filter((slot) => !isFree(slot)).length;
    const [n, most] = [comma(lay.columns), state.row_len];
    const shown = most === lay.columns ? `all ${n}` : `the first ${n}${most === null ? "" : ` of ${comma(most)}`}`;
    return `${plural(state.slots.length, "slot")}, ${comma(used)} in use · ${shown} positions`;
  }

  function statusOf(state) {
    const words = state.news.map(happened).filter(Boolean);
    return words.at(-1) ?? "Nothing has happened in the slots yet.";
  }

  // --- the canvas ----------------------------------------------------------------------------------------------------

  // Runs next to each other of one kind are one bar: [kind, start, end, where prompts' chunks end].
  function barsOf(slot) {
    const bars = [];
    let start = 0;
    for (const [kind, end] of slot.runs) {
      const last = bars.at(-1);
      if (last?.[0] === kind) {
        last[3].push(last[2]);
        last[2] = end;
      } else bars.push([kind, start, end, []]);
      start = end;
    }
    return bars;
  }

  // A board draws onto one canvas; colours and hatches are looked up once for each theme.
  function makePainter(canvas) {
    const ctx = canvas.getContext("2d");
    let colors, dark, ratio;
    let patterns = new Map();

    function retheme(root) {
      const style = getComputedStyle(root);
      colors = Object.fromEntries(
        ["bg", "text", "soft", "line", "faint", "panel"].map((name) => [
          name,
          style.getPropertyValue(`--ai-${name}`).trim(),
        ]),
      );
      dark = root.dataset.astraiTheme === "dark";
      patterns = new Map();
    }

    function size(width, height) {
      if (ratio !== window.devicePixelRatio) patterns = new Map();
      ratio = window.devicePixelRatio;
      const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== w || canvas.height !== h) {
        Object.assign(canvas, { width: w, height: h });
        Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
      }
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      ctx.clearRect(0, 0, width, height);
      // Once a picture: each setting of a font makes the browser look up styles.
      ctx.font = "11px system-ui, sans-serif";
      ctx.textBaseline = "middle";
    }

    const snap = (value) => Math.round(value * ratio) / ratio;

    function hatchOver(kind, x, y, width, height, pale, tile) {
      if (!roleOf(kind).hatch) return;
      const key = `${kind} ${pale} ${tile}`;
      if (!patterns.has(key)) {
        const pattern = hatchPattern(ctx, kind, new Map(), { dark: dark && pale, scale: tile * ratio });
        pattern.setTransform(new DOMMatrix().scale(1 / ratio));
        patterns.set(key, pattern);
      }
      ctx.fillStyle = patterns.get(key);
      ctx.fillRect(x, y, width, height);
    }

    // The colour of a role, and its hatch: below the words in a high bar, all over a low one.
    function fillRole(kind, x, y, width, height, pale) {
      ctx.globalAlpha = pale ? PALE : 1;
      ctx.fillStyle = roleOf(kind).color;
      ctx.fillRect(x, y, width, height);
      ctx.globalAlpha = pale || height < 18 ? 0.6 : 1;
      if (height >= 18) hatchOver(kind, x, y + height - 7, width, 7, pale, 1);
      else if (height >= 5) hatchOver(kind, x, y, width, height, pale, 0.75);
      ctx.globalAlpha = 1;
    }

    function write(words, x, y, color, align = "left") {
      ctx.textAlign = align;
      ctx.fillStyle = color;
      ctx.fillText(words, x, y);
    }

    const fits = (words, width) => ctx.measureText(words).width <= width;

    function axis(lay) {
      const step = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].find((n) => n * lay.cell >= 44) ?? 2048;
      for (let panel = 0; panel < lay.panels; panel++) {
        const slot = panel * lay.perPanel;
        for (let position = 0; position <= lay.columns; position += step) {
          const x = snap(xOf(lay, slot, position));
          ctx.fillStyle = colors.faint;
          ctx.fillRect(x, AXIS - 4, 1, lay.perPanel * lay.pitch + 4);
          const align = position === 0 ? "left" : position === lay.columns ? "right" : "center";
          write(comma(position), align === "right" ? x + 6 : x, 8, colors.soft, align);
        }
      }
    }

    function track(lay, index, slot) {
      const [x, y] = [xOf(lay, index, 0), barTop(lay, index)];
      ctx.fillStyle = colors.panel;
      ctx.fillRect(x, y, lay.plot, lay.bar);
      if (lay.tier === "dense") return;
      ctx.fillStyle = colors.faint;
      ctx.fillRect(x, y + lay.bar - 1, lay.plot, 1);
      if (!slot.len && isFree(slot)) write("blank", x + 6, y + lay.bar / 2, colors.soft);
    }

    function bar(lay, index, slot, [kind, start, end, joints]) {
      const [x, right, y] = [snap(xOf(lay, index, start)), snap(xOf(lay, index, end)), barTop(lay, index)];
      const pale = isFree(slot);
      fillRole(kind, x, y, Math.max(right - x, 1 / ratio), lay.bar, pale);
      ctx.fillStyle = colors.bg;
      if (lay.cell >= 4) cells(lay, index, start, end, y);
      if (kind === "prefill") for (const joint of joints) ctx.fillRect(snap(xOf(lay, index, joint)) - 1, y, 1, lay.bar);
      if (end < slot.len && right - x > 3) ctx.fillRect(right - 1, y, 1, lay.bar);
      if (lay.bar >= 18) label(kind, end - start, slot, x, right, y + (lay.bar - 6) / 2, pale);
    }

    function cells(lay, index, start, end, y) {
      ctx.globalAlpha = 0.35;
      for (let p = start + 1; p < end; p++) ctx.fillRect(snap(xOf(lay, index, p)) - 0.5, y, 1, lay.bar);
      ctx.globalAlpha = 1;
    }

    function label(kind, count, slot, x, right, y, pale) {
      const words = labels(kind, count, slot).find((words) => fits(words, right - x - 10));
      if (words) write(words, x + 5, y, pale ? colors.text : roleOf(kind).ink);
    }

    // The newest token has an edge in the colour of text; the valid length stands behind it.
    function end(lay, index, slot) {
      const [x, y] = [snap(xOf(lay, index, slot.len)), barTop(lay, index)];
      const decoding = !isFree(slot) && slot.runs.at(-1)?.[0] === "decode";
      if (decoding) {
        const reach = lay.tier === "dense" ? 0 : 2;
        const newest = Math.max(2, Math.min(lay.cell, 40));
        ctx.strokeStyle = ctx.fillStyle = colors.text;
        ctx.fillRect(x - 1, y - reach, 2, lay.bar + 2 * reach);
        ctx.lineWidth = 1;
        if (lay.cell >= 4) ctx.strokeRect(x - newest + 0.5, y + 0.5, newest - 1, lay.bar - 1);
      }
      if (lay.tier !== "dense" && slot.len)
        write(comma(slot.len), x + 6, y + lay.bar / 2, isFree(slot) ? colors.soft : colors.text);
    }

    // Where the copied parts of running requests came from, as long as the source is what it was.
    function sources(state, lay) {
      if (lay.panels > 1) return;
      ctx.globalAlpha = lay.tier === "dense" ? 0.5 : 1;
      ctx.strokeStyle = roleOf("copied").color;
      ctx.lineWidth = 1;
      state.slots.forEach(({ owner, origin }, index) => {
        if (owner === null || origin?.kind !== "copy" || state.slots[origin.src].version !== origin.src_version) return;
        const [x, y, ...rest] = arc(lay, origin.src, index);
        ctx.beginPath();
        ctx.moveTo(x, y);
        ctx.bezierCurveTo(...rest);
        ctx.stroke();
      });
      ctx.globalAlpha = 1;
    }

    function paint(state, lay) {
      size(lay.width, lay.height);
      axis(lay);
      sources(state, lay);
      state.slots.forEach((slot, index) => {
        track(lay, index, slot);
        for (const one of barsOf(slot)) bar(lay, index, slot, one);
        if (slot.len) end(lay, index, slot);
      });
    }

    return { retheme, paint };
  }

  // --- marks of hand-outs --------------------------------------------------------------------------------------------

  // Which rows were handed out a moment ago: by the steps since, or by the clock for one that was just seen.
  function marksOf(state, fresh, now) {
    const marks = [];
    state.slots.forEach(({ owner, origin }, slot) => {
      if (!origin) return;
      const recent = owner === origin.request && state.step - origin.step < AFTERGLOW;
      const key = `${slot}:${origin.seq}`;
      if (recent || fresh.get(key) > now) marks.push({ key, slot, ...origin });
    });
    return marks.sort((a, b) => (b.kind === "copy") - (a.kind === "copy")); // arrows lie below the other signs
  }

  // From the left edge of one row to that of another, through the lane between the heads and the cells.
  function arc(lay, src, dst) {
    const [x0, y0, x1, y1] = [xOf(lay, src, 0) - 3, middle(lay, src), xOf(lay, dst, 0) - 3, middle(lay, dst)];
    const reach = Math.min(lay.lane * 1.2, 12 + Math.abs(y1 - y0) * 0.2);
    return [x0, y0, x0 - reach, y0, x1 - reach, y1, x1 - 6, y1];
  }

  function frameAround(lay, slot, len) {
    const gap = lay.tier === "dense" ? 1.5 : 2;
    return {
      x: xOf(lay, slot, 0) - gap,
      y: barTop(lay, slot) - gap,
      width: Math.max(4, len * lay.cell + gap),
      height: lay.bar + 2 * gap,
    };
  }

  function copyMark(lay, { slot, src, len }) {
    const [x0, y0, ...rest] = arc(lay, src, slot);
    const curve = `M${x0} ${y0}C${rest.join(" ")}`;
    const [x, y] = [xOf(lay, slot, 0) - 2, middle(lay, slot)];
    const pieces = [src, slot].map((row) => s("rect", { class: "piece", ...frameAround(lay, row, len), rx: 3 }));
    const head = `M${x} ${y}l-8 -${Math.min(5, lay.pitch / 2 + 1)}v${2 * Math.min(5, lay.pitch / 2 + 1)}z`;
    return [
      ...pieces,
      s("path", { class: "halo", d: curve }),
      s("path", { class: "arrow", d: curve, pathLength: 1 }),
      s("path", { class: "head", d: head }),
    ];
  }

  // A ring around what stays, and an arrow that leads back to where it began.
  function zeroCopyMark(lay, { slot, len }) {
    const [x, y] = [xOf(lay, slot, 0) - 11, middle(lay, slot)];
    const loop = `M${x + 4.6} ${y - 2}A5 5 0 1 0 ${x + 4.6} ${y + 2}`;
    const frame = frameAround(lay, slot, len);
    return [
      s("rect", { class: "halo", ...frame, rx: 4 }),
      s("rect", { class: "ring", ...frame, rx: 4 }),
      s("path", { class: "loop", d: loop }),
      s("path", { class: "tip-of-loop", d: `M${x + 1} ${y + 1.5}h6.5l-2.5 5.5z` }),
    ];
  }

  // An empty set: nothing was there to begin with.
  function missMark(lay, { slot }) {
    const [x, y] = [xOf(lay, slot, 0) - 11, middle(lay, slot)];
    return [
      s("circle", { class: "empty", cx: x, cy: y, r: 4.5 }),
      s("path", { class: "stroke", d: `M${x - 5} ${y + 5}L${x + 5} ${y - 5}` }),
    ];
  }

  const MARKS = { copy: copyMark, "zero-copy": zeroCopyMark, miss: missMark };

  // Marks and their flags, kept by key: one that stays is not drawn anew, so that its transition runs through.
  function makeMarks() {
    const layer = s("svg", { class: "marks", "aria-hidden": "true" });
    const flags = h("div", { class: "flags", "aria-hidden": "true" });
    const known = new Map(); // key -> {group, flag, and what they show}

    function add(key) {
      const entry = { group: s("g"), flag: h("div", { class: "flag" }), place: null, drawn: "", lay: null };
      known.set(key, entry);
      return entry;
    }

    function drawOne(mark, state, lay, moving) {
      const entry = known.get(mark.key) ?? add(mark.key);
      const { group, flag } = entry;
      const drawn = JSON.stringify(mark);
      if (entry.drawn !== drawn || entry.lay !== lay) {
        Object.assign(entry, { drawn, lay });
        renew(entry, mark, lay);
      }
      const place = flagPlace(lay, mark.slot, state.slots[mark.slot].len);
      renewed(entry, "name", `mark ${mark.kind}${moving ? " fresh" : ""}`, (name) => group.setAttribute("class", name));
      // The flag moves with each token, the mark does not.
      renewed(entry, "place", place, () => (flag.style.transform = place));
    }

    function renew({ group, flag }, mark, lay) {
      Object.assign(group.dataset, { slot: mark.slot, len: mark.len, src: mark.kind === "copy" ? mark.src : "" });
      group.replaceChildren(...MARKS[mark.kind](lay, mark));
      const [role, words] = how({ owner: mark.request, origin: mark });
      flag.textContent = words;
      Object.assign(flag.style, { background: `var(--ai-${role})`, color: `var(--ai-${role}-ink)` });
    }

    // In the order of the marks. What stands right already is not moved: that would begin its transition anew.
    function order(marks) {
      for (const [parent, part] of [
        [layer, "group"],
        [flags, "flag"],
      ]) {
        let at = parent.firstChild;
        for (const { key } of marks) {
          const element = known.get(key)[part];
          if (element === at) at = at.nextSibling;
          else parent.insertBefore(element, at);
        }
      }
    }

    // Only as many flags as stand clear of each other.
    function thin(marks, lay) {
      let last = -Infinity;
      for (const { key, slot } of marks.toSorted((a, b) => a.slot - b.slot)) {
        const y = middle(lay, slot) + 10_000 * Math.floor(slot / lay.perPanel);
        const entry = known.get(key);
        const isHidden = !entry.place || y - last < 17;
        renewed(entry, "isHidden", isHidden, () => (entry.flag.hidden = isHidden));
        if (!isHidden) last = y;
      }
    }

    function draw(state, lay, fresh, now) {
      const marks = marksOf(state, fresh, now);
      const keys = new Set(marks.map((mark) => mark.key));
      for (const [key, { group, flag }] of known)
        if (!keys.has(key)) {
          group.remove();
          flag.remove();
          known.delete(key);
        }
      const moves = fresh.size > 0 && !reducedMotion();
      for (const mark of marks) drawOne(mark, state, lay, moves && fresh.has(mark.key));
      order(marks);
      thin(marks, lay);
    }

    function place(lay) {
      for (const attribute of ["width", "height"]) layer.setAttribute(attribute, lay[attribute]);
    }

    return { layer, flags, place, draw };
  }

  // Behind the end of the row. Where there is no room: at the right edge, or nowhere if the row's head says it.
  // A transform, in whole pixels: a flag that moves does not make the browser lay out the page.
  function flagPlace(lay, slot, len) {
    const x = xOf(lay, slot, len) + (lay.tier === "dense" ? 6 : 38);
    const edge = panelLeft(lay, slot) + lay.panelWidth;
    const y = Math.round(middle(lay, slot) - 8);
    if (x + 136 <= edge) return `translate(${Math.round(x)}px, ${y}px)`;
    return lay.tier !== "dense" ? "" : `translate(calc(${edge}px - 100%), ${y}px)`;
  }

  // --- rows and the tip ----------------------------------------------------------------------------------------------

  function makeRow(index) {
    const whoLine = h("div", { class: "who" });
    const badge = h("span", { class: "badge" });
    const words = h("span");
    const head = h("div", { class: "head" }, whoLine, h("div", { class: "how" }, badge, words));
    const element = h(
      "div",
      { class: "row", role: "slider", tabindex: index ? -1 : 0, "data-slot": index, "aria-valuemin": 0 },
      head,
    );
    let drawn = {}; // what the page shows of the row; asking the page itself costs more

    function place(lay) {
      const [left, top, width, height] = [panelLeft(lay, index), rowTop(lay, index), lay.panelWidth, lay.pitch];
      Object.assign(element.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
      head.style.width = `${lay.gutter - lay.lane - 5}px`;
      const every = Math.ceil(14 / lay.pitch);
      element.classList.toggle("numbered", index % (every === 1 ? 1 : 4 * Math.ceil(every / 4)) === 0);
      drawn = {};
    }

    function draw(slot, lay) {
      const { version, owner, len, origin } = slot;
      renewed(drawn, "len", len, () => (element.dataset.len = len));
      const facts = [version, owner, owner === null ? len : null, origin?.kind, origin?.len, origin?.src];
      if (facts.every((fact, at) => fact === drawn.facts?.[at])) return;
      drawn.facts = facts;
      const [role, got] = how(slot);
      Object.assign(element.dataset, { version, owner: owner ?? "" });
      element.setAttribute("aria-label", got ? `${who(slot, index)}, ${got}` : who(slot, index));
      element.classList.toggle("free", isFree(slot));
      if (lay.tier === "dense") whoLine.textContent = index;
      else drawHead(slot, lay, role, got);
    }

    function drawHead(slot, lay, role, got) {
      const [name, ...rest] = who(slot, index).split(" · ");
      const short = lay.narrow || lay.tier === "line";
      whoLine.replaceChildren(h("b", {}, lay.narrow ? `${index}` : name), ` · ${rest.join(" · ")}`);
      words.textContent = short ? got.replace("from slot", "from").replace(/ tokens?$/, "") : got;
      badge.hidden = !role || role === "free";
      badge.textContent = badge.hidden ? "" : roleOf(role).letter;
      if (role) Object.assign(badge.style, { background: `var(--ai-${role})`, color: `var(--ai-${role}-ink)` });
    }

    return { element, place, draw };
  }

  function fillTip(tip, state, vocab, active, lay) {
    const { token, lines } = facts(state, vocab, active);
    const [head, ...rest] = lines;
    tip.replaceChildren(
      ...(token === null ? [] : [h("div", { class: "mono token" }, token)]),
      h("b", {}, head),
      ...rest.map((line) => h("div", {}, line)),
    );
    tip.hidden = false;
    const x = xOf(lay, active.slot, Math.max(0, active.position) + 0.5);
    // Below the row if the picture goes on there, else above it if there is room: never over it.
    const below = rowTop(lay, active.slot) + lay.pitch + 6;
    const above = rowTop(lay, active.slot) - tip.offsetHeight - 6;
    const start = -tip.parentElement.offsetTop;
    const end = tip.closest(".slot-map").offsetHeight + start;
    const top = below + tip.offsetHeight > end && above >= start ? above : below;
    const left = Math.max(0, Math.min(x - 24, lay.width - tip.offsetWidth));
    Object.assign(tip.style, { top: `${top}px`, left: `${left}px` });
    return [token, ...rest].filter(Boolean).join(", ");
  }

  // --- the legend ----------------------------------------------------------------------------------------------------

  function makeLegend() {
    const items = KINDS.map((kind) => {
      const role = roleOf(kind);
      const swatch = h("canvas", { class: "swatch", width: 44, height: 32, "data-kind": kind });
      const words = kind === "reused" ? `${role.label} (zero-copy)` : role.label;
      return h("span", { class: `item ${kind}` }, swatch, h("span", {}, `${role.letter} ${words}`));
    });
    const pale = h("span", { class: "item" }, h("span", { class: "swatch pale" }), "faded: free, still remembered");
    const newest = h("span", { class: "item" }, h("span", { class: "swatch newest" }), "newest token");
    return h("div", { class: "legend" }, ...items, pale, newest);
  }

  function paintLegend(legend) {
    for (const swatch of legend.querySelectorAll("canvas")) {
      const role = roleOf(swatch.dataset.kind);
      const ctx = swatch.getContext("2d");
      ctx.fillStyle = role.color;
      ctx.fillRect(0, 0, 44, 32);
      ctx.fillStyle = hatchPattern(ctx, swatch.dataset.kind, new Map(), { scale: 2 }) ?? role.color;
      ctx.fillRect(0, 0, 44, 32);
    }
  }

  // --- the whole -----------------------------------------------------------------------------------------------------

  const setText = (element, words) => element.textContent !== words && (element.textContent = words);

  // Calls `renew` where a value is not the one that was kept.
  function renewed(kept, name, value, renew) {
    if (kept[name] === value) return;
    kept[name] = value;
    renew(value);
  }

  // Says one thing a second at most, the newest.
  function makeStatus(element) {
    let [shown, wanted, last, timer] = ["", "", -Infinity, null];
    function show() {
      timer = null;
      last = performance.now();
      element.textContent = shown = wanted;
    }
    function say(words) {
      wanted = words;
      if (wanted === shown || timer !== null) return;
      timer = setTimeout(show, Math.max(0, last + 1000 - performance.now()));
      if (last === -Infinity) (clearTimeout(timer), show());
    }
    return { say, stop: () => clearTimeout(timer) };
  }

  function elementsOf(host) {
    const canvas = h("canvas", { class: "map", "aria-hidden": "true" });
    const cursor = h("div", { class: "cursor", hidden: true });
    const tip = h("div", { class: "tip", hidden: true });
    const rows = h("div", { class: "rows", role: "group", "aria-label": "Slots" });
    const board = h("div", { class: "board" });
    const [captionLine, status] = [h("div", { class: "soft caption" }), h("div", { class: "status", role: "status" })];
    const legend = makeLegend();
    const root = h("div", { class: "astrai slot-map" }, h("style", {}, STYLE), captionLine, board, legend, status);
    host.append(root);
    return { root, board, canvas, cursor, tip, rows, captionLine, legend, status };
  }

  return function makeSlotMap(host, { onFocus = () => {} } = {}) {
    const parts = elementsOf(host);
    const { root, board, rows, tip, cursor } = parts;
    const painter = makePainter(parts.canvas);
    const marks = makeMarks();
    board.append(parts.canvas, marks.layer, marks.flags, rows, cursor, tip);
    const status = makeStatus(parts.status);
    const fresh = new Map(); // marks that were just seen -> until when they stay
    let [view, lay, lines, active, seen, timer, stale] = [null, null, [], null, null, null, true];
    let width = null; // of the board; kept, since asking the page for it would make it lay itself out

    function render() {
      width ??= board.clientWidth;
      if (!view || !width) return;
      const { state } = view;
      if (stale) {
        painter.retheme(root);
        paintLegend(parts.legend);
        stale = false;
      }
      layOut(layoutFor(state, width));
      painter.paint(state, lay);
      setText(parts.captionLine, caption(state, lay));
      state.slots.forEach((slot, index) => lines[index].draw(slot, lay));
      root.classList.toggle(
        "began-late",
        state.slots.some((slot) => slot.runs[0]?.[0] === "kept"),
      );
      marks.draw(state, lay, fresh, performance.now());
      showActive();
    }

    // Only what changed touches the page, or each draw would make the browser lay out all rows anew.
    function layOut(next) {
      if (JSON.stringify(next) === JSON.stringify(lay)) return;
      lay = next;
      board.style.height = `${lay.height}px`;
      Object.assign(board.dataset, { columns: lay.columns, gutter: lay.gutter, plot: lay.plot });
      root.dataset.tier = lay.tier;
      root.classList.toggle("narrow", lay.narrow);
      marks.place(lay);
      if (lines.length !== lay.count) {
        lines = Array.from({ length: lay.count }, (_, index) => makeRow(index));
        rows.replaceChildren(...lines.map((line) => line.element));
      }
      for (const line of lines) line.place(lay);
    }

    function draw(next) {
      view = next;
      const { state } = view;
      if (view.animate && seen !== null) keepFresh(state);
      seen = state.seq;
      render();
      status.say(statusOf(state));
    }

    function keepFresh({ slots, seq }) {
      const until = performance.now() + FRESH_MS;
      slots.forEach(({ origin }, slot) => {
        if (origin && origin.seq >= seen && origin.seq < seq) fresh.set(`${slot}:${origin.seq}`, until);
      });
      if (fresh.size && timer === null) timer = setTimeout(wither, FRESH_MS + 20);
    }

    function wither() {
      timer = null;
      const now = performance.now();
      for (const [key, until] of fresh) if (until <= now) fresh.delete(key);
      if (fresh.size) timer = setTimeout(wither, 100);
      if (lay) marks.draw(view.state, lay, fresh, now);
    }

    // --- hover and keyboard: `active` is {slot, position, key: by the keyboard} or null

    function activate(next) {
      const changed = next?.slot !== active?.slot;
      active = next;
      if (changed) onFocus(next ? next.slot : null);
      showActive();
    }

    function showActive() {
      if (active && active.slot >= view.state.slots.length) active = null;
      tip.hidden = cursor.hidden = !active;
      root.querySelector(".row.on")?.classList.remove("on");
      if (!active) return;
      const { element } = lines[active.slot];
      element.classList.add("on");
      const words = fillTip(tip, view.state, view.vocab, active, lay);
      element.setAttribute("aria-valuemax", Math.max(0, view.state.slots[active.slot].len - 1));
      element.setAttribute("aria-valuenow", Math.max(0, active.position));
      element.setAttribute("aria-valuetext", words);
      cursor.hidden = active.position < 0;
      const width = Math.max(5, lay.cell);
      const left = xOf(lay, active.slot, active.position + 0.5) - width / 2;
      Object.assign(cursor.style, {
        left: `${left - 1}px`,
        width: `${width + 2}px`,
        top: `${barTop(lay, active.slot) - 2}px`,
        height: `${lay.bar + 4}px`,
      });
    }

    function pointed(event) {
      const { left, top } = board.getBoundingClientRect();
      return lay && under(lay, view.state, event.clientX - left, event.clientY - top);
    }

    const newestOf = (slot) => ({ slot, position: Math.max(0, view.state.slots[slot].len - 1) });

    function onKey(event) {
      if (!active && event.key === "Escape") return;
      const { slot, position } = active ?? newestOf(Number(event.target.dataset.slot));
      const row = view.state.slots[slot];
      const last = Math.max(0, row.len - 1);
      const to = {
        ArrowLeft: position - 1,
        ArrowRight: position + 1,
        Home: 0,
        End: last,
        PageUp: nearRun(row, position, -1),
        PageDown: nearRun(row, position, 1),
      }[event.key];
      const other = { ArrowUp: slot - 1, ArrowDown: slot + 1 }[event.key];
      if (event.key === "Escape") activate(null);
      else if (to !== undefined) activate({ slot, position: Math.max(0, Math.min(to, last)) });
      else if (lines[other]) moveTo(other);
      else if (other === undefined) return;
      event.preventDefault();
      event.stopPropagation();
    }

    function moveTo(slot) {
      for (const line of lines) line.element.tabIndex = -1;
      lines[slot].element.tabIndex = 0;
      lines[slot].element.focus();
    }

    function onFocusIn(event) {
      const slot = Number(event.target.dataset.slot);
      if (active?.slot !== slot) activate(newestOf(slot));
    }

    function onFocusOut(event) {
      if (!event.relatedTarget?.classList.contains("row")) activate(null);
    }

    const listeners = {
      pointermove: (event) => activate(pointed(event)),
      pointerleave: () => activate(null),
      keydown: onKey,
      focusin: onFocusIn,
      focusout: onFocusOut,
    };
    for (const [name, listener] of Object.entries(listeners)) board.addEventListener(name, listener);
    // Colours are looked up when there is a page to look them up in: a notebook makes pictures before it shows them.
    const stopTheme = onTheme(root, () => {
      stale = true;
      render();
    });
    const resized = new ResizeObserver(() => {
      width = board.clientWidth;
      if (lay?.width !== width) render();
    });
    resized.observe(root);

    function destroy() {
      stopTheme();
      resized.disconnect();
      status.stop();
      clearTimeout(timer);
      root.remove();
    }

    return { draw, destroy };
  };
})();
