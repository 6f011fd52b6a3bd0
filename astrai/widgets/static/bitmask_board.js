// BitmaskBoard: the free slots of an allocator as bits, and m & -m as it finds the lowest. It draws what it is told:
// every click is a wish, and what came of it arrives as the next view.
//
// makeBitmaskBoard(host, {onAllocate(), onFree(slot)}) -> {draw({num_slots, mask, last, history, trouble, animate}), destroy()}
// mask: "0" and "1", the highest slot first.

const makeBitmaskBoard = (() => {
  const LABELS = 72; // pixels at the left, for the names of the lines
  const STYLE = `
.bitmask { position: relative; padding: 4px 8px 8px; }
.bitmask .top { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; margin-bottom: 6px; }
.bitmask .words { display: grid; gap: 10px; }
.bitmask .word { display: grid; grid-template-columns: ${LABELS}px repeat(var(--per), minmax(0, var(--cell))); row-gap: 3px; align-items: center; }
.bitmask .name { font: 13px/1 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre; }
.bitmask .index { color: var(--ai-soft); font-size: 11px; text-align: center; font-variant-numeric: tabular-nums; }
.bitmask .bit, .bitmask .word button { display: block; height: 24px; margin: 0 1px; padding: 0; border: 1px solid var(--ai-faint); border-radius: 3px; font: 13px/22px ui-monospace, "DejaVu Sans Mono", monospace; text-align: center; }
.bitmask .bit { color: var(--ai-soft); }
.bitmask .bit.one { border-color: var(--ai-line); color: var(--ai-text); }
.bitmask .word button { border-color: var(--ai-line); background: var(--ai-bg); color: var(--ai-text); }
.bitmask .word button.taken { border-color: var(--ai-text); background: var(--ai-text); color: var(--ai-bg); }
.bitmask .word button.lowest, .bitmask .bit.lowest { border-color: var(--ai-hit); background: var(--ai-hit); color: var(--ai-hit-ink); font-weight: bold; }
.bitmask[data-dense] .bit, .bitmask[data-dense] .word button { height: 19px; font-size: 11px; line-height: 17px; margin: 0; border-radius: 2px; }
.bitmask[data-dense] .words { max-height: 480px; overflow: auto; gap: 3px; }
.bitmask[data-dense] .word { row-gap: 1px; }
.bitmask[data-dense] :is(.indices, .word:not(.here) .sum) { display: none; }
.bitmask[data-dense] .name { font-size: 11px; }
.bitmask:not([data-dense]) .span, .bitmask:not([data-dense]) .where { display: none; }
.bitmask[data-dense] .plain { display: none; }
.bitmask .finding { margin: 8px 0 2px; }
.bitmask .finding b { color: var(--ai-hit-ink); background: var(--ai-hit); border-radius: 3px; padding: 0 5px; font-weight: normal; }
.bitmask .about { margin: 0; color: var(--ai-soft); font-size: 12px; }
.bitmask .legend { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 6px 0; font-size: 12px; color: var(--ai-soft); }
.bitmask .legend span { display: inline-flex; align-items: center; gap: 5px; }
.bitmask .legend i { width: 18px; height: 18px; border: 1px solid var(--ai-line); border-radius: 3px; color: var(--ai-text); font: normal 12px/16px ui-monospace, "DejaVu Sans Mono", monospace; text-align: center; }
.bitmask .legend i.taken { background: var(--ai-text); color: var(--ai-bg); }
.bitmask .legend i.lowest { background: var(--ai-hit); color: var(--ai-hit-ink); }
.bitmask .trouble, .bitmask .status.wrong { padding-left: 8px; border-left: 4px solid var(--ai-evicted); color: var(--ai-text); }
.bitmask .history { margin: 4px 0 0; padding-left: 22px; color: var(--ai-soft); font-size: 12px; }
.bitmask .status { color: var(--ai-text); }
.bitmask [hidden] { display: none; }
.bitmask .tip { font-size: 12px; width: max-content; }
`;

  const parse = (mask) => BigInt(`0b${mask}`);
  const bitsOf = (value, count) => value.toString(2).padStart(count, "0");

  // The three lines of the sum, highest slot first, and the slot that it finds.
  function lowestBit({ num_slots, mask }) {
    const m = parse(mask);
    const whole = (1n << BigInt(num_slots)) - 1n;
    const found = m & -m;
    return {
      lines: [mask, bitsOf(-m & whole, num_slots), bitsOf(found, num_slots)],
      slot: found ? found.toString(2).length - 1 : null,
    };
  }

  function legend() {
    const item = (name, bit, words) => h("span", {}, h("i", { class: name }, bit), words);
    return h(
      "div",
      { class: "legend", "aria-hidden": "true" },
      item("", "1", "free"),
      item("taken", "0", "taken: click to free it"),
      item("lowest", "1", "the lowest free slot"),
    );
  }

  return function makeBitmaskBoard(host, { onAllocate = () => {}, onFree = () => {} } = {}) {
    const allocate = h("button", { type: "button", class: "allocate", onclick: onAllocate }, "allocate()");
    const count = h("span", { class: "count" });
    const words = h("div", { class: "words", role: "group", "aria-label": "Slots, the highest first: a click frees a slot" });
    const finding = h("p", { class: "finding" });
    const about = h("p", { class: "about" }, "-m flips every bit of m and adds 1: of the ones, only the lowest stays where it is.", h("span", { class: "where" }, " Both are shown where that bit is."));
    const trouble = h("p", { class: "trouble", hidden: true });
    const status = h("div", { class: "status", role: "status", "aria-live": "polite" });
    const history = h("ol", { class: "history", "aria-label": "What was done" });
    const tip = h("div", { class: "tip", role: "tooltip", hidden: true });
    host.classList.add("astrai", "bitmask");
    host.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys would act on the cell
    const body = [h("div", { class: "top" }, allocate, count), words, finding, about, legend(), trouble, status, history];
    host.replaceChildren(h("style", {}, STYLE), ...body, tip);
    const stopTheme = onTheme(host, () => {});
    let view = null;
    let cells = null; // per slot: {button, negative, found}
    let shape = "";
    let current = 0; // the slot that Tab reaches
    let width = host.clientWidth;

    const observer = new ResizeObserver(([entry]) => {
      const now = Math.round(entry.contentRect.width);
      if (now === width) return;
      width = now;
      if (view) draw({ ...view, animate: false });
    });
    observer.observe(host);

    // As many bits in a line as there is room for, by eights; up to 64.
    function layOut(numSlots) {
      const isDense = numSlots > 64;
      const room = Math.max(8, Math.floor((width - LABELS - 16) / (isDense ? 18 : 25)));
      const per = Math.min(numSlots, 64, room >= 64 ? 64 : room >= 32 ? 32 : room >= 16 ? 16 : 8);
      if (shape === `${numSlots} ${per}`) return;
      shape = `${numSlots} ${per}`;
      host.toggleAttribute("data-dense", isDense);
      host.style.setProperty("--per", per);
      host.style.setProperty("--cell", isDense ? "24px" : "34px");
      const had = host.contains(document.activeElement) && document.activeElement.dataset.slot !== undefined;
      cells = [];
      const blocks = [];
      for (let end = Math.ceil(numSlots / per) * per; end > 0; end -= per) blocks.push(makeWord(end - 1, end - per, numSlots, per));
      words.replaceChildren(...blocks);
      current = Math.min(current, numSlots - 1);
      if (had) cells[current].button.focus();
    }

    // Four lines of cells: the slots' numbers, m, -m and m & -m. Many slots have room for m only, save where the sum is.
    function makeWord(high, low, numSlots, per) {
      const name = (kind, ...text) => h("span", { class: `name ${kind}` }, ...text);
      const span = h("span", { class: "span" }, `${Math.min(high, numSlots - 1)}-${low}`);
      const lines = [[name("soft indices", "slot")], [name("", h("span", { class: "plain" }, "m"), span)], [name("sum", "-m")], [name("sum", "m & -m")]];
      for (let slot = high; slot >= low; slot -= 1) {
        if (slot >= numSlots) {
          if (per < numSlots) lines.forEach((line, index) => line.push(h("span", { class: ["indices", "", "sum", "sum"][index] })));
          continue;
        }
        const button = h("button", { type: "button", "data-slot": slot, tabindex: "-1" });
        const [negative, found] = [h("span", { class: "bit" }), h("span", { class: "bit" })];
        cells[slot] = { button, negative, found };
        [h("span", { class: "index indices" }, String(slot)), button, negative, found].forEach((cell, index) => lines[index].push(cell));
      }
      return h("div", { class: "word" }, ...lines.flat());
    }

    function draw(next) {
      const before = view;
      view = next;
      layOut(next.num_slots);
      const { lines, slot } = lowestBit(next);
      cells.forEach((cell, index) => drawSlot(cell, index, lines.map((line) => line.at(-1 - index)), slot));
      for (const word of words.children) word.classList.toggle("here", word.contains(cells[slot ?? 0].button));
      const free = [...next.mask].filter((bit) => bit === "1").length;
      count.textContent = `${comma(free)} of ${plural(next.num_slots, "slot")} free`;
      finding.replaceChildren("m & -m ", slot === null ? "is 0: no slot is free" : h("span", {}, "finds ", h("b", {}, `slot ${slot}`), ", the lowest free one"));
      trouble.hidden = !next.trouble;
      trouble.textContent = next.trouble ?? "";
      status.classList.toggle("wrong", Boolean(next.last && !next.last.ok));
      status.textContent = next.last ? next.last.words : "Nothing was done yet.";
      history.replaceChildren(...(next.history ?? []).map((line) => h("li", {}, line)));
      if (next.animate && before && !reducedMotion()) pulse(before, next);
    }

    function drawSlot({ button, negative, found }, slot, [bit, minus, lowest], lowestSlot) {
      const isFree = bit === "1";
      const isLowest = slot === lowestSlot;
      button.textContent = bit;
      button.className = isLowest ? "lowest" : isFree ? "" : "taken";
      button.dataset.bit = bit;
      button.setAttribute("tabindex", slot === current ? "0" : "-1");
      button.setAttribute("aria-label", `slot ${slot}, ${isLowest ? "the lowest free one" : isFree ? "free" : "taken"}`);
      negative.textContent = minus;
      negative.className = `bit sum${minus === "1" ? " one" : ""}${isLowest ? " lowest" : ""}`;
      found.textContent = lowest;
      found.className = isLowest ? "bit sum lowest" : "bit sum";
    }

    // Slots that changed hands swell for a moment.
    function pulse(before, next) {
      cells.forEach(({ button }, slot) => {
        if (before.mask.at(-1 - slot) === next.mask.at(-1 - slot)) return;
        button.animate([{ transform: "scale(1.35)" }, { transform: "none" }], { duration: 350, easing: "ease-out" });
      });
    }

    function showTip(button) {
      const slot = Number(button.dataset.slot);
      const isFree = button.dataset.bit === "1";
      tip.textContent = isFree
        ? `slot ${slot} is free: bit ${slot} of m is 1. Freed once more, the allocator must refuse.`
        : `slot ${slot} is taken: bit ${slot} of m is 0. Click or Enter frees it.`;
      tip.hidden = false;
      const box = button.getBoundingClientRect();
      const home = host.getBoundingClientRect();
      tip.style.top = `${box.bottom - home.top + 4}px`;
      tip.style.left = `${Math.max(0, Math.min(box.left - home.left, width - tip.offsetWidth))}px`;
    }

    function hideTip() {
      tip.hidden = true;
    }

    const buttonOf = (event) => event.target.closest?.("button[data-slot]");

    function go(slot) {
      cells[current].button.setAttribute("tabindex", "-1");
      current = Math.max(0, Math.min(view.num_slots - 1, slot));
      cells[current].button.setAttribute("tabindex", "0");
      cells[current].button.focus();
    }

    words.addEventListener("click", (event) => buttonOf(event) && onFree(Number(buttonOf(event).dataset.slot)));
    words.addEventListener("focusin", (event) => {
      const button = buttonOf(event);
      if (!button) return;
      if (Number(button.dataset.slot) !== current) go(Number(button.dataset.slot));
      showTip(button);
    });
    words.addEventListener("focusout", hideTip);
    words.addEventListener("pointerover", (event) => buttonOf(event) && showTip(buttonOf(event)));
    words.addEventListener("pointerleave", hideTip);
    words.addEventListener("keydown", (event) => {
      const per = Number(host.style.getPropertyValue("--per"));
      const acts = {
        ArrowLeft: () => go(current + 1), // the highest slot is at the left
        ArrowRight: () => go(current - 1),
        ArrowUp: () => current + per < view.num_slots && go(current + per),
        ArrowDown: () => current >= per && go(current - per),
        Home: () => go(view.num_slots - 1),
        End: () => go(0),
        Escape: hideTip,
      };
      if (!acts[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      acts[event.key]();
    });

    return {
      draw,
      destroy() {
        observer.disconnect();
        stopTheme();
        host.replaceChildren();
      },
    };
  };
})();
