// The stepper: a scheduler driven by hand. Everything it shows comes in one piece, its "face"; it draws and asks.
//
// makeStepper(host, {send(message)}) -> {draw(face), destroy()}

const makeStepper = (() => {
  const STYLE = `
.astrai.stepper { container-type: inline-size; padding: 8px; border: 1px solid var(--ai-faint); border-radius: 6px; }
.astrai.stepper:focus-visible { outline: 2px solid var(--ai-focus); outline-offset: 1px; }
.stepper .keys { margin: 10px 0 0; font-size: 12px; }
.stepper .bar { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; }
.stepper .controls { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; }
.stepper .bar .label { font-weight: 600; }
.stepper input[type="range"] { width: 150px; accent-color: var(--ai-focus); }
.stepper input:not([type="range"]), .stepper select { font: inherit; color: var(--ai-text); background: var(--ai-bg); border: 1px solid var(--ai-line); border-radius: 4px; padding: 1px 4px; }
.stepper input[type="number"] { width: 6em; }
.stepper h4 { margin: 0 0 4px; font-size: 13px; font-weight: 600; color: var(--ai-text); }
.stepper .said { margin: 6px 0; min-height: 1.4em; }
.stepper .said.wrong { padding: 4px 8px; border: 1px solid var(--ai-evicted); border-left-width: 6px; border-radius: 4px; }
.stepper .columns { display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px 16px; }
.stepper .part { min-width: 0; }
.stepper .part + .part { margin-top: 10px; }
.stepper .source .caption { margin-bottom: 4px; }
.stepper .source .title { font-weight: 600; }
.stepper .lines { max-height: 520px; overflow: auto; padding: 4px 0; border: 1px solid var(--ai-faint); border-radius: 4px; background: var(--ai-panel); font-size: 12px; line-height: 17px; }
.stepper .lines[hidden], .stepper .result[hidden] { display: none; }
.stepper .line { display: flex; border-left: 3px solid transparent; }
.stepper .line .sign { flex: 0 0 14px; text-align: center; }
.stepper .line .number { flex: 0 0 30px; padding-right: 8px; text-align: right; color: var(--ai-soft); }
.stepper .line .code { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.stepper .line.work { border-color: var(--ai-focus); background: color-mix(in srgb, var(--ai-focus) 14%, transparent); }
.stepper .line.error { border-color: var(--ai-evicted); background: color-mix(in srgb, var(--ai-evicted) 18%, transparent); }
.stepper .line.work .code, .stepper .line.error .code { font-weight: 600; }
.stepper .lines .note { padding-right: 6px; font: 12px/17px system-ui, sans-serif; overflow-wrap: anywhere; }
.stepper .lines .note.error { font-weight: 600; }
.stepper .side > * + * { margin-top: 12px; }
.stepper .list { display: flex; gap: 8px; padding: 2px 0; }
.stepper .list .name { flex: 0 0 56px; color: var(--ai-soft); }
.stepper .list ul { display: flex; flex-wrap: wrap; gap: 4px 12px; margin: 0; padding: 0; list-style: none; }
.stepper .list ul:empty { display: none; }
.stepper .list button { margin-left: 4px; padding: 0 6px; font-size: 12px; }
.stepper .form { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: end; margin-top: 6px; }
.stepper .form label { display: flex; flex-direction: column; font-size: 12px; color: var(--ai-soft); }
.stepper .form .wide { flex: 1 1 160px; }
.stepper .form .wide input { width: 100%; }
.stepper .fork { margin-top: 14px; padding-top: 10px; border-top: 1px solid var(--ai-faint); }
.stepper .fork .words { margin: 8px 0; max-width: 80ch; }
.stepper table { margin: 0 0 8px; border-collapse: collapse; }
.stepper td, .stepper th { padding: 2px 14px 2px 0; text-align: right; font-weight: normal; font-variant-numeric: tabular-nums; background: none; }
.stepper thead th { font-weight: 600; }
.stepper tbody th { text-align: left; color: var(--ai-soft); }
.stepper .run { margin-top: 10px; padding: 8px; border: 1px solid var(--ai-faint); border-left: 4px solid var(--ai-line); border-radius: 4px; }
.stepper .run .legend { display: none; }
.stepper .fork .bar input[type="range"] { flex: 0 1 320px; }
.stepper .run.after { border-left-color: var(--ai-focus); }
.stepper .part.tree > div { max-height: 360px; overflow: auto; }
@container (min-width: 980px) { .stepper .columns { grid-template-columns: minmax(0, 1.25fr) minmax(0, 1fr); } }
`;

  return (host, { send: post }) => {
    const page = Math.random().toString(36).slice(2); // the same stepper may be shown twice
    let asked = 0;
    const send = (message) => {
      const id = `${page}-${++asked}`;
      post({ ...message, id });
      return id;
    };
    host.classList.add("astrai", "stepper");
    host.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys would act on the cell around the picture
    fill(host, { tabindex: 0, role: "group", "aria-label": "Scheduler stepper" }, []);
    const said = h("div", { class: "said", role: "status", "aria-live": "polite" });
    const bar = makeStepperBar(send);
    const places = { source: h("div", {}), requests: h("div", {}), fork: h("div", {}) };
    const part = (name, title) => {
      const place = h("div", {});
      return [h("section", { class: `part ${name}`, "aria-label": title }, h("h4", {}, title), place), place];
    };
    const [slots, slotsPlace] = part("slots", "Slots: one row of the KV cache for each request");
    const [tree, treePlace] = part("tree", "Radix tree: what the slots hold");
    const [timeline, timelinePlace] = part("timeline", "Steps and requests");
    host.replaceChildren(
      h("style", {}, STYLE),
      h("div", { class: "bar", role: "group", "aria-label": "Stepper" }, ...bar.elements),
      said,
      h("div", { class: "columns" }, h("div", { class: "pictures" }, slots, timeline, tree), h("div", { class: "side" }, places.source, places.requests)),
      places.fork,
      h("p", { class: "keys soft" }, "Keys: S step, P phase, space play, ← → Home End to look back"),
    );
    const onFocus = (slot) => send({ do: "focus", run: "main", slot });
    const drawings = [
      makeSlotMap(slotsPlace, { onFocus }),
      makePhaseTimeline(timelinePlace, { onStep: (step) => send({ do: "goto_step", step }) }),
      makeRadixTree(treePlace, { onFocus }),
    ];
    const panels = [bar, makeSourcePanel(places.source), makeRequestsPanel(places.requests, send), makeForkPanel(places.fork, send)];
    let face = null;

    function draw(next) {
      const isOneOn = face !== null && next.frame === face.frame + 1;
      face = next;
      said.textContent = face.broken || face.error || face.said;
      said.classList.toggle("wrong", Boolean(face.broken || face.error));
      for (const panel of panels) panel.draw(face);
      for (const drawing of drawings) drawing.draw({ ...face.view, animate: isOneOn });
    }

    // A picture has keys of its own: here are only those that nobody else takes.
    function onKey(event) {
      if (event.target.closest(".part, .lines, form, .fork") || !bar.key(event)) return;
      event.preventDefault();
      event.stopPropagation();
    }

    host.addEventListener("keydown", onKey);
    const stopTheme = onTheme(host, () => face && drawings.forEach((drawing) => drawing.draw({ ...face.view, animate: false })));

    return {
      draw,
      destroy() {
        bar.stop();
        stopTheme();
        host.removeEventListener("keydown", onKey);
        for (const drawing of [...drawings, panels.at(-1)]) drawing.destroy();
        host.replaceChildren();
      },
    };
  };
})();
